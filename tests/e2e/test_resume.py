"""A job whose machine is lost goes on from its newest whole checkpoint, on another machine."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from tests.e2e.driver import Gpujob
from tests.support.processes import processes

pytestmark = pytest.mark.process

TRAIN = """
import os, pathlib, time
saved = pathlib.Path("ckpt/step")
is_first = not saved.exists()
step = 0 if is_first else int(saved.read_text())
print(f"from {step}", flush=True)
while step < 8:
    step += 1
    saved.parent.mkdir(exist_ok=True)
    part = saved.with_suffix(".tmp")
    part.write_text(str(step))
    part.replace(saved)
    time.sleep(600 if is_first and step == 3 else 0.1)
print("done", flush=True)
"""


def test_the_next_attempt_starts_from_the_checkpoint(gpujob: Gpujob) -> None:
    spec = gpujob.job(files={"train.py": TRAIN}, run="python train.py", checkpoint={"path": "ckpt", "every": "1s"})
    run = gpujob.submit(spec)
    snapshots = gpujob.home / "runs" / run / "checkpoints"
    gpujob.until(run, lambda _: snapshots.exists() and any(snapshots.glob("0*")))
    home = str(gpujob.home)
    marked = [(pid, command) for pid, command, env in processes() if "GPUJOB_MACHINE=" in env and home in env + command]
    for pid, _ in sorted(marked, key=lambda process: "agent.py start" not in process[1]):
        with suppress(ProcessLookupError):  # some end by themselves meanwhile
            os.kill(pid, signal.SIGKILL)  # the agent first: a job that is killed under it has failed by itself
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded", shown
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["host_lost", "succeeded"]
    starts = [line for line in gpujob.log(run).decode().splitlines() if line.startswith("from ")]
    assert starts[0] == "from 0" and int(starts[1].split()[1]) > 0, starts
