"""What a unit of work takes and costs on each kind of machine, by results; which of them nothing beats. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

from jobs.repeats import WALL_SECONDS
from orchestrator.benchmarks import units
from orchestrator.benchmarks.series import Series
from orchestrator.store.rows import ResultRow

RECENT = 7  # results that a price is the median of, if the level is so old


@dataclass(frozen=True, kw_only=True)
class Price:
    """Medians of the newest results of one level: `seconds` and `usd` for one unit of `work`; "" is the whole job."""

    newest: ResultRow
    work: str
    seconds: float
    usd: Decimal
    usd_per_hour: Decimal
    count: int  # of results

    @property
    def is_rented(self) -> bool:
        """Whether it costs anything by the hour: one's own computers mostly have no price."""
        return self.usd_per_hour > 0


def prices(series: Iterable[tuple[Series, int]]) -> list[Price]:
    """For each task on each machine, the cheapest first. With each series comes where its present level begins.

    The unit is the `work` of the task's main metric, or else of its first metric that has one. Else it is the whole
    task: by the main metric where that is a time, as `compare` has it, or by the clock.
    """
    listed = list(series)
    metrics = {one.newest.task: _metric(one.newest.task, listed) for one, _ in listed}
    found = [
        _price(recent)
        for one, start in listed
        if one.metric == metrics[one.newest.task]
        and (recent := [row for row in one.rows[start:] if row.value > 0][-RECENT:])
    ]
    return sorted(found, key=lambda price: (price.newest.task, price.usd, price.seconds))


def frontier(of_task: Sequence[Price]) -> list[Price]:
    """Those of one task for which no other is both faster and cheaper, the cheapest first."""
    best: list[Price] = []
    for price in sorted(of_task, key=lambda price: (price.usd, price.seconds)):
        if not best or price.seconds < best[-1].seconds:
            best.append(price)
    return best


def _metric(task: str, listed: Iterable[tuple[Series, int]]) -> str:
    of_task = [one.newest for one, _ in listed if one.newest.task == task]
    told = [row for row in of_task if units.is_rate(row)]
    told = told or [row for row in of_task if row.is_main and units.seconds(row) is not None]
    return min(told, key=lambda row: not row.is_main).metric if told else WALL_SECONDS


def _price(rows: Sequence[ResultRow]) -> Price:
    newest = rows[-1]
    return Price(
        newest=newest,
        work=newest.work or "" if units.is_rate(newest) else "",
        seconds=median(units.seconds_each(row) or 0.0 for row in rows),
        usd=median(units.usd_each(row) or Decimal(0) for row in rows),
        usd_per_hour=median(row.usd_per_hour for row in rows),
        count=len(rows),
    )
