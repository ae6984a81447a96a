"""What no run claims is found, ended and paid for; what is a run's, somebody else's or may be, is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator import unclear
from orchestrator.reaper import LIST_AGE, NEWBORN, OVERDUE, Reaper, Verdict, adopt, look
from orchestrator.records import Outcome, Phase, Run
from orchestrator.store.errors import StoreUnreachable
from orchestrator.world import World
from providers.base import InstanceStatus, LaunchRequest
from providers.errors import Ambiguous, Unreachable
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import Made, Outage, offer
from tests.orchestrator.bad_days import ENDLESS, TWO
from tests.orchestrator.living import Living


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    alive.store.close()


def world(living: Living) -> World:
    return World(store=living.store, home=living.home, env={}, clock=living.clock).use(living.cloud)


def reap(living: Living, owner: str = "me") -> int:
    return Reaper(world(living), owner, ["memory"]).look_once()


def ordered(living: Living, name: str = "gpujob-r-1-9-1", *, owner: str = "me", run: str = "r-1") -> str:
    """A machine that somebody has made, an hour to live; its id."""
    deadline = living.clock() + timedelta(hours=1)
    request = LaunchRequest(name=name, owner=owner, run_id=run, attempt=9, deadline=deadline, disk_gb=10)
    return living.cloud.create(offer("cheap", usd_per_hour="0.10"), request).id


def reaped(living: Living) -> Run:
    """The run that the reaper made, when it is over."""
    [run] = [run for run in living.store.runs() if run.name.startswith("stray-")]
    return living.until_done(run.id)


def everything_booked(living: Living) -> Decimal:
    ids = [run.id for run in living.store.runs()]
    return round(sum(living.store.spent(ids).values(), Decimal(0)), 10)


def test_a_machine_that_appears_after_its_run_went_on_is_ended_and_paid_for(living: Living) -> None:
    living.machines._script = Script(seconds=300)
    living.cloud.faults.list_lag_seconds = 200
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.submit()
    living.seconds(250)
    assert len(living.cloud.alive()) == 2, "the fault has made a second machine"
    assert reap(living) == 1
    over = reaped(living)
    assert over.outcome is Outcome.REAPED
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.cloud.alive() == ()
    assert everything_booked(living) == round(living.cloud.billed(), 10)
    assert any(over.id in text for text in living.words()), "the run says what became of its machine"


def test_a_machine_of_a_run_that_goes_on_is_left_alone(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    for phase in (Phase.BOOT, Phase.WATCH):
        living.until(phase)
        assert reap(living) == 0
    [found] = look(world(living), "me", ["memory"]).found
    assert found.verdict is Verdict.CLAIMED
    living.store.request_cancel("r-1")
    living.until_done()
    assert len(living.cloud.made()) == 1


def test_a_machine_that_was_just_made_and_is_not_written_down_is_its_runs(living: Living) -> None:
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.submit()
    living.until(Phase.PROVISION)
    living.controller.tick()
    assert living.cloud.alive() != ()
    assert reap(living) == 0
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert len(living.cloud.made()) == 1


def test_nobody_elses_machine_is_touched(living: Living) -> None:
    ordered(living, owner="somebody-else")
    living.clock.advance(24 * 3600)
    assert reap(living) == 0
    assert living.cloud.alive() == ("gpujob-r-1-9-1",)


def test_without_an_owner_nothing_is_looked_for(living: Living) -> None:
    with pytest.raises(ValueError, match="owner"):
        look(world(living), "", ["memory"])


def test_a_machine_of_a_run_that_is_not_in_the_store_is_ended_only_when_it_should_have_ended_itself(
    living: Living,
) -> None:
    ordered(living, run="r-elsewhere")
    assert [found.verdict for found in look(world(living), "me", ["memory"]).found] == [Verdict.NEWBORN]
    assert reap(living) == 0
    living.clock.advance(NEWBORN.total_seconds() + 1)
    assert [found.verdict for found in look(world(living), "me", ["memory"]).found] == [Verdict.UNKNOWN_RUN]
    assert reap(living) == 0
    living.clock.advance(3600 + OVERDUE.total_seconds())
    assert reap(living) == 1
    assert reaped(living).outcome is Outcome.REAPED
    assert living.cloud.alive() == ()
    assert everything_booked(living) == round(living.cloud.billed(), 10)


def test_a_cloud_that_does_not_answer_holds_what_it_held(living: Living) -> None:
    living.submit()
    living.until_done()
    ordered(living)
    began = (living.clock() - living.cloud._started_at).total_seconds()
    living.cloud.faults.outages.append(Outage(began, began + 60))
    seen = look(world(living), "me", ["memory"])
    assert isinstance(seen.unheard["memory"], Unreachable)
    assert reap(living) == 0
    living.clock.advance(61)
    assert reap(living) == 1
    reaped(living)
    assert living.cloud.alive() == ()


def test_what_is_gone_when_its_turn_comes_gets_no_run(living: Living) -> None:
    living.submit()
    living.until_done()
    stray = ordered(living)
    [found] = look(world(living), "me", ["memory"]).found
    living.cloud.terminate(stray)
    assert adopt(world(living), found) is None
    assert [run.id for run in living.store.runs()] == ["r-1"]
    assert [path.name for path in living.home.run("").root.iterdir()] == ["r-1"]


def test_two_reapers_make_one_run(living: Living) -> None:
    living.submit()
    living.until_done()
    ordered(living)
    [found] = look(world(living), "me", ["memory"]).found
    first, second = adopt(world(living), found), adopt(world(living), found)
    assert first is not None and second is None
    assert reap(living) == 0, "the run that ends it claims it"
    reaped(living)
    assert everything_booked(living) == round(living.cloud.billed(), 10)


def test_an_end_that_is_ignored_is_asked_for_again(living: Living) -> None:
    living.submit()
    living.until_done()
    ordered(living)
    living.cloud.faults.terminates += ["ignored", "ignored"]
    assert reap(living) == 1
    reaped(living)
    assert living.cloud.alive() == ()
    assert everything_booked(living) == round(living.cloud.billed(), 10)


def test_a_second_machine_of_one_name_is_ended_and_the_first_is_kept(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    [mine] = living.cloud.list("me")
    twin = replace(mine, id="i-twin")
    living.cloud.list = lambda owner: [mine, twin]  # type: ignore[method-assign]
    verdicts = {found.instance.id: found.verdict for found in look(world(living), "me", ["memory"]).found}
    assert verdicts == {mine.id: Verdict.CLAIMED, "i-twin": Verdict.STRAY}


def test_what_was_paid_for_by_its_run_is_not_paid_for_again(living: Living) -> None:
    living.submit()
    living.until_done()
    [attempt] = living.attempts()
    machine = living.cloud._machines[attempt.machine]
    machine.gone_at = None  # it is there again, whatever its cloud said
    assert reap(living) == 0, "the list may be from before its end"
    living.clock.advance(LIST_AGE.total_seconds() + 1)
    assert reap(living) == 1
    run = reaped(living)
    assert living.store.charges(run_id=run.id) == []
    assert living.cloud.alive() == ()


def test_nobody_leaves_while_a_create_that_nobody_answered_may_bring_a_machine(living: Living) -> None:
    living.cloud.faults.list_lag_seconds = 300
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert len(living.cloud.alive()) == 1 and not living.controller._nothing_left()
    living.clock.advance(300)
    assert not living.controller._nothing_left()
    assert reap(living) == 1
    reaped(living)
    living.clock.advance(unclear.SECONDS)
    assert living.controller._nothing_left()
    assert everything_booked(living) == round(living.cloud.billed(), 10)


def test_a_create_on_ones_own_computer_keeps_nobody_waiting(living: Living) -> None:
    living.cloud.traits = replace(living.cloud.traits, owned=True)
    living.cloud.faults.creates.append(Ambiguous("the reply was lost"))
    living.submit()
    living.until_done()
    assert living.controller._nothing_left()


def test_a_bug_in_one_look_is_told_and_the_next_look_comes(
    living: Living, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered(living)
    living.clock.advance(3600 + OVERDUE.total_seconds() + 1)
    really = living.store.runs

    def buggy(**_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(living.store, "runs", buggy)
    assert reap(living) == 0
    assert "a bug" in caplog.text
    monkeypatch.setattr(living.store, "runs", really)
    assert reap(living) == 1
    reaped(living)


def test_a_store_that_fails_leaves_no_folder_behind(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered(living)
    living.clock.advance(3600 + OVERDUE.total_seconds() + 1)

    def fails(*_: object, **__: object) -> None:
        raise StoreUnreachable("the disk is full")

    monkeypatch.setattr(living.store, "add_run", fails)
    assert reap(living) == 0
    assert list((living.home.root / "runs").iterdir()) == []


def test_what_was_found_by_its_security_group_alone_is_paid_for_when_it_turns_out_to_be_a_machine(
    living: Living,
) -> None:
    living.submit()
    living.until_done()
    ordered(living)
    [whole] = living.cloud.list("me")
    remains = replace(whole, meters=(), usd_per_hour=None, status=InstanceStatus.FAILED)
    really = living.cloud.get
    living.cloud.get = lambda instance_id: remains  # type: ignore[method-assign]
    assert reap(living) == 1
    living.seconds(5)
    living.cloud.get = really  # type: ignore[method-assign]
    reaped(living)
    assert living.cloud.alive() == ()
    assert everything_booked(living) == round(living.cloud.billed(), 10)
