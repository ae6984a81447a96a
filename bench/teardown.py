"""From the job's exit to the machine released, on this computer as a process. Target: 2 s more than the artifacts take.

"Released" is the cloud's own "not found", as the run's record has it; the job's last words say when it ended.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.measure import GPUJOB, clean_environment, spread, table

ROUNDS = 7
TARGET = 2.0
SIZES = (0, 1, 200)  # MB of artifacts
JOB = """\
import os, pathlib, sys, time
megabytes = int(sys.argv[1])
if megabytes:
    pathlib.Path("outputs").mkdir()
    pathlib.Path("outputs/model.bin").write_bytes(os.urandom(megabytes * 1_000_000))
print(time.time(), flush=True)
"""


def report() -> str:
    with tempfile.TemporaryDirectory() as folder:
        env = clean_environment(Path(folder) / "home")
        taken = {size: [seconds_to_release(Path(folder), size, env) for _ in range(ROUNDS)] for size in SIZES}
        copying = {size: copy_seconds(Path(folder), size) for size in SIZES}
    rows = [
        [f"{size} MB", spread(seconds), f"{copying[size]:.2f}", f"{TARGET + copying[size]:.2f}"]
        for size, seconds in taken.items()
    ]
    columns = ["artifacts", "released after s", "plain copy of them s", "at most s"]
    return table(f"From the job's exit to its machine released (medians of {ROUNDS}, and range)", columns, rows)


def seconds_to_release(folder: Path, megabytes: int, env: Mapping[str, str]) -> float:
    job = folder / f"job-{megabytes}"
    job.mkdir(exist_ok=True)
    (job / "job.py").write_text(JOB)
    (job / "train.yaml").write_text(_spec(megabytes))
    submitted = _gpujob("submit", f"{job}/train.yaml", "--yes", env=env)
    run = _show(f"teardown-{megabytes}", env)
    gone = datetime.fromisoformat(run["attempts"][-1]["gone_at"]).timestamp()
    return gone - float(submitted.splitlines()[-1])


def copy_seconds(folder: Path, megabytes: int) -> float:
    """What writing and reading so much once more takes at least."""
    source, target = folder / "source.bin", folder / "target.bin"
    source.write_bytes(bytes(megabytes * 1_000_000))
    began = time.monotonic()
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _spec(megabytes: int) -> str:
    spec: dict[str, object] = {
        "name": f"teardown-{megabytes}",
        "image": "none",
        "run": f"python3 job.py {megabytes}",
        "place": {"providers": ["local"]},
    }
    return json.dumps({**spec, "artifacts": ["outputs/**"]} if megabytes else spec)


def _show(name: str, env: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(_gpujob("show", name, "--json", env=env))
    return shown


def _gpujob(*arguments: str, env: Mapping[str, str]) -> str:
    done = subprocess.run([GPUJOB, *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gpujob {' '.join(arguments)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    print(report())
