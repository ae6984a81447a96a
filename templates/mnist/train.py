"""Train a small convolutional network to read digits, and say how well it reads digits it has never seen.

Data: MNIST in IDX files (plain or .gz) from --data, $MNIST_DIR or ./data, or from the mirror $MNIST_MIRROR; where
there is none, the 1,797 digits that come with scikit-learn, which need no download. The log says which.
A run that was stopped goes on from its checkpoint, and then ends with the very numbers of an uninterrupted one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 28  # pixels; smaller pictures are scaled up
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    options = parse_options()
    torch.manual_seed(options.seed)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    data = load_data(options.data, options.seed).to(device)
    print(f"data: {data.source}: {len(data.train_labels):,} to learn from, {len(data.test_labels):,} held out")
    training = Training(data, device, options)
    training.resume()
    stop = StopRequest()
    metrics = Metrics(os.environ.get("GPUJOB_METRICS"))
    for epoch in training.epochs():
        finished = training.train_epoch(metrics, stop)
        training.save()
        if not finished:
            print(f"stopped by SIGTERM in epoch {epoch}; checkpoint at step {training.progress.step}")
            return TERMINATED
    training.write_outputs(options.outputs)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=os.environ.get("EPOCHS"), help="default: $EPOCHS, or by the data")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", help="default: cuda where there is a GPU, otherwise cpu")
    parser.add_argument("--data", type=Path, help="folder with MNIST's four IDX files; default: $MNIST_DIR, or data")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    return parser.parse_args()


@dataclass(frozen=True)
class Data:
    """Pictures (N, 1, 28, 28) with values from 0 to 1, and the digits on them, in two parts."""

    source: str
    epochs: int  # enough for it
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def to(self, device: torch.device) -> Data:
        return Data(
            self.source,
            self.epochs,
            self.train_images.to(device),
            self.train_labels.to(device),
            self.test_images.to(device),
            self.test_labels.to(device),
        )


def load_data(directory: Path | None, seed: int) -> Data:
    directory = directory or Path(os.environ.get("MNIST_DIR", "data"))
    if mirror := os.environ.get("MNIST_MIRROR"):
        fetch_mnist(mirror, directory)
    paths = [find_idx(directory, name) for name in IDX_FILES]
    if None not in paths:
        return load_mnist([path for path in paths if path])
    print(f"there is no MNIST in {directory}: using the digits that come with scikit-learn")
    return load_digits(seed)


def fetch_mnist(mirror: str, directory: Path) -> None:
    """Get the files that are missing. A mirror that does not answer is said, and is no reason to fail."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in IDX_FILES:
        if find_idx(directory, name):
            continue
        url = f"{mirror.rstrip('/')}/{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                write_whole(directory / f"{name}.gz", answer.read())
        except OSError as error:
            print(f"cannot get {url}: {error}")
            return


def find_idx(directory: Path, name: str) -> Path | None:
    candidates = (directory / name, directory / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def load_mnist(paths: list[Path]) -> Data:
    images, labels, test_images, test_labels = (read_idx(path) for path in paths)
    if len(images) != len(labels) or len(test_images) != len(test_labels):
        sys.exit(f"{paths[0].parent}: the files do not belong together: not as many labels as pictures")
    return Data("MNIST", 2, pictures(images, 255), digits(labels), pictures(test_images, 255), digits(test_labels))


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of bytes: 0, 0, 8, number of dimensions, each as big-endian int32, then the values."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    if raw[:3] != b"\0\0\x08":
        sys.exit(f"{path}: not an IDX file of bytes")
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if values.size != shape.prod():
        sys.exit(f"{path}: has {values.size} values where its header says {shape.prod()}")
    return values.reshape(shape)


def load_digits(seed: int) -> Data:
    """Every fifth digit of a seeded shuffle is held out."""
    from sklearn import datasets

    bundled = datasets.load_digits()
    order = torch.randperm(len(bundled.target), generator=torch.Generator().manual_seed(seed))
    images, labels = pictures(bundled.images, 16)[order], digits(bundled.target)[order]
    held_out = torch.arange(len(labels)) % 5 == 0
    return Data("digits", 12, images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def pictures(values: np.ndarray, brightest: int) -> Tensor:
    images = torch.tensor(values, dtype=torch.float32).unsqueeze(1) / brightest
    if images.shape[-1] == SIDE:
        return images
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear")


def digits(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * (SIDE // 4) ** 2, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


@dataclass
class Progress:
    """How far the training is. With the weights and the random state it is all that a checkpoint holds."""

    step: int = 0
    epoch: int = 0  # finished
    batch: int = 0  # finished, of the epoch under way
    loss: float = 0.0  # summed over the samples of that epoch


class Training:
    """Model, optimizer and progress: everything that a checkpoint keeps."""

    def __init__(self, data: Data, device: torch.device, options: argparse.Namespace) -> None:
        self.data = data
        self.device = device
        self.options = options
        self.total_epochs: int = data.epochs if options.epochs is None else options.epochs
        self.model = build_model().to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.learning_rate)
        self.progress = Progress()
        self.resumed_from: int | None = None
        self.accuracy = 0.0
        self.checkpoint = options.checkpoints / "latest.pt"

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left, from 1."""
        while self.progress.epoch < self.total_epochs:
            yield self.progress.epoch + 1

    def train_epoch(self, metrics: Metrics, stop: StopRequest) -> bool:
        """Train to the end of the epoch under way; False when a stop came before it."""
        progress = self.progress
        began = time.monotonic()
        samples = 0
        self.model.train()
        for batch in self._batches():
            if stop.requested:
                return False
            loss = self._train_batch(batch)
            samples += len(batch)
            progress.step += 1
            progress.batch += 1
            progress.loss += loss * len(batch)
        rate = samples / (time.monotonic() - began)
        loss = progress.loss / len(self.data.train_labels)
        self.accuracy = self.measure()
        progress.epoch, progress.batch, progress.loss = progress.epoch + 1, 0, 0.0
        metrics.write(progress, loss=loss, accuracy=self.accuracy, samples_per_second=rate)
        print(
            f"epoch {progress.epoch}/{self.total_epochs}: loss {loss:.4f}, "
            f"accuracy {self.accuracy:.4f} on held-out digits, {rate:,.0f} samples/s"
        )
        return True

    def measure(self) -> float:
        """The share of held-out digits that the model reads right."""
        self.model.eval()
        right = 0
        with torch.no_grad(), self._precision():
            for part in torch.arange(len(self.data.test_labels), device=self.device).split(1024):
                right += int((self.model(self.data.test_images[part]).argmax(1) == self.data.test_labels[part]).sum())
        return right / len(self.data.test_labels)

    def save(self) -> None:
        state = {
            "source": self.data.source,
            "seed": self.options.seed,
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        save_whole(self.checkpoint, state)

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one of the same training."""
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if (state["source"], state["seed"]) != (self.data.source, self.options.seed):
            sys.exit(f"{self.checkpoint} is of a training on {state['source']} with seed {state['seed']}: move it away")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and len(state["cuda_random"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_random"])
        self.resumed_from = self.progress.step
        print(f"resumed at step {self.progress.step}, {self.progress.epoch} epochs done")

    def write_outputs(self, directory: Path) -> None:
        accuracy = self.measure()
        result = {
            "accuracy": accuracy,
            "data": self.data.source,
            "held_out": len(self.data.test_labels),
            "epochs": self.progress.epoch,
            "steps": self.progress.step,
            "resumed_from_step": self.resumed_from,
            "seed": self.options.seed,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "torch": torch.__version__,
        }
        save_whole(directory / "model.pt", self.model.state_dict())
        write_whole(directory / "result.json", json.dumps(result, indent=2).encode() + b"\n")
        print(f"accuracy {accuracy:.4f} on {len(self.data.test_labels):,} held-out digits; see {directory}")

    def _batches(self) -> Iterator[Tensor]:
        """Indices of the samples, from where the epoch was left; their order depends on its number only."""
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.progress.epoch)
        order = torch.randperm(len(self.data.train_labels), generator=generator).to(self.device)
        yield from order.split(self.options.batch_size)[self.progress.batch :]

    def _train_batch(self, batch: Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            loss = F.cross_entropy(self.model(self.data.train_images[batch]), self.data.train_labels[batch])
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _precision(self) -> torch.autocast:
        """bfloat16 on a GPU; on a CPU it would be slower."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


class StopRequest:
    """SIGTERM: the machine is wanted back. The training looks at it between two batches."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._request)

    def _request(self, *_: object) -> None:
        self.requested = True


class Metrics:
    """JSON lines, one per epoch, appended to $GPUJOB_METRICS; nothing without it."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None

    def write(self, progress: Progress, **values: float) -> None:
        if self._path:
            with self._path.open("a") as lines:
                lines.write(json.dumps({"step": progress.step, "epoch": progress.epoch, **values}) + "\n")


def save_whole(path: Path, state: object) -> None:
    """torch.save that leaves either the old file or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    torch.save(state, new)
    _replace(new, path)


def write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    _replace(new, path)


def _replace(new: Path, path: Path) -> None:
    with new.open("rb") as written:
        os.fsync(written.fileno())
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
