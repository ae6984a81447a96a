"""The right to change one run for a while, and the fence that keeps everybody else out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam

from orchestrator.records import Run
from orchestrator.store.columns import AnyText
from orchestrator.store.tables import runs


@dataclass(frozen=True)
class Lease:
    """The right to change one run. Every claim of the run has a higher `token`: an old one opens nothing any more."""

    run: Run
    token: int
    owner: str
    wakes: int  # how often somebody had asked for a look at once, when it was claimed

    @property
    def fence(self) -> dict[str, Any]:
        """The parameters of FENCE and WOKEN."""
        return {
            "leased_run": self.run.id,
            "leased_token": self.token,
            "leased_by": self.owner,
            "leased_wakes": self.wakes,
        }

    def saved(self, run: Run, schedule: Sequence[Any]) -> Lease:
        """The lease with what was written, and with the columns of SCHEDULE as the database has them."""
        return replace(self, run=replace(run, **dict(zip(_SCHEDULED, schedule, strict=True))))


FENCE: ColumnElement[bool] = and_(
    runs.c.id == bindparam("leased_run", type_=AnyText()),
    runs.c.claims == bindparam("leased_token", type_=BigInteger()),
    runs.c.lease_owner == bindparam("leased_by", type_=AnyText()),
)
WOKEN: ColumnElement[bool] = runs.c.wakes != bindparam("leased_wakes", type_=BigInteger())

# What others change while a run is leased, and what a release does.
_SCHEDULED = ("due_at", "cancel_requested_at", "nudged_at", "lease_until", "lease_owner")
SCHEDULE = tuple(runs.c[name] for name in _SCHEDULED)
