"""templates/benchmarks without PyTorch: arithmetic, timing, what is reported, data sheets, and the suites' files."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from jobs import loader
from jobs.metrics import MetricsFile, last, series
from jobs.spec import Spec, Vocabulary
from orchestrator.benchmarks import claims
from providers import gpus
from tests.templates.conftest import BENCHMARKS, MNIST

VOCABULARY = Vocabulary(
    gpus=gpus.canonical, gpu_names=gpus.names(), providers=("local", "ssh", "aws", "runpod", "vast")
)
SUITES = ("suite.yaml", "variants.yaml", "smoke.yaml")
Module = Callable[[str], Any]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Imports a module of the folder by the name that its scripts use."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name, loaded in list(sys.modules.items()):
        if Path(getattr(loaded, "__file__", None) or "/").is_relative_to(BENCHMARKS):
            del sys.modules[name]


def test_hours_of_an_epoch_and_of_a_budget(module: Module) -> None:
    derived = module("derived")
    assert derived.hours(derived.IMAGENET_IMAGES, 1281.167) == pytest.approx(1000 / 3600)
    assert derived.hours(7_200_000, 1000) == 2.0


def test_the_claims_are_of_tasks_that_the_suite_has() -> None:
    told = claims.load(BENCHMARKS / "claims.yaml")
    assert {claim.task: round(claim.speed_up) for claim in told} == {"mnist": 20, "resnet50": 12, "gpt": 12}
    assert {claim.task for claim in told} <= set(YAML(typ="safe").load(BENCHMARKS / "suite.yaml")["tasks"])


def test_operations_of_a_token_of_gpt2(module: Module) -> None:
    """6 x 123,653,376 for the parameters without positions, 12 x 12 x 768 x 1024 for attention."""
    derived = module("derived")
    assert derived.flops_per_token(123_653_376, 12, 768, 1024) == 741_920_256 + 113_246_208
    assert derived.share_of_peak(330e12, 165.0, 4) == pytest.approx(0.5)


class Stopwatch:
    """An `Elapsed` on which the first step takes 10 s and each further one 0.5 s, unless told otherwise."""

    def __init__(self, *windows: float) -> None:
        self.windows = list(windows)
        self.steps: list[int] = []  # in each measurement
        self.done = 0

    def step(self) -> None:
        self.done += 1

    def __call__(self, action: Callable[[], object]) -> float:
        before = self.done
        action()
        self.steps.append(self.done - before)
        if before == 0:
            return 10.0
        return self.windows.pop(0) if self.windows and self.steps[-1] > 1 else 0.5 * self.steps[-1]


def test_the_median_window_counts_and_warm_up_does_not(module: Module) -> None:
    timing = module("timing")
    watch = Stopwatch(2.0, 99.0, 1.0)
    timed = timing.timed(watch.step, watch, timing.Plan(warmup=2, windows=3, steps=4))
    assert watch.steps == [1, 1, 4, 4, 4]
    assert timed.per_second(8) == 4 * 8 / 2.0, "one slow window changes nothing"
    assert timed.first_step == 10.0 and timed.spread == (99.0 - 1.0) / 2.0


@pytest.mark.parametrize(("warmup", "steps"), [(1, [1, 1]), (2, [1, 1, 10]), (5, [1, 3, 1, 10])])
def test_a_window_lasts_as_long_as_is_wanted(module: Module, warmup: int, steps: list[int]) -> None:
    """By the last step of the warm-up; where the first is the only one, 10 s are more than the 5 of a window."""
    timing = module("timing")
    watch = Stopwatch()
    timing.timed(watch.step, watch, timing.Plan(warmup=warmup, windows=1))
    assert watch.steps == steps


def test_what_is_reported_is_read_by_gpujob(module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = module("reporting").Report(str(tmp_path / "written"))
    report.progress(1, loss=2.5)
    report.measured("images_per_second", 1, "images/s")
    report.measured("images_per_second", 1234.5678, "images/s")
    report.derived("epoch_hours", 0.28827, "h", "1,281,167 images")
    report.measured("broken", math.nan, "s")
    report.shown("beside", 1, "s")
    module("reporting").Report(str(tmp_path / "written"), speaks=False).measured("of_another_rank", 1, "s")
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.advance(1, tmp_path / "log", tmp_path / "written", {}, final=True, now=0.0)
    assert last(tmp_path / "metrics.jsonl") == {"loss": 2.5, "images_per_second": 1234.5678, "epoch_hours": 0.28827}
    assert series(tmp_path / "metrics.jsonl")["loss"][0].step == 1
    assert metrics.skipped == {}
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said[1:4] == [
        "images_per_second 1,235 images/s",
        "epoch_hours 0.2883 h (derived, not measured: 1,281,167 images)",
        "broken nan s",
    ]


def test_data_sheets_are_in_the_units_that_they_say(module: Module) -> None:
    sheets = module("datasheets").table()
    assert len(sheets) >= 12
    for sheet in sheets:
        assert 8 <= sheet.memory_gb <= 300, sheet.name
        assert 200 <= sheet.memory_gb_per_second <= 10_000, sheet.name
        assert sheet.link_gb_per_second in (16, 32, 64), f"{sheet.name}: PCI Express 3, 4 or 5, 16 lanes, one direction"
        assert set(sheet.tflops) <= {"fp32", "tf32", "fp16", "bf16"} and sheet.tflops["fp32"] > 5, sheet.name
        by_speed = [sheet.tflops[key] for key in ("fp32", "tf32", "bf16", "fp16") if key in sheet.tflops]
        assert by_speed == sorted(by_speed), sheet.name
        assert re.fullmatch(r"https://[^/ ]*(nvidia\.com|awsstatic\.com)/\S*", sheet.source), sheet.name
        assert date.fromisoformat(sheet.recorded) >= date(2026, 11, 21), sheet.name


def test_data_sheets_say_the_same_as_the_table_of_gpus(module: Module) -> None:
    """The names that PyTorch gives are names of that very GPU to gpujob, with the same dense bf16 figure."""
    for sheet in module("datasheets").table():
        canonical = {gpus.canonical(name) for name in sheet.reported_as}
        assert len(canonical) == 1, sheet.reported_as
        [name] = canonical
        assert name is not None and sheet.name.startswith(name), sheet.reported_as
        known = gpus.specification(name).bf16_tflops
        assert sheet.tflops.get("bf16") == (None if known is None else pytest.approx(float(known))), name


def test_only_the_very_name_is_that_gpu(module: Module) -> None:
    datasheets = module("datasheets")
    assert datasheets.find("NVIDIA GeForce RTX 4090").memory_gb_per_second == 1008
    assert datasheets.find("NVIDIA GeForce RTX 4090 D") is None
    assert datasheets.find("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    every = [name for sheet in datasheets.table() for name in sheet.reported_as]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(("reached", "doubts"), [(59.9, 1), (60.1, 0), (400.0, 0)])
def test_what_is_far_below_a_promise_is_suspicious(
    module: Module, reached: float, doubts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = module("datasheets").Findings(module("reporting").Report(None), 0.6)
    findings.compare("bf16_tflops", reached, "TFLOP/s", 100.0)
    findings.compare("of_an_unknown_gpu", 0.001, "TFLOP/s", None)
    assert len(findings.suspicions) == doubts
    assert f"{reached:.0f}% of 100 by the data sheet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--batch-size", "0"], "'0' is no whole number from 1 on"),
        (["--warmup", "1.5"], "'1.5' is no whole number from 1 on"),
        (["--device", "gpu"], "'gpu' is no device; write cpu, cuda or cuda:N, such as cuda:0"),
        (["--amp", "fp8"], "invalid choice: 'fp8'"),
        (["--epoch", "1"], "unrecognized arguments: --epoch 1"),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_refused(
    module: Module, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        module("options").parser("About.").parse_args(words)
    assert ended.value.code == 2 and says in capsys.readouterr().err


def test_a_wrong_device_in_the_environment_is_refused(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_DEVICE", "tpu")
    with pytest.raises(SystemExit):
        module("options").parser("About.").parse_args([])


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "many"])
def test_an_amount_is_a_number_above_nothing(module: Module, text: str) -> None:
    with pytest.raises(Exception, match="no number above 0"):
        module("options").amount(text)


def test_a_disk_is_measured_and_left_as_it_was(module: Module, tmp_path: Path) -> None:
    disk = module("disk")
    speed = disk.measure(tmp_path, 2 * disk.BLOCK)
    assert speed.write > 0 and speed.read > 0
    assert speed.cached is None or 0 <= speed.cached <= 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_leaves_room_on_the_disk(module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = module("disk")
    usage = disk.shutil.disk_usage(tmp_path)
    for free, size in ((10 * 2**30, 4 * 2**30), (2**30 + 20 * 2**20, 16 * 2**20), (2**20, 0)):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert disk.room(tmp_path, 4 * 2**30) == size


@pytest.mark.parametrize(("cached", "disks"), [(None, False), (0.0, True), (0.5, False)])
def test_a_reading_from_memory_is_no_figure_of_a_disk(module: Module, cached: float | None, disks: bool) -> None:
    assert module("disk").DiskSpeed(1, 1.0, 1.0, cached).read_is_the_disks is disks


def suite(name: str) -> dict[str, Any]:
    written: dict[str, Any] = YAML(typ="safe").load(BENCHMARKS / name)
    return written


def specs(name: str, folder: Path) -> Iterator[tuple[str, dict[str, Any], Spec]]:
    """Every task of a suite on every GPU of every target, as the train.yaml that it stands for."""
    written = suite(name)
    for key in ("warmup", "repeats", "caps"):
        written.pop(key)
    tasks, targets = written.pop("tasks"), written.pop("targets")
    for target in targets.values():
        axes = {key: value for key, value in target.items() if key not in ("gpus", "providers")}
        for gpu in target["gpus"]:
            for task, keys in tasks.items():
                said = {key: value for key, value in keys.items() if key != "measure"}
                job = {**written, **axes, **said, "place": {"providers": target["providers"]}}
                job["resources"] = {**written.get("resources", {}), **axes.get("resources", {}), "gpu": gpu}
                job["env"] = {**written.get("env", {}), **axes.get("env", {})}
                path = folder / "train.yaml"
                YAML().dump(job, path)
                yield task, keys["measure"], loader.load(path, vocabulary=VOCABULARY)


@pytest.mark.parametrize("name", SUITES)
def test_every_task_of_a_suite_is_a_job(name: str, tmp_path: Path) -> None:
    found = list(specs(name, tmp_path))
    assert found
    for task, measures, spec in found:
        script = re.search(r"(\w+\.py)( |$)", spec.run)
        assert script and (BENCHMARKS / script[1]).is_file(), task
        assert spec.setup == "sh setup.sh"
        assert measures
        for metric, said in measures.items():
            assert set(said) <= {"better", "unit", "work"} and said["better"] in ("lower", "higher"), (task, metric)
            assert said["unit"], (task, metric)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_caps_and_repeats(name: str) -> None:
    written = suite(name)
    assert written["warmup"] in (0, 1) and written["repeats"] >= 1
    assert 0 < float(written["caps"]["cost"]) <= 20 and re.fullmatch(r"[1-9]\d*[mh]", written["caps"]["time"])


def test_the_smoke_suite_rents_nothing() -> None:
    assert [target["providers"] for target in suite("smoke.yaml")["targets"].values()] == [["local"]]


def test_the_probe_is_a_job_that_this_computer_can_run() -> None:
    spec = loader.load(BENCHMARKS / "train.yaml", vocabulary=VOCABULARY)
    assert spec.resources.gpu == () and spec.run.startswith("python3 probe.py")


def test_all_templates_install_the_same_pytorch() -> None:
    assert (BENCHMARKS / "requirements-torch.txt").read_text() == (MNIST / "requirements-torch.txt").read_text()
