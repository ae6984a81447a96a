"""What goes wrong with a job or around it: a clear outcome, the right exit code, nothing left running, no line lost."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.e2e.driver import GPUJOB, Gpujob
from tests.support.processes import processes

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("spec", "code", "outcome", "error"),
    [
        ({"run": "exit 7"}, 1, "failed", "exit code 7"),
        ({"setup": "echo no such package; exit 3", "run": "true"}, 1, "failed", "setup ended with exit code 3"),
        ({"run": "kill -9 $$"}, 1, "failed", "signal 9"),
        ({"run": "no-such-program"}, 1, "failed", "exit code 127"),
        ({"run": "true", "artifacts": ["nothing/*.pt"]}, 3, "succeeded", None),
        ({"run": "sleep 60", "limits": {"max_duration": "2s"}}, 12, "timed_out", "max_duration"),
    ],
)
def test_the_exit_code_says_what_happened(
    gpujob: Gpujob, spec: dict[str, Any], code: int, outcome: str, error: str | None
) -> None:
    done = gpujob("submit", str(gpujob.job(**spec)))
    assert done.returncode == code, done.stderr
    [row] = gpujob.json("ps")
    shown = gpujob.show(row["id"])
    assert shown["outcome"] == outcome
    assert error is None or error in shown["error"]
    assert gpujob.leftovers() == []


def test_nothing_that_can_be_rented_fits(gpujob: Gpujob) -> None:
    done = gpujob("submit", str(gpujob.job(resources={"gpu": "H200:8"})))
    assert done.returncode == 10, done.stderr


def test_a_failed_job_brings_back_its_log_and_artifacts(gpujob: Gpujob) -> None:
    run = gpujob.submit(gpujob.job(run="mkdir o; echo half > o/part; echo last words; exit 1", artifacts=["o/*"]))
    assert gpujob.wait(run)["outcome"] == "failed"
    assert gpujob.log(run) == b"last words\n"
    assert (gpujob.home / "runs" / run / "artifacts/o/part").read_text() == "half\n"


def test_a_flood_of_200_mb_arrives_whole(gpujob: Gpujob) -> None:
    """Worth its time: the log is the one thing that every job has."""
    flood = "import sys\nline = b'x' * 99 + b'\\n'\nfor _ in range(2_000_000): sys.stdout.buffer.write(line)\n"
    run = gpujob.submit(gpujob.job(files={"flood.py": flood}, run="python flood.py"))
    assert gpujob.wait(run)["outcome"] == "succeeded"
    whole = hashlib.sha256()
    for _ in range(2_000):
        whole.update((b"x" * 99 + b"\n") * 1000)
    assert hashlib.sha256(gpujob.log(run)).digest() == whole.digest()


def test_noise_partial_lines_and_progress_bars_arrive_byte_for_byte(gpujob: Gpujob) -> None:
    noise = (
        "import os, random, sys, time\n"
        "out = sys.stdout.buffer\n"
        "random.seed(7)\n"
        "for step in range(50):\n"
        "    out.write(b'\\rstep %d loss=0.%02d ' % (step, step) + random.randbytes(500))\n"
        "    out.flush(); time.sleep(0.02)\n"
        "out.write(b'no newline at the end')\n"
    )
    patterns = {"patterns": {"loss": "loss=([0-9.]+)"}}
    run = gpujob.submit(gpujob.job(files={"noise.py": noise}, run="python noise.py", metrics=patterns))
    assert gpujob.wait(run)["outcome"] == "succeeded"
    import random

    random.seed(7)
    expected = b"".join(b"\rstep %d loss=0.%02d " % (step, step) + random.randbytes(500) for step in range(50))
    assert gpujob.log(run) == expected + b"no newline at the end"


def test_cancel_ends_children_that_ignore_sigterm(gpujob: Gpujob) -> None:
    stubborn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "    os._exit(0)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    run = gpujob.submit(gpujob.job(files={"stubborn.py": stubborn}, run="trap '' TERM; python stubborn.py"))
    gpujob.until(run, lambda shown: b"ready" in _log(gpujob, run))
    assert gpujob("cancel", run).returncode == 0
    assert gpujob.wait(run)["outcome"] == "cancelled"
    assert gpujob.leftovers() == []


def test_a_cancelled_job_gets_sigterm_first(gpujob: Gpujob) -> None:
    polite = (
        "import signal, sys, time\n"
        "def stop(*_): print('saved', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    run = gpujob.submit(gpujob.job(files={"polite.py": polite}, run="python polite.py"))
    gpujob.until(run, lambda shown: b"ready" in _log(gpujob, run))
    gpujob("cancel", run)
    assert gpujob.wait(run)["outcome"] == "cancelled"
    assert gpujob.log(run) == b"ready\nsaved\n"


def test_ctrl_c_detaches_and_the_job_goes_on(gpujob: Gpujob) -> None:
    spec = gpujob.job(run=f"echo begun; {gpujob.held}; echo ended")
    attached = subprocess.Popen(
        [GPUJOB, "submit", str(spec)], env=gpujob.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert attached.stdout is not None
    assert attached.stdout.readline() == "begun\n"
    attached.send_signal(signal.SIGINT)
    _, talk = attached.communicate(timeout=60)
    assert attached.returncode == 130
    [row] = gpujob.json("ps")
    assert f"gpujob logs -f {row['id']}" in talk
    gpujob.let_go()
    assert gpujob.wait(row["id"])["outcome"] == "succeeded"
    assert gpujob.log(row["id"]) == b"begun\nended\n"


def test_a_controller_waits_for_the_one_in_the_background_and_a_second_one_is_refused(gpujob: Gpujob) -> None:
    run = gpujob.submit(gpujob.job(run=gpujob.held))
    first = subprocess.Popen(
        [GPUJOB, "controller"], env=gpujob.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first.stderr is not None
    assert "waits until the one in the background is done" in first.stderr.readline()
    gpujob.let_go()
    assert gpujob.wait(run)["outcome"] == "succeeded", "by the one in the background"
    assert "serves" in first.stderr.readline()
    second = gpujob("controller", "--until-idle")
    assert second.returncode != 0 and "another controller" in second.stderr
    assert gpujob.wait(gpujob.submit(gpujob.job(run="true")))["outcome"] == "succeeded"
    first.terminate()
    _, talk = first.communicate(timeout=30)
    assert first.returncode == 0 and "waits until" not in talk


def test_a_job_that_outlives_its_controller_loses_nothing(gpujob: Gpujob) -> None:
    """kill -9, a pause in which the job writes and ends, and the next command picks it all up."""
    job = f"echo line 1; {gpujob.held}; for i in $(seq 2 40); do echo line $i; sleep 0.05; done; mkdir o; echo x > o/x"
    run = gpujob.submit(gpujob.job(run=job, artifacts=["o/**"]))
    gpujob.until(run, lambda shown: b"line 1\n" in _log(gpujob, run))
    gpujob.kill_controller()
    gpujob.let_go()
    time.sleep(3)
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded" and len(shown["attempts"]) == 1
    assert gpujob.log(run) == b"".join(b"line %d\n" % i for i in range(1, 41))
    assert (gpujob.home / "runs" / run / "artifacts/o/x").exists()


def test_the_agent_is_killed(gpujob: Gpujob) -> None:
    """Both of its processes: the job's machine is lost, nothing of it stays, and the next attempt does the work."""
    once = "if [ ! -e $MARK ]; then touch $MARK; echo first; sleep 600; else echo second; fi"
    run = gpujob.submit(gpujob.job(run=once, env={"MARK": str(gpujob.root / "mark")}))
    gpujob.until(run, lambda shown: b"first" in _log(gpujob, run))
    for pid, command, env in list(processes()):
        if "agent.py" in command and str(gpujob.home) in env + command:
            os.kill(pid, signal.SIGKILL)
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded", shown
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["host_lost", "succeeded"]
    lines = gpujob.log(run).splitlines()
    assert [line for line in lines if line in (b"first", b"second")] == [b"first", b"second"]


def test_secrets_reach_the_job_and_nothing_else(gpujob: Gpujob) -> None:
    value = "s3cr3t-v4lue-0815"
    spec = gpujob.job(secrets=["HF_TOKEN"], run='printf %s "$HF_TOKEN" | sha256sum; echo it is $HF_TOKEN')
    refused = gpujob("submit", str(spec))
    assert refused.returncode == 2 and "HF_TOKEN" in refused.stderr and "secrets.env" in refused.stderr
    gpujob.env["HF_TOKEN"] = value
    run = gpujob.submit(spec)
    gpujob.wait(run)
    log = gpujob.log(run)
    assert hashlib.sha256(value.encode()).hexdigest().encode() in log
    assert b"it is " + b"*" * len(value) in log
    found = [str(path) for path in gpujob.home.rglob("*") if path.is_file() and value.encode() in path.read_bytes()]
    assert found == []


def _log(gpujob: Gpujob, run: str) -> bytes:
    path = gpujob.home / "runs" / run / "attempts" / "1" / "log"
    return path.read_bytes() if path.exists() else b""
