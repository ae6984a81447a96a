"""Machines side by side: how long the same work takes on each, what that costs, and how many times faster one is.

From measured results only, each with the machine behind it. What other people claim stands apart (claims.py). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from jobs import repeats
from orchestrator.benchmarks import series, units
from orchestrator.store.rows import ResultRow


@dataclass(frozen=True)
class Measured:
    """A task on one testbed by its newest main result.

    `seconds`: of one unit of its work where the result counts any, else of the task, by the result if that is a time or
    else by the clock. None for a speed that counts no work. `usd`: what that time costs.
    """

    main: ResultRow
    seconds: float | None
    usd: Decimal | None


@dataclass(frozen=True)
class Pair:
    """One task on two testbeds."""

    task: str
    first: Measured
    second: Measured

    @property
    def speed_up(self) -> float | None:
        """How many times the second one is as fast as the first: by the main result, or where that is none of speed by
        the time."""
        mine, other = self.first.main, self.second.main
        if not units.is_speed(mine):
            before, after = self.first.seconds, self.second.seconds
            return before / after if before and after else None
        if not mine.value or not other.value:
            return None
        return other.value / mine.value if mine.better == "higher" else mine.value / other.value

    @property
    def work(self) -> str | None:
        """What the times are counted in; None where they are of the whole task."""
        return self.first.main.work if units.is_rate(self.first.main) else None

    @cached_property
    def amount(self) -> int:
        """How much of the work is compared, so that time and money can be imagined."""
        seconds = [one.seconds for one in (self.first, self.second) if one.seconds is not None]
        if self.work is None or len(seconds) < 2:
            return 1
        return units.amount((one.usd or Decimal(0) for one in (self.first, self.second)), seconds)


def newest(rows: Iterable[ResultRow]) -> list[Measured]:
    """The newest result of each task on each testbed, in the order of tasks."""
    rows = list(rows)
    by_the_clock = {row.run_id: row for row in rows if row.metric == repeats.WALL_SECONDS}
    latest = {series.key(row): row for row in rows if row.is_main}
    return [_measured(row, by_the_clock.get(row.run_id)) for row in latest.values()]


def matching(measured: Sequence[Measured], wanted: str) -> list[Measured]:
    """Those on machines of this target, provider, GPU or machine type; several words, as in "vast RTX4090", all."""
    words = wanted.casefold().split()
    return [one for one in measured if all(word in _names(one.main) for word in words)]


def pairs(first: Sequence[Measured], second: Sequence[Measured]) -> list[Pair]:
    """Every task that both have, on each testbed of the one beside each of the other; no two of them twice."""
    found: dict[frozenset[str], Pair] = {}
    for mine in first:
        for other in second:
            keys = frozenset((series.key(mine.main), series.key(other.main)))
            if len(keys) == 2 and _what(mine.main) == _what(other.main):
                found.setdefault(keys, Pair(mine.main.task, mine, other))
    return list(found.values())


def _what(row: ResultRow) -> tuple[str | None, ...]:
    """What both sides must have measured."""
    return row.suite, row.task, row.metric, row.unit, row.better, row.work


def _measured(row: ResultRow, by_the_clock: ResultRow | None) -> Measured:
    source = by_the_clock if not units.is_speed(row) and by_the_clock is not None else row
    return Measured(row, units.seconds_each(source), units.usd_each(source))


def _names(row: ResultRow) -> set[str]:
    gpu = (row.gpu or "cpu").casefold()
    counted = f"{gpu}:{row.gpu_count}" if row.gpu_count else gpu
    kinds = {"gpu"} if row.gpu_count else {"cpu"}
    return {row.target.casefold(), row.provider.casefold(), row.machine.casefold(), gpu, counted, *kinds} - {""}
