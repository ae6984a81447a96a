"""The turns of a sweep's runs: whether one may look for a machine yet, or any more.

A run waits for the one before it in its lane. The sweep's cap counts what its runs have cost, and all that those which
may have machines can still cost: whoever comes first in the order has the first right to what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from orchestrator.phases.visit import Next, Visit
from orchestrator.records import Json, Outcome, Run
from orchestrator.reports.words import money

LOOK_SECONDS = 2.0

_ZERO = Decimal(0)


@dataclass(frozen=True)
class Never:
    """Its turn does not come, and why."""

    outcome: Outcome
    reason: str


def turn(visit: Visit) -> Never | Next | None:
    """Whether a run of a sweep stays where it is, or gives up; None when it is its turn, or it belongs to no sweep.

    A run that has had a machine goes on with it, and to the next one when it is lost.
    """
    place: Json | None = visit.run.notes.get("sweep")
    if place is None or visit.run.attempt:
        return None
    if place["until"] is not None and visit.now > datetime.fromisoformat(place["until"]):
        return Never(Outcome.CANCELLED, f"caps.time of the suite was over before its turn came in {place['id']}")
    if place["after"] is not None and not visit.world.store.run(place["after"]).is_over:
        return visit.stay(LOOK_SECONDS)
    return None if place["cap_usd"] is None else _within(visit, place, Decimal(place["cap_usd"]))


def _within(visit: Visit, place: Json, cap: Decimal) -> Never | Next | None:
    """Whether the cap has room for all that this run may cost: now, once others are over, or never."""
    most, (spent, coming) = visit.spec.limits.max_cost, _others(visit, place)
    if spent + most > cap:
        reason = f"{money(spent)} of {money(cap)} are spent in {place['id']}, and this run may cost {money(most)}"
        return Never(Outcome.STOPPED_BY_BUDGET, f"{reason} (caps.cost of the suite)")
    return visit.stay(LOOK_SECONDS) if spent + coming + most > cap else None


def _others(visit: Visit, place: Json) -> tuple[Decimal, Decimal]:
    """Dollars of the sweep's other runs: what those that are over cost, and the most that the others still may.

    Those that come later and have no machine yet do not count: for them this one does.
    """
    store = visit.world.store
    numbers = {cell.run_id: cell.number for cell in store.benchmarks.cells(place["id"])}
    others = [run for run in store.some_runs(list(numbers)) if run.id != visit.run.id]
    over = store.spent([run.id for run in others if run.is_over])
    coming = [_most(run) for run in others if not run.is_over and (run.attempt or numbers[run.id] < place["number"])]
    return sum(over.values(), _ZERO), sum(coming, _ZERO)


def _most(run: Run) -> Decimal:
    return Decimal(str(run.spec["limits"]["max_cost"]))
