"""What is told of a run's end while it goes on: the same in show, its JSON, the list and the line of progress."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from orchestrator import outlook
from orchestrator.cli.progress import _account
from orchestrator.estimates import Basis, Estimate
from orchestrator.follow import Progress
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import START, Scene

WORK = Estimate(
    job_seconds=3600.0, overhead_seconds=60.0, basis=Basis.RUNS, rests_on="2 earlier runs on RTX4090", runs=2
)


@pytest.fixture(autouse=True)
def now(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.store import store

    scene.now = START + timedelta(minutes=31)  # half an hour after the job's start
    monkeypatch.setattr(store, "_utc_now", lambda: scene.now)


def test_a_run_that_goes_on_says_what_it_is_expected_to_cost(scene: Scene, gpujob: Command) -> None:
    run = scene.active(notes_of_attempt=outlook.notes_of(WORK))
    shown = gpujob("show", run.id, "--json").json
    assert shown["expected_end_at"] == "2026-11-21T09:31:00Z" and shown["expected_rests_on"] == WORK.rests_on
    assert shown["expected_cost_usd"] == shown["cost_usd"], "its machine has no meter that runs"
    assert gpujob("ps", "--json").json[0]["expected_end_at"] == shown["expected_end_at"]
    said = gpujob("show", run.id).text
    assert "Expected" in said and "when it is done in 30m 00s (2 earlier runs on RTX4090)" in said


def test_a_run_that_takes_longer_or_is_over_promises_nothing(scene: Scene, gpujob: Command) -> None:
    run = scene.active(notes_of_attempt=outlook.notes_of(WORK), started_at=START - timedelta(hours=2))
    assert "longer than expected" in gpujob("show", run.id).text
    assert gpujob("show", run.id, "--json").json["expected_cost_usd"] is None
    over = scene.run("r-over", notes_of_attempt=outlook.notes_of(WORK))
    assert gpujob("show", over.id, "--json").json["expected_rests_on"] is None
    assert "Expected" not in gpujob("show", over.id).text


def test_the_line_of_progress(scene: Scene) -> None:
    run = scene.active(notes_of_attempt=outlook.notes_of(WORK))
    attempt = scene.attempt(run, 1, outlook.notes_of(WORK))
    line = _account(Progress(run, attempt, Decimal("0.25"), scene.now))
    assert line.endswith("$0.25 so far, about $0.25 when it is done in 30m 00s")
    without = _account(Progress(run, scene.attempt(run, 1), Decimal("0.25"), scene.now))
    assert without.endswith("$0.25 so far")
