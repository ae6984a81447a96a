"""Whether a sweep may pass: what got worse with it, and what is missing of it. For a build that stops on either.

A change counts for the sweep with whose results it could be told, so that it is reported once. Pure reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.benchmarks import results, series
from orchestrator.benchmarks.results import USD_PER_HOUR
from orchestrator.records import Outcome, Run
from orchestrator.reports import words
from orchestrator.store.rows import CellRow, ChangeRow, ResultRow, SweepRow
from orchestrator.store.store import Store


@dataclass(frozen=True)
class Missing:
    """A cell that lacks results, and why."""

    cell: CellRow
    why: str


@dataclass(frozen=True)
class Verdict:
    """What there is to say of one sweep. A change comes with the first result of the new level."""

    sweep: SweepRow
    changes: Sequence[tuple[ChangeRow, ResultRow]]
    missing: Sequence[Missing]
    still_going: int
    series: int  # in which it has results
    young: int  # of them have too few results for a change to be told soon

    @property
    def worse(self) -> list[tuple[ChangeRow, ResultRow]]:
        """What a build is to stop for: measurements. That a cloud asks more is told, and nobody's commit."""
        return [(change, row) for change, row in self.changes if change.is_worse and change.metric != USD_PER_HOUR]

    @property
    def dearer(self) -> list[tuple[ChangeRow, ResultRow]]:
        return [(change, row) for change, row in self.changes if change.is_worse and change.metric == USD_PER_HOUR]


def judge(store: Store, sweep: SweepRow) -> Verdict:
    """Of a sweep, as far as it is over."""
    cells = store.benchmarks.cells(sweep.id)
    runs = {run.id: run for run in store.some_runs([cell.run_id for cell in cells])}
    over = [cell for cell in cells if runs[cell.run_id].is_over]
    measured: dict[str, dict[str, ResultRow]] = defaultdict(dict)
    rows = store.benchmarks.results(suite=sweep.suite)
    for row in rows:
        measured[row.run_id][row.metric] = row
    its = [one for one in series.of(rows).values() if any(row.sweep_id == sweep.id for row in one.rows)]
    lacks = {cell: _lacks(runs[cell.run_id], measured[cell.run_id].values()) for cell in over}
    changes = [
        (change, measured[change.run_id][change.metric])
        for change in store.benchmarks.changes(sweep.suite)
        if change.noticed_by in runs
    ]
    missing = [Missing(cell, why) for cell, why in lacks.items() if why is not None]
    young = sum(series.is_young(one) for one in its)
    return Verdict(sweep, changes, missing, still_going=len(cells) - len(over), series=len(its), young=young)


def _lacks(run: Run, measured: Iterable[ResultRow]) -> str | None:
    """Why results of a run that is over are missing; None where it has all."""
    if run.outcome is Outcome.SUCCEEDED:
        return ", ".join(results.shortfalls(run, measured)) or None
    outcome = words.state(run)
    return f"{outcome}: {run.error}" if run.error and run.error != outcome else outcome
