"""What the monthly budgets have for a machine that is about to be rented: nothing, a wait, or a share of its own.

Every machine's share is set aside before its cloud is asked, so that all that live together cannot cost more than there
is, even when nobody watches them. Rents nothing; the arithmetic is `orchestrator/budgets.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from orchestrator import budgets, ledger, placement
from orchestrator.budgets import Account, Standing
from orchestrator.phases.stopping import horizon_seconds
from orchestrator.phases.visit import Visit
from orchestrator.records import Json
from orchestrator.reports.words import money, plural
from orchestrator.store.accounts import month_of
from orchestrator.store.rows import BudgetRow, LiveMachine
from providers.base import GB, Offer

LEAST_USE_SECONDS = 60.0  # a machine that has to be ended sooner is not worth its price


def hourly(visit: Visit, offer: Offer) -> Decimal:
    """The most that a machine like that may come to cost in an hour, with all that is billed by the hour."""
    return _hourly(visit, at_worst(visit, offer))


def at_worst(visit: Visit, offer: Offer) -> Offer:
    """The offer at the most per hour that its cloud is let bill for it."""
    if offer.most_usd_per_hour is None:
        return offer
    limits = visit.spec.limits
    lasting = (limits.max_cost - visit.spent()) / ledger.longest_hours(limits)
    affordable = lasting - (_hourly(visit, offer) - offer.usd_per_hour)
    return placement.at_worst(offer, limits.max_price_per_hour, affordable=affordable)


def least(visit: Visit, offer: Offer) -> Decimal:
    """What a machine costs that is of any use before it has to be ended for a budget."""
    seconds = horizon_seconds(visit.world.provider(offer.provider).traits) + LEAST_USE_SECONDS
    return hourly(visit, offer) * Decimal(str(seconds)) / 3600


def used_up(visit: Visit, offer: Offer) -> str | None:
    """Which budget has too little left for such a machine this month, in words. Whoever is stopped by it is told."""
    for one in _of(visit, offer):
        if one.left < least(visit, offer):
            left = money(max(Decimal(0), one.left))
            reason = f"{left} is left of {one.name}: too little for a machine at {_price(visit, offer)} per hour"
            budgets.tell(visit.world, "hard", one.budget, f"{reason}; run {visit.run.id} is not started")
            return reason
    return None


def _price(visit: Visit, offer: Offer) -> str:
    usd = f"${hourly(visit, offer)}"
    return usd if offer.most_usd_per_hour is None else f"up to {usd}"


def must_wait(visit: Visit, offer: Offer) -> bool:
    """Whether too little is free, but some is set aside for machines that may not need it. Says so once."""
    for one in _of(visit, offer):
        if one.free < least(visit, offer):
            if not visit.run.notes.get("waits_for_budget"):
                visit.run.notes["waits_for_budget"] = True
                held = money(one.worst - one.spent)
                visit.note("budget", f"waits: {held} of {one.name} is set aside for {plural(one.live, 'live machine')}")
            return True
    if visit.run.notes.pop("waits_for_budget", None):
        visit.changed = True
    return False


def set_aside(visit: Visit, offer: Offer) -> bool:
    """Reserve what this attempt's machine may cost; False when others have taken what was free."""
    visit.current.notes.pop("share", None)
    rate = hourly(visit, offer)
    if rate <= 0:
        return True
    need = _need(visit, rate)
    enough = min(need, least(visit, offer))
    now, known = visit.now, dict[str, Standing]()

    def share(budget: BudgetRow, booked: Decimal, live: Sequence[LiveMachine], waiting: Sequence[Json]) -> Decimal:
        for one in live:
            if one.run_id not in known:
                known[one.run_id] = budgets.standing(one, now)
        free = budgets.account(budget, booked, [known[one.run_id] for one in live], now).free
        return budgets.share(free, need=need, usd_per_hour=rate, least=enough, waiting=waiting)

    run, machine = visit.run, visit.current.machine
    reserved = visit.world.store.accounts.reserve(run.id, run.project, machine, month_of(now), share)
    if reserved is None:
        return True
    usd, budget = reserved
    if 0 < usd < need:
        whose = budgets.name(budget, month_of(now))
        visit.remember(share={"usd": ledger.plain(usd), "of": f"this machine's {money(usd)} of {whose}"})
        visit.note("budget", f"{money(usd)} is set aside for this machine, of {whose}: less than the run's own limits")
    return usd > 0


def _hourly(visit: Visit, offer: Offer) -> Decimal:
    return placement.total_usd(offer, hours=Decimal(1), disk_gb=Decimal(visit.spec.resources.disk) / GB)


def _need(visit: Visit, usd_per_hour: Decimal) -> Decimal:
    """What the machine costs when it lasts as long as the run's own limits let it."""
    seconds = ledger.deadline_seconds(visit.spec.limits, usd_per_hour=usd_per_hour, spent=visit.spent())
    return Decimal(str(seconds)) * usd_per_hour / 3600


def _of(visit: Visit, offer: Offer) -> tuple[Account, ...]:
    """The budgets of the run, as far as such a machine concerns them."""
    return budgets.look(visit.world, visit.run.project) if hourly(visit, offer) > 0 else ()
