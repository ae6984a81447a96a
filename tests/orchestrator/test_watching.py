"""Machines and agents that do not do as they should: every job can be ended, and how it ended is told right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.machine import AgentError
from jobs.transport.base import AccessRefused, TransportError
from orchestrator.records import Outcome, Phase
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import offer
from tests.orchestrator.bad_days import ENDLESS, TWO, during, job, killed
from tests.orchestrator.living import Living


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


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


def test_another_host_key_is_told_once_also_when_the_connection_was_cut_before(living: Living) -> None:
    """A machine that was cut off, answers as another one for a minute, and is itself again."""
    living.machines._script = Script(seconds=300)
    living.submit()
    living.until(Phase.WATCH)
    really = job(living).visit
    cut, other = TransportError("the connection broke"), AccessRefused("it shows another host key")
    job(living).visit = during(living, 0, 10, cut, during(living, 10, 70, other, really))  # type: ignore[method-assign]
    assert living.until_done().outcome is Outcome.SUCCEEDED
    told = [text for text in living.words() if "does not answer" in text]
    assert len(told) == 2 and "broke" in told[0] and "another host key" in told[1]


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
