"""How many images a second ResNet-50 learns from: the network that GPUs have been compared by since 2015.

The network is that of He et al., https://arxiv.org/abs/1512.03385, with the stride of each stage in its 3x3 convolution
("v1.5"), 25,557,032 parameters. The images are SYNTHETIC: one batch of noise that stays in the device's memory, so that
neither a disk nor a decoder is measured, and nothing useful is learned.
"""

from __future__ import annotations

import argparse
import sys

import options as command_line
import torch
from derived import IMAGENET_IMAGES, hours
from machine import Machine
from reporting import Report
from timing import timed
from torch import Tensor, nn
from torch.nn import functional as F
from training import Training, Weights, conditions, on_this_machine, plan

CLASSES = 1000
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width inside a block, blocks, stride of the first
WIDER = 4  # a block gives that many times its width


def main() -> int:
    return on_this_machine(measure, parse())


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    command_line.add_windows(parser)
    parser.add_argument("--image-size", type=command_line.positive, metavar="PIXELS", help="default: 224")
    return parser.parse_args()


def measure(options: argparse.Namespace, machine: Machine, report: Report) -> int:
    side = options.image_size or (64 if options.smoke else 224)
    if side < 32:
        command_line.refuse(f"--image-size {side}: the network makes images 32 times smaller; write 32 or more")
    batch = options.batch_size or (2 if options.smoke else 128 if machine.on_gpu else 32)
    training = Training(ResNet50(), optimizer, machine, options)
    report.say(f"resnet50: {training.parameters:,} parameters, synthetic images of {side}x{side}")
    report.say(conditions(options, machine, batch))
    images = torch.randn(batch, 3, side, side, device=machine.device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,), device=machine.device)
    loss = torch.zeros(())

    def step() -> None:
        nonlocal loss
        loss = training.step(images, labels, F.cross_entropy)

    timing = timed(step, machine.elapsed, plan(options, machine))
    report.say(str(timing))
    speed = timing.per_second(batch * machine.world)
    report.measured("images_per_second", speed, "images/s")
    report.derived(
        "imagenet_epoch_hours", hours(IMAGENET_IMAGES, speed), "h", f"{IMAGENET_IMAGES:,} images at this speed"
    )
    if not loss.isfinite():
        report.say(f"error: the loss is {float(loss)}: this machine computes nonsense, or --amp fp16 overflowed")
        return 1
    return 0


def optimizer(weights: Weights) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=1e-4)


class ResNet50(nn.Module):
    """(N, 3, side, side) to (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        blocks: list[nn.Module] = []
        channels = 64
        for width, count, stride in STAGES:
            for number in range(count):
                blocks.append(Bottleneck(channels, width, stride if number == 0 else 1))
                channels = width * WIDER
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, CLASSES)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(images))
        scores: Tensor = self.head(features.mean((2, 3)))
        return scores


class Bottleneck(nn.Module):
    """Narrow, 3x3, wide again, and what came in added to it."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = width * WIDER
        self.inside = nn.Sequential(
            *convolution(channels, width, 1), nn.ReLU(inplace=True),
            *convolution(width, width, 3, stride), nn.ReLU(inplace=True),
            *convolution(width, wide, 1),
        )  # fmt: skip
        same = stride == 1 and channels == wide
        self.beside = nn.Identity() if same else nn.Sequential(*convolution(channels, wide, 1, stride))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.inside(features) + self.beside(features), inplace=True)


def convolution(channels: int, wanted: int, side: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the size, or divides it by the stride, and the normalization that follows it."""
    return nn.Conv2d(channels, wanted, side, stride, padding=side // 2, bias=False), nn.BatchNorm2d(wanted)


if __name__ == "__main__":
    sys.exit(main())
