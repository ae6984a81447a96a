"""What a suite's last sweeps come to: each change once, what went wrong with its night, what work costs where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.benchmarks import revision, sweeps
from orchestrator.benchmarks.overview import overview
from orchestrator.benchmarks.value import frontier
from orchestrator.records import AttemptOutcome, Outcome
from tests.fakes.memory_provider import Outage, offer
from tests.orchestrator.benchmarks.nights import L4, RTX4090, Bed, Job, Nights
from tests.orchestrator.living import Living

FEW = 10


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    made = Nights(tmp_path)
    yield made
    made.store.close()


def usual(rate: float = 1200, bed: Bed = RTX4090, price: str | None = None) -> Job:
    bed = replace(bed, usd_per_hour=price or bed.usd_per_hour)
    values = {"samples_per_second": rate, "wall_seconds": 60_000 / rate, "usd_per_hour": float(bed.usd_per_hour)}
    return Job(bed=bed, values=values)


def test_rate_and_time_that_change_with_one_commit_are_one_change(nights: Nights) -> None:
    for night in range(FEW):
        nights.night(usual(1200 + night % 3), usual(400, L4))
    for night in range(3):
        nights.night(usual(1050 + night % 2), usual(400, L4), commit="ffffffffffff")
    assert len(nights.notice()) == 2
    view = overview(nights.store, "nightly")
    [change] = view.changes
    assert [step.row.metric for step in change.steps] == ["samples_per_second", "wall_seconds"]
    assert change.main.word == "slower" and change.main.share == pytest.approx(-0.125, abs=0.002)
    assert change.main.row.differs == {"commit": ["1a2b3c4d5e6f", "ffffffffffff"]}
    assert change.main.first.sweep_id == f"b-{FEW + 1:04d}"
    [track] = [track for track in view.tracks if track.changes and track.series.metric == "samples_per_second"]
    assert [(first, end) for first, end, _ in track.levels] == [(0, FEW), (FEW, FEW + 3)]
    assert track.noise is not None and track.noise < 0.01, "the step is no noise"


def test_a_price_that_rises_is_told_as_dearer_and_by_itself(nights: Nights) -> None:
    for _ in range(FEW):
        nights.night(usual())
    for _ in range(3):
        nights.night(usual(1000, price="0.45"))
    nights.notice()
    assert sorted(change.main.word for change in overview(nights.store, "nightly").changes) == ["dearer", "slower"]


def test_a_loss_gets_worse_and_not_slower(nights: Nights) -> None:
    measure = {"loss": {"better": "lower", "unit": "", "work": None}}
    for night in range(FEW + 3):
        nights.night(Job(bed=RTX4090, measure=measure, values={"loss": 0.2 if night < FEW else 0.25}))
    nights.notice()
    [change] = overview(nights.store, "nightly").changes
    assert change.main.word == "worse"


def test_what_went_wrong_is_told_with_its_night(nights: Nights) -> None:
    nights.night(usual())
    second = nights.night(
        replace(usual(), lost=AttemptOutcome.PREEMPTED),
        Job(bed=L4, outcome=Outcome.FAILED, error="exit code 1"),
        Job(bed=L4, outcome=Outcome.NO_CAPACITY, error="nothing with 1x L4", silent=["aws", "aws"]),
        Job(bed=RTX4090, silent=["aws"]),
    )
    found = {incident.kind: incident for incident in overview(nights.store, "nightly").incidents}
    assert set(found) == {"preempted", "failed", "nothing to rent", "unanswered", "not measured"}
    assert {incident.sweep_id for incident in found.values()} == {second}
    assert found["preempted"].text == (
        "mnist on clouds (RTX4090, vast): attempt 1 on vast SE 1x RTX4090, 4m 00s, $0.02; attempt 2 followed"
    )
    assert found["failed"].text == "mnist on clouds (L4, aws): exit code 1"
    assert found["unanswered"].text == "aws: timed out (3 times to 2 jobs)"
    assert found["not measured"].text.endswith("the job succeeded, but samples_per_second was not reported")


def test_a_cloud_that_does_not_answer_is_an_incident_of_the_real_phases_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "of", lambda _: None)
    living = Living(tmp_path, offers=[offer("one", usd_per_hour="3.60", gpu_count=0, gpu=None)])
    file = tmp_path / "suite" / "suite.yaml"
    file.parent.mkdir()
    file.write_text("name: night\ntasks: {one: {run: 'true'}}\ntargets: {there: {gpus: [cpu], providers: [local]}}\n")
    ready = sweeps.prepare(file, home=living.home, env={})
    sweep = sweeps.enter(ready, store=living.store, home=living.home, env={"GPUJOB_OWNER": "me"})
    spec = living.store.run(sweep.cells[0].run_id).spec
    spec["place"]["providers"] = ["memory"]
    _rewrite(living, sweep.cells[0].run_id, spec)
    living.cloud.faults.outages += [Outage(0, 25)]
    living.until_done(sweep.cells[0].run_id)
    [incident] = [one for one in overview(living.store, "night").incidents if one.kind == "unanswered"]
    assert incident.text.startswith("memory: ") and incident.text.endswith("times to 1 job)")
    living.store.close()


def _rewrite(living: Living, run_id: str, spec: object) -> None:
    with living.store._database.transaction() as connection:
        connection.exec_driver_sql("UPDATE runs SET spec = ? WHERE id = ?", (json.dumps(spec), run_id))


def test_nights_are_counted_and_their_cost_is_that_of_all_attempts(nights: Nights) -> None:
    nights.night(usual(), Job(bed=L4, outcome=Outcome.FAILED))
    nights.night(replace(usual(), lost=AttemptOutcome.PREEMPTED), Job(bed=L4, outcome=None))
    newest, first = overview(nights.store, "nightly").nights
    assert [len(part) for part in (first.its.runs, first.its.succeeded, first.its.going)] == [2, 1, 0]
    assert [len(part) for part in (newest.its.runs, newest.its.succeeded, newest.its.going)] == [2, 1, 1]
    assert first.its.usd == pytest.approx(Decimal("0.06") + Decimal("0.80") / 6)
    assert newest.its.usd >= Decimal("0.06") + Decimal("0.024"), "ten minutes and the four of the machine that was lost"


def test_only_the_last_sweeps_count_and_other_suites_do_not(nights: Nights) -> None:
    for _ in range(4):
        nights.night(usual())
    nights.suite = "weekly"
    nights.night(usual(5))
    view = overview(nights.store, "nightly", sweeps=2)
    assert [night.row.id for night in view.nights] == ["b-0004", "b-0003"]
    assert {len(track.series.rows) for track in view.tracks} == {2}
    later = overview(nights.store, "nightly", since=view.nights[0].row.created_at)
    assert [night.row.id for night in later.nights] == ["b-0004"]
    assert overview(nights.store, "nobody").nights == ()


def test_a_change_whose_level_before_is_not_shown_is_not_told(nights: Nights) -> None:
    for night in range(FEW + 4):
        nights.night(usual(1200 if night < FEW else 1000))
    nights.notice()
    assert len(overview(nights.store, "nightly").changes) == 1
    for shown in (4, 3):
        assert overview(nights.store, "nightly", sweeps=shown).changes == ()


def test_work_costs_what_the_machine_costs_while_it_is_done(nights: Nights) -> None:
    nights.night(usual(1000, price="0.36"), usual(4000, Bed("clouds", "runpod", "H100", "3.60")), usual(500, L4))
    cheap, mid, dear = overview(nights.store, "nightly").prices
    assert (cheap.newest.gpu, cheap.work, cheap.seconds, cheap.usd) == ("RTX4090", "samples", 0.001, Decimal("1E-7"))
    assert (mid.newest.gpu, mid.seconds, mid.usd) == ("H100", 0.00025, Decimal("2.5E-7"))
    assert frontier([cheap, mid, dear]) == [cheap, mid], "the L4 is slower and dearer than another"


def test_without_a_rate_the_price_is_that_of_one_time(nights: Nights) -> None:
    values = {"wall_seconds": 100.0, "loss": 0.5}
    nights.night(Job(bed=RTX4090, values=values, measure={"loss": {"better": "lower", "unit": "", "work": None}}))
    [price] = overview(nights.store, "nightly").prices
    assert (price.work, price.seconds, price.usd) == ("", 100.0, Decimal("0.01"))


def test_a_task_with_a_time_costs_that_time_and_not_the_commands(nights: Nights) -> None:
    """As `bench compare` has it: the command's own time holds its start and its setup."""
    measure = {"epoch_seconds": {"better": "lower", "unit": "s", "work": None}}
    nights.night(Job(bed=RTX4090, values={"epoch_seconds": 10.0, "wall_seconds": 100.0}, measure=measure))
    [price] = overview(nights.store, "nightly").prices
    assert (price.work, price.seconds, price.usd) == ("", 10.0, Decimal("0.001"))


def test_a_price_is_the_median_of_the_present_level_only(nights: Nights) -> None:
    for night in range(FEW + 3):
        nights.night(usual(1200 if night < FEW else 1000))
    nights.notice()
    [price] = overview(nights.store, "nightly").prices
    assert (price.seconds, price.count) == (0.001, 3)


def test_two_targets_with_the_same_machine_have_names_of_their_own(nights: Nights) -> None:
    nights.night(usual(), usual(1100, replace(RTX4090, target="spot")))
    names = [track.name for track in overview(nights.store, "nightly").tracks]
    assert len(set(names)) == len(names) and any(name.endswith("on vast RTX4090 (spot)") for name in names)
