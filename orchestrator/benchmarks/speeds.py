"""What benchmarks say of GPUs to whoever wants to rent one: how fast they are beside each other, and at what work.

By the newest main results of every suite. What a simulated machine measured says nothing about a real one and counts
only when nothing else is asked for. Pure: rows in, figures out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean, median

from orchestrator.benchmarks import units
from orchestrator.estimates import Speeds, no_speeds
from orchestrator.store.rows import ResultRow

Gpu = tuple[str, int]  # name and how many in one machine
_NEWEST = 5  # results of a kind that count


@dataclass(frozen=True)
class Rate:
    """How much of some work a machine does in a second, and which task says so."""

    per_second: float
    task: str

    def usd_per_work(self, usd_per_hour: Decimal) -> Decimal | None:
        return units.usd_per_work(usd_per_hour, self.per_second)


def relative(rows: Iterable[ResultRow]) -> Speeds:
    """The speed of a GPU beside others': over the tasks that all of them have done, each as important as the other.

    None for a GPU that nobody measured, and for all when no suite has a task that several of them did.
    """
    best: dict[Gpu, float] = {}
    for tasks in _by_suite(rows).values():
        kinds = {kind for speeds in tasks.values() for kind in speeds}
        common = [speeds for speeds in tasks.values() if len(speeds) == len(kinds)]
        if len(kinds) > max(len(best), 1) and common:
            best = {kind: math.exp(fmean(math.log(speeds[kind]) for speeds in common)) for kind in kinds}
    if not best:
        return no_speeds
    return lambda gpu, count: best.get((gpu, count))


def rates(rows: Iterable[ResultRow], work: str) -> Mapping[Gpu, Rate]:
    """How fast each GPU does this work, by the task at which it is fastest."""
    found: dict[tuple[Gpu, str], list[float]] = {}
    for row in rows:
        if row.work == work and row.better == "higher" and _counts(row):
            found.setdefault(((row.gpu or "", row.gpu_count), row.task), []).append(row.value)
    fastest: dict[Gpu, Rate] = {}
    for (kind, task), values in found.items():
        rate = Rate(median(values[-_NEWEST:]), task)
        if kind not in fastest or rate.per_second > fastest[kind].per_second:
            fastest[kind] = rate
    return fastest


def works(rows: Iterable[ResultRow]) -> list[str]:
    """The kinds of work that somebody has measured."""
    return sorted({row.work for row in rows if row.work and _counts(row)})


def _by_suite(rows: Iterable[ResultRow]) -> dict[str, dict[str, dict[Gpu, float]]]:
    """Suite -> task -> GPU -> speed; of a time, its inverse."""
    values: dict[tuple[str, str, Gpu], list[float]] = {}
    for row in rows:
        if row.is_main and _counts(row):
            speed = row.value if row.better == "higher" else 1 / row.value
            values.setdefault((row.suite, row.task, (row.gpu or "", row.gpu_count)), []).append(speed)
    suites: dict[str, dict[str, dict[Gpu, float]]] = {}
    for (suite, task, kind), speeds in values.items():
        suites.setdefault(suite, {}).setdefault(task, {})[kind] = median(speeds[-_NEWEST:])
    return suites


def _counts(row: ResultRow) -> bool:
    return bool(row.gpu_count) and not row.is_simulated and row.value > 0 and math.isfinite(row.value)
