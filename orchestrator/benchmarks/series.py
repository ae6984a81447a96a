"""Results of one metric on one testbed over time: where they went to another level, what differed then, how they vary.

A series is kept apart by what cannot be compared (provider, machine type, GPU); what may explain a change (driver,
image, code, commit, ...) is noted with every result. A machine's price is one series, whatever tasks ran there. Pure;
the statistics are change_points.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.benchmarks import change_points
from orchestrator.benchmarks.results import TESTBED, USD_PER_HOUR
from orchestrator.records import Json
from orchestrator.reports import words
from orchestrator.store.rows import CellRow, ChangeRow, ResultRow

LONGEST = 400  # results of a series that are looked at


@dataclass(frozen=True)
class Series:
    """Results that can be compared, the oldest first."""

    rows: tuple[ResultRow, ...]

    @property
    def newest(self) -> ResultRow:
        return self.rows[-1]

    @property
    def metric(self) -> str:
        return self.newest.metric

    @property
    def name(self) -> str:
        """In words: mnist samples_per_second on vast RTX4090."""
        return name(self.newest)

    @property
    def values(self) -> list[float]:
        return [row.value for row in self.rows]


def key(row: ResultRow) -> str:
    """The same for all results of one series."""
    gpu = f"{row.gpu}:{row.gpu_count}" if row.gpu_count else "cpu"
    simulated = "simulated" if row.is_simulated else None
    parts = (row.suite, task(row), row.target, row.metric, row.provider, row.machine, gpu, simulated)
    return "/".join(part for part in parts if part is not None)


def task(row: ResultRow) -> str | None:
    """Whose series it is; None where it is a price: what a machine costs is not a task's."""
    return None if row.metric == USD_PER_HOUR else row.task


def name(row: ResultRow) -> str:
    """Of the series of a result, in words: mnist samples_per_second on vast RTX4090."""
    of_task = f"{whose} " if (whose := task(row)) is not None else ""
    return f"{of_task}{row.metric} on {machine_words(row)}"


def machine_words(row: ResultRow) -> str:
    """The testbed for a person: vast RTX4090 (simulated)."""
    gpu = row.gpu or "CPU"
    several = f"{row.gpu_count} x " if row.gpu_count > 1 else ""
    kind = f"{row.machine} " if row.machine else ""
    return f"{row.provider} {kind}{several}{gpu}" + (" (simulated)" if row.is_simulated else "")


def of(rows: Iterable[ResultRow]) -> dict[str, Series]:
    """By key, in the order in which they began. A price counts once for each sweep, as its first result has it."""
    grouped: dict[str, list[ResultRow]] = {}
    priced: set[tuple[str, str]] = set()
    for row in rows:
        which = key(row)
        if row.metric == USD_PER_HOUR:
            if (which, row.sweep_id) in priced:
                continue
            priced.add((which, row.sweep_id))
        grouped.setdefault(which, []).append(row)
    return {which: Series(tuple(of_one)) for which, of_one in grouped.items()}


def cell_words(cell: CellRow) -> str:
    """A job of a suite for a person: mnist on gpu (RTX4090, vast)."""
    where = ", ".join(part for part in (cell.gpu, cell.provider) if part)
    return f"{cell.task} on {cell.target}" + (f" ({where})" if where else "")


def is_young(series: Series) -> bool:
    """Whether it has too few results for a change to be told soon after it."""
    return len(series.rows) < change_points.TELLING


def changes(series: Series, at: datetime) -> list[ChangeRow]:
    """All that can be told by now, the oldest first. Later results take none of them back."""
    rows = series.rows[-LONGEST:]
    return [_change(rows, found, at) for found in change_points.change_points([row.value for row in rows])]


def noise(series: Series) -> float | None:
    """How much its results vary apart from its changes, as a share; None where that cannot be told."""
    values = series.values[-LONGEST:]
    return change_points.noise(values, change_points.change_points(values))


def differs(before: ResultRow, after: ResultRow) -> Json:
    """What is not the same on two testbeds: what -> [before, after]; what one of them does not know is left out."""
    pairs = {name: [before.testbed.get(name), value] for name, value in after.testbed.items()}
    return {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}


def differences(change: ChangeRow) -> str:
    """In words, what may explain it first: commit 1a2b -> 3c4d, driver 550 -> 570. Empty when nothing differs."""
    names = [name for name in TESTBED if name in change.differs]
    pairs = (change.differs[name] for name in names)
    return ", ".join(
        f"{name} {_short(before)} -> {_short(after)}" for name, (before, after) in zip(names, pairs, strict=True)
    )


def _short(value: object) -> str:
    """Digests by their beginning, as git does."""
    text = words.one_line(str(value))
    head, _, digest = text.rpartition(":")
    is_digest = len(digest) >= 32 and all(character in "0123456789abcdef" for character in digest)
    return f"{f'{head}:' if head else ''}{digest[:12]}" if is_digest else text


def _change(rows: Sequence[ResultRow], found: change_points.ChangePoint, at: datetime) -> ChangeRow:
    first = rows[found.index]
    return ChangeRow(
        run_id=first.run_id,
        metric=first.metric,
        suite=first.suite,
        series=key(first),
        noticed_by=rows[found.noticed].run_id,
        noticed_at=at,
        before=found.before,
        after=found.after,
        p_value=found.p_value,
        is_worse=(found.after > found.before) == (first.better == "lower"),
        differs=differs(rows[max(found.index - 2, 0)], rows[found.noticed]),  # where it is put may be a night off
    )
