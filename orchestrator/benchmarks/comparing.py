"""Machines side by side: how long a task takes on each, what that costs, and how many times faster one is.

From measured results only, each with the machine behind it. What other people claim stands apart (claims.py). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from jobs import repeats
from orchestrator.benchmarks import results, series, value
from orchestrator.store.rows import ResultRow

_SECONDS_IN = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0, "hours": 3600.0}


@dataclass(frozen=True)
class Measured:
    """A task on one testbed: its newest main result, and for how long the machine was at it."""

    main: ResultRow
    seconds: float  # the main metric where that is a time, else one time of the command by the clock

    @property
    def usd(self) -> Decimal:
        return results.usd(self.main, self.seconds)

    @property
    def usd_per_work(self) -> Decimal | None:
        """Dollars of one unit of work; None where the main metric is no rate of any."""
        if self.main.work is None or self.main.value <= 0 or self.main.better != "higher":
            return None
        return value.usd_per_unit(self.main)


@dataclass(frozen=True)
class Pair:
    """One task on two testbeds. `speed_up`: how many times the second one is as fast as the first."""

    task: str
    first: Measured
    second: Measured

    @property
    def speed_up(self) -> float | None:
        mine, other = self.first.main, self.second.main
        if mine.metric != other.metric or not mine.value or not other.value:
            return None
        return other.value / mine.value if mine.better == "higher" else mine.value / other.value


def newest(rows: Iterable[ResultRow]) -> list[Measured]:
    """The newest result of each task on each testbed, in the order of tasks."""
    rows = list(rows)
    seconds = {row.run_id: row.value for row in rows if row.metric == repeats.WALL_SECONDS}
    latest = {series.key(row): row for row in rows if row.is_main}
    return [Measured(row, _seconds(row, seconds.get(row.run_id, 0.0))) for row in latest.values()]


def matching(measured: Sequence[Measured], wanted: str) -> list[Measured]:
    """Those on machines of this target, provider, GPU or machine type; several words, as in "vast RTX4090", all."""
    words = wanted.casefold().split()
    return [one for one in measured if all(word in _names(one.main) for word in words)]


def pairs(first: Sequence[Measured], second: Sequence[Measured]) -> list[Pair]:
    """Every task that both have, on each testbed of the one beside each of the other."""
    return [
        Pair(mine.main.task, mine, other)
        for mine in first
        for other in second
        if (mine.main.suite, mine.main.task) == (other.main.suite, other.main.task)
        and series.key(mine.main) != series.key(other.main)
    ]


def _seconds(row: ResultRow, by_the_clock: float) -> float:
    factor = _SECONDS_IN.get(row.unit.strip().casefold()) if row.better == "lower" else None
    return by_the_clock if factor is None else row.value * factor


def _names(row: ResultRow) -> set[str]:
    gpu = (row.gpu or "cpu").casefold()
    counted = f"{gpu}:{row.gpu_count}" if row.gpu_count else gpu
    kinds = {"gpu"} if row.gpu_count else {"cpu"}
    return {row.target.casefold(), row.provider.casefold(), row.machine.casefold(), gpu, counted, *kinds} - {""}
