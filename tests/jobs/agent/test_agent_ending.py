"""How a job is ended: TERM, the grace, KILL, for everything that it started and for nothing else."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs.agent.conftest import Host, python, table
from tests.support.processes import is_alive
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

CHECKPOINT = """
import signal, sys, time
def save(*_):
    open("checkpoint", "w").write("saved")
    time.sleep(0.3)
    open("checkpoint", "a").write(" whole")
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(15, signal.SIG_IGN)
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists("daemon"):
    time.sleep(0.01)
print("ready", flush=True)
"""


def test_term_lets_a_job_write_its_checkpoint(host: Host) -> None:
    host.start(python(CHECKPOINT) + "; echo never")
    host.wait_for_log(b"ready")
    host.stop("cancelled", grace=10)
    record = host.wait()
    assert (record["reason"], record["detail"]) == ("stopped", "cancelled")
    assert (host.work / "checkpoint").read_text() == "saved whole"
    assert b"never" not in host.log()
    assert record["run_seconds"] < 9  # it did not wait for the whole grace


def test_a_notice_lets_a_job_write_its_checkpoint(host: Host, tmp_path: Path) -> None:
    """The command is asked again and again; what it prints is the cloud's word."""
    notice = tmp_path / "notice"
    command = f"echo asked >>{tmp_path}/asked; cat {notice} 2>/dev/null"
    host.start(python(CHECKPOINT), preemption_notice=command, notice_seconds=0.2, grace_seconds=10)
    host.wait_for_log(b"ready")
    eventually(lambda: (tmp_path / "asked").read_text().count("asked") >= 2, 20)
    assert not (host.root / "exit.json").exists()
    notice.write_text('{"action": "terminate",\n "time": "2026-11-21T12:00:00Z"}')
    record = host.wait()
    assert (record["reason"], record["detail"]) == (
        "preempted",
        '{"action": "terminate", "time": "2026-11-21T12:00:00Z"}',
    )
    assert (host.work / "checkpoint").read_text() == "saved whole"
    assert "notice" in host.events()


def test_a_notice_that_never_answers_holds_nothing_up(host: Host) -> None:
    host.start("sleep 1; echo done", preemption_notice="sleep 600", notice_seconds=0.2)
    assert (host.wait()["reason"], host.log()) == ("exited", b"done\n")
    host.wait_until_quiet()


def test_setup_can_be_stopped_too(host: Host) -> None:
    host.start("echo never", setup="echo ready; sleep 600")
    host.wait_for_log(b"ready")
    host.stop("changed my mind")
    record = host.wait()
    assert (record["reason"], record["detail"], record["run_seconds"]) == ("stopped", "changed my mind", None)


def test_a_second_stop_may_be_less_patient(host: Host) -> None:
    host.start(python(STUBBORN))
    host.wait_for_log(b"ready")
    host.stop(grace=60)
    host.wait_for_phase("stopping")
    host.stop(grace=0)
    assert host.wait(10)["reason"] == "stopped"


def test_a_stop_before_the_start_wins(host: Host) -> None:
    host.stop("cancelled")
    host.start("echo never")
    assert (host.wait()["reason"], host.log()) == ("stopped", b"")


@pytest.mark.parametrize(
    "job",
    table(
        ("ignores TERM", python(STUBBORN)),
        ("is stopped", "echo ready; kill -STOP $$"),
        (
            "children that ignore TERM",
            "for i in 1 2 3; do (trap '' TERM; sleep 600 & sleep 600) & done; echo ready; wait",
        ),
        ("a daemon in a session of its own", python(DAEMON) + "; sleep 600"),
        ("a daemon without the mark", "env -i setsid -f sleep 600; echo ready; sleep 600"),
        ("its shell is gone", "setsid -f sleep 600; echo ready; exec sleep 600"),
    ),
)
def test_nothing_survives_a_stop(host: Host, job: str) -> None:
    host.start(job)
    host.wait_for_log(b"ready")
    with everything_below(host.runner()) as living:
        host.stop(grace=0.5)
        record = host.wait()
    assert record["reason"] == "stopped"
    assert living() == []
    host.wait_until_quiet()


def test_a_process_without_the_mark_is_left_alone(host: Host) -> None:
    """Not even one with the same machine's mark that is no job's: a controller that looks at the machine."""
    bystanders = [
        subprocess.Popen(["sleep", "60"]),
        subprocess.Popen(["sleep", "60"], env={"GPUJOB_MACHINE": host.machine + "0", "GPUJOB_RUN_ID": "r-x"}),
        subprocess.Popen(["sleep", "60"], env={"GPUJOB_MACHINE": host.machine}),
    ]
    try:
        host.start("sleep 600")
        host.wait_for_phase("running")
        host.stop(grace=0)
        host.wait()
        assert [process.poll() for process in bystanders] == [None, None, None]
    finally:
        for process in bystanders:
            process.kill()
            process.wait()


def test_what_a_job_leaves_running_is_ended_before_it_is_over(host: Host) -> None:
    host.start(python(DAEMON))
    record = host.wait()
    assert (record["reason"], record["exit_code"]) == ("exited", 0)
    assert not is_alive(int((host.work / "daemon").read_text()))
    assert "leftovers" in host.events()


def test_max_duration_counts_from_the_start_of_run(host: Host) -> None:
    host.start("sleep 600", setup="sleep 1", max_duration_seconds=0.8, grace_seconds=1)
    record = host.wait()
    assert record["reason"] == "max_duration"
    assert record["setup_seconds"] > 0.9
    assert 0.7 < record["run_seconds"] < 5


def test_the_deadline_ends_the_job(host: Host) -> None:
    host.start(python(CHECKPOINT), deadline_seconds=1.5)
    record = host.wait()
    assert record["reason"] == "deadline"
    assert (host.work / "checkpoint").read_text() == "saved whole"
    host.wait_until_quiet()


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A self_destruct that counts its calls in a file, and fails."""
    script = tmp_path / "end-machine"
    script.write_text('#!/bin/sh\necho "$1" >> "$0.calls"; exit 1\n')
    script.chmod(0o755)
    (tmp_path / "end-machine.calls").touch()
    yield tmp_path / "end-machine.calls", [str(script), "now"]


def test_at_the_deadline_the_machine_ends_itself_again_and_again(host: Host, ending: tuple[Path, list[str]]) -> None:
    calls, argv = ending
    host.start("echo done", deadline_seconds=2, self_destruct=argv)
    assert host.wait()["reason"] == "exited"
    time.sleep(0.3)
    assert calls.read_text() == ""  # not before the deadline, though the job is over
    assert host.ask("alive") == {"alive": True}
    eventually(lambda: calls.read_text().count("now") >= 2, 15)
    assert host.wait()["reason"] == "exited"
    host.destroy()


def test_the_machine_ends_itself_also_under_a_job(host: Host, ending: tuple[Path, list[str]]) -> None:
    calls, argv = ending
    host.start(python(STUBBORN), deadline_seconds=1, grace_seconds=0.5, self_destruct=argv)
    eventually(lambda: calls.read_text() != "", 15)
    assert host.wait()["reason"] == "deadline"
    host.destroy()


def test_a_runner_that_is_killed_after_the_job_leaves_a_machine_that_still_ends(
    host: Host, ending: tuple[Path, list[str]]
) -> None:
    calls, argv = ending
    host.start("true", deadline_seconds=3, self_destruct=argv)
    host.wait()
    runner = host.runner()
    host.kill(runner)
    eventually(lambda: host.runner() != runner, 5)
    eventually(lambda: calls.read_text() != "", 15)
    host.destroy()


def test_end_kills_everything_and_then_the_machine(host: Host, ending: tuple[Path, list[str]]) -> None:
    calls, argv = ending
    host.start(python(DAEMON) + "; sleep 600", self_destruct=argv)
    host.wait_for_log(b"ready")
    runner, switch = host.runner(), host.switch()
    assert host.ask("end") == {"ended": True}
    assert [pid for pid in (runner, switch) if is_alive(pid)] == []
    assert host.wait()["reason"] == "stopped"
    eventually(lambda: calls.read_text() != "", 10)
    host.destroy()


def test_end_spares_the_caller_and_works_twice(host: Host) -> None:
    host.start("sleep 600")
    host.wait_for_phase("running")
    caller = subprocess.run(
        ["sh", "-c", '"$0" "$1" "$2"; echo "the caller lives"', *host.agent("end")],
        capture_output=True,
        env=host.env,
        check=True,
    )
    assert caller.stdout.endswith(b"the caller lives\n")
    assert host.ask("end") == {"ended": True}
    assert host.ask("alive") == {"alive": False}


def test_end_where_nothing_was_ever_started(host: Host) -> None:
    assert host.ask("end") == {"ended": True}
    assert not (host.root / "exit.json").exists()


def test_sigterm_to_the_agent_means_that_the_machine_shuts_down(host: Host) -> None:
    host.start(python(CHECKPOINT))
    host.wait_for_log(b"ready")
    os.kill(host.runner(), 15)
    record = host.wait()
    assert (record["reason"], (host.work / "checkpoint").read_text()) == ("stopped", "saved whole")


def test_when_the_directory_is_removed_nothing_runs_on(make_host: Callable[..., Host], tmp_path: Path) -> None:
    host = make_host()
    host.start("sleep 600", venv=False)
    host.wait_for_phase("running")
    host.root.rename(tmp_path / "away")
    host.wait_until_quiet()


class everything_below:
    """The processes below one, also when their parents have changed: those that still live, by pid."""

    def __init__(self, root: int) -> None:
        self._pids = _tree(root) - {root}

    def __enter__(self) -> Callable[[], list[int]]:
        assert self._pids
        return lambda: [pid for pid in self._pids if is_alive(pid)]

    def __exit__(self, *_: object) -> None:
        pass


def _tree(root: int) -> set[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")")[-1].split()[1])
        except OSError:
            continue
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
