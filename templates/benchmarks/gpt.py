"""How many tokens a second a GPT-2 learns from: the small one with 124 million parameters, or a tiny one.

The model has the shape of GPT-2 small (12 layers, 12 heads, width 768, context 1024, vocabulary 50,257). Its weights
are random: fine-tuning all weights of a downloaded one is the same arithmetic. The text is SYNTHETIC, sentences from a
seed, and a token is a byte of it; the table of 50,257 tokens is there for its arithmetic, most of it is never used.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from dataclasses import dataclass

import datasheets
import options as command_line
import torch
from derived import flops_per_token, hours, share_of_peak
from machine import Machine
from reporting import Report
from timing import timed
from torch import Tensor, nn
from torch.nn import functional as F
from training import Training, Weights, arithmetic, conditions, on_this_machine, plan


@dataclass(frozen=True)
class Shape:
    layers: int
    heads: int
    width: int
    context: int  # tokens
    vocabulary: int
    learning_rate: float


SHAPES = {"small": Shape(12, 12, 768, 1024, 50257, 3e-4), "tiny": Shape(2, 2, 64, 64, 256, 3e-3)}

THINGS = ("cat", "house", "river", "teacher", "engine", "winter", "letter", "garden", "ship", "question", "clock")
KINDS = ("old", "small", "green", "quiet", "broken", "distant", "careful", "bright")
DEEDS = ("finds", "builds", "follows", "remembers", "carries", "paints", "leaves", "repairs")


def main() -> int:
    return on_this_machine(measure, parse())


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    command_line.add_windows(parser)
    parser.add_argument("--size", choices=tuple(SHAPES), help="default: small")
    parser.add_argument("--token-budget", type=command_line.amount, metavar="N", help="say how long so many take")
    parser.add_argument(
        "--peak-tflops",
        type=command_line.amount,
        metavar="N",
        help="of one device, dense, for the share of it that is reached; default: by datasheets.json",
    )
    return parser.parse_args()


def measure(options: argparse.Namespace, machine: Machine, report: Report) -> int:
    shape = SHAPES[options.size or ("tiny" if options.smoke else "small")]
    batch = options.batch_size or (8 if machine.on_gpu or shape is SHAPES["tiny"] else 1)
    training = Training(GPT(shape), lambda weights: adam(weights, shape), machine, options)
    report.say(f"gpt: {training.parameters:,} parameters, synthetic text, sequences of {shape.context} bytes")
    report.say(conditions(options, machine, batch))
    text = torch.tensor(list(sentences(200_000, options.seed)), device=machine.device)
    draws = torch.Generator().manual_seed(options.seed + 1 + machine.rank)
    looked_at = cut(text, 1, shape.context, torch.Generator().manual_seed(options.seed))
    before = loss_on(training, looked_at)
    timing = timed(
        lambda: training.step(*cut(text, batch, shape.context, draws), next_token_loss),
        machine.elapsed,
        plan(options, machine),
    )
    after = loss_on(training, looked_at)
    report.say(str(timing))
    speed = timing.per_second(batch * shape.context * machine.world)
    report.measured("tokens_per_second", speed, "tokens/s")
    report.measured("loss", after, "nats per byte", f"{before:.3f} before the first step, on one sequence of this text")
    derive(report, options, machine, speed, flops_of(shape, training))
    if not after < before:
        report.say("error: the loss did not fall: it learned nothing")
        return 1
    return 0


def derive(report: Report, options: argparse.Namespace, machine: Machine, speed: float, flops: int) -> None:
    """What follows from the speed: the hours of a budget, and the share of the device's peak where that is known."""
    if options.token_budget:
        how = f"{options.token_budget:,.0f} tokens at this speed"
        report.derived("token_budget_hours", hours(options.token_budget, speed), "h", how)
    numbers = arithmetic(options)
    sheet = datasheets.find(machine.name) if machine.on_gpu else None
    peak = options.peak_tflops or (sheet.tflops.get(numbers) if sheet else None)
    if peak:
        whose = "--peak-tflops" if options.peak_tflops else f"the data sheet of {machine.name}"
        share = share_of_peak(speed * flops, peak, machine.world)
        how = f"{flops / 1e9:.3g} GFLOP per token, of {peak:g} dense {numbers} TFLOP/s by {whose}"
        report.derived("mfu_percent", 100 * share, "%", how)


def flops_of(shape: Shape, training: Training) -> int:
    """Of one token. The table of positions is looked up, not multiplied; that of tokens is the last product's, too."""
    multiplied = training.parameters - shape.context * shape.width
    return flops_per_token(multiplied, shape.layers, shape.width, shape.context)


def adam(weights: Weights, shape: Shape) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=shape.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)


def sentences(length: int, seed: int) -> bytes:
    """That many bytes of simple English."""
    draw = random.Random(seed)
    said: list[str] = []
    written = 0
    while written < length:
        subject, thing = draw.choice(THINGS), draw.choice(THINGS)
        said.append(f"The {draw.choice(KINDS)} {subject} {draw.choice(DEEDS)} the {draw.choice(KINDS)} {thing}.\n")
        written += len(said[-1])
    return "".join(said).encode()[:length]


def cut(text: Tensor, count: int, context: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences from anywhere in the text, and the same one byte on: (count, context) each."""
    starts = torch.randint(len(text) - context, (count, 1), generator=draws).to(text.device)
    places = starts + torch.arange(context, device=text.device)
    return text[places], text[places + 1]


def next_token_loss(scores: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), tokens.flatten())


def loss_on(training: Training, sequences: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad(), training.precision():
        return float(next_token_loss(training.module(sequences[0]), sequences[1]))


class GPT(nn.Module):
    """(N, context) tokens to (N, context, vocabulary) scores of the next one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.layers)))
        self.last_norm = nn.LayerNorm(shape.width)
        for name, weights in self.named_parameters():
            if weights.dim() == 2:
                depth = math.sqrt(2 * shape.layers) if "out." in name else 1.0
                nn.init.normal_(weights, std=0.02 / depth)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        features = self.blocks(self.tokens(tokens) + self.places(places))
        return F.linear(self.last_norm(features), self.tokens.weight)


class Block(nn.Module):
    """Attention and two layers for each token, each added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.wide_norm = nn.LayerNorm(width)
        self.wide_in = nn.Linear(width, 4 * width)
        self.wide_out = nn.Linear(4 * width, width)

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.attention_out(self._attend(self.norm(features)))
        wide = F.gelu(self.wide_in(self.wide_norm(features)), approximate="tanh")
        mixed: Tensor = features + self.wide_out(wide)
        return mixed

    def _attend(self, features: Tensor) -> Tensor:
        queries, keys, values = self.attention_in(features).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True).transpose(1, 2).flatten(2)


if __name__ == "__main__":
    sys.exit(main())
