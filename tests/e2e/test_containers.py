"""A job in a container on one's own machine: the same job, the same bill, nothing left in Docker."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.driver import Gpujob
from tests.providers.inventories import entry
from tests.support.processes import processes
from tests.support.sshd import running_sshd

pytestmark = [pytest.mark.process, pytest.mark.docker]

IMAGE = os.environ.get("GPUJOB_TEST_IMAGE", "gpujob-test:base")
WHERE = "test -e /gpujob && echo inside || echo outside"  # the folder that only a container of ours has


@pytest.fixture
def gpujob(gpujob: Gpujob) -> Iterator[Gpujob]:
    yield gpujob
    left = [name for row in gpujob.json("ps") for name in containers(row["id"])]
    if left:
        docker("rm", "-f", "-v", *left)
    assert left == []


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def containers(run: str) -> list[str]:
    """Containers of this run that exist, running or not."""
    names = docker("ps", "-a", "--filter", "label=gpujob.machine", "--format", "{{.Names}}").split()
    return [name for name in names if name.startswith(f"gpujob-{run}-")]


def boxed(gpujob: Gpujob, run: str, **spec: Any) -> Path:
    return gpujob.job(run=run, **{"image": IMAGE, **spec})


def running(gpujob: Gpujob, spec: Path, *args: str) -> str:
    """Submitted, and its first line is here."""
    run = gpujob.submit(spec, *args)
    log = gpujob.home / "runs" / run / "attempts/1/log"
    gpujob.until(run, lambda _: log.exists() and b"\n" in log.read_bytes())
    return run


def story(gpujob: Gpujob, run: str) -> str:
    return gpujob("show", run, "--events").stdout


def test_an_image_is_built_for_the_job(gpujob: Gpujob) -> None:
    """Twice the same Dockerfile is one image; it is named by what is in it."""
    spec = gpujob.job(run="cat /answer", image=None, build={"context": "image"})
    (spec.parent / "image").mkdir()
    (spec.parent / "image/Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo forty-two >/answer\n")
    runs = [gpujob.submit(spec) for _ in range(2)]
    assert [gpujob.wait(run)["outcome"] for run in runs] == ["succeeded"] * 2
    assert [gpujob.log(run) for run in runs] == [b"forty-two\n"] * 2
    images = set(docker("images", "gpujob/job", "--format", "{{.Repository}}:{{.Tag}}").split())
    assert len(images) == 1
    docker("rmi", "-f", *images)


def test_a_dockerfile_that_fails_submits_nothing(gpujob: Gpujob) -> None:
    spec = gpujob.job(run="true", image=None, build={"context": "."})
    for recipe, words in ((None, "there is no"), (f"FROM {IMAGE}\nRUN exit 7\n", "docker build failed")):
        if recipe is not None:
            (spec.parent / "Dockerfile").write_text(recipe)
        done = gpujob("submit", str(spec))
        assert done.returncode == 2 and words in done.stderr
    assert gpujob.json("ps") == []


def test_the_main_job(gpujob: Gpujob) -> None:
    """What root writes in the container comes back, and goes from the machine."""
    write = "id -u; mkdir -m 700 o; echo whole > o/file; chmod 400 o/file; echo '{\"loss\": 0.5}' > $GPUJOB_METRICS"
    done = gpujob("submit", str(boxed(gpujob, f"{WHERE}; {write}", artifacts=["o/*"])))
    assert (done.returncode, done.stdout) == (0, "inside\n0\n"), done.stderr
    [row] = gpujob.json("ps")
    shown = gpujob.show(row["id"])
    assert shown["outcome"] == "succeeded" and shown["metrics"] == {"loss": 0.5}
    assert (gpujob.home / "runs" / row["id"] / "artifacts/o/file").read_text() == "whole\n"
    assert "could not be used" not in story(gpujob, row["id"])
    assert containers(row["id"]) == [] and gpujob.leftovers() == []


def test_a_failed_job_says_how(gpujob: Gpujob) -> None:
    done = gpujob("submit", str(boxed(gpujob, "echo last words; exit 7")))
    assert (done.returncode, done.stdout) == (1, "last words\n")
    assert "exit code 7" in done.stderr


@pytest.mark.slow
def test_cancel_ends_a_job_that_ignores_term(gpujob: Gpujob) -> None:
    """Worth its time: the half minute of grace is what a user is promised, and after it nothing may live."""
    run = running(gpujob, boxed(gpujob, "trap '' TERM; echo on; while true; do sleep 1; done"))
    assert gpujob("cancel", run).returncode == 0
    shown = gpujob.wait(run)
    assert shown["outcome"] == "cancelled", shown
    assert containers(run) == [] and gpujob.leftovers() == []


def test_without_a_registry_it_runs_as_a_process_and_says_so(gpujob: Gpujob) -> None:
    nowhere = "127.0.0.1:1/nobody/nothing:1"
    run = gpujob.submit(boxed(gpujob, WHERE, image=nowhere))
    assert gpujob.wait(run)["outcome"] == "succeeded"
    assert gpujob.log(run) == b"outside\n"
    told = f"{nowhere} could not be used here: the job runs as a process instead: no registry answers"
    assert told in story(gpujob, run)
    assert nowhere in (gpujob.home / "runs" / run / "report.html").read_text()


def test_without_docker_it_runs_as_a_process_and_says_so(gpujob: Gpujob) -> None:
    gpujob.env["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    run = gpujob.submit(boxed(gpujob, WHERE))
    assert gpujob.wait(run)["outcome"] == "succeeded"
    assert gpujob.log(run) == b"outside\n"
    assert f"{IMAGE} could not be used here: the job runs as a process instead: Docker" in story(gpujob, run)


def test_a_controller_that_is_killed_loses_neither_container_nor_line(gpujob: Gpujob) -> None:
    count = "for i in $(seq 1 100); do echo line $i; sleep 0.1; done; mkdir o; echo whole > o/file"
    run = running(gpujob, boxed(gpujob, f"echo run >> started; {count}", artifacts=["o/*", "started"]))
    gpujob.kill_controller()
    assert len(containers(run)) == 1, "it goes on without anybody watching"
    time.sleep(1)
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded" and len(shown["attempts"]) == 1
    assert gpujob.log(run) == b"".join(b"line %d\n" % number for number in range(1, 101))
    artifacts = gpujob.home / "runs" / run / "artifacts"
    assert [(artifacts / name).read_text() for name in ("o/file", "started")] == ["whole\n", "run\n"]


def test_a_secret_is_in_no_argument_list(gpujob: Gpujob) -> None:
    gpujob.env["HF_TOKEN"] = value = "s3cr3t-v4lue-0815"
    run = running(gpujob, boxed(gpujob, "echo ${#HF_TOKEN}; sleep 10", secrets=["HF_TOKEN"]))
    [name] = containers(run)
    shape = "{{json .Path}} {{json .Args}} {{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Labels}}"
    described = docker("inspect", "-f", shape, name)
    assert "entry.sh" in described and value not in described
    commands = [command for _, command, _ in processes()]
    assert any(name in command for command in commands)
    assert not any(value in command for command in commands)
    gpujob.wait(run)
    assert gpujob.log(run) == b"%d\n" % len(value)
    kept = [str(path) for path in gpujob.home.rglob("*") if path.is_file() and value.encode() in path.read_bytes()]
    assert kept == []


@pytest.mark.sshd
def test_on_a_host_behind_ssh(gpujob: Gpujob, tmp_path: Path) -> None:
    gpujob.home.mkdir(mode=0o700)
    with running_sshd(tmp_path / "tower") as tower:
        (gpujob.home / "hosts.toml").write_text(entry(tower, directory=gpujob.home / "tower"))
        spec = boxed(gpujob, f"{WHERE}; mkdir o; echo whole > o/file", artifacts=["o/*"])
        run = gpujob.submit(spec, "--provider", "ssh")
        assert gpujob.wait(run)["outcome"] == "succeeded"
        assert gpujob.log(run) == b"inside\n"
        assert (gpujob.home / "runs" / run / "artifacts/o/file").read_text() == "whole\n"
        assert containers(run) == []
        assert not list((gpujob.home / "tower").glob("gpujob-*"))
