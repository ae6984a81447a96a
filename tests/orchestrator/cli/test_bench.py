"""gpujob bench, as a person types it: what is run, what is shown, when a build is to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.benchmarks import revision, series
from orchestrator.cli import main
from orchestrator.cli.session import Session
from orchestrator.records import Outcome, Phase
from orchestrator.store.rows import CellRow, ChangeRow, ResultRow, SweepRow
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene

SUITE = """\
name: night
image: none
tasks:
  mnist: {run: python3 mnist.py, measure: {epoch_seconds: {better: lower, unit: s}}}
  gpt: {run: python3 gpt.py, measure: {tokens_per_second: {better: higher, unit: tokens/s, work: tokens}}}
targets:
  cpu: {gpus: [cpu], providers: [local]}
caps: {cost: 4, time: 1h}
"""

CLAIMS = """\
claims:
  - source: an article of 2024
    task: mnist
    first: {machine: 8 cores, time: 40s}
    second: {machine: RTX 4090, time: 2s}
"""

Write = Callable[..., Path]


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(revision, "of", lambda _: "1a2b3c4d5e6f")

    def write(text: str = SUITE, name: str = "suite.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    write()
    return write


def a_result(scene: Scene, run_id: str, **changes: object) -> ResultRow:
    row = ResultRow(
        run_id=run_id,
        metric="epoch_seconds",
        sweep_id="b-1",
        suite="night",
        task="mnist",
        target="cpu",
        provider="local",
        machine="laptop",
        gpu=None,
        gpu_count=0,
        is_simulated=False,
        unit="s",
        better="lower",
        work=None,
        is_main=True,
        repeats=[40.0, 41.0],
        value=40.0,
        usd_per_hour=Decimal("0.36"),
        at=scene.now,
        testbed={"cpu_model": "EPYC", "cpus": 8, "commit": "1a2b"},
    )
    return replace(row, **changes)  # type: ignore[arg-type]


ON_GPU = {"target": "gpu", "provider": "vast", "machine": "", "gpu": "RTX4090", "gpu_count": 1, "is_simulated": True}


def night(scene: Scene, *, failed: bool = False, repeats: int = 2, **of_second: Any) -> None:
    """One sweep with a task on two machines, four times as fast on the GPU."""
    store = scene.store()
    first = scene.run()
    notes = {**first.notes, "sweep": {"id": "b-1", "measure": {"epoch_seconds": {}}, "repeats": repeats}}
    runs = [replace(first, id=name, name=f"night.{name}", due_at=None, notes=notes) for name in ("r-cpu", "r-gpu")]
    if failed:
        runs[1] = replace(runs[1], outcome=Outcome.NO_CAPACITY, error="no offer fits the spec")
    runs[1] = replace(runs[1], **of_second)
    sweep = SweepRow(id="b-1", suite="night", file="suite.yaml", host="laptop", created_at=scene.now)
    cells = [
        CellRow(sweep_id="b-1", number=0, run_id="r-cpu", task="mnist", target="cpu", gpu="cpu", provider="local"),
        CellRow(sweep_id="b-1", number=1, run_id="r-gpu", task="mnist", target="gpu", gpu="RTX4090", provider="vast"),
    ]
    store.benchmarks.write(store.to_write([(run, []) for run in runs]), store.benchmarks.to_write(sweep, cells))
    rows = [a_result(scene, "r-cpu")]
    if not failed:
        rows.append(a_result(scene, "r-gpu", value=10.0, **ON_GPU))
    store.benchmarks.add_results(rows)
    store.close()


def night_before(scene: Scene) -> None:
    """The GPU's first result, on another level."""
    store = scene.store()
    run = replace(store.run("r-gpu"), id="r-old")
    sweep = SweepRow(id="b-0", suite="night", file="f", host="laptop", created_at=scene.now - timedelta(days=1))
    cell = CellRow(sweep_id="b-0", number=0, run_id="r-old", task="mnist", target="gpu", gpu="", provider="vast")
    store.benchmarks.write(store.to_write([(run, [])]), store.benchmarks.to_write(sweep, [cell]))
    at = scene.now - timedelta(days=1)
    store.benchmarks.add_results([a_result(scene, "r-old", value=8.0, at=at, sweep_id="b-0", **ON_GPU)])
    store.close()


def a_change(scene: Scene, *, is_worse: bool = True, noticed_by: str = "r-gpu", metric: str = "epoch_seconds") -> None:
    row = a_result(scene, "r-gpu", metric=metric, **ON_GPU)
    change = ChangeRow(
        run_id="r-gpu",
        metric=metric,
        suite="night",
        series=series.key(row),
        noticed_by=noticed_by,
        noticed_at=scene.now + timedelta(days=3),
        before=8.0,
        after=10.0 if is_worse else 6.0,
        p_value=0.001,
        is_worse=is_worse,
        differs={"commit": ["0f0f", "1a2b"]},
    )
    store = scene.store()
    store.benchmarks.add_change(change)
    store.close()


def test_a_suite_becomes_runs_that_are_due(scene: Scene, gpujob: Command, suite: Write) -> None:
    said = gpujob("bench", "run", "-d", "--", "-e", "EPOCHS=2")
    assert said.code == 0 and scene.controllers_wanted == 1
    sweep_id = said.text.strip()
    assert f"{sweep_id}  night  2 runs, each 3 times after 1 to warm up, at most $4.00 in all" in said.err
    shown = gpujob("bench", "show", sweep_id, "--json").json
    assert [(run["task"], run["target"], run["phase"]) for run in shown["runs"]] == [
        ("mnist", "cpu", "quote"),
        ("gpt", "cpu", "quote"),
    ]
    run = gpujob("show", shown["runs"][0]["run_id"], "--json").json
    assert run["name"] == "night.mnist"
    assert scene.store().run(run["id"]).spec["env"] == {"EPOCHS": "2"}
    assert shown["commit"] == "1a2b3c4d5e6f" and shown["cap_usd"] == "4"


def test_a_dry_run_says_where_it_would_go_and_writes_nothing(scene: Scene, gpujob: Command, suite: Write) -> None:
    said = gpujob("bench", "run", "--dry-run")
    assert said.code == 0, said.err
    [_, line] = said.text.splitlines()
    assert line.split()[:5] == ["cpu", "cpu", "local", "2", "local,"] and line.split()[-2:] == ["$0.00/h", "$4.00"]
    assert "night  2 runs, at most $4.00 in all. Nothing was rented." in said.err
    [first, _] = gpujob("bench", "run", "--dry-run", "--json").json["runs"]
    assert (first["task"], first["provider"], first["usd_per_hour"], first["max_cost_usd"]) == (
        "mnist",
        "local",
        "0",
        "2",
    )
    assert scene.store().runs() == [] and scene.controllers_wanted == 0


def test_a_dry_run_says_what_cannot_be_had(gpujob: Command, suite: Write) -> None:
    suite(SUITE.replace("providers: [local]", "providers: [vast]").replace("gpus: [cpu]", "gpus: [RTX4090]"))
    said = gpujob("bench", "run", "--dry-run")
    assert said.code == 10 and "there is no key for Vast.ai" in said.text


def test_a_used_up_budget_refuses_a_suite_that_costs(scene: Scene, gpujob: Command, suite: Write) -> None:
    suite(SUITE.replace("providers: [local]", "providers: [vast]").replace("gpus: [cpu]", "gpus: [RTX4090]"))
    scene.run(created_at=scene.now)
    gpujob("budget", "set", "--monthly", "0.10")
    said = gpujob("bench", "run", "-d")
    assert said.code == 12 and "is used up" in said.err
    assert scene.store().benchmarks.sweeps() == []


def test_a_part_of_a_suite(gpujob: Command, suite: Write) -> None:
    sweep_id = gpujob("bench", "run", "-d", "--only", "gpt", "--only", "cpu").text.strip()
    assert [run["task"] for run in gpujob("bench", "show", sweep_id, "--json").json["runs"]] == ["gpt"]
    refused = gpujob("bench", "run", "-d", "--only", "gpu")
    assert refused.code == 2 and "no task or target 'gpu'; there are mnist, gpt, cpu" in refused.err


def test_what_is_no_suite_is_refused_with_what_to_do(gpujob: Command, suite: Write) -> None:
    suite("run: python3 train.py", "train.yaml")
    said = gpujob("bench", "run", "train.yaml")
    assert said.code == 2 and "it is a job, for `gpujob submit`" in said.err
    assert "gpujob init benchmarks" in gpujob("bench", "run", "nowhere.yaml").err
    suite(SUITE.replace("better: lower", "better: low"))
    wrong = gpujob("bench", "run")
    assert wrong.code == 2 and "suite.yaml:4:" in wrong.err
    assert gpujob("ps", "--json").json == []


def test_a_sweep_and_its_results(scene: Scene, gpujob: Command) -> None:
    night(scene)
    assert gpujob("bench").text.splitlines()[1].split()[:2] == ["b-1", "night"]
    lines = gpujob("bench", "show", "night").text.splitlines()
    assert lines[1].split("  ")[0] == "mnist" and "local laptop CPU" in lines[1] and "40 s" in lines[1]
    assert "vast RTX4090 (simulated)" in lines[2]
    assert "there is no sweep or suite 'day'; there are results of night" in gpujob("bench", "show", "day").err


def test_a_sweep_whose_machine_may_still_bill_says_so(scene: Scene, gpujob: Command) -> None:
    night(scene, phase=Phase.TEARDOWN, outcome=None, possibly_billing=True)
    shown = gpujob("bench", "show")
    for text in (gpujob("bench", "list").text, shown.text, shown.err):
        assert "possibly still billing" in text


def test_machines_side_by_side(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    night(scene)
    (tmp_path / "claims.yaml").write_text(CLAIMS)
    said = gpujob("bench", "compare", "cpu", "gpu", "--claims", "claims.yaml")
    title, line = said.text.splitlines()[:2]
    assert title.split("  ")[0] == "TASK" and "SPEED-UP" in title
    assert [part.strip() for part in line.split("  ") if part.strip()] == [
        *("mnist", "40 s", "10 s", "4.00x", "$0.004000", "$0.001000"),
        *("local laptop CPU, 8 x EPYC", "vast RTX4090 (simulated), 8 x EPYC"),
    ]
    assert "Claimed by others, and not measured here" in said.text and "20.0x" in said.text
    both = gpujob("bench", "compare", "cpu", "vast RTX4090", "--json").json
    assert both["measured"][0]["speed_up"] == 4 and both["claimed"] == []
    assert (
        gpujob("bench", "compare", "cpu", "gpu", "--claims", "claims.yaml", "--json").json["claimed"][0]["speed_up"]
        == 20
    )
    assert "there are of cpu" in gpujob("bench", "compare", "cpu", "H100").err
    assert "mean the same machines" in gpujob("bench", "compare", "cpu", "local").err


def test_a_price_per_unit_of_work(scene: Scene, gpujob: Command) -> None:
    night(scene)
    store = scene.store()
    rate = {"metric": "rate", "unit": "tokens/s", "better": "higher", "work": "tokens", "task": "gpt"}
    store.benchmarks.add_results([a_result(scene, "r-cpu", value=100.0, **rate)])
    store.benchmarks.add_results([a_result(scene, "r-gpu", value=400.0, **rate, **ON_GPU)])
    store.close()
    [_, gpt] = gpujob("bench", "compare", "cpu", "gpu", "--json").json["measured"]
    assert gpt["speed_up"] == 4
    first = gpt["first"]
    assert (first["work"], first["seconds"], first["cost_usd"]) == ("tokens", 0.01, "0.000001")
    line = gpujob("bench", "compare", "cpu", "gpu").text.splitlines()[2]
    assert [part.strip() for part in line.split("  ") if part.strip()][:6] == [
        *("gpt (million tokens)", "2h 46m", "41m 40s", "4.00x", "$1.000", "$0.2500"),
    ]


def test_of_a_speed_that_counts_no_work_there_are_the_figures_and_no_time(scene: Scene, gpujob: Command) -> None:
    """A probe takes the same time everywhere: its seconds and their cost would say nothing."""
    night(scene)
    store = scene.store()
    speed = {"metric": "fp32_tflops", "unit": "TFLOP/s", "better": "higher", "task": "probe"}
    seconds = {"metric": "wall_seconds", "task": "probe", "is_main": False}
    for run_id, tflops, where in (("r-cpu", 0.2, {}), ("r-gpu", 50.0, ON_GPU)):
        rows = [a_result(scene, run_id, value=tflops, **speed, **where), a_result(scene, run_id, **seconds, **where)]
        store.benchmarks.add_results(rows)
    store.close()
    line = gpujob("bench", "compare", "cpu", "gpu").text.splitlines()[2]
    assert [part.strip() for part in line.split("  ") if part.strip()][:6] == [
        *("probe", "0.2 TFLOP/s", "50 TFLOP/s", "250.00x", "-", "-"),
    ]
    [_, probe] = gpujob("bench", "compare", "cpu", "gpu", "--json").json["measured"]
    assert probe["first"]["seconds"] is None and probe["first"]["cost_usd"] is None


def test_the_gate_stops_on_what_got_worse_and_on_nothing_else(scene: Scene, gpujob: Command) -> None:
    night(scene)
    passed = gpujob("bench", "gate", "night")
    assert (passed.code, passed.text.splitlines()[0]) == (0, "### night: nothing got worse (b-1)")
    a_change(scene, noticed_by="r-of-another-night")
    assert gpujob("bench", "gate").code == 0, "it was told on that night"


def test_the_gate_names_the_change_and_what_differs(scene: Scene, gpujob: Command) -> None:
    night(scene)
    a_change(scene)
    stopped = gpujob("bench", "gate", "b-1")
    assert stopped.code == 1
    assert stopped.text.splitlines()[0] == "### night: 1 worse (b-1)"
    day = f"{scene.now:%Y-%m-%d}"
    assert stopped.text.splitlines()[-2] == (
        "| mnist | epoch_seconds | vast RTX4090 (simulated) | 8 s | 10 s | +25.0% (worse) "
        f"| {day} | commit 0f0f -> 1a2b |"
    )
    shown = gpujob("bench", "show", "b-1").text
    assert "mnist epoch_seconds on vast RTX4090 (simulated): 8 -> 10 s (+25.0 %, worse) since r-gpu" in shown
    assert "1 change" in gpujob("bench", "list").text
    assert gpujob("bench", "gate", "--json").json["passes"] is False


def test_better_passes_the_gate(scene: Scene, gpujob: Command) -> None:
    night(scene)
    a_change(scene, is_worse=False)
    said = gpujob("bench", "gate")
    assert said.code == 0 and "nothing got worse, 1 better" in said.text and "-25.0% (better)" in said.text


def test_a_dearer_machine_is_told_and_stops_no_build(scene: Scene, gpujob: Command) -> None:
    night(scene)
    store = scene.store()
    price = {"metric": "usd_per_hour", "unit": "$/h", "is_main": False}
    store.benchmarks.add_results([a_result(scene, "r-gpu", **price, **ON_GPU)])
    store.close()
    a_change(scene, metric="usd_per_hour")
    said = gpujob("bench", "gate")
    assert said.code == 0 and said.text.startswith("### night: nothing got worse, 1 dearer (b-1)\n")
    assert "| - | usd_per_hour | vast RTX4090 (simulated) |" in said.text
    assert gpujob("bench", "gate", "--json").json["passes"] is True


def test_missing_results_are_no_pass(scene: Scene, gpujob: Command) -> None:
    night(scene, failed=True)
    said = gpujob("bench", "gate")
    assert said.code == 3
    assert "- mnist on gpu (RTX4090, vast): no capacity: no offer fits the spec" in said.text


def test_a_metric_that_was_not_reported_each_time_is_no_pass(scene: Scene, gpujob: Command) -> None:
    night(scene, repeats=3)
    said = gpujob("bench", "gate")
    assert said.code == 3
    assert said.text.splitlines() == [
        "### night: nothing got worse, 2 runs without all results (b-1)",
        "- mnist on cpu (cpu, local): epoch_seconds was reported in 2 of 3 repeats",
        "- mnist on gpu (RTX4090, vast): epoch_seconds was reported in 2 of 3 repeats",
        "- 2 of 2 series: fewer than 16 results, so that a change there is told late or not yet",
    ]
    assert "r-cpu  mnist on cpu (cpu, local): epoch_seconds was reported in 2 of 3" in gpujob("bench", "show").err


def test_the_id_of_a_sweep_means_its_runs(scene: Scene, gpujob: Command, suite: Write) -> None:
    sweep_id = gpujob("bench", "run", "-d").text.strip()
    [first, second] = gpujob("bench", "show", sweep_id, "--json").json["runs"]
    assert [line.split()[0] for line in gpujob("cancel", sweep_id).err.splitlines()] == [
        second["run_id"],
        first["run_id"],
    ]
    assert all(run.cancel_requested_at is not None for run in scene.store().runs())
    night(scene)
    waited = gpujob("wait", "b-1", "r-cpu")
    assert waited.code == 0 and [line.split()[0] for line in waited.err.splitlines()] == ["r-cpu", "r-gpu"]
    assert gpujob("cost", "b-1", "--json").code == 0
    assert "there is no run 'b-none'" in gpujob("cancel", "b-none").err
    assert second["run_id"] in gpujob("cancel", "night").err, "the name of a suite means its newest sweep"
    assert "gpujob bench show b-1" in gpujob("show", "b-1").err


def test_what_ran_without_its_image_is_told(scene: Scene, gpujob: Command) -> None:
    place = {"id": "b-2", "measure": {}, "repeats": 1}
    scene.run("r-bare", notes={"sweep": place}, notes_of_attempt={"without_image": "pytorch/pytorch"})
    store = scene.store()
    sweep = SweepRow(id="b-2", suite="night", file="f", host="laptop", created_at=scene.now)
    cell = CellRow(sweep_id="b-2", number=0, run_id="r-bare", task="mnist", target="cpu", gpu="cpu", provider="local")
    store.benchmarks.write(store.benchmarks.to_write(sweep, [cell]))
    store.close()
    told = gpujob("bench", "show").err
    assert "r-bare  ran as a process, not in pytorch/pytorch, which could not be used there" in told


def test_ctrl_c_leaves_a_sweep_alone_and_says_how_to_come_back(
    scene: Scene, suite: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    session = Session(scene.home, {}, ensure_running=scene.want_controller, sleep=interrupted)
    assert main(["bench", "run"], session=session) == 130
    [sweep] = scene.store().benchmarks.sweeps()
    said = capsys.readouterr().err
    assert f"gpujob bench show {sweep.id}" in said and f"gpujob cancel {sweep.id}" in said
    assert all(run.cancel_requested_at is None for run in scene.store().runs())


def test_the_history_of_every_series(scene: Scene, gpujob: Command) -> None:
    night(scene)
    a_change(scene)
    said = gpujob("bench", "history", "night", "--metric", "epoch_seconds")
    assert len(said.text.splitlines()) == 4
    change = "night mnist epoch_seconds on vast RTX4090 (simulated): 8 -> 10 s (+25.0 %, worse) since r-gpu"
    assert change in said.text.splitlines()[-1]
    [_, gpu] = gpujob("bench", "history", "--json").json
    assert gpu["changes"][0]["differs"] == {"commit": ["0f0f", "1a2b"]} and gpu["values"][0]["value"] == 10
    assert gpujob("bench", "history", "--metric", "loss").code == 2


def test_the_report_in_words_and_as_a_page(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    night(scene)
    night_before(scene)
    a_change(scene)
    said = gpujob("bench", "report", "night")
    assert said.code == 0, said.err
    lines = said.text.splitlines()
    assert lines[0] == "night: 1 got slower in 2 sweeps"
    assert "mnist epoch_seconds on vast RTX4090 (simulated): 8 -> 10 s (+25.0 %, worse) since r-gpu" in lines[1]
    assert gpujob("bench", "report", "night", "--html", "nights.html").code == 0
    assert "got slower" in (tmp_path / "nights.html").read_text()


def test_results_for_other_programs(scene: Scene, gpujob: Command) -> None:
    night(scene)
    assert len(gpujob("bench", "export", "--format", "csv").text.splitlines()) == 3
    assert gpujob("bench", "export").text == gpujob("bench", "export", "--format", "csv").text
    assert "# TYPE" in gpujob("bench", "export", "night", "--format", "prometheus").text
    lower = gpujob("bench", "export", "--format", "github", "--better", "lower").json
    assert sorted(entry["value"] for entry in lower) == [10, 40]
    assert gpujob("bench", "export", "--format", "github").code == 2
    assert gpujob("bench", "export", "--format", "mlflow").code == 2
    assert gpujob("bench", "export", "--to", "x").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("show", "--metric", "x"),
        ("compare", "cpu"),
        ("list", "--detach"),
        ("gate", "a", "b"),
        ("history", "--claims", "x"),
    ],
)
def test_what_does_not_belong_together(gpujob: Command, words: tuple[str, ...]) -> None:
    assert gpujob("bench", *words).code == 2


def test_a_schedule_takes_a_suite(scene: Scene, gpujob: Command, suite: Write) -> None:
    assert gpujob("schedule", "add", "suite.yaml", "--cron", "0 2 * * *").text == "night\n"
    frozen = gpujob("schedule", "add", "suite.yaml", "--cron", "0 2 * * *", "--name", "x", "--frozen")
    assert frozen.code == 2 and "--frozen keeps one job" in frozen.err
    sweep_id = gpujob("schedule", "run-now", "night").text.strip()
    [fired] = gpujob("schedule", "show", "night", "--json").json["firings"]
    assert (fired["run_id"], fired["sweep_id"]) == (None, sweep_id)
    assert len(scene.store().timetable.going(gpujob("schedule", "list", "--json").json[0]["id"])) == 2
    for run in gpujob("bench", "show", sweep_id, "--json").json["runs"]:
        assert gpujob("show", run["run_id"], "--json").json["schedule"]["name"] == "night"
    assert scene.store().runs()[0].phase is Phase.QUOTE
