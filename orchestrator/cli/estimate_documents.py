"""What --json prints of a job's time and cost on an offer, as docs/json.md describes it (`documents` has the rest)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.cli.documents import Json, offer_document

if TYPE_CHECKING:
    from orchestrator.estimates import Estimate
    from orchestrator.placement import Ranked

_ESTIMATE = (
    *("expected_seconds", "job_seconds", "job_seconds_least", "job_seconds_most"),
    *("basis", "earlier_runs", "rests_on"),
)


def job_offer_document(ranked: Ranked, *, now: datetime) -> Json:
    """A line of `prices --for`."""
    return {**offer_document(ranked, now=now), **estimate_document(ranked.estimate), "frontier": ranked.is_best}


def estimate_document(estimate: Estimate | None) -> Json:
    """How long a job takes on an offer, and what that rests on."""
    if estimate is None:
        return dict.fromkeys(_ESTIMATE)
    values = (
        *(estimate.seconds, estimate.job_seconds, estimate.least, estimate.most),
        *(estimate.basis.value, estimate.runs, estimate.rests_on),
    )
    return dict(zip(_ESTIMATE, values, strict=True))
