"""gpujob rehearse, as a person calls it: on a computer with Docker and on one without."""

from __future__ import annotations

import json
import os
import subprocess
import time
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.driver import GPUJOB, Gpujob
from tests.support.processes import processes

pytestmark = pytest.mark.process


def rehearse(gpujob: Gpujob, spec: Path, *args: str) -> tuple[dict[str, object], dict[str, object]]:
    """The run, and the one cloud that it was on."""
    done = gpujob("rehearse", str(spec), "--json", *args, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    [cloud] = told["clouds"]
    assert told["run"]["outcome"] == "succeeded"
    assert cloud["simulated"] is True and cloud["left"] == []
    assert abs(Decimal(cloud["billed_usd"]) - Decimal(cloud["ledger_usd"])) < Decimal("0.0005")
    return told["run"], cloud


def left_in(home: Path) -> list[str]:
    """Processes that work for this home. What was killed may be seen for a moment longer."""
    deadline = time.monotonic() + 10
    while True:
        left = [f"{pid} {command}" for pid, command, env in processes() if str(home) in env and pid != os.getpid()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


@pytest.mark.parametrize("cloud", ["aws", "runpod", "vast"])
def test_a_rehearsal_without_docker_leaves_nothing(gpujob: Gpujob, cloud: str) -> None:
    spec = gpujob.job(run="nvidia-smi -L; echo done", image="some/image:1", resources={"gpu": "L4", "disk": "10GB"})
    args = ["--faults", str(spec.parent / "faults.json")] if cloud == "runpod" else []
    (spec.parent / "faults.json").write_text('[{"kind": "lost_reply", "on": "create"}]')
    run, _ = rehearse(gpujob, spec, "--machines", "process", "--provider", cloud, *args)
    assert run["attempts"][-1]["provider"] == cloud  # type: ignore[index]
    homes = list((gpujob.home / "rehearsals").iterdir())
    assert len(homes) == 1
    log = b"".join(path.read_bytes() for path in homes[0].glob("runs/*/attempts/*/log"))
    assert log.startswith(b"GPU 0: SIMULATED") and log.endswith(b"done\n")
    assert left_in(gpujob.home) == []


def test_a_rehearsal_never_sees_the_way_to_a_real_cloud(gpujob: Gpujob) -> None:
    """Keys and endpoints of the shell that starts it are not in what it starts, nor anywhere in its home."""
    gpujob.env.update(VAST_API_KEY="a-real-key", AWS_PROFILE="work", RUNPOD_API_KEY="another-real-key")
    spec = gpujob.job(run="env", image="some/image:1", resources={"gpu": "RTX4090", "disk": "10GB"})
    rehearse(gpujob, spec, "--machines", "process", "--provider", "vast")
    written = [path for path in gpujob.home.rglob("*") if path.is_file()]
    assert written and not any(b"real-key" in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    ("faults", "words"),
    [("{", "Expecting property name"), ('[{"kind": "no_such"}]', "no fault 'no_such'")],
    ids=["no JSON", "unknown"],
)
def test_faults_that_do_not_exist_are_named(gpujob: Gpujob, faults: str, words: str) -> None:
    spec = gpujob.job(image="some/image:1")
    (spec.parent / "faults.json").write_text(faults)
    done = gpujob("rehearse", str(spec), "--machines", "process", "--faults", str(spec.parent / "faults.json"))
    assert done.returncode == 2
    assert words in done.stderr
    assert not list((gpujob.home / "rehearsals").rglob("store.db")), "nothing was submitted"


def test_a_rehearsal_that_is_killed_takes_everything_with_it(gpujob: Gpujob) -> None:
    """Its clouds, their machines and its controller: whose work would be to ask clouds that are no more."""
    spec = gpujob.job(run="sleep 600", image="some/image:1", resources={"gpu": "RTX4090", "disk": "10GB"})
    command = [GPUJOB, "rehearse", str(spec), "--machines", "process", "--provider", "vast"]
    with subprocess.Popen(command, env=gpujob.environment, stderr=subprocess.PIPE, text=True) as rehearsal:
        assert rehearsal.stderr is not None
        while "watch" not in rehearsal.stderr.readline():
            assert rehearsal.poll() is None
        assert len(of(gpujob)) >= 4
        rehearsal.kill()
    until = time.monotonic() + 30
    while of(gpujob) and time.monotonic() < until:
        time.sleep(0.2)
    assert of(gpujob) == []


def test_a_rehearsal_that_is_asked_to_end_ends_its_job_and_shows_the_bill(gpujob: Gpujob) -> None:
    spec = gpujob.job(run="sleep 600", image="some/image:1", resources={"gpu": "RTX4090", "disk": "10GB"})
    command = [GPUJOB, "rehearse", str(spec), "--machines", "process", "--provider", "vast"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=gpujob.environment, **piped) as rehearsal:  # type: ignore[call-overload]
        while "watch" not in rehearsal.stderr.readline():
            assert rehearsal.poll() is None
        rehearsal.terminate()
        bill, talk = rehearsal.communicate(timeout=120)
    assert rehearsal.returncode == 130
    assert "OUR LEDGER" in bill and "nothing" in bill
    assert "Detached" not in talk
    [home] = (gpujob.home / "rehearsals").iterdir()
    gpujob.env["GPUJOB_HOME"] = str(home)
    assert [run["outcome"] for run in gpujob.json("ps", "--all")] == ["cancelled"]
    assert f"GPUJOB_HOME={home} gpujob show" in talk


def of(gpujob: Gpujob) -> list[str]:
    """Every process that belongs to this home."""
    mine = (pid for pid, command, env in processes() if str(gpujob.home) in command + env)
    return [str(pid) for pid in mine if pid != os.getpid()]


@pytest.mark.docker
@pytest.mark.parametrize(
    ("image", "words"),
    [("none", "names no image"), ("gpujob-test:no-such", "gpujob-test:no-such is not on this computer")],
)
def test_without_its_image_nothing_is_rented(gpujob: Gpujob, image: str, words: str) -> None:
    spec = gpujob.job(image=image, resources={"gpu": "RTX4090", "disk": "10GB"})
    done = gpujob("rehearse", str(spec), "--machines", "docker", "--provider", "vast", timeout=120)
    assert done.returncode == 2
    assert words in done.stderr and "--machines process" in done.stderr
    assert not list((gpujob.home / "rehearsals").rglob("runs/*")), "nothing was submitted"
