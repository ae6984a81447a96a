"""A command that is run several times: what its points say of each time, also when the third of them fails."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from jobs import repeats
from jobs.metrics import MetricsFile, points

JOB = """\
echo "loss=$GPUJOB_REPEAT.5"
echo '{"step": 1, "rate": 1}' >>"$GPUJOB_METRICS"
echo '{"step": 2, "rate": '$((GPUJOB_REPEAT * 100))'}' >>"$GPUJOB_METRICS"
echo ':::MLLOG {"key": "throughput", "value": '$((GPUJOB_REPEAT * 7))'}'
# a comment in the last line"""
PATTERNS = {"loss": "loss=([0-9.]+)", repeats.MARK: repeats.PATTERN}

pytestmark = pytest.mark.process


def run(folder: Path, job: str, *, warmup: int = 1, counted: int = 2) -> int:
    """As the agent does it: a shell, its output as the log."""
    env = {**os.environ, "GPUJOB_METRICS": str(folder / "metrics")}
    with (folder / "log").open("wb") as log:
        script = repeats.wrapped(job, warmup=warmup, repeats=counted)
        return subprocess.run(["sh", "-c", script], env=env, stdout=log, check=False).returncode


def measured(folder: Path, *, attempt: int = 1, warmup: int = 1) -> list[dict[str, float]]:
    MetricsFile(folder / "all").advance(attempt, folder / "log", folder / "metrics", PATTERNS, final=True, now=9.0)
    return repeats.read(points(folder / "all"), attempt=attempt, warmup=warmup)


def test_each_time_but_the_warm_up_has_its_last_values_from_every_source(tmp_path: Path) -> None:
    assert run(tmp_path, JOB) == 0
    found = measured(tmp_path)
    assert [(one["loss"], one["rate"], one["throughput"]) for one in found] == [(2.5, 200, 14), (3.5, 300, 21)]
    assert all(0 <= one[repeats.WALL_SECONDS] < 60 for one in found)


def test_how_long_a_time_took(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    rows = [{"time": 100, repeats.MARK: 1}, {"time": 103.5, repeats.END: 1}]
    (tmp_path / "metrics").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert measured(tmp_path, warmup=0) == [{repeats.WALL_SECONDS: 3.5}]


def test_the_first_that_fails_ends_it_with_its_exit_code(tmp_path: Path) -> None:
    assert run(tmp_path, f'{JOB}\n[ "$GPUJOB_REPEAT" != 2 ] || exit 7', warmup=0, counted=3) == 7
    assert [one["rate"] for one in measured(tmp_path, warmup=0)] == [100]


def test_a_step_that_fails_under_set_e_is_not_passed_over(tmp_path: Path) -> None:
    assert run(tmp_path, "set -e\nfalse\necho never") == 1
    assert b"never" not in (tmp_path / "log").read_bytes()


def test_only_the_attempt_that_is_asked_for_counts(tmp_path: Path) -> None:
    run(tmp_path, JOB)
    measured(tmp_path, attempt=1)
    assert repeats.read(points(tmp_path / "all"), attempt=2, warmup=0) == []
