"""Runs that belong together, such as a sweep's: their attempts, and what each has cost by now.

Reads the store, for all of them at once, and decides nothing. Knows neither sweeps nor schedules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from orchestrator import spending
from orchestrator.records import Attempt, Outcome, Run
from orchestrator.store.store import Store


@dataclass(frozen=True)
class Together:
    """Runs in the order in which they were asked for; attempts and US dollars by the id of a run, maybe of more."""

    runs: tuple[Run, ...] = ()
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    costs: Mapping[str, Decimal] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[str, Run]:
        return {run.id: run for run in self.runs}

    @property
    def usd(self) -> Decimal:
        """What all of them have cost by now."""
        return sum((self.costs[run.id] for run in self.runs), Decimal(0))

    @property
    def over(self) -> list[Run]:
        return [run for run in self.runs if run.is_over]

    @property
    def going(self) -> list[Run]:
        return [run for run in self.runs if not run.is_over]

    @property
    def succeeded(self) -> list[Run]:
        return [run for run in self.runs if run.outcome is Outcome.SUCCEEDED]

    @property
    def failed(self) -> list[Run]:
        """Those that are over and did not succeed."""
        return [run for run in self.over if run.outcome is not Outcome.SUCCEEDED]

    @property
    def is_possibly_billing(self) -> bool:
        return any(run.possibly_billing for run in self.runs)

    def part(self, ids: Iterable[str]) -> Together:
        """Those of them, in this order."""
        return Together(tuple(self.by_id[one] for one in ids if one in self.by_id), self.attempts, self.costs)


def load_each(store: Store, groups: Sequence[Sequence[str]]) -> list[Together]:
    """Each of these groups of runs, by their ids. Raises StoreError."""
    every = load(store, [run_id for ids in groups for run_id in ids])
    return [every.part(ids) for ids in groups]


def load(store: Store, ids: Sequence[str]) -> Together:
    """These runs; those that are not in the store are left out. Raises StoreError."""
    runs = store.some_runs(ids)
    attempts = store.attempts_of([run.id for run in runs])
    return Together(tuple(runs), attempts, spending.spent(store, runs, attempts)).part(ids)
