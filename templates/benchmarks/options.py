"""The words that every benchmark understands on its command line, and how a wrong one is refused. Knows no PyTorch."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import NoReturn


def parser(about: str | None) -> argparse.ArgumentParser:
    """What all trainings share; the text is the module's docstring, of which --help shows the first line."""
    made = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    add_machine(made)
    made.add_argument("--amp", choices=("none", "bf16", "fp16"), default="none", help="mixed precision; default: none")
    made.add_argument("--tf32", action="store_true", help="let float32 arithmetic use a GPU's TensorFloat-32")
    made.add_argument("--compile", action="store_true", help="torch.compile the model; needs a C++ compiler")
    made.add_argument("--batch-size", type=positive, metavar="N", help="of each process; default: by the device")
    made.add_argument("--warmup", type=positive, metavar="STEPS", help="steps before timing; default: 10, 2 on a CPU")
    return made


def add_machine(made: argparse.ArgumentParser) -> None:
    """What the probe understands, too."""
    made.add_argument(
        "--device",
        type=device,
        default=os.environ.get("BENCHMARK_DEVICE"),
        help="cpu, cuda or cuda:N; default: $BENCHMARK_DEVICE, or a GPU where PyTorch finds one",
    )
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--smoke", action="store_true", help="tiny shapes, a few seconds: shows that it runs, no more")


def add_windows(made: argparse.ArgumentParser) -> None:
    """For those that are measured in steps and not in epochs."""
    made.add_argument("--steps", type=positive, metavar="N", help="in each window; default: what takes 5 seconds")
    made.add_argument("--windows", type=positive, metavar="N", help="how many are timed; default: 5")


def positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def amount(text: str) -> float:
    """A number above 0, such as 0.6 or 300e9."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e30:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0, such as 0.6 or 300e9")
    return value


def device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; write cpu, cuda or cuda:N, such as cuda:0")
    return text


def refuse(why: str) -> NoReturn:
    """End with the exit code of a wrong command line: what was asked for cannot be done here."""
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)
