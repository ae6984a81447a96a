"""A suite that is run once: all its runs at the same moment or none, each in its turn, none beyond the sweep's caps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from jobs import repeats
from jobs.suite_keys import ALWAYS_MEASURED
from orchestrator.benchmarks import revision, sweeps
from orchestrator.benchmarks.sweeps import Sweep
from orchestrator.records import Outcome, Phase
from orchestrator.store.errors import StoreError
from providers.base import Offer
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import offer
from tests.orchestrator.living import Living

SUITE = """\
name: night
tasks:
  one: {run: python3 one.py, measure: {rate: {better: higher, unit: 1/s, work: sample}}}
  two: {run: python3 two.py}
targets:
  here: {gpus: [cpu], providers: [local]}
  there: {gpus: [cpu, RTX4090], providers: [vast]}
at_once: 2
caps: {cost: 3.60, time: 2h}
"""


def job(seconds: float = 60, rate: float = 100.0, silent: int | None = None) -> Script:
    """What a wrapped command writes: one time to warm up, three that count; in the `silent` one it reports nothing."""
    lines = []
    for number in range(1, 5):
        at = seconds * (number - 1) / 4
        rows = [{"time": 1000 + at, repeats.MARK: number}]
        rows += [{"rate": rate + number}] if number != silent else []
        rows.append({"time": 1000 + at + seconds / 4, repeats.END: number})
        lines.append((at, "".join(json.dumps(row) + "\n" for row in rows).encode()))
    return Script(seconds=seconds, metrics=lines, facts={"cpu_model": "EPYC"})


def offers() -> list[Offer]:
    return [offer("one", usd_per_hour="3.60", gpu_count=0, gpu=None)]


@pytest.fixture
def living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    monkeypatch.setattr(revision, "of", lambda _: "1a2b3c4d5e6f")
    alive = Living(tmp_path, script=job(), offers=offers())
    yield alive
    assert alive.cloud.alive() == ()
    alive.store.close()


def entered(living: Living, text: str = SUITE) -> Sweep:
    """With all its runs in the cloud in memory: which provider a cell names is only for its turns."""
    file = living.home.root / "suite" / "suite.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    ready = sweeps.prepare(file, home=living.home, env={})
    sweep = sweeps.enter(ready, store=living.store, home=living.home, env={"GPUJOB_OWNER": "me"})
    for run in living.store.runs():
        spec = {**run.spec, "place": {**run.spec["place"], "providers": ["memory"]}}
        spec["resources"] = {**spec["resources"], "gpu": []}
        _rewrite(living, run.id, spec)
    return sweep


def _rewrite(living: Living, run_id: str, spec: object) -> None:
    with living.store._database.transaction() as connection:
        connection.exec_driver_sql("UPDATE runs SET spec = ? WHERE id = ?", (json.dumps(spec), run_id))


def begun(living: Living, sweep: Sweep) -> list[bool]:
    return [living.store.run(cell.run_id).phase is not Phase.QUOTE for cell in sweep.cells]


def until_over(living: Living, sweep: Sweep) -> list[Outcome | None]:
    return [living.until_done(cell.run_id).outcome for cell in sweep.cells]


def test_ones_own_computer_does_one_job_at_a_time_and_rented_machines_are_so_many(living: Living) -> None:
    sweep = entered(living)
    assert [(cell.task, cell.target, cell.gpu) for cell in sweep.cells] == [
        ("one", "here", "cpu"),
        ("two", "here", "cpu"),
        ("one", "there", "cpu"),
        ("two", "there", "cpu"),
        ("one", "there", "RTX4090"),
        ("two", "there", "RTX4090"),
    ]
    living.seconds(30)
    assert begun(living, sweep) == [True, False, True, True, False, False]
    assert until_over(living, sweep) == [Outcome.SUCCEEDED] * 6


def test_results_are_the_medians_of_the_times_that_count(living: Living) -> None:
    sweep = entered(living)
    until_over(living, sweep)
    rows = {(row.run_id, row.metric): row for row in living.store.benchmarks.results(suite="night")}
    first = sweep.cells[0].run_id
    rate, seconds, price = (rows[first, name] for name in ("rate", repeats.WALL_SECONDS, "usd_per_hour"))
    assert (rate.repeats, rate.value, rate.better, rate.unit, rate.is_main) == (
        [102, 103, 104],
        103,
        "higher",
        "1/s",
        True,
    )
    assert (seconds.value, seconds.is_main) == (15, False)
    assert (price.value, price.usd_per_hour) == (3.6, Decimal("3.60"))
    assert {row.metric for row in rows.values()} == {"rate", *ALWAYS_MEASURED}
    assert rate.testbed["cpu_model"] == "EPYC" and rate.testbed["code"] is not None
    of_two = rows[sweep.cells[1].run_id, repeats.WALL_SECONDS]
    assert of_two.is_main, "a task that names no metric is compared by its time"


def test_a_metric_that_was_not_reported_is_told(living: Living) -> None:
    sweep = entered(living, SUITE.replace("rate:", "throughput:"))
    until_over(living, sweep)
    assert any("throughput was not reported" in text for text in living.words(sweep.cells[0].run_id))


def test_a_metric_that_was_not_reported_each_time_is_told(living: Living) -> None:
    living.machines._script = job(silent=3)
    sweep = entered(living)
    until_over(living, sweep)
    first = sweep.cells[0].run_id
    assert any("rate was reported in 2 of 3 repeats" in text for text in living.words(first))
    [rate] = [row for row in living.store.benchmarks.results(suite="night", metric="rate") if row.run_id == first]
    assert rate.repeats == [102, 104], "what was measured is kept"


def test_the_cap_is_never_passed_and_what_comes_too_late_says_so(living: Living) -> None:
    """Each job may cost 60 cents, and costs 10 for its 100 seconds."""
    living.machines._script = job(seconds=90)
    sweep = entered(living, SUITE.replace("cost: 3.60", "cost: 0.70").replace("at_once: 2", "limits: {max_cost: 0.60}"))
    living.seconds(30)
    assert sum(begun(living, sweep)) == 1, "a second one could pass the cap"
    outcomes = until_over(living, sweep)
    spent = sum(living.store.spent([cell.run_id for cell in sweep.cells]).values(), Decimal(0))
    assert Decimal("0.10") <= spent <= Decimal("0.70")
    assert set(outcomes) == {Outcome.SUCCEEDED, Outcome.STOPPED_BY_BUDGET}
    stopped = living.store.run(sweep.cells[outcomes.index(Outcome.STOPPED_BY_BUDGET)].run_id)
    assert "of $0.70 are spent" in (stopped.error or "") and "caps.cost" in (stopped.error or "")


def test_nothing_is_begun_after_the_time_is_over(living: Living) -> None:
    living.machines._script = job(seconds=3600)
    sweep = entered(living, SUITE.replace("2h", "50m").replace("3.60", "100"))
    outcomes = [str(living.until_done(cell.run_id, limit=9000).outcome) for cell in sweep.cells]
    assert sorted(outcomes) == [Outcome.CANCELLED] * 3 + [Outcome.SUCCEEDED] * 3, "the second of each lane"
    assert sum("caps.time" in (living.store.run(cell.run_id).error or "") for cell in sweep.cells) == 3


def test_a_sweep_is_written_whole_or_not_at_all(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(living.store.benchmarks, "write", fails)
    with pytest.raises(StoreError):
        entered(living)
    assert living.store.runs() == [] and living.store.benchmarks.sweeps() == []
    assert list((living.home.root / "runs").iterdir()) == []


def test_each_run_is_marked_with_what_it_measures(living: Living) -> None:
    sweep = entered(living)
    notes = living.store.run(sweep.cells[0].run_id).notes["sweep"]
    assert notes["measure"] == {"rate": {"better": "higher", "unit": "1/s", "work": "sample"}}
    assert sweep.row.until is not None and sweep.row.until - sweep.row.created_at == timedelta(hours=2)
    until_over(living, sweep)
