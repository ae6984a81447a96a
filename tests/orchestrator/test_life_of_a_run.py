"""The phases against a cloud that misbehaves: what a user is told, what it bills, and that nothing stays alive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records import Outcome, Phase
from providers.base import Traits
from providers.errors import (
    Ambiguous,
    AuthFailed,
    BadHost,
    NoCapacity,
    NoFunds,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unreachable,
)
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import Boot, Made, Outage, offer
from tests.orchestrator.living import Living

TWO = [offer("cheap", usd_per_hour="0.10"), offer("dear", usd_per_hour="0.20")]


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def booked(living: Living) -> Decimal:
    """What our ledger says, to a hundred-millionth of a cent."""
    return round(living.store.spent(["r-1"])["r-1"], 10)


def billed(living: Living) -> Decimal:
    """What the cloud's own bill says."""
    return round(living.cloud.billed(), 10)


def test_a_run_succeeds_on_the_cheapest_offer_and_costs_what_the_cloud_bills(living: Living) -> None:
    living.submit()
    run = living.until_done()
    assert (run.outcome, run.exit_code) == (Outcome.SUCCEEDED, 0)
    assert living.outcomes() == ["succeeded"]
    assert living.attempts()[0].offer["offer_id"] == "cheap"
    assert living.machines.started == 1
    assert booked(living) == billed(living) > 0


def test_the_name_is_in_the_store_before_the_cloud_hears_of_it(living: Living) -> None:
    living.submit()
    seen: list[str] = []
    create = living.cloud.create

    def watched(offer: Any, request: Any) -> Any:
        seen.extend(attempt.machine for attempt in living.attempts())
        return create(offer, request)

    living.cloud.create = watched  # type: ignore[method-assign]
    living.until_done()
    assert tuple(seen) == living.cloud.made()


@pytest.mark.parametrize("error", [NoCapacity("none left"), OfferGone("taken"), BadHost("broken")])
def test_the_next_offer_is_tried(living: Living, error: ProviderError) -> None:
    living.cloud.faults.creates.append(error)
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    [attempt] = living.attempts()
    assert attempt.offer["offer_id"] == "dear"
    assert [(left["offer_id"], left["reason"]) for left in attempt.tries] == [("cheap", str(error))]


def test_an_exhausted_list_is_no_capacity(living: Living) -> None:
    living.cloud.faults.creates.extend([NoCapacity("none left"), NoCapacity("none left")])
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.NO_CAPACITY and "none left" in (run.error or "")
    assert living.cloud.made() == ()


def test_when_nothing_fits_it_says_what_is_lacking(living: Living) -> None:
    living.submit(resources={"gpu": {"name": "H200", "count": 8}})
    run = living.until_done()
    assert run.outcome is Outcome.NO_CAPACITY
    assert "memory here has 0 GPUs, 8 wanted" in (run.error or "")


def test_a_controller_leaves_runs_alone_whose_files_are_in_another_home(living: Living) -> None:
    living.controller.is_one_of_many = True
    living.submit()
    folder = living.home.run("r-1").root
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    living.seconds(30)
    assert living.run().phase is Phase.QUOTE and living.cloud.made() == ()
    elsewhere.rename(folder)
    assert living.until_done().outcome is Outcome.SUCCEEDED


def test_a_quota_that_is_used_up_leaves_the_other_offers(living: Living) -> None:
    living.cloud.faults.creates.append(QuotaExceeded("L-1: 0 vCPUs"))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert [left["reason"] for left in living.attempts()[0].tries] == ["L-1: 0 vCPUs"]


def test_when_every_offer_has_a_quota_the_run_is_refused_and_says_which(living: Living) -> None:
    living.cloud.faults.creates.extend([QuotaExceeded("L-1: 0 vCPUs")] * 100)
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.REFUSED and "L-1: 0 vCPUs" in (run.error or "")


@pytest.mark.parametrize("error", [AuthFailed("bad key"), NoFunds("empty")])
def test_a_refusal_stops_and_says_why(living: Living, error: ProviderError) -> None:
    living.cloud.faults.creates.append(error)
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.REFUSED and str(error) in (run.error or "")


def test_throttling_waits_as_long_as_the_cloud_says(living: Living) -> None:
    living.cloud.faults.creates.append(Throttled("slow down", after=30))
    living.submit()
    living.seconds(20)
    assert living.cloud.made() == ()
    assert living.until_done().outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("named", [True, False])
def test_a_lost_reply_is_followed_by_a_look_up_and_not_by_a_second_machine(living: Living, named: bool) -> None:
    living.cloud.faults.list_lag_seconds = 10
    lost = Ambiguous("the reply was lost", created_id="i-gpujob-r-1-1-1" if named else None)
    living.cloud.faults.creates.append(Made(lost))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.made() == ("gpujob-r-1-1-1",)
    assert booked(living) == billed(living)


def test_a_create_that_made_nothing_is_found_out_and_the_next_offer_tried(living: Living) -> None:
    living.cloud.faults.creates.append(Ambiguous("500"))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.made() == ("gpujob-r-1-1-2",)


def test_a_controller_killed_right_after_create_finds_its_machine(living: Living) -> None:
    living.submit()
    living.until(Phase.PROVISION)
    create = living.cloud.create

    def deadly(offer: Any, request: Any) -> Any:
        create(offer, request)
        raise SystemExit("kill -9")

    living.cloud.create = deadly  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        living.controller.tick()
    living.cloud.create = create  # type: ignore[method-assign]
    living.controller = living.new_controller()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.made() == ("gpujob-r-1-1-1",)
    assert booked(living) == billed(living)


def test_our_own_bad_request_is_an_error_and_rents_nothing(living: Living) -> None:
    living.cloud.faults.creates.append(Rejected("unknown parameter"))
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.ERROR and "unknown parameter" in (run.error or "")


@pytest.mark.parametrize(
    "boot", [Boot(stuck=True), Boot(seconds=5, failed="no such image"), Boot(preempt_after=5, seconds=10)]
)
def test_a_machine_that_does_not_come_up_is_ended_and_paid_and_another_taken(living: Living, boot: Boot) -> None:
    living.cloud.faults.boots.append(boot)
    living.submit()
    assert living.until_done(limit=7200).outcome is Outcome.SUCCEEDED
    assert living.outcomes()[0] in ("never_booted", "preempted")
    assert living.outcomes()[-1] == "succeeded"
    assert booked(living) == billed(living)


def test_a_machine_without_its_gpu_is_not_used_and_remembered(tmp_path: Path) -> None:
    gpus = [offer("bad", usd_per_hour="0.10", gpu="RTX4090"), offer("good", usd_per_hour="0.20", gpu="RTX4090")]
    living = Living(tmp_path, offers=gpus, script=Script())
    healthy = {"gpus": [{"name": "NVIDIA GeForce RTX 4090", "memory_mb": 24564, "driver": "570", "uuid": "x"}]}
    living.machines = type(living.machines)(
        living.clock, living.cloud, lambda name: Script(facts={} if name.endswith("-1-1") else healthy)
    )
    living.controller = living.new_controller()
    living.submit(resources={"gpu": {"name": "RTX4090", "count": 1}})
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["bad_host", "succeeded"]
    assert "0 GPUs found, 1 were offered" in (living.attempts()[0].error or "")
    assert living.attempts()[1].offer["offer_id"] == "good"
    assert ("memory", "host-bad") in living.store.remembered()


def test_the_jobs_own_failure_is_final(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=TWO, script=Script(exit_code=7))
    living.submit()
    run = living.until_done()
    assert (run.outcome, run.exit_code, living.outcomes()) == (Outcome.FAILED, 7, ["failed"])


def test_a_failure_is_tried_again_when_asked(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=TWO, script=Script(exit_code=7))
    living.submit(retry={"attempts": 2, "on_failure": True})
    run = living.until_done()
    assert run.outcome is Outcome.FAILED and len(living.attempts()) == 2


def test_a_preempted_job_goes_on_elsewhere_and_both_machines_are_paid(living: Living) -> None:
    living.machines._script = Script(seconds=60)
    living.submit()
    living.until(Phase.WATCH)
    living.seconds(20)
    living.cloud.preempt("gpujob-r-1-1-1")
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["preempted", "succeeded"]
    assert booked(living) == billed(living)


def test_hosts_that_die_every_time_end_the_run_as_lost(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=TWO, script=Script(seconds=100, agent_dies_at=5))
    living.submit(retry={"attempts": 3})
    run = living.until_done()
    assert run.outcome is Outcome.LOST
    assert living.outcomes() == ["host_lost"] * 3
    assert booked(living) == billed(living)


def test_a_machine_out_of_reach_for_a_while_is_waited_for(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=TWO, script=Script(seconds=200, unreachable=[(20, 120)]))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["succeeded"]


def test_a_machine_out_of_reach_for_good_is_given_up_and_ended(tmp_path: Path) -> None:
    unreachable = Script(seconds=30, unreachable=[(20, math.inf)])
    living = Living(tmp_path, offers=TWO)
    living.machines._script = lambda name: unreachable if "-1-1-" in name else Script()
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["host_lost", "succeeded"]
    assert living.cloud.alive() == ()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.DONE, Phase.SETTLE)])
def test_cancel_in_every_phase(living: Living, phase: Phase) -> None:
    living.machines._script = Script(seconds=30)
    living.submit()
    living.until(phase)
    living.store.request_cancel("r-1")
    run = living.until_done()
    expected = Outcome.SUCCEEDED if phase in (Phase.COLLECT, Phase.TEARDOWN) else Outcome.CANCELLED
    assert run.outcome is expected
    assert booked(living) == billed(living)


def test_terminate_is_believed_only_when_the_cloud_says_not_found(living: Living) -> None:
    living.cloud.faults.terminates.extend(["ignored", Unreachable("no answer"), "ignored"])
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.calls["terminate"] >= 4
    assert booked(living) == billed(living)


def test_an_outage_in_teardown_says_possibly_still_billing_and_goes_on_until_it_is_known(living: Living) -> None:
    living.cloud.faults.outages.append(Outage(5, 1800))
    living.submit()
    living.seconds(900)
    run = living.run()
    assert run.possibly_billing and not run.is_over
    [warning] = [text for text in living.words() if "POSSIBLY STILL BILLING" in text]
    assert "gpujob-r-1-1-1" in warning and "$0.1000 per hour" in warning
    run = living.until_done()
    assert run.outcome is Outcome.SUCCEEDED and not run.possibly_billing
    assert booked(living) == billed(living)


def test_a_budget_is_kept_while_the_job_runs(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("one", usd_per_hour="36")], script=Script(seconds=math.inf))
    living.submit(limits={"max_cost": "2.00"})
    run = living.until_done()
    assert run.outcome is Outcome.STOPPED_BY_BUDGET
    assert Decimal("1.50") < living.cloud.billed() <= Decimal("2.00")


def test_a_budget_is_kept_with_a_dead_controller(tmp_path: Path) -> None:
    """The machine's own deadline comes from the budget, so that it ends itself before the money is spent."""
    living = Living(tmp_path, offers=[offer("one", usd_per_hour="36")], script=Script(seconds=math.inf))
    living.submit(limits={"max_cost": "2.00"})
    living.until(Phase.WATCH)
    machine = living.machines["gpujob-r-1-1-1"]
    assert 150 <= machine.job["deadline_seconds"] <= 200, "two dollars last 200 seconds"
    living.until_done()


def test_max_duration_is_given_to_the_agent(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=TWO, script=Script(seconds=math.inf))
    living.submit(limits={"max_duration": "90s"})
    assert living.until_done().outcome is Outcome.TIMED_OUT


def test_a_price_above_the_cap_at_rent_time_is_not_kept(living: Living) -> None:
    described = living.cloud._described

    def dearer(machine: Any) -> Any:
        from dataclasses import replace

        instance = described(machine)
        cheap = machine.offer.offer_id == "cheap"
        return replace(instance, usd_per_hour=Decimal("0.90")) if cheap else instance

    living.cloud._described = dearer  # type: ignore[method-assign]
    living.submit(limits={"max_price_per_hour": "0.50"})
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert [attempt.offer["offer_id"] for attempt in living.attempts()] == ["cheap", "dear"]


def test_an_error_of_ours_ends_the_machine_all_the_same(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import phases

    def broken(visit: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(phases.PHASES, Phase.WATCH, broken)
    living.submit(retry={"attempts": 1})
    run = living.until_done()
    assert run.outcome is Outcome.ERROR and "a bug" in (run.error or "")
    assert booked(living) == billed(living)


def test_a_controller_that_lost_its_lease_writes_nothing(living: Living) -> None:
    living.submit()
    living.until(Phase.WATCH)
    old, before = living.controller, len(living.events())
    [lease] = living.store.claim("old", limit=1, lease_seconds=5)
    living.clock.advance(10)
    living.controller = living.new_controller()
    living.until_done()
    after = len(living.events())
    from orchestrator.store.store import LeaseLost

    with pytest.raises(LeaseLost):
        living.store.save(lease, lease.run, due_in=0.0)
    assert len(living.events()) == after > before
    assert old.id != living.controller.id


def test_clouds_that_do_not_boot_slowly_are_given_their_time(tmp_path: Path) -> None:
    traits = Traits(is_container=False, boot_seconds=1200)
    living = Living(tmp_path, offers=TWO, traits=traits)
    living.cloud.faults.boots.append(Boot(seconds=1100))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["succeeded"]
