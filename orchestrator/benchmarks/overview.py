"""A suite's last sweeps as one value: what its series did, what changed, what went wrong, and what work costs where.

Assembles what the store has for every view of it: pages, tables, JSON. Decides nothing that was noted before: changes
are those that were noticed when the results came. Knows no HTML and no terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, pairwise
from statistics import median

from orchestrator import together
from orchestrator.benchmarks import change_points, incidents, units
from orchestrator.benchmarks.change_points import ChangePoint
from orchestrator.benchmarks.incidents import Incident
from orchestrator.benchmarks.results import USD_PER_HOUR
from orchestrator.benchmarks.series import LONGEST, Series
from orchestrator.benchmarks.series import of as series_of
from orchestrator.benchmarks.series import task as task_of
from orchestrator.benchmarks.value import Price, prices
from orchestrator.store.rows import ChangeRow, ResultRow, SweepRow
from orchestrator.store.store import Store
from orchestrator.together import Together


@dataclass(frozen=True, kw_only=True)
class Night:
    """One sweep and its runs."""

    row: SweepRow
    its: Together


@dataclass(frozen=True, kw_only=True)
class Track:
    """One series, and the changes of its level. `name` is no other series' name."""

    name: str
    series: Series
    changes: tuple[ChangeRow, ...]

    @cached_property
    def levels(self) -> list[tuple[int, int, float]]:
        """(first, end, median): results from `first` up to `end` are on one level."""
        values = self.series.values
        parts = pairwise([0, *self._starts, len(values)])
        return [(first, end, median(values[first:end])) for first, end in parts]

    @cached_property
    def noise(self) -> float | None:
        """How much results vary around their level, as a share of it; None where that cannot be told."""
        points = [
            ChangePoint(index=at, noticed=at, before=row.before, after=row.after, p_value=row.p_value)
            for at, row in zip(self._starts, self.changes, strict=True)
        ]
        return change_points.noise(self.series.values, points)

    @cached_property
    def _starts(self) -> list[int]:
        places = {row.run_id: index for index, row in enumerate(self.series.rows)}
        return [places[change.run_id] for change in self.changes]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A series that went to another level with `first`, its first result there."""

    track: Track
    row: ChangeRow
    first: ResultRow

    @property
    def share(self) -> float | None:
        """Of the level before: 0.1 is ten per cent more. None from nothing."""
        return self.row.after / self.row.before - 1 if self.row.before else None

    @property
    def word(self) -> str:
        if self.first.metric == USD_PER_HOUR:
            return "dearer" if self.row.is_worse else "cheaper"
        if units.is_speed(self.first):
            return "slower" if self.row.is_worse else "faster"
        return "worse" if self.row.is_worse else "better"


@dataclass(frozen=True, kw_only=True)
class Change:
    """All steps the same way of one task on one machine with the same result, the most telling one first."""

    steps: tuple[Step, ...]

    @property
    def main(self) -> Step:
        return self.steps[0]

    @property
    def at(self) -> datetime:
        return self.main.first.at


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Of one suite: its sweeps and changes the newest first, its series by task and metric."""

    suite: str
    its: Together
    nights: tuple[Night, ...]
    tracks: tuple[Track, ...]
    changes: tuple[Change, ...]
    incidents: tuple[Incident, ...]
    prices: tuple[Price, ...]


def overview(store: Store, suite: str, *, sweeps: int = 90, since: datetime | None = None) -> Overview:
    """Of the last `sweeps` sweeps of a suite, and of them those that began at `since` or later. Raises StoreError."""
    newest = store.benchmarks.sweeps(suite=suite, limit=sweeps)
    rows = [row for row in newest if since is None or row.created_at >= since]
    cells = store.benchmarks.cells_of([row.id for row in rows])
    every = together.load(store, [cell.run_id for its in cells.values() for cell in its])
    found = store.benchmarks.results(suite=suite, since=rows[-1].created_at) if rows else []
    results = [row for row in found if row.run_id in every.by_id]
    tracks = _tracks(results, store.benchmarks.changes(suite))
    return Overview(
        suite=suite,
        its=every,
        nights=tuple(Night(row=row, its=every.part(cell.run_id for cell in cells[row.id])) for row in rows),
        tracks=tracks,
        changes=tuple(_changes(tracks)),
        incidents=tuple(incidents.of(store, [*chain(*cells.values())], every, results)),
        prices=tuple(prices([(track.series, track.levels[-1][0]) for track in tracks])),
    )


def _tracks(results: Iterable[ResultRow], changes: Iterable[ChangeRow]) -> tuple[Track, ...]:
    found = {name: Series(one.rows[-LONGEST:]) for name, one in series_of(results).items()}
    names = Counter(one.name for one in found.values())
    its: dict[str, list[ChangeRow]] = {name: [] for name in found}
    for change in changes:
        its.get(change.series, []).append(change)
    tracks = [
        Track(
            name=one.name if names[one.name] == 1 else f"{one.name} ({one.newest.target})",
            series=one,
            changes=_within(one, its[name]),
        )
        for name, one in found.items()
    ]
    return tuple(sorted(tracks, key=_place))


def _within(one: Series, changes: Iterable[ChangeRow]) -> tuple[ChangeRow, ...]:
    """In the series' order; without those whose level before is not there any more."""
    places = {row.run_id: index for index, row in enumerate(one.rows)}
    return tuple(sorted((row for row in changes if places.get(row.run_id)), key=lambda row: places[row.run_id]))


def _place(track: Track) -> tuple[bool, str, bool, str, str]:
    """By task, of each its main metric first; prices, which are no task's, last; the same metric side by side."""
    newest = track.series.newest
    task = task_of(newest)
    return task is None, task or "", not newest.is_main, newest.metric, track.name


def _changes(tracks: Sequence[Track]) -> list[Change]:
    """The newest first. What changed with one result for the better or the worse is one change; its price another."""
    grouped: dict[tuple[str, bool, bool], list[Step]] = {}
    for track in tracks:
        rows = {row.run_id: row for row in track.series.rows}
        for row in track.changes:
            key = (row.run_id, row.is_worse, row.metric == USD_PER_HOUR)
            grouped.setdefault(key, []).append(Step(track=track, row=row, first=rows[row.run_id]))
    found = [Change(steps=tuple(steps)) for steps in grouped.values()]
    return sorted(found, key=lambda change: change.at, reverse=True)
