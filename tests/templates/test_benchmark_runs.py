"""templates/benchmarks with PyTorch, on the CPU: every task of the smoke suite, and what is refused and how."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from jobs.metrics import MetricsFile, last
from tests.templates.conftest import BENCHMARKS, VENV

pytestmark = pytest.mark.process

SMOKE: dict[str, Any] = YAML(typ="safe").load(BENCHMARKS / "smoke.yaml")
RUNS = {
    task["run"]
    for suite in ("suite.yaml", "variants.yaml", "smoke.yaml")
    for task in YAML(typ="safe").load(BENCHMARKS / suite)["tasks"].values()
}


class Job:
    """A copy of the folder, in which commands run as a job's do."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {**env, "GPUJOB_METRICS": str(folder / "metrics"), **SMOKE["env"]}
        shutil.copytree(BENCHMARKS, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, command: str, **env: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=240,
        )
        return done.returncode, done.stdout

    @property
    def metrics(self) -> dict[str, float]:
        target = self.folder / "metrics.jsonl"
        MetricsFile(target).advance(1, self.folder / "log", self.folder / "metrics", {}, final=True, now=0.0)
        return last(target)


@pytest.fixture
def job(tmp_path: Path, torch_env: Mapping[str, str]) -> Job:
    return Job(tmp_path / "job", torch_env)


@pytest.mark.parametrize("task", SMOKE["tasks"])
def test_a_task_of_the_smoke_suite_reports_what_it_measures(job: Job, task: str) -> None:
    code, said = job.run(SMOKE["tasks"][task]["run"])
    assert code == 0, said
    reported = job.metrics
    for name in SMOKE["tasks"][task]["measure"]:
        assert reported[name] > 0, said
        assert f"\n{name} " in said, "a person is told, too"
    assert not list(job.folder.glob("probe-disk-*"))


def test_a_network_learns_what_is_in_the_pictures(job: Job) -> None:
    code, said = job.run("python3 mnist.py --smoke")
    assert code == 0 and "3,000 synthetic pictures" in said and "500 held out" in said
    assert 0.8 <= job.metrics["accuracy"] <= 1.0, said


def test_what_is_derived_follows_from_what_was_measured(job: Job) -> None:
    code, said = job.run("python3 gpt.py --smoke --token-budget 36e6 --peak-tflops 0.001")
    assert code == 0, said
    reported = job.metrics
    assert reported["token_budget_hours"] == pytest.approx(1e4 / reported["tokens_per_second"])
    flops = 6 * (120_576 - 64 * 64) + 12 * 2 * 64 * 64
    assert reported["mfu_percent"] == pytest.approx(100 * reported["tokens_per_second"] * flops / 1e9)
    assert said.count("derived, not measured") == 2


REFUSED = {
    "python3 resnet50.py --device cuda": "error: --device cuda: this PyTorch",
    "python3 mnist.py --amp fp16": "error: --amp fp16 is for GPUs",
    "python3 mnist.py --smoke --batch-size 3001": "each process has 3,000 pictures",
    "python3 resnet50.py --smoke --image-size 31": "write 32 or more",
    "WORLD_SIZE=2 python3 probe.py --smoke": "start it with python3, not torchrun",
    "python3 probe.py --smoke --url ftp://x/y": "write http:// or https://",
    "python3 probe.py --smoke --disk-folder nowhere": "there is no such folder",
    f"PATH={VENV}/bin python3 gpt.py --smoke --compile": "needs a C++ compiler, and there is no g++",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_done_is_refused_in_words(job: Job, command: str) -> None:
    code, said = job.run(command)
    assert code == 2 and REFUSED[command] in said
    assert "Traceback" not in said
    assert job.metrics == {}


def test_a_gpu_that_cannot_be_used_is_not_measured_as_a_cpu_unnoticed(job: Job) -> None:
    listing = job.folder / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-1)'\n")
    listing.chmod(0o755)
    del job.env["BENCHMARK_DEVICE"]
    code, said = job.run("python3 gpt.py --smoke", PATH=f"{job.folder}{os.pathsep}{job.env['PATH']}")
    assert code == 0 and "; this measures the CPU\n" in said
    code, said = job.run("python3 gpt.py --smoke", BENCHMARK_DEVICE="cuda")
    assert code == 2 and "--device cpu measures the CPU" in said


def test_the_models_are_those_that_they_are_called_after(job: Job) -> None:
    """25,557,032 and 124,439,808 parameters are what their papers' networks have."""
    code, said = job.run(
        "python3 -c 'import gpt, resnet50\n"
        'for model in (resnet50.ResNet50(), gpt.GPT(gpt.SHAPES["small"])):\n'
        "    print(sum(weights.numel() for weights in model.parameters()))'"
    )
    assert code == 0 and said.split() == ["25557032", "124439808"], said


def test_every_run_of_every_suite_is_understood(job: Job) -> None:
    asked = [_script(run) for run in sorted(RUNS)]
    (job.folder / "understand.py").write_text(
        "import importlib, sys\n"
        f"for name, *words in {asked!r}:\n"
        "    sys.argv = [name, *words]\n"
        "    importlib.import_module(name).parse()\n"
    )
    code, said = job.run("python3 understand.py")
    assert len(asked) >= 10 and code == 0, said


def _script(run: str) -> list[str]:
    """The script's name and its options, without what starts it."""
    words = run.replace(".py", "").split()
    return words[next(place for place, word in enumerate(run.split()) if word.endswith(".py")) :]


def test_setup_leaves_alone_what_is_there(torch_env: Mapping[str, str]) -> None:
    done = subprocess.run(["sh", BENCHMARKS / "setup.sh"], env=torch_env, capture_output=True, text=True, check=True)
    assert done.stdout == "setup: PyTorch is here\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/large").write_bytes(bytes(3_000_000))
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_the_probe_measures_what_a_server_sends(job: Job, server: str) -> None:
    code, said = job.run(f"python3 probe.py --smoke --strict --url {server}/large", no_proxy="127.0.0.1")
    assert code == 0 and "3,000,000 bytes" in said, said
    assert job.metrics["network_mbit_per_second"] > 0 and job.metrics["suspicious"] == 0


def test_what_is_suspicious_fails_only_where_that_is_asked_for(job: Job, server: str) -> None:
    command = f"python3 probe.py --smoke --url {server}/missing"
    code, said = job.run(command, no_proxy="127.0.0.1")
    assert code == 0 and f"suspicious: network: cannot get {server}/missing: HTTP Error 404" in said
    assert job.metrics["suspicious"] == 1
    assert job.run(f"{command} --strict", no_proxy="127.0.0.1")[0] == 1
