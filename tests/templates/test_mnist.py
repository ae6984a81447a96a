"""templates/mnist: learns, stops and goes on, and reads MNIST's own files. The whole template runs in tests/e2e."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs import loader
from jobs.spec import Vocabulary
from providers import gpus
from tests.templates.conftest import MNIST

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def test_the_spec_asks_for_nothing_that_this_computer_lacks() -> None:
    vocabulary = Vocabulary(gpus=gpus.canonical, gpu_names=gpus.names(), providers=("local",))
    spec = loader.load(MNIST / "train.yaml", vocabulary=vocabulary)
    assert spec.resources.gpu == ()
    assert spec.checkpoint is not None
    assert spec.checkpoint.path == "checkpoints"
    assert spec.artifacts == ("outputs/**",)


@dataclass
class Job:
    """A copy of the template in a directory of its own."""

    folder: Path
    env: Mapping[str, str]

    def start(self, *options: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["python3", "train.py", *options],
            cwd=self.folder,
            env={**self.env, "GPUJOB_METRICS": str(self.folder / "metrics.jsonl"), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str, **env: str) -> tuple[int, str]:
        process = self.start(*options, **env)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    @property
    def metrics(self) -> list[dict[str, float]]:
        path = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.folder / "outputs/result.json").read_text())
        return result


@pytest.fixture
def job(tmp_path: Path, torch_env: Mapping[str, str]) -> Job:
    return _copy(tmp_path / "job", torch_env)


def _copy(folder: Path, env: Mapping[str, str]) -> Job:
    shutil.copytree(MNIST, folder, ignore=shutil.ignore_patterns("__pycache__", "outputs", "checkpoints", "data"))
    return Job(folder, env)


@pytest.mark.process
def test_setup_leaves_alone_what_is_there(torch_env: Mapping[str, str]) -> None:
    again = subprocess.run(["sh", MNIST / "setup.sh"], env=torch_env, capture_output=True, text=True, check=True)
    assert again.stdout == "setup: PyTorch is here\nsetup: NumPy and scikit-learn are here\n"


@pytest.mark.process
@pytest.mark.slow
def test_learns_and_goes_on_where_it_was_stopped(job: Job, tmp_path: Path, torch_env: Mapping[str, str]) -> None:
    """Two whole trainings, as they are what the template promises: 95 %, and the same numbers after a stop."""
    code, output = job.run()
    assert code == 0, output
    assert "data: digits: 1,437 to learn from, 360 held out" in output
    assert job.result["accuracy"] >= 0.95
    assert job.result["held_out"] == 360
    assert [line["epoch"] for line in job.metrics] == list(range(1, 13))
    assert set(job.metrics[0]) == {"step", "epoch", "loss", "accuracy", "samples_per_second"}

    stopped = _copy(tmp_path / "stopped", torch_env)
    process = stopped.start()
    _wait_for_epochs(stopped, process, 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    done = len(stopped.metrics)
    assert 2 <= done < 12
    code, output = stopped.run()
    assert code == 0, output
    assert stopped.result["resumed_from_step"] >= stopped.metrics[done - 1]["step"]
    assert _numbers(stopped) == _numbers(job)
    assert stopped.result["accuracy"] == job.result["accuracy"]


def _wait_for_epochs(job: Job, process: subprocess.Popen[str], count: int) -> None:
    while len(job.metrics) < count:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def _numbers(job: Job) -> list[tuple[float, ...]]:
    return [(line["step"], line["epoch"], line["loss"], line["accuracy"]) for line in job.metrics]


@pytest.mark.process
def test_goes_on_after_a_kill_from_the_last_whole_epoch(job: Job) -> None:
    process = job.start()
    _wait_for_epochs(job, process, 2)
    process.kill()
    process.wait(timeout=60)
    done = len(job.metrics)
    code, output = job.run(EPOCHS=str(done + 1))
    assert code == 0, output
    assert job.result["resumed_from_step"] >= job.metrics[done - 2]["step"]
    assert job.result["epochs"] == done + 1


@pytest.mark.process
def test_a_finished_training_is_not_repeated(job: Job) -> None:
    assert job.run(EPOCHS="1")[0] == 0
    accuracy = job.result["accuracy"]
    code, output = job.run(EPOCHS="1")
    assert (code, len(job.metrics)) == (0, 1), output
    assert job.result["accuracy"] == accuracy


@pytest.mark.process
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_reads_the_files_of_mnist(job: Job, zipped: bool) -> None:
    _write_mnist(job.folder / "elsewhere", zipped=zipped)
    code, output = job.run(EPOCHS="2", MNIST_DIR="elsewhere")
    assert code == 0, output
    assert "data: MNIST: 500 to learn from, 100 held out" in output
    assert job.result["data"] == "MNIST"
    assert job.result["accuracy"] >= 0.95, "the pictures are stripes, one place for each digit"


def _first_nine_labels(raw: bytes) -> bytes:
    return struct.pack(">4Bi", 0, 0, 8, 1, 9) + raw[8:17]


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (NAMES[0], lambda raw: raw[:-1], "has 391999 values where its header says 392000"),
        (NAMES[1], lambda raw: b"<html>", "not an IDX file of bytes"),
        (NAMES[3], _first_nine_labels, "not as many labels as pictures"),
    ],
    ids=["cut short", "not IDX", "of another set"],
)
def test_refuses_files_that_are_not_mnist(job: Job, name: str, damage: Any, says: str) -> None:
    _write_mnist(job.folder / "data", zipped=False)
    path = job.folder / "data" / name
    path.write_bytes(damage(path.read_bytes()))
    code, output = job.run()
    assert code == 1
    assert says in output
    assert "Traceback" not in output


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Serves `tmp_path/mirror` on a free port of loopback."""
    (tmp_path / "mirror").mkdir()
    files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.process
def test_gets_mnist_from_a_mirror(job: Job, mirror: str, tmp_path: Path) -> None:
    _write_mnist(tmp_path / "mirror", zipped=True)
    code, output = job.run(EPOCHS="1", MNIST_MIRROR=f"{mirror}/", no_proxy="127.0.0.1")
    assert code == 0, output
    assert job.result["data"] == "MNIST"
    assert {path.name for path in (job.folder / "data").iterdir()} == {f"{name}.gz" for name in NAMES}


@pytest.mark.process
def test_an_empty_mirror_is_said_and_digits_are_used(job: Job, mirror: str) -> None:
    code, output = job.run(EPOCHS="1", MNIST_MIRROR=mirror, no_proxy="127.0.0.1")
    assert code == 0, output
    assert f"cannot get {mirror}/{NAMES[0]}.gz: HTTP Error 404" in output
    assert job.result["data"] == "digits"


def _write_mnist(folder: Path, *, zipped: bool) -> None:
    folder.mkdir(exist_ok=True)
    for part, count in (("train", 500), ("t10k", 100)):
        labels = bytes(number % 10 for number in range(count))
        pictures = b"".join(_stripe(label) for label in labels)
        _write(folder / f"{part}-images-idx3-ubyte", struct.pack(">4B3i", 0, 0, 8, 3, count, 28, 28) + pictures, zipped)
        _write(folder / f"{part}-labels-idx1-ubyte", struct.pack(">4Bi", 0, 0, 8, 1, count) + labels, zipped)


def _stripe(digit: int) -> bytes:
    return b"".join(bytes([255 if row // 2 == digit else 0]) * 28 for row in range(28))


def _write(path: Path, content: bytes, zipped: bool) -> None:
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
