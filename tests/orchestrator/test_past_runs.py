"""What the store tells of earlier runs: those that succeeded, under the same name, as far as they can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Spec
from orchestrator import past_runs
from orchestrator.estimates import Hardware, Past
from orchestrator.records import AttemptOutcome, Outcome, Phase
from orchestrator.store.store import Store
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import offer
from tests.orchestrator.living import Living
from tests.orchestrator.scene import OFFER, START, Scene

JOB = {"name": "mnist", "project": "digits", "run": "python train.py", "resources": {"gpu": "RTX4090"}}
WHEN = {
    "billing_from": START,
    "running_from": START + timedelta(seconds=40),
    "started_at": START + timedelta(seconds=60),
    "exited_at": START + timedelta(seconds=360),
    "gone_at": START + timedelta(seconds=380),
}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def store(scene: Scene) -> Iterator[Store]:
    opened = scene.store()
    yield opened
    opened.close()


def done(scene: Scene, run_id: str = "r-1", *, last: dict[str, Any] | None = None, **changes: Any) -> None:
    """A run of the job that took 300 seconds of work, 80 around it."""
    spec = Spec.model_validate({**JOB, **changes.pop("spec", {})}).to_json()
    number = changes.get("attempt", 1)
    of_attempts = {**changes.pop("of_attempts", {}), number: {**WHEN, **(last or {})}}
    scene.run(run_id, spec=spec, of_attempts=of_attempts, **changes)


def read(store: Store) -> list[Past]:
    return past_runs.read(store, "mnist", "digits")


def test_a_run_that_succeeded_says_how_long_and_what(scene: Scene, store: Store) -> None:
    done(scene, notes={"bundle_digest": "d1", "fetched_bytes": 5000}, spec={"env": {"EPOCHS": 3}})
    [past] = read(store)
    assert (past.job_seconds, past.overhead_seconds, past.boot_seconds) == (300.0, 80.0, 40.0)
    assert (past.hardware, past.provider, past.is_simulated) == (Hardware("RTX4090", 1), "vast", False)
    assert (past.command, past.env, past.digest) == ("python train.py", {"EPOCHS": "3"}, "d1")
    assert past.fetched_bytes == 5000


def test_only_runs_that_succeeded_under_this_name_and_project_count(scene: Scene, store: Store) -> None:
    done(scene, "r-failed", outcome=Outcome.FAILED)
    done(scene, "r-other", name="other")
    done(scene, "r-team", project="letters")
    scene.active("r-active")
    done(scene, "r-good", created_at=START + timedelta(hours=1))
    done(scene, "r-older")
    assert [past.run_id for past in read(store)] == ["r-good", "r-older"]


def test_the_newest_are_taken_and_no_more_than_a_few(
    scene: Scene, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_runs, "MOST", 2)
    monkeypatch.setattr(past_runs, "AMONG", 4)
    for number in range(1, 5):
        done(scene, f"r-{number}", created_at=START + timedelta(minutes=number))
    assert [past.run_id for past in read(store)] == ["r-4", "r-3"]
    for number in range(5, 9):
        late = START + timedelta(minutes=number)
        done(scene, f"r-{number}", created_at=late, outcome=Outcome.FAILED)
    assert read(store) == [], "what is below a long row of failures is old news"


def test_a_run_that_a_checkpoint_carried_on_counts_with_all_its_time(scene: Scene, store: Store) -> None:
    first = {"started_at": START, "running_until": START + timedelta(seconds=500), "gone_at": None}
    both: dict[str, Any] = {"attempt": 2, "of_attempts": {1: {**first, "outcome": AttemptOutcome.PREEMPTED}}}
    done(scene, "r-1", spec={"checkpoint": {"path": "checkpoints"}}, **both)
    done(scene, "r-2", **both)
    seconds = {past.run_id: past.job_seconds for past in read(store)}
    assert seconds == {"r-1": 800.0, "r-2": 300.0}, "without checkpoints the work of the first attempt was lost"


def test_a_run_over_several_kinds_of_machines_says_nothing(scene: Scene, store: Store) -> None:
    first = {"started_at": START, "exited_at": START + timedelta(seconds=9), "offer": {**OFFER, "gpu": "L4"}}
    done(scene, attempt=2, of_attempts={1: first}, spec={"checkpoint": {"path": "checkpoints"}})
    assert read(store) == []


def test_what_ran_on_a_simulated_cloud_is_known_as_such(scene: Scene, store: Store) -> None:
    done(scene, last={"offer": {**OFFER, "source": "simulated: vast API"}})
    assert [past.is_simulated for past in read(store)] == [True]


def test_a_row_that_makes_no_sense_keeps_nobody_from_renting(scene: Scene, store: Store) -> None:
    done(scene, "r-good")
    done(scene, "r-odd", last={"offer": {**OFFER, "vcpus": "many"}}, created_at=START + timedelta(hours=1))
    assert [past.run_id for past in read(store)] == ["r-good"]


def test_what_the_job_cost_comes_from_the_ledger(scene: Scene, store: Store) -> None:
    job = Spec.model_validate(JOB)
    assert past_runs.expectation(store, job) is None
    done(scene, "r-1")
    done(scene, "r-2", charges=[{"amount_usd": Decimal("0.40"), "meter": "disk"}])
    before = past_runs.expectation(store, job)
    assert before is not None
    assert (before.usd, before.least_usd, before.most_usd) == (Decimal("0.8"), Decimal("0.6"), Decimal("1.0"))
    assert (before.job_seconds, before.rests_on) == (300.0, "2 earlier runs on RTX4090")


def test_a_run_goes_where_earlier_runs_say_that_it_is_cheapest(tmp_path: Path) -> None:
    """By the hour the slow machine is the cheaper one; by the job it is not."""
    slow = offer("slow", usd_per_hour="0.35", gpu="RTX3090")
    quick = offer("quick", usd_per_hour="0.60", gpu="RTX4090", egress_usd_per_gb=Decimal("0.01"))
    card = {"name": "NVIDIA GeForce RTX 4090", "memory_mb": 24564, "driver": "570", "uuid": "x"}
    files = [(1.0, "out/model.bin", b"weights")]
    living = Living(tmp_path, script=Script(seconds=600, facts={"gpus": [card]}, files=files), offers=[slow, quick])
    either: dict[str, Any] = {"resources": {"gpu": [{"memory": "16GB"}]}, "artifacts": ["out/**"]}
    living.submit("r-0", **either)
    living.until(Phase.PROVISION, "r-0")
    assert living.attempts("r-0")[0].offer["offer_id"] == "slow", "nothing is known: the hour counts"
    living.store.request_cancel("r-0")
    living.submit("r-1", **{**either, "resources": {"gpu": ["RTX4090"]}})
    assert living.until_done("r-1").notes["fetched_bytes"] == len(b"weights")
    living.submit("r-2", **either)
    living.until(Phase.PROVISION, "r-2")
    assert living.attempts("r-2")[0].offer["offer_id"] == "quick"
    [chosen] = [event for event in living.events("r-2") if event.kind == "offer"]
    assert chosen.details["rests_on"] == "1 earlier run on RTX4090"
    assert chosen.details["expected_seconds"] == pytest.approx(600, abs=10)
    assert Decimal(chosen.details["expected_usd"]) == pytest.approx(Decimal("0.10"), abs=Decimal("0.002"))
