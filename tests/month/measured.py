"""What the month's jobs measure, and the bytes that they leave while the wrapped command of jobs/repeats.py runs them.

Every figure is drawn from the seed and the names of what it is a figure of, so that a month is the same each time.
Knows no cloud, no run and no clock.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs import repeats
from tests.fakes.fake_machine import Script

WARMUP, REPEATS = 1, 3
SECONDS = 60.0  # of one time: a benchmark that measures for a minute, however fast it is

TRAIN, INFER = "train", "infer"
SAMPLES, LATENCY = "samples_per_second", "latency_ms"
METRICS = {TRAIN: SAMPLES, INFER: LATENCY}

SUITE = f"""\
name: nightly
image: python:3.12
resources: {{disk: 40GB}}
limits: {{max_price_per_hour: 2}}
retry: {{attempts: 3}}
tasks:
  {TRAIN}:
    run: python3 train.py
    measure: {{{SAMPLES}: {{better: higher, unit: samples/s, work: samples}}}}
  {INFER}:
    run: python3 infer.py
    metrics: {{patterns: {{{LATENCY}: 'latency ([0-9.]+) ms'}}}}
    measure: {{{LATENCY}: {{better: lower, unit: ms}}}}
targets:
  t4: {{gpus: [T4], providers: [aws], place: {{regions: [us-east-1]}}}}
  rtx4090: {{gpus: [RTX4090], providers: [runpod]}}
  rtx3090: {{gpus: [RTX3090], providers: [vast], place: {{spot: only}}}}
warmup: {WARMUP}
repeats: {REPEATS}
at_once: 4
caps: {{cost: 6.00, time: 3h}}
"""

_USUAL = {
    SAMPLES: {"t4": 410.0, "rtx4090": 2350.0, "rtx3090": 1280.0},
    LATENCY: {"t4": 21.0, "rtx4090": 4.2, "rtx3090": 7.9},
}
_NOISE = {"t4": 0.02, "rtx4090": 0.01, "rtx3090": 0.03}  # from night to night, as a share
_WITHIN = 0.004  # from one time to the next on the same machine
_END = 0.5  # seconds from the last line to the end of the shell
_WARMING = 0.7  # of the usual speed


@dataclass(frozen=True)
class Measurement:
    """One job of one night. Its figures are the same in every attempt: which machine is lost is a matter of ids."""

    seed: str
    night: int
    task: str
    target: str


def value(what: Measurement, repeat: int, *, speed: float = 1.0) -> float:
    """The metric of its task in one of its times; `speed` is what has become of the usual one, as a share."""
    speed *= _around_one(what, "night", _NOISE[what.target]) * _around_one(what, f"time {repeat}", _WITHIN)
    if repeat <= WARMUP:
        speed *= _WARMING
    usual = _USUAL[METRICS[what.task]][what.target]
    return round(usual * speed if what.task == TRAIN else usual / speed, 4)


def script(what: Measurement, *, began: float, facts: Mapping[str, Any], speed: float = 1.0) -> Script:
    """All that the wrapped command writes, each at its time; it `began` at so many seconds since the epoch."""
    log: list[tuple[float, bytes]] = []
    metrics: list[tuple[float, bytes]] = []
    at = 0.0
    for repeat in range(1, WARMUP + REPEATS + 1):
        about = {"key": repeats.MARK, "value": repeat, "metadata": {"of": WARMUP + REPEATS, "warmup": WARMUP}}
        log.append((at, f":::MLLOG {json.dumps(about)}\n".encode()))
        metrics.append((at, _line({"time": began + at, repeats.MARK: repeat})))
        at += SECONDS * _around_one(what, f"seconds {repeat}", _NOISE[what.target] / 2)
        number = value(what, repeat, speed=speed)
        if what.task == TRAIN:
            metrics.append((at, _line({SAMPLES: number})))
        else:
            log.append((at, f"latency {number} ms\n".encode()))
        metrics.append((at, _line({"time": began + at, repeats.END: repeat})))
    return Script(seconds=at + _END, log=log, metrics=metrics, facts=facts)


def _around_one(what: Measurement, name: str, noise: float) -> float:
    dice = random.Random(f"{what.seed} {what.night} {what.task} {what.target} {name}")
    return dice.gauss(1.0, noise)


def _line(row: dict[str, float]) -> bytes:
    return json.dumps(row).encode() + b"\n"
