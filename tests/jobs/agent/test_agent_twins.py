"""Runner and switch watch each other; whatever is killed, the job runs at most once and has one exit record."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.agent.conftest import Host, python
from tests.jobs.agent.test_agent_ending import CHECKPOINT, DAEMON, STUBBORN
from tests.support.processes import is_alive
from tests.support.waiting import eventually

pytestmark = pytest.mark.process


def test_when_the_runner_is_killed_the_switch_ends_the_job(host: Host) -> None:
    host.start(python(CHECKPOINT))
    host.wait_for_log(b"ready")
    host.kill(host.runner())
    record = host.wait()
    assert (record["reason"], record["exit_code"]) == ("agent", None)
    assert (host.work / "checkpoint").read_text() == "saved whole"
    host.wait_for_phase("exited")
    host.wait_until_quiet()


def test_the_switch_finds_daemons_and_kills_what_ignores_term(host: Host) -> None:
    host.start(python(DAEMON) + f"\n{python(STUBBORN)}", grace_seconds=0.5)
    host.wait_for_log(b"ready\nready")
    host.kill(host.runner())
    assert host.wait()["reason"] == "agent"
    assert not is_alive(int((host.work / "daemon").read_text()))
    host.wait_until_quiet()


def test_when_the_switch_is_killed_the_runner_makes_a_new_one(host: Host) -> None:
    host.start("sleep 4; echo still here")
    host.wait_for_phase("running")
    for _ in range(2):
        switch = host.switch()
        host.kill(switch)
        eventually(lambda old=switch: host.switch() != old, 5)  # type: ignore[misc]
    assert host.wait()["reason"] == "exited"
    assert host.log() == b"still here\n"
    host.wait_until_quiet()


def test_the_new_switch_does_its_work(host: Host) -> None:
    host.start("sleep 600", grace_seconds=1)
    host.wait_for_phase("running")
    switch = host.switch()
    host.kill(switch)
    eventually(lambda: host.switch() != switch, 5)
    host.kill(host.runner())
    assert host.wait()["reason"] == "agent"
    host.wait_until_quiet()


def test_when_both_were_killed_start_does_not_run_it_again(host: Host) -> None:
    host.start("echo once; " + python(DAEMON) + "; sleep 600", grace_seconds=1)
    host.wait_for_log(b"ready")
    kill_both(host)
    assert host.ask("alive") == {"alive": False}
    assert any("sleep 600" in command for command in host.processes().values())
    assert host.ask("start") == {"started": False, "already": True}
    assert host.wait(1)["reason"] == "agent"
    assert host.log().count(b"once") == 1
    host.wait_until_quiet()


def test_when_both_were_killed_after_the_end_the_record_stays(host: Host) -> None:
    host.start("exit 3")
    before = host.wait()
    host.wait_until_quiet()
    assert host.ask("start") == {"started": False, "already": True}
    assert host.wait() == before


def test_a_runner_that_hangs_at_the_deadline_is_killed_by_the_switch(
    make_host: Callable[..., Host], tmp_path: Path
) -> None:
    host = make_host()
    agent = host.root / "agent.py"
    agent.write_text(agent.read_text().replace("HUNG_SECONDS = 30.0", "HUNG_SECONDS = 3.0"))
    host.start("sleep 600", deadline_seconds=2, grace_seconds=0.5)
    host.wait_for_phase("running")
    os.kill(host.runner(), signal.SIGSTOP)
    assert host.wait()["reason"] == "deadline"
    host.wait_until_quiet()


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_jump_of_the_wall_clock_neither_kills_nor_spares(
    make_host: Callable[..., Host], tmp_path: Path, hours: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "_real, _since = time.time, time.monotonic()\n"
        f"time.time = lambda: _real() + ({hours * 3600} if time.monotonic() - _since > 0.5 else 0)\n"
    )
    host = make_host({"PYTHONPATH": str(tmp_path)})
    host.start("sleep 1.5; echo lived; sleep 600", deadline_seconds=3, grace_seconds=1)
    record = host.wait()
    assert record["reason"] == "deadline"
    assert abs(record["ended_at"] - (host.root / "exit.json").stat().st_mtime) > 40 * 3600  # it did jump
    assert host.log().startswith(b"lived\n")
    assert 2 < record["run_seconds"] < 10


def kill_both(host: Host) -> None:
    pids = [host.runner(), host.switch()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    host.kill(*pids)
    eventually(lambda: not any(is_alive(pid) for pid in pids), 5)
