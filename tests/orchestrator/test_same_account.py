"""A key is swapped for another account's in the middle of a run: "not found" is not believed, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.transport.base import TransportError
from orchestrator import same_account
from orchestrator.reaper import Reaper
from orchestrator.records import Outcome, Phase
from orchestrator.same_account import AnotherAccount, SameAccount
from orchestrator.settlement import Bookkeeper, machine_of
from orchestrator.world import World
from providers.base import Instance, LaunchRequest, Offer, OfferQuery, Offers
from providers.errors import Ambiguous, NotFound, Unreachable
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import Boot, Made, Outage
from tests.orchestrator.bad_days import ENDLESS, TWO, billed, booked
from tests.orchestrator.living import Living

MACHINE = "gpujob-r-1-1-1"


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, script=Script(seconds=60), offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def alarms(living: Living) -> list[str]:
    return [text for text in living.words() if "POSSIBLY STILL BILLING" in text]


def test_a_machine_is_not_gone_because_another_account_does_not_know_it(living: Living) -> None:
    living.submit()
    living.until(Phase.WATCH)
    living.cloud.asked_as = "two"
    living.seconds(120)

    run = living.run()
    assert run.phase is Phase.TEARDOWN and run.possibly_billing and not run.is_over
    assert living.cloud.alive() == (MACHINE,)
    [alarm] = alarms(living)
    assert "made in account one" in alarm and "are of account two" in alarm and "credentials of account one" in alarm

    living.cloud.asked_as = "one"
    run = living.until_done()
    assert run.outcome is Outcome.SUCCEEDED and not run.possibly_billing
    assert booked(living) == billed(living) > 0
    assert living.cloud.made() == (MACHINE,)


def test_what_boots_has_not_vanished_because_another_account_is_asked(living: Living) -> None:
    living.cloud.faults.boots.append(Boot(seconds=200))
    living.submit()
    living.until(Phase.BOOT)
    living.cloud.asked_as = "two"
    living.seconds(180)
    assert living.run().phase is Phase.BOOT and living.cloud.made() == (MACHINE,)
    living.cloud.asked_as = "one"
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["succeeded"]


def test_a_create_that_nobody_answered_is_not_undone_by_another_accounts_empty_list(living: Living) -> None:
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.submit()
    living.until(Phase.PROVISION)
    living.controller.tick()
    living.cloud.asked_as = "two"
    living.seconds(300)
    assert living.cloud.made() == (MACHINE,), "no second machine is made"
    living.cloud.asked_as = "one"
    assert living.until_done().outcome is Outcome.SUCCEEDED


def test_a_job_whose_machine_is_out_of_reach_is_not_lost_because_another_account_is_asked(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    really, living.cloud.asked_as = living.machines.connect, "two"
    living.controller.world.connect = unreachable
    living.controller.world.forget_machine(MACHINE)
    living.seconds(120)
    assert living.run().phase is Phase.WATCH and living.outcomes() == ["None"]
    living.cloud.asked_as, living.controller.world.connect = "one", really
    living.controller.world.forget_machine(MACHINE)
    living.store.request_cancel("r-1")
    assert living.until_done().outcome is Outcome.CANCELLED


def unreachable(*_: Any) -> Any:
    raise TransportError("no route")


def test_not_found_waits_until_the_account_can_be_asked(living: Living) -> None:
    living.submit()
    living.until(Phase.WATCH)
    now = (living.clock() - living.cloud._started_at).total_seconds()
    living.cloud.faults.outages.append(Outage(now, now + 400, ("account",)))
    living.cloud.preempt(MACHINE, vanishes=True)
    living.seconds(390)
    assert living.run().phase is not Phase.DONE and living.attempts()[0].gone_at is None
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["host_lost", "succeeded"]


def test_credentials_that_may_not_say_whose_they_are_end_nothing_of_an_account(living: Living) -> None:
    living.submit()
    living.until(Phase.WATCH)
    living.cloud.asked_as = ""
    living.seconds(120)
    assert living.run().possibly_billing and living.cloud.alive() == (MACHINE,)
    assert "an account that they may not name" in alarms(living)[0]
    living.cloud.asked_as = "one"
    living.until_done()


@pytest.mark.parametrize("noted", [None, ""])
def test_an_attempt_of_no_known_account_believes_its_cloud_as_ever(living: Living, noted: str | None) -> None:
    living.submit()
    living.until(Phase.WATCH)
    [attempt] = living.attempts()
    notes = {name: value for name, value in attempt.notes.items() if name != same_account.ACCOUNT}
    old = replace(attempt, notes=notes if noted is None else {**notes, same_account.ACCOUNT: noted})
    provider = SameAccount(living.cloud, old)
    living.cloud.asked_as = "two"
    with pytest.raises(NotFound):
        provider.get(str(attempt.instance_id))
    living.cloud.asked_as = "one"
    with pytest.raises(NotFound):
        SameAccount(living.cloud, attempt).get("i-never")
    living.until_done()


def test_the_account_is_in_the_store_before_the_cloud_hears_of_the_machine(living: Living) -> None:
    really, noted = living.cloud.create, list[Any]()

    def create(offer: Offer, request: LaunchRequest) -> Instance:
        noted.append(living.attempts()[0].notes.get("account"))
        return really(offer, request)

    living.cloud.create = create  # type: ignore[method-assign]
    living.submit()
    living.until_done()
    assert noted == ["one"]


def test_a_cloud_that_cannot_say_whose_the_key_is_is_rented_from_all_the_same(living: Living) -> None:
    living.cloud.faults.outages.append(Outage(0, 10_000, ("account",)))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.attempts()[0].notes["account"] == ""


def test_who_asks_is_asked_beside_the_offers_and_not_before_or_after_them(living: Living) -> None:
    """Each of the two questions is only answered when the other one has been asked, too."""
    asked_account, asked_offers = threading.Event(), threading.Event()
    offers, account = living.cloud.offers, living.cloud.account

    def offers_beside(query: OfferQuery) -> Offers:
        asked_offers.set()
        assert asked_account.wait(10), "the account is asked after the offers"
        return offers(query)

    def account_beside() -> str:
        asked_account.set()
        assert asked_offers.wait(10), "the account is asked before the offers"
        return account()

    living.cloud.offers, living.cloud.account = offers_beside, account_beside  # type: ignore[method-assign]
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED


def test_a_bill_that_another_account_does_not_have_is_asked_for_again(living: Living) -> None:
    living.submit()
    living.until_done()
    [attempt] = living.attempts()
    living.cloud.asked_as = "two"
    provider = SameAccount(living.cloud, attempt)
    run = living.run()
    with pytest.raises(AnotherAccount):
        provider.charges(machine_of(run, attempt), attempt.created_at)
    Bookkeeper(living.controller.world).settle_due()
    living.cloud.asked_as = "one"
    assert booked(living) == billed(living)


def test_what_a_reaper_ends_is_looked_for_in_its_own_account(living: Living) -> None:
    living.cloud.faults.list_lag_seconds = 200
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.submit()
    living.seconds(250)
    world = World(store=living.store, home=living.home, env={}, clock=living.clock).use(living.cloud)
    really, living.cloud.terminate = living.cloud.terminate, unheard  # type: ignore[method-assign]
    Reaper(world, "me", ["memory"]).look_once()
    [stray] = [run for run in living.store.runs() if run.name.startswith("stray-")]
    living.cloud.terminate = really  # type: ignore[method-assign]
    living.cloud.asked_as = "two"
    living.seconds(60)
    assert living.run(stray.id).possibly_billing
    living.cloud.asked_as = "one"
    assert living.until_done(stray.id).outcome is Outcome.REAPED
    living.until_done()


def unheard(instance_id: str) -> None:
    raise Unreachable("no answer")
