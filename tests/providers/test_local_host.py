"""providers/host.py with real processes: what is ended, what is left, and what is billed, whatever gets in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from providers import host
from tests.support.processes import is_alive

pytestmark = pytest.mark.process

NAME = f"m-{os.getpid()}"  # marks on processes are seen by all: another worker ends what bears its own

SCRIPT = host.__file__
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"


def request(name: str, **keys: object) -> dict[str, Any]:
    usual = {"owner": "alice", "run_id": "r-1", "attempt": 1, "deadline": 1e9, "usd_per_hour": "1"}
    return {"name": name, **usual, **keys}


def bill(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "bill.jsonl").read_text().splitlines() if line]


@pytest.fixture
def marked() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process in the name of a machine; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *argv: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "GPUJOB_MACHINE": name}
        started.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_terminate_ends_whatever_bears_the_mark(tmp_path: Path, marked: Callable[..., Any]) -> None:
    host.create(tmp_path, request(NAME))
    stubborn = marked(NAME, sys.executable, "-c", STUBBORN)
    away = marked(NAME, "sh", "-c", "setsid sh -c 'echo $$; exec sleep 300' & wait")
    other = marked(f"{NAME}0", "sh", "-c", "echo $$; exec sleep 300")
    first = stubborn.stdout.readline(), int(away.stdout.readline()), other.stdout.readline()
    assert host.terminate(tmp_path, {"name": NAME})["gone"]
    assert not is_alive(stubborn.pid) and not is_alive(away.pid) and not is_alive(first[1])
    assert is_alive(other.pid), "the mark of another machine only begins alike"


def test_a_child_that_cleaned_its_environment_is_ended_with_its_session(tmp_path: Path, marked: Any) -> None:
    host.create(tmp_path, request(NAME))
    leader = marked(NAME, "sh", "-c", "env -i sh -c 'echo $$; exec sleep 300' & wait")
    child = int(leader.stdout.readline())
    assert host.terminate(tmp_path, {"name": NAME})["gone"]
    assert not is_alive(child)


def test_what_cannot_be_ended_is_not_gone(tmp_path: Path, marked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host.create(tmp_path, request(NAME))
    process = marked(NAME, "sleep", "300")
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda pid, number: None)
        answer = host.terminate(tmp_path, {"name": NAME, "seconds": 0.2})
    assert answer == {"gone": False, "detail": f"processes that cannot be ended: {process.pid}"}
    machine = host.get(tmp_path, {"name": NAME})["machine"]
    assert (machine["status"], machine["detail"]) == ("terminating", answer["detail"])
    assert not (tmp_path / "bill.jsonl").exists(), "it is billed while it exists"
    assert host.terminate(tmp_path, {"name": NAME})["gone"]


def test_a_machine_whose_directory_was_deleted_is_not_gone_while_its_processes_live(
    tmp_path: Path, marked: Any
) -> None:
    process = marked(NAME, "sleep", "300")
    assert host.get(tmp_path, {"name": NAME})["machine"]["detail"] == "its directory is gone, but its processes live"
    assert host.terminate(tmp_path, {"name": NAME})["gone"]
    assert not is_alive(process.pid)
    assert host.get(tmp_path, {"name": NAME}) == {"missing": True}


def test_terminate_leaves_nothing_but_the_bill(tmp_path: Path) -> None:
    host.create(tmp_path, request(NAME), lambda: 1000.0)
    shut = tmp_path / NAME / "shared" / "shut"
    shut.mkdir(parents=True)
    (shut / "file").write_text("x")
    (tmp_path / NAME / "link").symlink_to(tmp_path)
    shut.chmod(0)
    assert host.terminate(tmp_path, {"name": NAME}, lambda: 1060.5) == {"gone": True, "detail": ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "bill.jsonl"]
    assert bill(tmp_path) == [
        {
            "name": NAME,
            "owner": "alice",
            "run_id": "r-1",
            "attempt": 1,
            "usd_per_hour": "1",
            "start": 1000.0,
            "end": 1060.5,
        }
    ]


def test_billed_once_when_killed_between_bill_and_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.create(tmp_path, request(NAME), lambda: 1000.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_here)
        with pytest.raises(KeyboardInterrupt):
            host.terminate(tmp_path, {"name": NAME}, lambda: 1060.0)
    assert host.get(tmp_path, {"name": NAME})["machine"]["name"] == NAME
    assert host.terminate(tmp_path, {"name": NAME}, lambda: 2000.0)["gone"]
    assert [(line["name"], line["end"]) for line in bill(tmp_path)] == [(NAME, 1060.0)]


def killed_here(self: Path, target: Path) -> None:
    if target.name.startswith(".gone-"):
        raise KeyboardInterrupt
    os.rename(self, target)  # noqa: PTH104


def test_a_torn_line_of_the_bill_spoils_no_other(tmp_path: Path) -> None:
    host.create(tmp_path, request(NAME), lambda: 0.0)
    (tmp_path / "bill.jsonl").write_text('{"name": "m-0", "start": 1}\n{"name": "m-1", "st')
    host.terminate(tmp_path, {"name": NAME}, lambda: 60.0)
    assert [line["end"] for line in host.bill(tmp_path, {"name": NAME})["bill"]] == [60.0]


def test_a_create_that_was_killed_leaves_no_machine(tmp_path: Path) -> None:
    half = tmp_path / f"{NAME}.new"
    half.mkdir()
    (half / "machine.json").write_text(json.dumps(request(NAME, created_at=0, gpu_ids=[0], gpu_total=1)))
    assert host.list_machines(tmp_path, {"owner": "alice"}) == {"machines": []}
    assert host.get(tmp_path, {"name": NAME}) == {"missing": True}
    assert host.create(tmp_path, request(f"{NAME}-2", gpu_ids=[0], gpus=1))["machine"]["gpu_ids"] == [0]
    assert not half.exists()


def test_a_record_that_cannot_be_read_is_still_a_machine(tmp_path: Path) -> None:
    host.create(tmp_path, request(NAME))
    (tmp_path / NAME / "machine.json").write_text("{")
    assert host.get(tmp_path, {"name": NAME})["machine"]["status"] == "unknown"
    assert host.terminate(tmp_path, {"name": NAME})["gone"]
    assert host.get(tmp_path, {"name": NAME}) == {"missing": True}


def test_one_gpu_goes_to_one_of_many_that_want_it_at_once(tmp_path: Path) -> None:
    asked = [ask("create", tmp_path, request(f"m-{number}", gpu_ids=[0], gpus=1)) for number in range(6)]
    answers = [json.loads(process.communicate()[0]) for process in asked]
    assert sorted("machine" in answer for answer in answers) == [False] * 5 + [True]
    assert {answer["error"]["kind"] for answer in answers if "error" in answer} == {"no_capacity"}


def test_one_name_asked_for_by_many_at_once_is_one_machine(tmp_path: Path) -> None:
    asked = [ask("create", tmp_path, request(NAME)) for _ in range(6)]
    made = [json.loads(process.communicate()[0])["machine"]["created_at"] for process in asked]
    assert len(set(made)) == 1


def test_many_that_end_one_machine_at_once_bill_it_once(tmp_path: Path) -> None:
    host.create(tmp_path, request(NAME))
    asked = [ask("terminate", tmp_path, {"name": NAME}) for _ in range(4)]
    assert [json.loads(process.communicate()[0])["gone"] for process in asked] == [True] * 4
    assert [line["name"] for line in bill(tmp_path)] == [NAME]


@pytest.mark.parametrize(
    ("command", "stdin", "kind"),
    [
        ("create", '{"name": "m-1"}', "bad_request"),
        ("create", '{"name": "../m", "root": "/tmp"}', "bad_request"),
        ("get", "no JSON", "bad_request"),
        ("dance", "{}", "bad_request"),
        ("create", '{"name": "m-1", "root": "/proc/nowhere"}', "failed"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered(command: str, stdin: str, kind: str) -> None:
    done = subprocess.run([sys.executable, SCRIPT, command], input=stdin, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"]["kind"] == kind


@pytest.mark.parametrize(
    ("runs_in", "gone"), [("container", False), ("process", True)], ids=["in a container", "as a process"]
)
def test_docker_that_hangs_holds_up_only_what_may_run_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs_in: str, gone: bool
) -> None:
    fake_docker(tmp_path, "sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(host, "_DOCKER_SECONDS", 0.2)
    host.create(tmp_path / "root", request(NAME))
    (tmp_path / f"root/{NAME}/state.json").write_text(json.dumps({"runs_in": runs_in}))
    (tmp_path / f"root/{NAME}/job.json").write_text(json.dumps({"container": {"image": "i"}}))
    assert host.terminate(tmp_path / "root", {"name": NAME})["gone"] is gone


def test_programs_are_told_what_docker_needs_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, f"env >>{tmp_path}/told; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/mine.sock")
    monkeypatch.setenv("HF_TOKEN", "secret")
    host.create(tmp_path / "root", request(NAME))
    host.terminate(tmp_path / "root", {"name": NAME})
    told = (tmp_path / "told").read_text()
    assert "DOCKER_HOST=unix:///run/mine.sock" in told and "HF_TOKEN" not in told


def test_docker_that_is_off_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    host.create(tmp_path / "root", request(NAME))
    (tmp_path / f"root/{NAME}/state.json").write_text(json.dumps({"runs_in": "container"}))
    assert host.terminate(tmp_path / "root", {"name": NAME})["gone"]


def test_a_container_that_cannot_be_removed_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, '[ "$1" = ps ] && echo c0ffee')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    host.create(tmp_path / "root", request(NAME))
    answer = host.terminate(tmp_path / "root", {"name": NAME})
    assert answer == {"gone": False, "detail": "containers that cannot be removed: c0ffee"}


@pytest.mark.docker
def test_terminate_removes_the_machines_containers_and_no_others(tmp_path: Path) -> None:
    mine, other = f"h-{os.getpid()}-{time.time_ns()}", f"h-{os.getpid()}-{time.time_ns()}-b"
    host.create(tmp_path, request(mine))
    try:
        for name in (mine, other):
            run = [
                "docker",
                "run",
                "-d",
                "--name",
                name,
                "--label",
                f"gpujob.machine={name}",
                base_image(),
                "sleep",
                "300",
            ]
            subprocess.run(run, check=True, capture_output=True)
        assert host.terminate(tmp_path, {"name": mine})["gone"]
        left = subprocess.run(
            ["docker", "ps", "-a", "--format", "{{.Names}}"], check=True, capture_output=True, text=True
        )
        assert mine not in left.stdout.split() and other in left.stdout.split()
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", mine, other], check=False, capture_output=True)


def test_marks_in_the_output_of_ps() -> None:
    listing = (
        "  501   501 /bin/sh entry.sh HOME=/Users/a GPUJOB_MACHINE=m-1 TERM=xterm\n"
        "  502   501 sleep 300\n"
        "  503   503 python train.py GPUJOB_MACHINE=m-10\n"
        "  504   504 python train.py A=1 GPUJOB_MACHINE=m-1\n"
        "  505\n"
    )
    rows = [(501, 501, True), (502, 501, False), (503, 503, False), (504, 504, True)]
    assert host.marked_in_ps(listing, "m-1") == rows


def ask(command: str, root: Path, question: dict[str, Any]) -> subprocess.Popen[bytes]:
    """host.py as it runs on another computer."""
    process = subprocess.Popen([sys.executable, SCRIPT, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps({**question, "root": str(root)}).encode())
    process.stdin.flush()
    return process


def fake_docker(folder: Path, body: str) -> None:
    (folder / "bin").mkdir()
    (folder / "bin/docker").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "bin/docker").chmod(0o755)


def base_image() -> str:
    """An image that is there without any registry."""
    build = Path(__file__).parents[1] / "images/build.sh"
    subprocess.run([str(build), "base"], check=True, capture_output=True)
    return "gpujob-test:base"
