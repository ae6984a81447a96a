"""What money was spent on: every cent of a charge is of one use, and what is no work is told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.costs import About, Spent, Use, Wanted, kept_until, per, reached, summed, used
from orchestrator.records import Attempt, AttemptOutcome, ChargeRow, Event, Phase
from tests.orchestrator.store.examples import NOON, a_charge, an_attempt

KEY = ("r-7k2m9x", 1)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def lived(**changes: Any) -> Attempt:
    """Boot until minute 10, setup until 20, the job until 80, gone at 100; the meters ran from 0."""
    whole: dict[str, Any] = {
        "billing_from": at(0),
        "running_from": at(10),
        "started_at": at(20),
        "exited_at": at(80),
        "terminate_asked_at": at(85),
        "gone_at": at(100),
        "outcome": AttemptOutcome.SUCCEEDED,
    }
    return an_attempt(**{**whole, **changes})


def hundred_minutes(usd: str = "1", **changes: Any) -> ChargeRow:
    return a_charge(amount=usd, **{"start": at(0), "end": at(100), **changes})


def uses(
    attempt: Attempt, *charges: ChargeRow, kept: Mapping[tuple[str, int], datetime] | None = None
) -> dict[str, str]:
    spent = used(charges or [hundred_minutes()], {KEY: attempt}, kept or {})
    return {use: f"{usd.normalize():f}" for (use,), usd in summed(spent, ["use"], About()).items()}


def test_a_charge_is_divided_by_the_times_of_its_attempt() -> None:
    assert uses(lived()) == {"boot": "0.1", "setup": "0.1", "work": "0.6", "after": "0.2"}


@pytest.mark.parametrize("outcome", ["failed", "preempted", "host_lost", "error"])
def test_work_that_did_not_come_to_an_end_is_lost(outcome: str) -> None:
    assert uses(lived(outcome=AttemptOutcome(outcome))) == {
        "boot": "0.1",
        "setup": "0.1",
        "lost": "0.6",
        "after": "0.2",
    }


@pytest.mark.parametrize("outcome", ["cancelled", "timed_out", "stopped_by_budget"])
def test_work_that_somebody_stopped_is_kept(outcome: str) -> None:
    assert uses(lived(outcome=AttemptOutcome(outcome)))["work"] == "0.6"


@pytest.mark.parametrize("outcome", ["never_booted", "bad_host", "error", "refused"])
def test_an_attempt_that_never_got_to_its_job_is_lost_whole(outcome: str) -> None:
    never = lived(outcome=AttemptOutcome(outcome), started_at=None, exited_at=None)
    assert uses(never) == {"lost": "1"}


def test_a_machine_of_no_run() -> None:
    assert uses(lived(outcome=AttemptOutcome.REAPED)) == {"reaped": "1"}


def test_a_machine_that_was_taken_away_ends_its_job() -> None:
    taken = lived(outcome=AttemptOutcome.PREEMPTED, exited_at=None, running_until=at(50))
    assert uses(taken) == {"boot": "0.1", "setup": "0.1", "lost": "0.3", "after": "0.5"}


def test_an_attempt_that_goes_on_is_at_work() -> None:
    going = lived(outcome=None, exited_at=None, terminate_asked_at=None, gone_at=None)
    assert uses(going) == {"boot": "0.1", "setup": "0.1", "work": "0.8"}
    assert uses(replace(going, started_at=None)) == {"boot": "0.1", "setup": "0.9"}
    assert uses(replace(going, started_at=None, running_from=None)) == {"boot": "1"}


def test_cancelled_while_it_booted() -> None:
    stopped = lived(outcome=AttemptOutcome.CANCELLED, running_from=None, started_at=None, exited_at=None)
    assert uses(stopped) == {"boot": "0.85", "after": "0.15"}


def test_what_has_no_length_is_of_the_use_at_its_moment() -> None:
    assert uses(lived(), hundred_minutes(start=at(50), end=at(50))) == {"work": "1"}
    assert uses(lived(), hundred_minutes(start=at(101), end=at(101))) == {"after": "1"}


def test_until_the_checkpoint_from_which_it_went_on_work_is_kept() -> None:
    taken = lived(outcome=AttemptOutcome.PREEMPTED)
    kept = {"boot": "0.1", "setup": "0.1", "work": "0.4", "lost": "0.2", "after": "0.2"}
    assert uses(taken, kept={KEY: at(60)}) == kept
    assert "lost" not in uses(taken, kept={KEY: at(82)}) and uses(taken, kept={KEY: at(82)})["work"] == "0.6"


def test_only_a_checkpoint_that_was_restored_keeps_work() -> None:
    def event(number: int, minutes: float, kind: str, text: str, **details: Any) -> Event:
        return Event(
            run_id=KEY[0], attempt=number, at=at(minutes), phase=Phase.WATCH, kind=kind, text=text, details=details
        )

    came = [event(1, 30, "checkpoint", "checkpoint 1-a is here"), event(1, 60, "checkpoint", "checkpoint 1-b is here")]
    assert kept_until(came) == {}
    assert kept_until([*came, event(2, 110, "agent", "restored checkpoint 1-b", snapshot="1-b")]) == {KEY: at(60)}
    assert kept_until([*came, event(2, 110, "agent", "restored checkpoint 9-z", snapshot="9-z")]) == {}


@given(
    usd=st.decimals(-1000, 1000, places=12),
    moments=st.lists(st.integers(-10_000_000, 10_000_000), min_size=6, max_size=6),
    start=st.integers(-10_000_000, 10_000_000),
    length=st.integers(0, 10_000_000),
    outcome=st.sampled_from([None, *AttemptOutcome]),
)
def test_nothing_is_lost_or_counted_twice(
    usd: Decimal, moments: list[int], start: int, length: int, outcome: AttemptOutcome | None
) -> None:
    names = ("running_from", "started_at", "exited_at", "running_until", "terminate_asked_at", "gone_at")
    times: dict[str, Any] = {
        name: NOON + timedelta(microseconds=moment) for name, moment in zip(names, moments, strict=True)
    }
    begins = NOON + timedelta(microseconds=start)
    charge = a_charge(start=begins, end=begins + timedelta(microseconds=length))
    parts = [*used([replace(charge, amount_usd=usd)], {KEY: an_attempt(outcome=outcome, **times)}, {})]
    assert sum(part.usd for part in parts) == usd


def test_sums_are_exact_and_by_as_many_ways_as_wanted() -> None:
    items = [Spent("r-1", 1, "vast", "compute", f"2026-{month}-01", Decimal("0.1")) for month in ("10", "11")] * 50_000
    about = About(projects={"r-1": "digits"}, labels={"r-1": {"team": "a"}}, gpus={("r-1", 1): "RTX4090"})
    assert summed(items, ["month"], about) == {("2026-10",): 5000, ("2026-11",): 5000}
    ways = ["project", "label:team", "label:none", "gpu", "attempt", "month"]
    assert summed(items[:1], ways, about) == {("digits", "a", "", "RTX4090", "r-1", "1", "2026-10"): Decimal("0.1")}
    tiny = [items[0]._replace(usd=Decimal(10) ** 15), items[0]._replace(usd=Decimal("1E-12"))]
    assert summed(tiny, ["day"], about) == {("2026-10-01",): Decimal("1000000000000000.000000000001")}


def test_filters() -> None:
    about = About(projects={"r-1": "digits"}, labels={"r-1": {"team": "a", "x": "1"}})
    assert Wanted().has("r-1", "vast", about)
    assert Wanted(project="digits", provider="vast", labels={"team": "a"}).has("r-1", "vast", about)
    for wanted in (
        Wanted(project="d"),
        Wanted(provider="aws"),
        Wanted(labels={"team": "b"}),
        Wanted(labels={"y": "1"}),
    ):
        assert not wanted.has("r-1", "vast", about)


@dataclass(frozen=True)
class Measured:
    step: float | None
    value: float


def test_how_far_a_job_got() -> None:
    measured = {"samples": [Measured(1, 100.0), Measured(2, 250.0)], "loss": [Measured(7, 0.5)]}
    assert reached(measured, "samples") == 250
    assert reached(measured, "step") == 7
    assert reached(measured, "epoch") is None and reached({}, "step") is None
    assert per(Decimal("0.5"), 250.0) == Decimal("0.002")
    assert per(Decimal("0.5"), 0) is None


def test_every_use_has_a_word_of_its_own() -> None:
    assert len({use.value for use in Use}) == len(Use)
