"""What a question about money needs from the store, read when it is needed and once. Renders nothing, sums nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.costs import LABEL, About, Key, Spent, Wanted, kept_until, used

if TYPE_CHECKING:
    from orchestrator.cli.session import Session
    from orchestrator.records import Attempt, ChargeRow


class Books:
    """The charges that are wanted, and what is known about them. `runs` are ids in the order in which they were named;
    None: all runs."""

    def __init__(self, session: Session, wanted: Wanted, runs: Sequence[str] | None) -> None:
        self._session = session
        self._wanted = wanted
        self._runs: Sequence[str | None] = [None] if runs is None else runs

    def spent(self, ways: Sequence[str]) -> Iterator[Spent]:
        """What the sums by these ways are made from."""
        if "use" in ways:
            return used(self.charges, self.attempts, self._kept)
        return self._booked(self.about(ways))

    def uses(self) -> Iterator[Spent]:
        return self.spent(["use"])

    def about(self, ways: Sequence[str]) -> About:
        """What these ways and the filters have to know."""
        sums = self._session.store.sums
        by_label = bool(self._wanted.labels) or any(way.startswith(LABEL) for way in ways)
        return About(
            projects=sums.projects() if self._wanted.project is not None or "project" in ways else {},
            labels=sums.labels() if by_label else {},
            gpus=sums.gpus() if "gpu" in ways else {},
        )

    @cached_property
    def charges(self) -> list[ChargeRow]:
        """Whole lines of the ledger."""
        about, wanted = self.about(()), self._wanted
        return [
            charge
            for run_id in self._runs
            for charge in self._session.store.charges(run_id=run_id, since=wanted.since, until=wanted.until)
            if wanted.has(charge.run_id, charge.provider, about)
        ]

    @cached_property
    def attempts(self) -> dict[Key, Attempt]:
        """The attempts of all runs that have a charge."""
        found = self._session.store.attempts_of([*dict.fromkeys(charge.run_id for charge in self.charges)])
        return {(attempt.run_id, attempt.number): attempt for attempts in found.values() for attempt in attempts}

    @cached_property
    def _kept(self) -> dict[Key, datetime]:
        """Only of runs that were tried again: nobody else went on from a checkpoint."""
        again = dict.fromkeys(run_id for run_id, number in self.attempts if number > 1)
        kept: dict[Key, datetime] = {}
        for run_id in again:
            kept |= kept_until(self._session.store.events(run_id))
        return kept

    def _booked(self, about: About) -> Iterator[Spent]:
        wanted, sums = self._wanted, self._session.store.sums
        for run_id in self._runs:
            for row in sums.booked(run_id=run_id, since=wanted.since, until=wanted.until):
                if wanted.has(row.run_id, row.provider, about):
                    yield Spent(*row)
