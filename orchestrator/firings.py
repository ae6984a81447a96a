"""What was made of a schedule's times: the runs of each, one or a sweep's, and what they have cost by now.

Reads the store and decides nothing. Knows no cron.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator import spending
from orchestrator.records import Outcome, Run
from orchestrator.store.rows import FiringRow
from orchestrator.store.store import Store


@dataclass(frozen=True)
class Fired:
    """The runs of one time, a sweep's in the order of their turns, and their dollars; no run where none was made."""

    runs: tuple[Run, ...] = ()
    usd: Decimal = Decimal(0)

    @property
    def over(self) -> list[Run]:
        return [run for run in self.runs if run.is_over]

    @property
    def failed(self) -> list[Run]:
        """Those that are over and did not succeed."""
        return [run for run in self.over if run.outcome is not Outcome.SUCCEEDED]


def fired(store: Store, firings: Sequence[FiringRow]) -> list[Fired]:
    """Of each of these times, in their order."""
    of_sweep: dict[str, list[str]] = {}
    for cell in store.benchmarks.cells([firing.sweep_id for firing in firings if firing.sweep_id]):
        of_sweep.setdefault(cell.sweep_id, []).append(cell.run_id)
    ids = [[firing.run_id] if firing.run_id else of_sweep.get(firing.sweep_id or "", []) for firing in firings]
    wanted = [run_id for of_one in ids for run_id in of_one]
    runs = {run.id: run for run in store.some_runs(wanted)}
    costs = spending.spent(store, list(runs.values()), store.attempts_of(list(runs)))
    return [_fired([runs[run_id] for run_id in of_one if run_id in runs], costs) for of_one in ids]


def _fired(runs: Sequence[Run], costs: dict[str, Decimal]) -> Fired:
    return Fired(tuple(runs), sum((costs[run.id] for run in runs), Decimal(0)))
