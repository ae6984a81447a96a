"""Clouds that answer unclearly, late or not at all: no machine is forgotten, none is rented in vain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.transport.base import AccessRefused
from orchestrator.records import Outcome, Phase
from providers.base import Runs
from providers.errors import Ambiguous, AuthFailed, ProviderError, Rejected, Throttled
from tests.fakes.fake_machine import FakeMachine
from tests.fakes.memory_provider import Boot, Made, MemoryProvider, Outage, offer
from tests.orchestrator.bad_days import ENDLESS, TWO, billed, booked, during, killed
from tests.orchestrator.living import Living


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


@pytest.mark.parametrize("error", [AuthFailed("key expired"), Rejected("bad list"), ProviderError("what?")])
def test_a_machine_that_may_exist_is_not_forgotten_when_the_look_up_is_refused(
    living: Living, error: ProviderError
) -> None:
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.cloud.find = during(living, 0, 20, error, living.cloud.find)  # type: ignore[method-assign]
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.made() == ("gpujob-r-1-1-1",)
    assert booked(living) == billed(living)


def test_an_unknown_error_of_create_is_followed_by_a_look_up(living: Living) -> None:
    living.cloud.faults.creates.append(Made(ProviderError("not JSON")))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.made() == ("gpujob-r-1-1-1",)


def test_a_machine_that_only_its_id_leads_to_is_ended_by_it(living: Living) -> None:
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost", created_id="i-gpujob-r-1-1-1")))
    living.cloud.faults.list_lag_seconds = math.inf
    living.cloud.faults.list_lag_seconds = 10**8
    living.cloud.faults.outages.append(Outage(0.5, 1500, ("get", "find", "create")))
    living.submit(retry={"attempts": 1})
    living.until_done()
    assert living.cloud.made() == ("gpujob-r-1-1-1",)


@pytest.mark.parametrize("owned", [True, False])
def test_a_controller_killed_right_before_create_does_not_lose_the_only_offer(tmp_path: Path, owned: bool) -> None:
    living = Living(tmp_path, offers=[offer("only")])
    living.cloud.traits = replace(living.cloud.traits, owned=owned)
    living.submit()
    living.until(Phase.PROVISION)
    killed(living, living.cloud, "create", before=True)
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert len(living.cloud.made()) == 1


def test_an_offer_whose_creates_never_come_through_is_left_in_the_end(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("only")])
    living.cloud.faults.creates.extend([Ambiguous("500")] * 100)
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.NO_CAPACITY and "did not come through" in (run.error or "")
    assert living.cloud.calls["create"] <= 5


def test_a_throttled_create_is_the_same_call_again(living: Living) -> None:
    living.cloud.faults.creates.append(Throttled("slow down", after=30))
    living.submit()
    living.seconds(40)
    assert living.cloud.made() == ("gpujob-r-1-1-1",)
    living.until_done()
    assert living.attempts()[0].offer["offer_id"] == "cheap"


def test_a_cloud_that_refuses_to_describe_a_booting_machine_for_a_while_is_waited_for(living: Living) -> None:
    living.cloud.faults.boots.append(Boot(seconds=60))
    living.cloud.get = during(living, 1, 40, AuthFailed("try later"), living.cloud.get)  # type: ignore[method-assign]
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["succeeded"]


def test_a_budget_is_kept_while_a_machine_boots(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("one", usd_per_hour="36")])
    living.cloud.faults.boots.append(Boot(stuck=True))
    living.submit(limits={"max_cost": "2.00"})
    assert living.until_done().outcome is Outcome.STOPPED_BY_BUDGET
    assert living.cloud.billed() <= Decimal("2.00")


def test_no_machine_is_rented_that_would_have_to_be_ended_before_it_is_of_use(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("one", usd_per_hour="36")], script=ENDLESS)
    living.submit(limits={"max_cost": "2.00"})
    living.until(Phase.WATCH)
    living.seconds(150)
    living.cloud.preempt("gpujob-r-1-1-1")
    run = living.until_done()
    assert (run.outcome, len(living.cloud.made())) == (Outcome.STOPPED_BY_BUDGET, 1)
    assert living.cloud.billed() <= Decimal("2.00")


def test_a_broken_cloud_does_not_keep_a_run_from_the_others(living: Living) -> None:
    def offers(query: Any) -> Any:
        raise KeyError("machine_id")

    broken = MemoryProvider(living.clock, name="broken")
    broken.offers = offers  # type: ignore[method-assign]
    living.controller.world.use(broken)
    living.submit(place={"providers": ["broken", "memory"]})
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert any("broken" in text and "machine_id" in text for text in living.words())


def test_a_cloud_that_cannot_be_asked_is_named_when_nothing_can_be_rented(living: Living) -> None:
    refusing = during(living, 0, math.inf, Rejected("config.toml: no such price"), living.cloud.offers)
    living.cloud.offers = refusing  # type: ignore[method-assign]
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.ERROR and "no such price" in (run.error or "")


def test_a_machine_that_does_not_know_our_key_yet_is_given_time(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = during(living, 0, 20, AccessRefused("our key is not let in"), FakeMachine.install)
    monkeypatch.setattr(FakeMachine, "install", refused)
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["succeeded"]


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_budget_is_kept_when_a_clouds_clock_is_wrong(tmp_path: Path, ahead: float) -> None:
    living = Living(tmp_path, script=ENDLESS)
    living.cloud = MemoryProvider(
        lambda: living.clock() + timedelta(seconds=ahead), offers=[offer("one", usd_per_hour="36")]
    )
    living.machines._cloud = living.cloud
    living.controller = living.new_controller()
    living.submit(limits={"max_cost": "2.00"})
    assert living.until_done().outcome is Outcome.STOPPED_BY_BUDGET
    assert Decimal("1.50") < living.cloud.billed() <= Decimal("2.00")


def test_the_last_attempt_takes_no_machine_that_can_be_taken_away_when_asked(living: Living) -> None:
    living.cloud.rentable = [offer("spot", usd_per_hour="0.10", spot=True), offer("safe", usd_per_hour="0.90")]
    living.cloud.faults.boots += [Boot(preempt_after=20), Boot(preempt_after=20)]
    living.machines._script = ENDLESS
    place = {"providers": ["memory"], "spot": "allow"}
    living.submit(place=place, retry={"attempts": 3, "on_demand_last": True})
    for _ in range(200):
        living.seconds(1)
        if len(living.attempts()) == 3 and living.run().phase is Phase.WATCH:
            break
    assert [attempt.offer["offer_id"] for attempt in living.attempts()] == ["spot", "spot", "safe"]
    living.store.request_cancel("r-1")
    living.until_done()


def test_a_machine_that_ran_before_anybody_saw_it_run_is_paid_for(living: Living) -> None:
    """Its create got no answer and its run was cancelled: it was never booted, and billed all the same."""
    living.cloud.meter_runs = Runs.RUNNING
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.cloud.faults.list_lag_seconds = 30
    living.cloud.charges = lambda instance, since: ()  # type: ignore[method-assign]
    living.submit()
    living.until(Phase.PROVISION)
    living.seconds(10)
    living.store.request_cancel("r-1")
    assert living.until_done().outcome is Outcome.CANCELLED
    assert billed(living) > 0
    assert booked(living) == billed(living)


def test_a_machine_that_runs_on_after_it_was_asked_to_end_is_paid_for(living: Living) -> None:
    living.cloud.meter_runs = Runs.RUNNING
    living.cloud.faults.terminates += ["ignored", "ignored"]
    living.cloud.charges = lambda instance, since: ()  # type: ignore[method-assign]
    living.submit()
    living.until_done()
    assert billed(living) > Decimal("0.001")
    assert abs(booked(living) - billed(living)) < Decimal("0.0002")
