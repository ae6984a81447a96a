"""A benchmark suite to its jobs: what each of them is told, and the lines that a person reads when one cannot be."""

# ruff: noqa: E501 (what a person reads is one line each, here too)

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from jobs import suite
from jobs.problems import SpecError
from jobs.spec import GpuChoice, Vocabulary
from jobs.suite import Cell, Loaded
from providers import gpus

VOCABULARY = Vocabulary(gpus=gpus.canonical, gpu_names=gpus.names(), providers=("local", "runpod", "vast"))

WHOLE = """\
name: cpu-against-gpu
image: pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime
setup: sh setup.sh
env: {THREADS: "2", SEED: "1"}
tasks:
  mnist:
    run: python3 mnist.py --epochs 1
    env: {SEED: "7"}
    measure:
      epoch_seconds: {better: lower, unit: s}
      samples_per_second: {better: higher, unit: samples/s, work: samples}
  gpt:
    run: python3 gpt.py
    limits: {max_cost: 3.00}
targets:
  cpu: {gpus: [cpu], providers: [local], image: none}
  gpu: {gpus: [RTX4090, "H100-SXM:8"], providers: [vast, runpod], limits: {max_price_per_hour: 2}}
caps: {cost: 10.00, time: 6h}
"""


def loaded(folder: Path, text: str) -> Loaded:
    file = folder / "suite.yaml"
    file.write_text(text)
    return suite.load(file, vocabulary=VOCABULARY)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as raised:
        loaded(folder, text)
    return [str(problem).removeprefix(f"{folder}/") for problem in raised.value.problems]


def cell(found: Loaded, task: str, gpu: str, provider: str) -> Cell:
    [one] = [one for one in found.cells if (one.task, one.gpu, one.provider) == (task, gpu, provider)]
    return one


def test_each_task_is_a_job_on_each_machine(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    assert [(one.target, one.gpu, one.provider, one.task) for one in found.cells] == [
        ("cpu", "cpu", "local", "mnist"),
        ("cpu", "cpu", "local", "gpt"),
        ("gpu", "RTX4090", "vast", "mnist"),
        ("gpu", "RTX4090", "vast", "gpt"),
        ("gpu", "RTX4090", "runpod", "mnist"),
        ("gpu", "RTX4090", "runpod", "gpt"),
        ("gpu", "H100-SXM:8", "vast", "mnist"),
        ("gpu", "H100-SXM:8", "vast", "gpt"),
        ("gpu", "H100-SXM:8", "runpod", "mnist"),
        ("gpu", "H100-SXM:8", "runpod", "gpt"),
    ]


def test_a_job_is_told_what_all_are_told_then_what_its_task_is_then_its_target(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    spec = cell(found, "mnist", "H100-SXM:8", "vast").spec
    assert spec.name == "cpu-against-gpu.mnist"
    assert (spec.setup, spec.env) == ("sh setup.sh", {"THREADS": "2", "SEED": "7"})
    assert (spec.resources.gpu, spec.place.providers) == ((GpuChoice(name="H100-SXM", count=8),), ("vast",))
    assert spec.limits.max_price_per_hour == Decimal(2)
    assert spec.labels == {"suite": "cpu-against-gpu", "task": "mnist", "target": "gpu"}
    assert cell(found, "mnist", "cpu", "local").spec.image is None


def test_the_cap_on_all_of_it_is_shared_out_where_a_task_has_no_limit_of_its_own(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)
    assert cell(found, "mnist", "RTX4090", "vast").spec.limits.max_cost == Decimal("1.00")
    assert cell(found, "gpt", "RTX4090", "vast").spec.limits.max_cost == Decimal("3.00")


def test_without_targets_it_runs_on_this_computers_cpus(tmp_path: Path) -> None:
    [only] = loaded(tmp_path, "tasks: {add: {run: python3 add.py}}").cells
    assert (only.spec.place.providers, only.spec.resources.gpu) == (("local",), ())


def test_a_mistake_in_a_job_is_shown_once_and_where_it_is_written(tmp_path: Path) -> None:
    text = WHOLE.replace("setup:", "setpu:").replace("RTX4090,", "RTX409O,").replace("run: python3 gpt.py", "rum: x")
    lines = mistakes(tmp_path, text)
    assert [line.split(";")[0] for line in lines] == [
        "suite.yaml:3:1: setpu: unknown key",
        "suite.yaml:13:5: tasks.gpt.rum: unknown key",
        "suite.yaml:13:5: tasks.gpt.run: is missing",
        'suite.yaml:17:16: targets.gpu.gpus[0]: unknown GPU "RTX409O"',
    ]


def test_a_mistake_is_named_as_it_is_written_for_all_a_task_a_target_or_on_the_command_line(tmp_path: Path) -> None:
    text = (
        WHOLE.replace("env: {THREADS", "env: {1THREADS")
        .replace('env: {SEED: "7"}', "env: {SEED: yes}")
        .replace("runpod]", "runpot]")
        .replace("max_price_per_hour: 2", "max_price_per_hour: two")
    )
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(SpecError) as raised:
        suite.load(tmp_path / "suite.yaml", vocabulary=VOCABULARY, overrides={"limits.max_duration": "soon"})
    assert [(problem.line, problem.path) for problem in raised.value.problems] == [
        (4, "env.1THREADS"),
        (8, "tasks.mnist.env.SEED"),
        (17, "targets.gpu.providers[1]"),
        (17, "targets.gpu.limits.max_price_per_hour"),
        (0, "limits.max_duration"),
    ]


def test_all_mistakes_are_told_at_once_whoever_they_belong_to(tmp_path: Path) -> None:
    text = """\
taks:
  a: {run: echo, repeats: 3, measure: {loss: {beter: lower}}}
  b: {env: [x]}
targets:
  t: {gpus: [RTX409], provider: vast}
  u: {gpus: RTX4090, providers: [vats], max_cost: 3}
wrongly: {}
"""
    lines = mistakes(tmp_path, text)
    assert [line.removeprefix("suite.yaml:").split(": ", 1)[1] for line in lines[:-1]] == [
        "taks: unknown key; did you mean `tasks`?",
        "tasks.a.repeats: unknown key here; did you mean `repeats` at the top of the file?",
        "tasks.a.measure.loss.better: is missing; write `better: higher` or the like",
        "tasks.a.measure.loss.beter: unknown key; did you mean `better`?",
        "tasks.b.run: is missing; write `run: python train.py` or the like",
        'tasks.b.env: found a list; write a mapping, such as {EPOCHS: "3"}',
        'targets.t.gpus[0]: unknown GPU "RTX409"; did you mean `RTX4090`, `RTX5090` or `RTX4080`?',
        "targets.t.provider: unknown key; did you mean `providers`?",
        "targets.u.gpus: found text; write a list, such as [RTX4090:1, cpu]",
        'targets.u.providers[0]: unknown provider "vats"; did you mean `vast`?',
        "targets.u.max_cost: unknown key here; did you mean `limits.max_cost`?",
    ]
    assert lines[-1].startswith("suite.yaml:7:1: wrongly: unknown key; the keys here are name, tasks, targets, warmup,")
    assert ", caps, project, labels, image," in lines[-1]


@pytest.mark.parametrize(
    ("found", "instead", "line"),
    [
        (
            "better: lower, unit: s",
            "better: lower, work: epochs",
            'suite.yaml:10:44: tasks.mnist.measure.epoch_seconds.work: goes with a rate, of which higher is better; leave it out, or measure "epochs" per second with better: higher',
        ),
        (
            "epoch_seconds",
            "wall_seconds",
            "suite.yaml:10:7: tasks.mnist.measure.wall_seconds: is measured of every task anyway; leave it out, or give what the job reports another name",
        ),
        (
            "epoch_seconds",
            "usd_per_hour",
            "suite.yaml:10:7: tasks.mnist.measure.usd_per_hour: is measured of every task anyway; leave it out, or give what the job reports another name",
        ),
    ],
)
def test_a_measure_that_would_say_nothing(tmp_path: Path, found: str, instead: str, line: str) -> None:
    assert mistakes(tmp_path, WHOLE.replace(found, instead)) == [line]


def test_a_limit_of_its_own_that_the_cap_could_never_hold(tmp_path: Path) -> None:
    assert mistakes(tmp_path, WHOLE.replace("cost: 10.00", "cost: 2.99")) == [
        "suite.yaml:14:24: tasks.gpt.limits.max_cost: $3.00 is more than the $2.99 that all runs together may cost; write at most 2.99, or a higher caps.cost"
    ]
    assert cell(loaded(tmp_path, WHOLE.replace("cost: 10.00", "cost: 3")), "gpt", "cpu", "local")
    with pytest.raises(SpecError) as raised:
        suite.load(tmp_path / "suite.yaml", vocabulary=VOCABULARY, overrides={"limits.max_cost": "4"})
    [problem] = raised.value.problems
    assert str(problem).startswith("command line: limits.max_cost: $4 is more than the $3 that all")


def test_a_cap_that_leaves_less_than_a_cent_for_each_run(tmp_path: Path) -> None:
    text = WHOLE.replace("    limits: {max_cost: 3.00}\n", "")
    assert mistakes(tmp_path, text.replace("cost: 10.00", "cost: 0.09")) == [
        "suite.yaml:17:14: caps.cost: $0.09 is less than a cent for each of 10 runs; write at least 0.10, or name fewer runs"
    ]
    for cap, share in (("0.10", "0.01"), ("0.19", "0.01"), ("0.20", "0.02")):
        cells = loaded(tmp_path, text.replace("cost: 10.00", f"cost: {cap}")).cells
        assert {one.spec.limits.max_cost for one in cells} == {Decimal(share)}


def test_a_cap_that_no_run_shares_may_be_any(tmp_path: Path) -> None:
    own = "limits: {max_cost: 0.001}\n" + WHOLE.replace("    limits: {max_cost: 3.00}\n", "")
    assert len(loaded(tmp_path, own.replace("cost: 10.00", "cost: 0.002")).cells) == 10


def test_a_key_without_a_value_counts_as_not_written(tmp_path: Path) -> None:
    assert len(loaded(tmp_path, WHOLE + "notes:\n").cells) == 10


def test_a_limit_without_a_value_is_none_of_its_own(tmp_path: Path) -> None:
    text = WHOLE.replace("max_cost: 3.00", "max_cost:")
    assert cell(loaded(tmp_path, text), "gpt", "cpu", "local").spec.limits.max_cost == Decimal("1.00")


def test_a_mistake_in_the_suites_own_keys(tmp_path: Path) -> None:
    text = WHOLE.replace("better: lower, unit: s", "better: up, unite: s").replace("time: 6h", "time: soon")
    assert mistakes(tmp_path, text) == [
        'suite.yaml:10:31: tasks.mnist.measure.epoch_seconds.better: "up" is not known; write `lower` or `higher`',
        "suite.yaml:10:35: tasks.mnist.measure.epoch_seconds.unite: unknown key; did you mean `unit`?",
        'suite.yaml:18:27: caps.time: "soon" is not a duration; write it in s, m, h or d, such as 90s, 5m, 2h, 1d or 1h30m',
    ]


@pytest.mark.parametrize("text", ["tasks: {}", "tasks: [a, b]", "name: empty"])
def test_a_suite_without_tasks(tmp_path: Path, text: str) -> None:
    [line] = mistakes(tmp_path, text)
    assert "tasks" in line and "mnist" in line


def test_which_files_are_suites(tmp_path: Path) -> None:
    job, tasks = tmp_path / "train.yaml", tmp_path / "suite.yaml"
    job.write_text("run: python3 train.py")
    tasks.write_text(WHOLE)
    assert (suite.is_suite(job), suite.is_suite(tasks)) == (False, True)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("taks: {a: {run: echo}}", True),
        ("target: {a: {}}", True),
        ("run: echo\ntarget: x", False),
        ("rum: echo", False),
    ],
)
def test_a_suite_is_known_with_a_misspelled_key(tmp_path: Path, text: str, is_one: bool) -> None:
    (tmp_path / "it.yaml").write_text(text)
    assert suite.is_suite(tmp_path / "it.yaml") == is_one


@pytest.mark.parametrize("text", ["tasks: {a: {run: echo}", "", "- a"])
def test_whether_it_is_a_suite_is_not_guessed_of_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "it.yaml").write_text(text)
    with pytest.raises(SpecError):
        suite.is_suite(tmp_path / "it.yaml")


def test_no_warm_up_is_a_number_that_can_be_written(tmp_path: Path) -> None:
    assert loaded(tmp_path, WHOLE + "warmup: 0\n").suite.warmup == 0
    [below] = mistakes(tmp_path, WHOLE + "warmup: -1\n")
    assert below == 'suite.yaml:19:9: warmup: "-1" is too little; write 0 or more'
    [above] = mistakes(tmp_path, WHOLE + "warmup: 101\n")
    assert above == 'suite.yaml:19:9: warmup: "101" is too much; at most 100'
    [none] = mistakes(tmp_path, WHOLE + "repeats: 0\n")
    assert none == 'suite.yaml:19:10: repeats: "0" is too little; write more than zero'
