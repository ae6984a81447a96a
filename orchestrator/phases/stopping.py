"""Why a run is ended before its job is over: it was cancelled, its money runs out, its machine is past its deadline.

Owns the reasons and how a run that ended for one is called. What is done to the job or the machine, the phases know.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from orchestrator import budgets, ledger
from orchestrator.budgets import Account
from orchestrator.phases.visit import Visit
from orchestrator.records import AttemptOutcome
from providers.base import Traits

GRACE_SECONDS = 30.0
STOP_LIMIT = timedelta(seconds=GRACE_SECONDS + 60)  # a job that has not ended by then is ended with its machine


_STOPS = {
    "cancelled": (AttemptOutcome.CANCELLED, "cancelled"),
    "budget": (AttemptOutcome.STOPPED_BY_BUDGET, "limits.max_cost would have been passed"),
    "deadline": (AttemptOutcome.TIMED_OUT, "the machine's own deadline was reached"),
}


def stopped(reason: str) -> tuple[AttemptOutcome, str]:
    """How an attempt that was ended for this reason is called, and its error."""
    return _STOPS.get(reason, (AttemptOutcome.STOPPED_BY_BUDGET, reason))


def reason_to_stop(visit: Visit) -> str | None:
    """Why the run should end now: a word that `stopped` knows, or a sentence that names a monthly budget.

    None when it may go on; when a soft limit is reached it is told so.
    """
    if visit.run.cancel_requested_at is not None:
        return "cancelled"
    if _would_pass_budget(visit, horizon_seconds(visit.provider.traits)):
        return "budget"
    return _monthly_budget(visit) or ("deadline" if _is_overdue(visit) else None)


def close_if_stopped(visit: Visit) -> bool:
    """Close an attempt that has a reason to end; for phases in which no job runs that could be asked to stop."""
    reason = reason_to_stop(visit)
    if reason is None:
        return False
    visit.close_attempt(*stopped(reason))
    return True


def is_used_up(visit: Visit) -> bool:
    """Whether there is neither money nor time left to bring home what the job made."""
    seconds = visit.provider.traits.watch_seconds
    if _would_pass_budget(visit, seconds) or _would_pass_share(visit, seconds) or _is_overdue(visit):
        return True
    return _costs_something(visit) and any(one.left <= 0 for one in _budgets(visit))


def deadline_seconds(visit: Visit, *, usd_per_hour: Decimal) -> float:
    """How long the attempt's machine may exist from now: as long as the run's limits and its share of budgets last."""
    seconds = ledger.deadline_seconds(visit.spec.limits, usd_per_hour=usd_per_hour, spent=visit.spent())
    share = _share(visit)
    if share is None:
        return seconds
    return min(seconds, ledger.seconds_until(share, spent=_spent_on_it(visit), usd_per_hour=usd_per_hour))


def horizon_seconds(traits: Traits) -> float:
    """For how long a machine goes on to cost money when it is ended at the next look: that, the grace, the teardown."""
    return traits.watch_seconds + GRACE_SECONDS


def _would_pass_budget(visit: Visit, seconds: float) -> bool:
    if not visit.current.meters:
        return False
    return visit.spent(in_seconds=seconds) > visit.spec.limits.max_cost


def _monthly_budget(visit: Visit) -> str | None:
    """The budget that would be passed, in words: by this machine of its share, or by all that live under it."""
    if not _costs_something(visit):
        return None
    if _would_pass_share(visit, horizon_seconds(visit.provider.traits)):
        return f"{visit.current.notes['share']['of']} would have been passed"
    for one in _budgets(visit):
        if one.would_be_passed:
            return f"{one.name} would have been passed"
        if one.is_soft_reached:
            _warn(visit, one)
    return None


def _warn(visit: Visit, one: Account) -> None:
    """Once per month and budget."""
    warned: list[str] = visit.run.notes.setdefault("warned_of", [])
    this = f"{one.budget.project} {one.month}"
    if this not in warned:
        warned.append(this)
        visit.note("warning", budgets.soft_words(one))


def _budgets(visit: Visit) -> tuple[Account, ...]:
    return budgets.look(visit.world, visit.run.project)


def _costs_something(visit: Visit) -> bool:
    return ledger.hourly(ledger.meters_from_json(visit.current.meters)) > 0


def _would_pass_share(visit: Visit, seconds: float) -> bool:
    share = _share(visit)
    return share is not None and _spent_on_it(visit, in_seconds=seconds) > share


def _share(visit: Visit) -> Decimal | None:
    """What this machine may cost, where a budget has less for it than the run's own limits."""
    noted = visit.current.notes.get("share")
    return None if noted is None else Decimal(noted["usd"])


def _spent_on_it(visit: Visit, *, in_seconds: float = 0) -> Decimal:
    return ledger.projected((), [visit.current], visit.now, horizon_seconds=in_seconds)


def _is_overdue(visit: Visit) -> bool:
    """Whether the machine should have ended itself long ago: its own switch is never the only one."""
    deadline = visit.current.notes.get("deadline")
    return deadline is not None and visit.now - datetime.fromisoformat(deadline) > STOP_LIMIT
