"""Why a run is ended before its job is over: it was cancelled, its money runs out, its machine is past its deadline.

Owns the reasons and how a run that ended for one is called. What is done to the job or the machine, the phases know.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from orchestrator.phases.visit import Visit
from orchestrator.records import AttemptOutcome
from providers.base import Traits

GRACE_SECONDS = 30.0
STOP_LIMIT = timedelta(seconds=GRACE_SECONDS + 60)  # a job that has not ended by then is ended with its machine

STOPS = {
    "cancelled": (AttemptOutcome.CANCELLED, "cancelled"),
    "budget": (AttemptOutcome.STOPPED_BY_BUDGET, "limits.max_cost would have been passed"),
    "deadline": (AttemptOutcome.TIMED_OUT, "the machine's own deadline was reached"),
}


def reason_to_stop(visit: Visit) -> str | None:
    """The key in STOPS of why the run should end now; None when it may go on."""
    if visit.run.cancel_requested_at is not None:
        return "cancelled"
    if _would_pass_budget(visit, horizon_seconds(visit.provider.traits)):
        return "budget"
    return "deadline" if _is_overdue(visit) else None


def close_if_stopped(visit: Visit) -> bool:
    """Close an attempt that has a reason to end; for phases in which no job runs that could be asked to stop."""
    reason = reason_to_stop(visit)
    if reason is None:
        return False
    visit.close_attempt(*STOPS[reason])
    return True


def is_used_up(visit: Visit) -> bool:
    """Whether there is neither money nor time left to bring home what the job made."""
    return _would_pass_budget(visit, visit.provider.traits.watch_seconds) or _is_overdue(visit)


def horizon_seconds(traits: Traits) -> float:
    """For how long a machine goes on to cost money when it is ended at the next look: that, the grace, the teardown."""
    return traits.watch_seconds + GRACE_SECONDS


def _would_pass_budget(visit: Visit, seconds: float) -> bool:
    if not visit.current.meters:
        return False
    return visit.spent(in_seconds=seconds) > visit.spec.limits.max_cost


def _is_overdue(visit: Visit) -> bool:
    """Whether the machine should have ended itself long ago: its own switch is never the only one."""
    deadline = visit.current.notes.get("deadline")
    return deadline is not None and visit.now - datetime.fromisoformat(deadline) > STOP_LIMIT
