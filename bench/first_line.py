"""From `gpujob submit` to the job's first line of output, on this computer as a process, beside the same by hand.

The job says when it wrote its line; the terminal shows it a moment later. Target: at most 1.0 s more than by hand.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import GPUJOB, clean_environment, spread, table

ROUNDS = 7
TARGET = 1.0
COMMAND = "python3 -c 'import time; print(time.time(), flush=True)'"
SPEC = f"""\
name: first-line
image: none
run: {COMMAND}
place: {{providers: [local]}}
"""


@dataclass(frozen=True)
class FirstLine:
    """Seconds from the start of the command."""

    written: float
    seen: float


def report() -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.yaml").write_text(SPEC)
        env = clean_environment(Path(folder) / "home")
        submit = [GPUJOB, "submit", f"{folder}/train.yaml", "--yes"]
        taken: dict[str, list[FirstLine]] = {"by hand": [], "no controller runs": [], "a controller runs": []}
        for _ in range(ROUNDS):
            taken["by hand"].append(first_line(["sh", "-c", COMMAND], env=env))
            taken["no controller runs"].append(first_line(submit, env=env))
            taken["a controller runs"].append(first_line(submit, env=env))
            _until_the_controller_ends(env)
    by_hand = statistics.median(line.written for line in taken["by hand"])
    rows = [_row(name, lines, by_hand) for name, lines in taken.items()]
    columns = ["started", "line written after s", "line seen after s", "later than by hand s", "at most s"]
    return table(f"From submit to the first line, local, as a process (medians of {ROUNDS}, and range)", columns, rows)


def first_line(command: Sequence[str], *, env: Mapping[str, str]) -> FirstLine:
    began, monotonic = time.time(), time.monotonic()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        patience = threading.Timer(60, process.kill)
        patience.start()
        line = process.stdout.readline()
        seen = time.monotonic() - monotonic
        process.stdout.read()
        complaint = process.stderr.read()
        patience.cancel()
    if process.returncode != 0 or not line:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}: {complaint}")
    return FirstLine(written=float(line) - began, seen=seen)


def _row(name: str, lines: Sequence[FirstLine], by_hand: float) -> list[str]:
    written, seen = [line.written for line in lines], [line.seen for line in lines]
    if name == "by hand":
        return [name, spread(written), spread(seen), "", ""]
    more = statistics.median(seen) - by_hand
    return [f"submit, {name}", spread(written), spread(seen), f"{more:.2f}", f"{TARGET:.1f}"]


def _until_the_controller_ends(env: Mapping[str, str]) -> None:
    from orchestrator.background import is_running
    from orchestrator.home import Home

    while is_running(Home.find(env)):
        time.sleep(0.2)


if __name__ == "__main__":
    print(report())
