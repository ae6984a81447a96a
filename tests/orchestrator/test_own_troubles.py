"""A full disk here, a busy store, a bug, rows of another version: no job dies of them, and no machine is stranded."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jobs import artifacts
from jobs.spec import Spec
from jobs.streams import AttemptFiles
from orchestrator import phases
from orchestrator.records import Outcome, Phase
from orchestrator.store.errors import StoreBusy
from orchestrator.world import access_from_json, access_to_json, offer_from_json, offer_to_json
from providers.base import LocalAccess
from tests.fakes.fake_machine import Script
from tests.orchestrator.bad_days import ENDLESS, TWO, billed, booked, during
from tests.orchestrator.living import Living

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


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
