"""Bringing home, tearing down and settling over bad lines and with clouds that fail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import artifacts
from jobs.transport.base import TransportError
from orchestrator.records import Outcome, Phase
from providers.errors import Unreachable
from tests.fakes.fake_machine import Script
from tests.orchestrator.bad_days import ENDLESS, TWO, billed, booked, during, job
from tests.orchestrator.living import Living


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


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


def test_a_job_whose_machine_goes_away_before_its_artifacts_are_home_is_done_again(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.machines._script = Script(seconds=1, files=[(0, "out/model.bin", b"model")])
    really, calls = artifacts.pull, iter(range(100))

    def taken_away(machine: Any, patterns: Any, folder: Path, manifest: Path, *, final: bool) -> Any:
        if final and next(calls) == 0:
            living.cloud.preempt("gpujob-r-1-1-1", vanishes=True)
            raise TransportError("the connection broke")
        return really(machine, patterns, folder, manifest, final=final)

    monkeypatch.setattr(artifacts, "pull", taken_away)
    living.submit(artifacts=["out/**"])
    run = living.until_done()
    assert living.outcomes() == ["host_lost", "succeeded"]
    assert run.outcome is Outcome.SUCCEEDED and run.artifacts_complete
    assert (living.home.run("r-1").artifacts / "out/model.bin").read_bytes() == b"model"
    assert booked(living) == billed(living)


def test_on_the_last_attempt_a_success_stays_one_and_says_what_is_missing(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.machines._script = Script(seconds=1, files=[(0, "out/model.bin", b"model")])

    def taken_away(*_: Any, final: bool) -> Any:
        if final:
            living.cloud.preempt("gpujob-r-1-1-1", vanishes=True)
        raise TransportError("the connection broke")

    monkeypatch.setattr(artifacts, "pull", taken_away)
    living.submit(artifacts=["out/**"], retry={"attempts": 1})
    run = living.until_done()
    assert run.outcome is Outcome.SUCCEEDED and run.artifacts_complete is False
