"""Whatever goes wrong, in whatever order, and wherever the controller is killed: in the end nothing bills.

A property over the real phases, controller, store and reaper, with a cloud in memory and a clock by hand.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.reaper import Reaper
from orchestrator.records import Run
from orchestrator.world import World
from providers.base import Runs
from providers.errors import Ambiguous, NoCapacity, OfferGone, ProviderError, Throttled, Unreachable
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import Boot, Made, Outage
from tests.orchestrator.bad_days import TWO
from tests.orchestrator.living import Living

PATIENCE = 3 * 3600  # seconds of the simulated clock until everything must be over
REAPED_EVERY = 600.0
CALLS = ("account", "offers", "create", "get", "find", "list", "terminate", "charges")
DEADLY = ("create", "get", "find", "terminate", "charges", "save")  # those that a worker makes in its own thread


class Killed(BaseException):
    """kill -9: nothing after it is executed."""


@dataclass(frozen=True)
class Day:
    """What goes wrong."""

    creates: list[Any]
    boots: list[Any]
    terminates: list[Any]
    outages: list[Outage]
    list_lag: float
    runs: Runs
    kills: list[tuple[str, bool]]  # at the next call of this name: before it (False) or after it (True)
    cancelled_at: float | None
    job_seconds: float
    attempts: int
    seen: list[str] = field(default_factory=list)


def errors() -> st.SearchStrategy[ProviderError]:
    return st.sampled_from(
        [
            NoCapacity("none left"),
            OfferGone("taken"),
            Throttled("slow down", after=5),
            Unreachable("no route"),
            Ambiguous("no answer"),
            ProviderError("not JSON"),
        ]
    )


def days() -> st.SearchStrategy[Day]:
    lost = st.sampled_from(["Ambiguous", "Unreachable", "named"]).map(_lost)
    boot = st.builds(
        Boot,
        seconds=st.sampled_from([0.0, 5.0, 90.0]),
        stuck=st.booleans(),
        failed=st.sampled_from(["", "no such image"]),
        preempt_after=st.none() | st.sampled_from([3.0, 20.0, 60.0]),
        vanishes=st.booleans(),
    )
    outage = st.builds(
        lambda start, lasts, calls: Outage(start, start + lasts, tuple(calls)),
        st.floats(0, 120),
        st.sampled_from([5.0, 60.0, 900.0]),
        st.sets(st.sampled_from(CALLS), min_size=1),
    )
    return st.builds(
        Day,
        creates=st.lists(st.none() | errors() | lost, max_size=4),
        boots=st.lists(st.none() | boot, max_size=3),
        terminates=st.lists(st.sampled_from(["ignored", None]) | errors(), max_size=3),
        outages=st.lists(outage, max_size=2),
        list_lag=st.sampled_from([0.0, 0.0, 20.0, 200.0]),
        runs=st.sampled_from(list(Runs)),
        kills=st.lists(st.tuples(st.sampled_from(DEADLY), st.booleans()), max_size=4),
        cancelled_at=st.none() | st.floats(0, 120),
        job_seconds=st.sampled_from([1.0, 30.0]),
        attempts=st.integers(1, 3),
    )


def _lost(kind: str) -> Made:
    if kind == "Unreachable":
        return Made(ProviderError("the reply was no JSON"))
    return Made(Ambiguous("the reply was lost"))


@given(days())
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_in_the_end_nothing_bills_and_all_of_it_is_booked(day: Day) -> None:
    with tempfile.TemporaryDirectory() as folder:
        living = Living(Path(folder), script=Script(seconds=day.job_seconds), offers=TWO)
        try:
            _spoil(living, day)
            living.submit(retry={"attempts": day.attempts}, limits={"max_duration": "30m", "max_cost": "1.00"})
            _live_through(living, day)
            assert living.cloud.alive() == (), day
            assert all(run.is_over for run in living.store.runs())
            assert _booked(living) == round(living.cloud.billed(), 9), (day, living.words())
            assert living.run().outcome is not None
        finally:
            living.store.close()


def _spoil(living: Living, day: Day) -> None:
    faults, cloud = living.cloud.faults, living.cloud
    faults.creates += day.creates
    faults.boots += day.boots
    faults.terminates += day.terminates
    faults.outages += day.outages
    faults.list_lag_seconds = day.list_lag
    cloud.meter_runs = day.runs
    kills = list(day.kills)
    for name in DEADLY:
        owner = living.store if name == "save" else cloud
        setattr(owner, name, _deadly(name, getattr(owner, name), kills))


def _deadly(name: str, really: Any, kills: list[tuple[str, bool]]) -> Any:
    """The call; it kills the controller when its turn has come."""

    def call(*arguments: Any, **named: Any) -> Any:
        strikes = bool(kills) and kills[0][0] == name
        after = strikes and kills[0][1]
        if strikes:
            kills.pop(0)
        if strikes and not after:
            raise Killed
        try:
            return really(*arguments, **named)
        finally:
            if after:
                raise Killed

    return call


def _live_through(living: Living, day: Day) -> None:
    began, reaped_at = living.clock(), -REAPED_EVERY
    while (age := (living.clock() - began).total_seconds()) < PATIENCE:
        if day.cancelled_at is not None and age >= day.cancelled_at:
            living.store.request_cancel("r-1")
        try:
            living.seconds(1 if age < 300 else 10, step=1 if age < 300 else 10)
            if age - reaped_at >= REAPED_EVERY:
                reaped_at = age
                _reap(living)
        except Killed:
            living.clock.advance(30)  # until the lease of the dead one is over
            living.controller = living.new_controller()
        if age > 300 and living.run().is_over and not living.cloud.alive() and _all_over(living.store.runs()):
            return
    raise AssertionError(f"not over: {day}, {living.words()}, alive: {living.cloud.alive()}")


def _reap(living: Living) -> None:
    world = World(store=living.store, home=living.home, env={}, clock=living.clock).use(living.cloud)
    Reaper(world, "me", ["memory"]).look_once()


def _all_over(runs: list[Run]) -> bool:
    return all(run.is_over for run in runs)


def _booked(living: Living) -> Decimal:
    sums = living.store.spent([run.id for run in living.store.runs()])
    return round(sum(sums.values(), Decimal(0)), 9)
