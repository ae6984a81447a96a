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

    The unit is the `work` of the task's main metric, or else of its first metric that has one, or else the whole job.
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
    of_work = [one.newest for one, _ in listed if one.newest.task == task and one.newest.work]
    return min(of_work, key=lambda row: not row.is_main).metric if of_work else WALL_SECONDS


def _price(rows: Sequence[ResultRow]) -> Price:
    newest = rows[-1]
    return Price(
        newest=newest,
        work=newest.work or "",
        seconds=median(1 / row.value if row.work else row.value for row in rows),
        usd=median(_usd(row) for row in rows),
        usd_per_hour=median(row.usd_per_hour for row in rows),
        count=len(rows),
    )


def _usd(row: ResultRow) -> Decimal:
    """Of a unit of its work, or of one time when it is the time that a job takes."""
    if not row.work:
        return units.usd(row.usd_per_hour, row.value)
    return units.usd_of_work(row) or Decimal(0)
