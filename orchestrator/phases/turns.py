"""The turns of a sweep's runs: whether one may look for a machine yet, or any more.

A run waits for the one before it in its lane. The sweep's cap counts what its runs have cost, and all that those which
may have machines can still cost: whoever comes first in the order has the first right to what is left.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from orchestrator.phases.visit import Visit
from orchestrator.records import Json, Outcome, Run
from orchestrator.reports.words import money

LOOK_SECONDS = 2.0

_ZERO = Decimal(0)


def too_late(visit: Visit) -> tuple[Outcome, str] | None:
    """Why a run of a sweep never gets its turn; None when it may, has had it, or belongs to none."""
    place = _place(visit)
    if place is None:
        return None
    if place["until"] is not None and visit.now > datetime.fromisoformat(place["until"]):
        return Outcome.CANCELLED, f"caps.time of the suite was over before its turn came in {place['id']}"
    if place["cap_usd"] is not None:
        cap, (spent, _) = Decimal(place["cap_usd"]), _others(visit, place)
        if spent + visit.spec.limits.max_cost > cap:
            most = money(visit.spec.limits.max_cost)
            reason = f"{money(spent)} of {money(cap)} are spent in {place['id']}, and this run may cost {most}"
            return Outcome.STOPPED_BY_BUDGET, f"{reason} (caps.cost of the suite)"
    return None


def must_wait(visit: Visit) -> bool:
    """Whether it is the turn of others first."""
    place = _place(visit)
    if place is None:
        return False
    if place["after"] is not None and not visit.world.store.run(place["after"]).is_over:
        return True
    if place["cap_usd"] is None:
        return False
    spent, coming = _others(visit, place)
    return spent + coming + visit.spec.limits.max_cost > Decimal(place["cap_usd"])


def _place(visit: Visit) -> Json | None:
    """A run that has had a machine goes on with it, and to the next one when it is lost."""
    place: Json | None = visit.run.notes.get("sweep")
    return place if visit.run.attempt == 0 else None


def _others(visit: Visit, place: Json) -> tuple[Decimal, Decimal]:
    """Dollars of the sweep's other runs: what those that are over cost, and the most that the others still may.

    Those that come later and have no machine yet do not count: for them this one does.
    """
    store = visit.world.store
    numbers = {cell.run_id: cell.number for cell in store.benchmarks.cells([place["id"]])}
    others = [run for run in store.some_runs(list(numbers)) if run.id != visit.run.id]
    over = store.spent([run.id for run in others if run.is_over])
    coming = [_most(run) for run in others if not run.is_over and (run.attempt or numbers[run.id] < place["number"])]
    return sum(over.values(), _ZERO), sum(coming, _ZERO)


def _most(run: Run) -> Decimal:
    return Decimal(str(run.spec["limits"]["max_cost"]))
