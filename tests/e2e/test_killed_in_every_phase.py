"""kill -9 of the controller in every phase, before and after its work: a delay, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.records import Phase
from tests.e2e.driver import Gpujob, nobody_serves

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
LINES = "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.05; done"
JOB = f"echo run >> $COUNT; {LINES}; mkdir o; echo whole > o/file"


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("phase", [phase.value for phase in Phase if phase is not Phase.DONE])
def test_the_next_controller_goes_on(gpujob: Gpujob, phase: str, moment: str) -> None:
    spec = gpujob.job(run=JOB, artifacts=["o/*"], env={"COUNT": str(gpujob.root / "count")})
    with nobody_serves(gpujob):
        run = gpujob.submit(spec)
    died = subprocess.run(
        [sys.executable, "-m", "tests.e2e.dying_controller", phase, moment],
        env=gpujob.environment,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert died.returncode == -9, died.stderr
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded", shown
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded"]
    assert gpujob.log(run) == b"".join(b"line %d\n" % i for i in range(1, 11))
    assert (gpujob.root / "count").read_text() == "run\n", "the job ran once"
    assert [artifact["path"] for artifact in shown["artifacts"]] == ["o/file"]
    charges = gpujob.json("cost", run)
    intervals = [(row["meter"], row["start"], row["source"]) for row in charges]
    assert len(intervals) == len(set(intervals)), "nothing is booked twice"
