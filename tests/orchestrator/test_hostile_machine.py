"""Machines that send for ever, or next to nothing: their runs end by their limits, and so do the machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.machine import Manifest
from jobs.transport.base import TransportError
from orchestrator.phases.copying import CANCELLED_LIMIT, PULL_LIMIT
from orchestrator.records import Outcome, Phase
from tests.fakes.fake_machine import FakeMachine, Script
from tests.orchestrator.bad_days import ENDLESS, TWO, billed, booked, job
from tests.orchestrator.living import Living

HOUR = 3600


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def dripping(
    living: Living, monkeypatch: pytest.MonkeyPatch, method: str, meanwhile: Callable[[], object]
) -> list[float]:
    """From now on that command of every machine sends a byte per second. Returns for how long each call went on."""
    calls: list[float] = []

    def drip(machine: FakeMachine, *_: Any, **__: Any) -> None:
        calls.append(0)
        while machine.may_go_on():
            living.clock.advance(1)
            calls[-1] += 1
            meanwhile()
            assert calls[-1] < 24 * HOUR, "it is listened to for ever"
        raise TransportError("it was broken off")

    monkeypatch.setattr(FakeMachine, method, drip)
    return calls


def nothing() -> None:
    return


@pytest.mark.parametrize(("method", "phase"), [("manifest", Phase.WATCH), ("unpack", Phase.PROBE)])
def test_a_cancel_is_heard_while_a_byte_comes_per_second(
    living: Living, monkeypatch: pytest.MonkeyPatch, method: str, phase: Phase
) -> None:
    living.machines._script = ENDLESS
    living.submit(artifacts=["o/**"])
    living.until(phase)
    asked: list[bool] = []

    def cancel_after_a_while() -> None:
        if not asked:
            living.store.request_cancel("r-1")
            asked.append(True)

    calls = dripping(living, monkeypatch, method, cancel_after_a_while)
    assert living.until_done().outcome is Outcome.CANCELLED
    assert asked and calls[0] < 10
    assert max(calls) <= CANCELLED_LIMIT.total_seconds() + 2


def test_limits_end_a_job_whose_files_come_a_byte_per_second(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = ENDLESS
    living.submit(artifacts=["o/**"], limits={"max_cost": "0.05", "max_duration": "12h"})
    living.until(Phase.WATCH)
    dripping(living, monkeypatch, "manifest", nothing)
    assert living.until_done().outcome is Outcome.STOPPED_BY_BUDGET
    assert booked(living) == billed(living) <= Decimal("0.052")


def test_a_copy_in_between_does_not_hold_up_the_log_for_long(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    living.machines._script = Script(seconds=2 * HOUR, log=[(at, b"line\n") for at in range(2 * HOUR)])
    living.submit(artifacts=["o/**"])
    living.until(Phase.WATCH)
    calls = dripping(living, monkeypatch, "manifest", nothing)
    while len(calls) < 3:
        living.seconds(1)
    assert max(calls) <= PULL_LIMIT.total_seconds() + 2
    assert len(living.home.run("r-1").attempt(1).log.read_bytes()) > 5 * 1200
    living.store.request_cancel("r-1")
    assert living.until_done().outcome is Outcome.CANCELLED


def test_files_of_a_job_that_is_over_come_as_long_as_there_is_money(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.machines._script = Script(seconds=30)
    living.submit(artifacts=["o/**"], limits={"max_cost": "0.05", "max_duration": "12h"})
    living.until(Phase.WATCH)
    dripping(living, monkeypatch, "manifest", nothing)
    run = living.until_done()
    assert (run.outcome, run.artifacts_complete) == (Outcome.SUCCEEDED, False)
    assert booked(living) == billed(living) <= Decimal("0.052")


def test_a_thousand_missing_files_are_a_screen_of_warnings(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may have a name of a mebibyte: the store is not where they are kept."""
    living.machines._script = Script(seconds=30)
    listed = Manifest((), tuple((f"{number}{'n' * 10_000}", "link") for number in range(1000)))
    monkeypatch.setattr(FakeMachine, "manifest", lambda *_, **__: listed)
    living.submit(artifacts=["o/**"])
    run = living.until_done()
    assert run.artifacts_complete is False
    told = [text for text in living.words() if "missing" in text]
    assert len(told) == 21 and told[-1].startswith("980 more artifacts are missing")
    assert max(map(len, told)) <= 4000


def test_a_machine_that_never_answers_a_look_is_ended(living: Living) -> None:
    living.machines._script = ENDLESS
    living.submit(retry={"attempts": 1})
    living.until(Phase.WATCH)
    machine = job(living)

    def hang(*_: Any, **__: Any) -> None:
        living.clock.advance(30)
        raise TransportError("no answer within 30 s")

    for method in ("visit", "manifest", "alive", "stop"):
        setattr(machine, method, hang)
    assert living.until_done(limit=2 * HOUR).outcome is Outcome.LOST
