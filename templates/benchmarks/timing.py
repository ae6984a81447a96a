"""How long a step takes: some steps to warm up, then windows of many steps, and of those the median.

Knows no PyTorch: what "the seconds that this took" means on a device, or on several, is said by the `Elapsed` given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Elapsed = Callable[[Callable[[], object]], float]  # runs an action to its end; returns the seconds that it took

_MOST_STEPS = 100_000


@dataclass(frozen=True)
class Plan:
    """How a step is timed. `steps`: of each window; without it, as many as last `seconds`."""

    warmup: int = 2
    windows: int = 5
    steps: int | None = None
    seconds: float = 5.0


@dataclass(frozen=True)
class Timing:
    """What was timed. The first step has compiling, choosing of kernels and filling of caches in it."""

    first_step: float  # seconds
    steps: int  # of each window
    windows: tuple[float, ...]  # seconds of each

    def per_second(self, units: float = 1.0) -> float:
        """Units of work in a second, where a step does so many of them, by the median window."""
        return units * self.steps / median(self.windows)

    @property
    def spread(self) -> float:
        """The slowest window less the fastest, as a share of the median: 0.02 is a calm machine."""
        return (max(self.windows) - min(self.windows)) / median(self.windows)

    def __str__(self) -> str:
        return (
            f"{len(self.windows)} windows of {self.steps:,} steps, {median(self.windows):.3g} s each "
            f"(spread {self.spread:.0%}); the first step took {self.first_step:.3g} s"
        )


def timed(step: Callable[[], object], elapsed: Elapsed, plan: Plan) -> Timing:
    """Do the step as often as the plan says."""
    first = last = elapsed(step)
    if plan.warmup > 2:
        elapsed(_times(step, plan.warmup - 2))
    if plan.warmup > 1:
        last = elapsed(step)
    steps = plan.steps or min(_MOST_STEPS, max(1, math.ceil(plan.seconds / max(last, 1e-9))))
    window = _times(step, steps)
    return Timing(first, steps, tuple(elapsed(window) for _ in range(plan.windows)))


def _times(step: Callable[[], object], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            step()

    return run
