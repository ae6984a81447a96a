"""Bad days that were found by reading: each left a machine running, cost too much, or told a wrong outcome."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs import artifacts
from jobs.machine import AgentError
from jobs.spec import Spec
from jobs.streams import AttemptFiles
from jobs.transport.base import AccessRefused, TransportError
from orchestrator import controller as controllers
from orchestrator import phases, secrets, world
from orchestrator.records import Outcome, Phase
from orchestrator.store.errors import StoreBusy
from orchestrator.world import access_from_json, access_to_json, offer_from_json, offer_to_json
from providers.base import LocalAccess
from providers.errors import Ambiguous, AuthFailed, ProviderError, Rejected, Throttled, Unreachable
from tests.fakes.fake_machine import FakeMachine, Script
from tests.fakes.memory_provider import Boot, Made, MemoryProvider, Outage, offer
from tests.orchestrator.living import Living

TWO = [offer("cheap", usd_per_hour="0.10"), offer("dear", usd_per_hour="0.20")]
ENDLESS = Script(seconds=math.inf)
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def booked(living: Living) -> Decimal:
    return round(living.store.spent(["r-1"])["r-1"], 10)


def billed(living: Living) -> Decimal:
    return round(living.cloud.billed(), 10)


def during(living: Living, start: float, end: float, fault: Exception, really: Any) -> Callable[..., Any]:
    """The call, failing from `start` to `end` seconds from now."""
    began = living.clock()

    def call(*arguments: Any, **named: Any) -> Any:
        if start <= (living.clock() - began).total_seconds() < end:
            raise fault
        return really(*arguments, **named)

    return call


def killed(living: Living, owner: Any, name: str, *, before: bool = False) -> None:
    """The controller is killed in the middle of this call, once; then another one takes over."""
    really = getattr(owner, name)

    def deadly(*arguments: Any, **named: Any) -> None:
        if not before:
            really(*arguments, **named)
        raise SystemExit("kill -9")

    setattr(owner, name, deadly)
    with pytest.raises(SystemExit):
        living.seconds(30)
    setattr(owner, name, really)
    living.controller = living.new_controller()


def job(living: Living, number: int = 1) -> FakeMachine:
    return living.machines[f"gpujob-r-1-{number}-1"]


# Renting


@pytest.mark.parametrize("error", [AuthFailed("key expired"), Rejected("bad list"), ProviderError("what?")])
def test_a_machine_that_may_exist_is_not_forgotten_when_the_look_up_is_refused(
    living: Living, error: ProviderError
) -> None:
    living.cloud.faults.creates.append(Made(Ambiguous("the reply was lost")))
    living.cloud.list = during(living, 0, 20, error, living.cloud.list)  # type: ignore[method-assign]
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
    living.cloud.faults.outages.append(Outage(0.5, 1500, ("get", "list", "create")))
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


# Watching


def test_a_flood_of_output_does_not_drown_a_cancel(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    machine, really = job(living), job(living).visit

    def flooded(offsets: Mapping[str, int], **named: Any) -> Any:
        look = really(offsets)
        return replace(look, drained=look.exit is not None)

    machine.visit = flooded  # type: ignore[method-assign]
    living.store.request_cancel("r-1")
    for _ in range(60):
        living.controller.tick()
        living.clock.advance(1)
    assert living.run().outcome is Outcome.CANCELLED


def test_a_machine_that_cannot_take_the_request_to_stop_is_ended(living: Living) -> None:
    """As one whose disk the job has filled."""
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    job(living).stop = during(living, 0, math.inf, AgentError("no space left"), None)  # type: ignore[method-assign]
    living.store.request_cancel("r-1")
    assert living.until_done(limit=180).outcome is Outcome.CANCELLED


def test_an_agent_that_hangs_does_not_hold_up_a_cancel(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    machine, really = job(living), job(living).visit
    stuck = {"phase": "running", "beat": 1}
    machine.visit = lambda offsets, **named: replace(really(offsets), state=stuck, exit=None)  # type: ignore[method-assign]
    living.seconds(120)
    assert living.run().phase is Phase.WATCH, "its lock is held: it may come back"
    living.store.request_cancel("r-1")
    assert living.until_done(limit=180).outcome is Outcome.CANCELLED


def test_a_machine_that_can_run_nothing_any_more_is_given_up(living: Living) -> None:
    living.machines._script = lambda name: ENDLESS if "-1-1-" in name else Script()
    living.submit()
    living.until(Phase.WATCH)
    machine, really = job(living), job(living).visit
    stuck = {"phase": "running", "beat": 1}
    machine.visit = lambda offsets, **named: replace(really(offsets), state=stuck, exit=None)  # type: ignore[method-assign]
    machine.alive = during(living, 0, math.inf, AgentError("cannot fork"), None)  # type: ignore[method-assign]
    assert living.until_done(limit=1200).outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["host_lost", "succeeded"]


def test_a_controller_killed_right_after_it_stopped_a_job_says_cancelled(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    living.store.request_cancel("r-1")
    killed(living, job(living), "stop")
    assert living.until_done().outcome is Outcome.CANCELLED


def test_a_cancel_does_not_wait_for_a_machine_that_is_out_of_reach(living: Living) -> None:
    living.machines._script = Script(seconds=math.inf, unreachable=[(20, math.inf)])
    living.submit()
    living.until(Phase.WATCH)
    living.seconds(30)
    living.store.request_cancel("r-1")
    assert living.until_done(limit=150).outcome is Outcome.CANCELLED


def test_a_night_in_which_this_computer_slept_is_no_reason_to_give_a_machine_up(living: Living) -> None:
    """Its network goes before it sleeps, and comes some time after it woke."""
    night = 8 * 3600
    living.machines._script = Script(seconds=night + 300, unreachable=[(20, night + 60)])
    living.submit()
    living.until(Phase.WATCH)
    living.seconds(25)
    living.clock.advance(night)
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["succeeded"]


def test_a_deadline_that_came_from_the_budget_is_told_as_the_budget(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("one", usd_per_hour="36")], script=ENDLESS)
    living.submit(limits={"max_cost": "2.00"})
    living.until(Phase.WATCH)
    living.clock.advance(300)  # nobody watches
    assert living.until_done().outcome is Outcome.STOPPED_BY_BUDGET


def test_a_machine_that_shuts_down_has_not_failed_the_job(living: Living) -> None:
    living.machines._script = lambda name: ENDLESS if "-1-1-" in name else Script()
    living.submit()
    living.until(Phase.WATCH)
    job(living).stop("SIGTERM to the agent: the machine shuts down", 5)
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["host_lost", "succeeded"]


def test_a_job_that_fails_and_is_tried_again_has_failed(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=TWO, script=Script(exit_code=7))
    living.submit(retry={"attempts": 2, "on_failure": True})
    run = living.until_done()
    assert (run.outcome, run.exit_code, living.outcomes()) == (Outcome.FAILED, 7, ["failed", "failed"])


def test_a_machine_that_outlives_its_deadline_is_ended(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit(limits={"max_duration": "60s", "max_cost": "1000"})
    living.until(Phase.WATCH)
    machine, really = job(living), job(living).visit
    machine.visit = lambda offsets, **named: replace(really(offsets), exit=None)  # type: ignore[method-assign]
    machine._exit = lambda: None  # type: ignore[method-assign]
    assert living.until_done(limit=2 * 3600).outcome is Outcome.TIMED_OUT


# This computer's own troubles


def full_disk(living: Living, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(AttemptFiles, "append", during(living, 0, seconds, NO_SPACE, AttemptFiles.append))


def test_a_full_disk_here_does_not_kill_a_job_elsewhere(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = Script(seconds=900, log=[(at, b"line\n") for at in range(900)])
    living.submit()
    living.until(Phase.WATCH)
    full_disk(living, monkeypatch, 600)
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.home.run("r-1").attempt(1).log.read_bytes() == b"line\n" * 900
    assert [text for text in living.words() if "No space left" in text] != []
    assert len([text for text in living.words() if "No space left" in text]) == 1


def test_a_full_disk_here_does_not_hold_up_a_cancel_or_pass_the_budget(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.machines._script = Script(seconds=math.inf, log=[(0, b"line\n")])
    living.submit()
    living.until(Phase.WATCH)
    full_disk(living, monkeypatch, math.inf)
    living.seconds(60)
    living.store.request_cancel("r-1")
    assert living.until_done(limit=180).outcome is Outcome.CANCELLED


def test_a_full_disk_here_does_not_lose_what_the_job_made(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = Script(seconds=30, files=[(1, "out/model.bin", b"model")])
    living.submit(artifacts=["out/**"])
    living.until(Phase.COLLECT)
    full = during(living, 0, 1800, NO_SPACE, artifacts.pull)
    monkeypatch.setattr(artifacts, "pull", full)
    run = living.until_done()
    assert (run.outcome, run.artifacts_complete) == (Outcome.SUCCEEDED, True)
    assert (living.home.run("r-1").artifacts / "out/model.bin").read_bytes() == b"model"


def test_artifacts_that_cannot_be_copied_for_lack_of_room_are_tried_later(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.machines._script = Script(seconds=300, files=[(1, "out/model.bin", b"model")])
    living.submit(artifacts=["out/**"])
    living.until(Phase.WATCH)
    monkeypatch.setattr(artifacts, "pull", during(living, 0, 200, NO_SPACE, artifacts.pull))
    assert living.until_done().artifacts_complete


def test_a_busy_store_is_no_reason_to_end_a_job(living: Living) -> None:
    living.submit()
    living.until(Phase.SETTLE)
    really = living.store.charges
    living.store.charges = during(living, 0, 200, StoreBusy("held"), really)  # type: ignore[method-assign]
    for _ in range(20):
        with suppress(StoreBusy):
            living.controller.tick()
        living.clock.advance(21)
    run = living.until_done()
    assert (run.outcome, booked(living)) == (Outcome.SUCCEEDED, billed(living))


def test_a_bug_of_ours_does_not_cost_the_job_its_artifacts(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = Script(seconds=600, files=[(1, "out/model.bin", b"model")])

    def broken(visit: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(phases.PHASES, Phase.WATCH, broken)
    living.submit(artifacts=["out/**"], retry={"attempts": 1})
    run = living.until_done()
    assert run.outcome is Outcome.ERROR and "a bug" in (run.error or "")
    assert (living.home.run("r-1").artifacts / "out/model.bin").read_bytes() == b"model"


def test_a_bug_while_collecting_is_told_as_incomplete(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(visit: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(phases.PHASES, Phase.COLLECT, broken)
    living.submit(artifacts=["out/**"])
    run = living.until_done()
    assert (run.outcome, run.artifacts_complete) == (Outcome.SUCCEEDED, False)


def test_a_spec_that_cannot_be_read_any_more_ends_its_machine(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)

    def unreadable(row: Mapping[str, Any]) -> Spec:
        raise ValueError("unknown key")

    monkeypatch.setattr(Spec, "from_json", unreadable)
    living.controller = living.new_controller()
    run = living.until_done()
    assert run.outcome is Outcome.ERROR and "unknown key" in (run.error or "")


def test_rows_of_another_version_are_read() -> None:
    access = LocalAccess(directory="/m")
    assert access_from_json({**access_to_json(access), "dropped": 1}) == access
    assert offer_from_json({**offer_to_json(TWO[0]), "dropped": 1}) == TWO[0]


# Secrets


def secret_job(living: Living, values: dict[str, str]) -> None:
    log = [(at, b"token=abcdefgh pass=ijklmnop\n") for at in range(60)]
    living.machines._script = Script(seconds=60, log=log)
    living.controller.world.env = values
    living.submit(secrets=["TOKEN", "PASS"])


def test_a_secret_whose_place_is_gone_is_still_hidden(living: Living) -> None:
    """As the folder in memory that goes when its user logs out."""
    env = {"TOKEN": "abcdefgh", "PASS": "ijklmnop"}
    secret_job(living, env)
    living.until(Phase.WATCH)
    env.clear()
    living.until_done()
    assert set(living.home.run("r-1").attempt(1).log.read_bytes().splitlines()) == {b"token=******** pass=********"}


def test_a_secret_is_hidden_also_when_another_is_gone(living: Living) -> None:
    env = {"TOKEN": "abcdefgh", "PASS": "ijklmnop"}
    secret_job(living, env)
    living.until(Phase.WATCH)
    living.controller = living.new_controller()
    living.controller.world.env = {"TOKEN": "abcdefgh"}
    living.until_done()
    assert b"abcdefgh" not in living.home.run("r-1").attempt(1).log.read_bytes()
    [warning] = [text for text in living.words() if "PASS" in text]
    assert "abcdefgh" not in warning and "ijklmnop" not in warning


def test_an_empty_secret_is_refused_before_anything_is_rented(living: Living) -> None:
    assert secrets.check(["TOKEN"], living.home, {"TOKEN": ""}) == ("TOKEN",)


# Ending


def test_artifacts_that_come_slowly_over_a_bad_line_all_come(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = Script(seconds=1, files=[(0, "out/model.bin", b"model")])
    really, calls = artifacts.pull, iter(range(100))

    def breaking(machine: Any, patterns: Any, folder: Path, manifest: Path, *, final: bool) -> Any:
        living.clock.advance(300)
        if (call := next(calls)) < 5:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"part-{call}").write_bytes(b"more")
            raise TransportError("the connection broke")
        return really(machine, patterns, folder, manifest, final=final)

    monkeypatch.setattr(artifacts, "pull", breaking)
    living.submit(artifacts=["out/**"])
    assert living.until_done().artifacts_complete


def test_a_job_that_never_stops_talking_is_not_listened_to_for_ever(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit()
    living.until(Phase.WATCH)
    machine, really = job(living), job(living).visit

    def endless(offsets: Mapping[str, int], **named: Any) -> Any:
        living.clock.advance(1)
        return replace(really(offsets), drained=False, exit=None)

    machine.visit = endless  # type: ignore[method-assign]
    machine.stop = lambda *arguments, **named: None  # type: ignore[method-assign]
    living.store.request_cancel("r-1")
    assert living.until_done().outcome is Outcome.CANCELLED


def test_what_a_lost_machine_said_last_is_counted(living: Living) -> None:
    living.machines._script = lambda name: (
        Script(seconds=60, metrics=[(1, b'{"loss": 0.5}')]) if "-1-1-" in name else Script()
    )
    living.submit()
    living.until(Phase.WATCH)
    living.seconds(20)
    living.cloud.preempt("gpujob-r-1-1-1", vanishes=True)
    living.until_done()
    assert '"loss"' in living.home.run("r-1").metrics.read_text()


def test_a_bill_that_cannot_be_read_changes_no_outcome(living: Living) -> None:
    living.cloud.charges = during(living, 0, math.inf, KeyError("amount"), None)  # type: ignore[method-assign]
    living.submit()
    run = living.until_done()
    assert run.outcome is Outcome.SUCCEEDED
    assert booked(living) == billed(living)


def test_a_terminate_that_failed_is_asked_again_soon(living: Living) -> None:
    living.cloud.faults.terminates.append(Unreachable("no answer"))
    living.submit()
    living.until(Phase.TEARDOWN)
    living.seconds(3)
    assert living.cloud.alive() == ()
    living.until_done()


# The controller


def test_a_run_claimed_while_a_worker_still_holds_it_is_given_back_soon(living: Living) -> None:
    living.submit()
    [lease] = living.controller._claim(1)
    living.store.save(lease, lease.run, due_in=0.0)  # the worker has saved, and is about to let go
    assert living.controller._claim(1) == []
    living.controller._let_go(lease)
    living.controller._postpone_unchanged()
    living.clock.advance(2)
    assert len(living.controller._claim(1)) == 1
    living.controller = living.new_controller()
    living.clock.advance(30)
    living.until_done()


def test_a_controller_lives_on_when_its_store_does_not_answer(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllers, "STORE_PAUSE_SECONDS", 0.0)
    really, failures = living.store.claim, iter([StoreBusy("held"), StoreBusy("held")])

    def claim(*arguments: Any, **named: Any) -> Any:
        if (failure := next(failures, None)) is not None:
            raise failure
        return really(*arguments, **named)

    living.store.claim = claim  # type: ignore[method-assign]
    before = threading.active_count()
    living.controller.serve(threading.Event(), idle_seconds=0.0)
    assert next(failures, None) is None
    assert threading.active_count() == before, "nothing of it lives on"


def test_time_that_this_computer_slept_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = world.steady_clock()
    before = clock()
    really = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: really(which) + 8 * 3600)
    assert clock() - before >= timedelta(hours=8)
