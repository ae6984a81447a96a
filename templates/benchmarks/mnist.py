"""How fast a small network learns pictures of MNIST's shape: one epoch over 60,000 of them.

The pictures are SYNTHETIC, made from a seed: ten patterns, moved about, in noise. They are not MNIST, nothing is
downloaded, and the accuracy says that the network learned, not how well anything reads handwriting. All pictures lie
in the device's memory before the clock starts, so that it is the device that is measured.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from statistics import median

import options as command_line
import torch
from machine import Machine
from reporting import Report
from torch import Tensor, nn
from torch.nn import functional as F
from training import Training, conditions, on_this_machine

SIDE = 28
CLASSES = 10
MOVED = 3  # pixels at most, each way
NOISE = 1.5  # standard deviations of a pattern
CHANCE = 1 / CLASSES


def main() -> int:
    return on_this_machine(measure, parse())


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--epochs", type=command_line.positive, default=1, metavar="N", help="the median one counts")
    return parser.parse_args()


def measure(options: argparse.Namespace, machine: Machine, report: Report) -> int:
    count = 3_000 if options.smoke else 60_000
    batch = options.batch_size or 96
    if count // machine.world < batch:
        command_line.refuse(f"--batch-size {batch}: each process has {count // machine.world:,} pictures to learn from")
    report.say(f"mnist: {count:,} synthetic pictures of 28x28 to learn from, {count // 6:,} held out")
    report.say(conditions(options, machine, batch))
    images, labels = pictures(count + count // 6, options.seed, machine.device)
    training = Training(network(), lambda weights: torch.optim.AdamW(weights, lr=2e-3), machine, options)
    epoch = Epoch(images[:count], labels[:count], batch, training, machine)
    epoch.run(0, most=options.warmup or (10 if machine.on_gpu else 2))
    training.restart()
    seconds = []
    for number in range(1, options.epochs + 1):
        seconds.append(machine.elapsed(partial(epoch.run, number)))
        report.progress(number, loss=float(epoch.loss))
    report.measured("epoch_seconds", median(seconds), "s")
    report.measured("samples_per_second", epoch.samples / median(seconds), "samples/s")
    reached = accuracy(training, images[count:], labels[count:])
    report.measured("accuracy", reached, "of the held-out synthetic pictures")
    if reached < 2 * CHANCE:
        report.say(f"error: it learned nothing: an accuracy of {CHANCE} is that of guessing")
        return 1
    return 0


class Epoch:
    """One pass over the pictures, each process over its part of them, in an order of the seed's."""

    def __init__(self, images: Tensor, labels: Tensor, batch: int, training: Training, machine: Machine) -> None:
        self._images, self._labels = images, labels
        self._batch = batch
        self._training = training
        self._machine = machine
        self.loss = torch.tensor(0.0)
        self.samples = len(labels) // machine.world // batch * batch * machine.world

    def run(self, number: int, most: int | None = None) -> None:
        """`most`: how many batches at most, where only the machine is to be warmed up."""
        order = torch.randperm(len(self._labels), generator=torch.Generator().manual_seed(number))
        mine = order[: self.samples][self._machine.rank :: self._machine.world].to(self._machine.device)
        for part in mine.split(self._batch)[:most]:
            self.loss = self._training.step(self._images[part], self._labels[part], F.cross_entropy)


def pictures(count: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(count, 1, 28, 28) and (count,): made on the CPU, so that every device gets the same ones."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(CLASSES, 1, 7, 7, generator=generator)
    patterns = F.interpolate(coarse, size=SIDE + 2 * MOVED, mode="bilinear")[:, 0]
    patterns = (patterns - patterns.mean()) / patterns.std()
    placed = patterns.unfold(1, SIDE, 1).unfold(2, SIDE, 1)  # by class, and how far down and to the right it is moved
    labels = torch.randint(CLASSES, (count,), generator=generator)
    down, right = torch.randint(2 * MOVED + 1, (2, count), generator=generator)
    images = torch.randn(count, SIDE, SIDE, generator=generator).mul_(NOISE).add_(placed[labels, down, right])
    return images.unsqueeze(1).to(device), labels.to(device)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip


def accuracy(training: Training, images: Tensor, labels: Tensor) -> float:
    """The share of these pictures whose class the network names."""
    with torch.no_grad(), training.precision():
        named = torch.cat([training.module(part).argmax(1) for part in images.split(1000)])
    return float((named == labels).float().mean())


if __name__ == "__main__":
    sys.exit(main())
