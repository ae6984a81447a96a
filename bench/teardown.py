"""From the job's exit to the machine released, on this computer as a process. Target: 2 s more than the artifacts take.

"Released" is the cloud's own "not found", as the run's record has it; the job's last words say when it ended.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.measure import GPUJOB, clean_environment, spread, table

ROUNDS = 7
TARGET = 2.0
JOB = """\
import os, pathlib, sys, time
megabytes, litter = map(int, sys.argv[1:])
for number in range(litter):
    pathlib.Path(f"left/{number % 100}").mkdir(parents=True, exist_ok=True)
    pathlib.Path(f"left/{number % 100}/{number}").write_bytes(os.urandom(40_000))
if megabytes:
    pathlib.Path("outputs").mkdir()
    pathlib.Path("outputs/model.bin").write_bytes(os.urandom(megabytes * 1_000_000))
print(time.time(), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """What a job leaves: artifacts that come back, and files that do not, as many as PyTorch's environment has."""

    name: str
    megabytes: int = 0
    litter: int = 0


CASES = (
    Case("nothing"),
    Case("1 MB of artifacts", megabytes=1),
    Case("200 MB of artifacts", megabytes=200),
    Case("1.2 GB in 30,000 other files", litter=30_000),
)


def report() -> str:
    with tempfile.TemporaryDirectory() as folder:
        env = clean_environment(Path(folder) / "home")
        taken = {case: [seconds_to_release(Path(folder), case, env) for _ in range(ROUNDS)] for case in CASES}
        copying = {case: copy_seconds(Path(folder), case.megabytes) for case in CASES}
    rows = [
        [case.name, spread(seconds), f"{copying[case]:.2f}", f"{TARGET + copying[case]:.2f}"]
        for case, seconds in taken.items()
    ]
    columns = ["the job leaves", "released after s", "plain copy of the artifacts s", "at most s"]
    return table(f"From the job's exit to its machine released (medians of {ROUNDS}, and range)", columns, rows)


def seconds_to_release(folder: Path, case: Case, env: Mapping[str, str]) -> float:
    job = folder / "job"
    job.mkdir(exist_ok=True)
    (job / "job.py").write_text(JOB)
    (job / "train.yaml").write_text(_spec(case))
    submitted = _gpujob("submit", f"{job}/train.yaml", "--yes", env=env)
    gone = datetime.fromisoformat(_newest_run(env)["attempts"][-1]["gone_at"]).timestamp()
    return gone - float(submitted.splitlines()[-1])


def copy_seconds(folder: Path, megabytes: int) -> float:
    """What writing and reading so much once more takes at least."""
    source, target = folder / "source.bin", folder / "target.bin"
    source.write_bytes(bytes(megabytes * 1_000_000))
    began = time.monotonic()
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _spec(case: Case) -> str:
    spec: dict[str, object] = {
        "name": "teardown",
        "image": "none",
        "run": f"python3 job.py {case.megabytes} {case.litter}",
        "place": {"providers": ["local"]},
    }
    return json.dumps({**spec, "artifacts": ["outputs/**"]} if case.megabytes else spec)


def _newest_run(env: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(_gpujob("show", "teardown", "--json", env=env))
    return shown


def _gpujob(*arguments: str, env: Mapping[str, str]) -> str:
    done = subprocess.run([GPUJOB, *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gpujob {' '.join(arguments)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    print(report())
