"""Budgets by the month: what they have spent, what live machines may still cost, and what a new machine may have.

Arithmetic on records, and one look at the store that all visits of a controller share. A month is a calendar month in
UTC, and a charge belongs to the month in which it starts. Ends no run: the phases do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from orchestrator import ledger, notices
from orchestrator.records import Attempt, Json
from orchestrator.reports.words import money
from orchestrator.store.accounts import ALL, month_of
from orchestrator.store.rows import BudgetRow, LiveMachine, NoticeRow
from orchestrator.store.store import Store
from orchestrator.world import World

LOOK_SECONDS = 5.0  # for which one look at the store serves all visits
HORIZON_SECONDS = 45.0  # a look's age, the time until the next visit, the job's grace, and the machine's end

_ZERO = Decimal(0)


class Standing(NamedTuple):
    """Dollars of one live machine."""

    not_booked: Decimal  # accrued, and of this month
    coming: Decimal  # until it is gone, when it is ended at its next visit; never more than it may still cost
    still: Decimal  # until its own deadline


@dataclass(frozen=True, kw_only=True)
class Account:
    """A budget and where it stands in one month. Dollars.

    spent      booked, and accrued on live machines
    projected  the same when every live machine is ended at its next visit
    worst      the same when every live machine lasts until its own deadline
    """

    budget: BudgetRow
    month: str
    spent: Decimal
    projected: Decimal
    worst: Decimal
    live: int  # machines

    @property
    def limit(self) -> Decimal:
        return self.budget.monthly_usd

    @property
    def left(self) -> Decimal:
        """What may still be spent, also by the machines that live now."""
        return self.limit - self.spent

    @property
    def free(self) -> Decimal:
        """What no live machine may still spend."""
        return self.limit - self.worst

    @property
    def name(self) -> str:
        return name(self.budget, self.month)

    def is_for(self, project: str) -> bool:
        return self.budget.project in (ALL, project)

    @property
    def is_soft_reached(self) -> bool:
        return self.budget.soft_usd is not None and self.spent >= self.budget.soft_usd

    @property
    def would_be_passed(self) -> bool:
        return self.projected > self.limit


def name(budget: BudgetRow, month: str) -> str:
    """In words: the budget of project digits for 2026-11 ($20.00)."""
    whose = "all runs" if budget.project == ALL else f"project {budget.project}"
    return f"the budget of {whose} for {month} ({money(budget.monthly_usd)})"


def month_starts(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def accounts(store: Store, now: datetime) -> tuple[Account, ...]:
    """Every budget of the store as it stands now."""
    budgets = store.accounts.budgets()
    if not budgets:
        return ()
    booked, live = store.accounts.figures(month_of(now))
    standings = [(machine.project, standing(machine, now)) for machine in live]
    return tuple(
        account(
            budget,
            booked.get(budget.project, _ZERO),
            [stands for project, stands in standings if budget.project in (ALL, project)],
            now,
        )
        for budget in budgets
    )


def standing(machine: LiveMachine, now: datetime) -> Standing:
    """Read once for all budgets that the machine is under: most of a look is this."""
    attempt, so_far = machine.attempt, _cost(machine.attempt, now)
    still = _ZERO if attempt.gone_at is not None else max(_ZERO, _most(machine, so_far) - so_far)
    then = now + timedelta(seconds=HORIZON_SECONDS)
    coming = min(still, _cost(attempt, then) - so_far) if still else _ZERO
    return Standing(_not_booked(attempt, so_far, now), coming, still)


def account(budget: BudgetRow, booked: Decimal, live: Sequence[Standing], now: datetime) -> Account:
    """`booked` are the month's charges of the budget's runs, `live` their machines."""
    spent = booked + sum((one.not_booked for one in live), _ZERO)
    return Account(
        budget=budget,
        month=month_of(now),
        spent=spent,
        projected=spent + sum((one.coming for one in live), _ZERO),
        worst=spent + sum((one.still for one in live), _ZERO),
        live=len(live),
    )


def share(
    free: Decimal, *, need: Decimal, usd_per_hour: Decimal, least: Decimal, waiting: Iterable[Json] = ()
) -> Decimal:
    """What a new machine may cost in all: its part of what is free, as much as it needs at most.

    The runs that wait for a machine, by their specs, get equal parts; who needs less leaves the rest to the others.
    But a part lasts for an hour at least while there is so much; less than `least` is nothing.
    """
    needs = [need, *(Decimal(str(spec.get("limits", {}).get("max_cost", need))) for spec in waiting)]
    part = min(free, need, max(_level(free, needs), usd_per_hour))
    return part if part >= least else _ZERO


def look(world: World, project: str) -> tuple[Account, ...]:
    """The budgets that a project's runs are under, as they stood a moment ago: one look serves many visits."""
    watch = world.budgets
    with watch.lock:
        now = world.clock()
        if watch.seen_at is None or not timedelta(0) <= now - watch.seen_at < timedelta(seconds=LOOK_SECONDS):
            watch.seen, watch.seen_at = accounts(world.store, now), now
            _tell_what_is_reached(world, watch.seen)
        return tuple(account for account in watch.seen if account.is_for(project))


def tell(world: World, kind: str, budget: BudgetRow, text: str) -> None:
    """A notice, once per month, budget and kind, to whom the budget names. Delivered beside the visits."""
    now = world.clock()
    month = month_of(now)
    told, this = world.budgets.told, (month, budget.project, kind)
    if this in told:
        return
    due_at = now if budget.names_somebody else None
    notice = NoticeRow(month=month, project=budget.project, kind=kind, text=text, at=now, due_at=due_at)
    world.store.accounts.add_notice(notice)
    told.add(this)


def _tell_what_is_reached(world: World, seen: Sequence[Account]) -> None:
    for one in seen:
        if one.is_soft_reached:
            tell(world, "soft", one.budget, soft_words(one))
        if one.live and one.would_be_passed:
            tell(world, "hard", one.budget, f"{one.name} would be passed: its runs are stopped")
    if any(one.budget.names_somebody for one in seen):
        notices.deliver_beside(world)


def soft_words(one: Account) -> str:
    soft = money(one.budget.soft_usd or _ZERO)
    return f"{money(one.spent)} is spent of {one.name}: its soft limit is {soft}"


def _not_booked(attempt: Attempt, so_far: Decimal, now: datetime) -> Decimal:
    """What has accrued since something was booked, where the ledger will book it in this month."""
    last = attempt.notes.get("estimated_at")
    since = datetime.fromisoformat(last) if last else attempt.billing_from
    if since is None or since < month_starts(now):
        return _ZERO
    return so_far - (_cost(attempt, since) if last else _ZERO)


def _most(machine: LiveMachine, so_far: Decimal) -> Decimal:
    """All that it may cost. Of one that nothing was set aside for: what it costs until its deadline."""
    if machine.reserved is not None:
        return machine.reserved
    deadline = machine.attempt.notes.get("deadline")
    return _cost(machine.attempt, datetime.fromisoformat(deadline)) if deadline else so_far


def _cost(attempt: Attempt, at: datetime) -> Decimal:
    """What it had cost then: what ended it later had not happened yet."""
    gone_at, until = (when if when and when <= at else None for when in (attempt.gone_at, attempt.running_until))
    return ledger.projected((), [replace(attempt, gone_at=gone_at, running_until=until)], at)


def _level(free: Decimal, needs: Sequence[Decimal]) -> Decimal:
    """The most that everybody can have alike, where nobody gets more than is needed."""
    left = free
    for served, need in enumerate(sorted(needs)):
        part = left / (len(needs) - served)
        if need >= part:
            return part
        left -= need
    return max(needs)
