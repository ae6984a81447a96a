"""When a run that goes on will be done and what it will have cost then, as was expected when its machine was rented.

What was expected is in the notes of the attempt (phases/renting.py): a job that takes longer has no end in sight, and
that is said. Pure; estimates.py says where an expectation comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator import ledger
from orchestrator.records import Attempt, Json

if TYPE_CHECKING:
    from orchestrator.estimates import Estimate

_EXPECTED = "expected"  # in the notes of an attempt


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """`ends_at` and `usd` are None of a job that has taken longer than was expected."""

    ends_at: datetime | None
    usd: Decimal | None  # of the whole run, when it ends then
    rests_on: str


def notes_of(estimate: Estimate | None) -> Json:
    """What an attempt remembers of what is expected of it; nothing where nothing is known of the job."""
    if estimate is None or not estimate.runs:
        return {}
    seconds = {"job_seconds": round(estimate.job_seconds, 3), "seconds": round(estimate.seconds, 3)}
    return {_EXPECTED: {**seconds, "rests_on": estimate.rests_on}}


def of(attempt: Attempt | None, spent: Decimal, now: datetime) -> Outlook | None:
    """Of a run whose newest attempt this is, and which has cost `spent` by now. None when nothing is to be expected."""
    if attempt is None or attempt.exited_at is not None or attempt.outcome is not None:
        return None
    if (expected := attempt.notes.get(_EXPECTED)) is None:
        return None
    since, seconds = attempt.started_at, float(expected["job_seconds"])
    if since is None:
        since, seconds = attempt.billing_from or attempt.created_at, float(expected["seconds"])
    ends_at = since + timedelta(seconds=seconds)
    rests_on = str(expected["rests_on"])
    if ends_at <= now:
        return Outlook(ends_at=None, usd=None, rests_on=rests_on)
    left = (ends_at - now).total_seconds()
    coming = ledger.projected((), [attempt], now, horizon_seconds=left) - ledger.projected((), [attempt], now)
    return Outlook(ends_at=ends_at, usd=spent + coming, rests_on=rests_on)
