"""The month's scripts write what a real shell writes that runs the wrapped command."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from jobs import repeats
from tests.fakes.fake_machine import Script
from tests.month.measured import INFER, REPEATS, TRAIN, WARMUP, Measurement, script

pytestmark = pytest.mark.process

JOBS = {
    TRAIN: """echo '{"samples_per_second": 7.5}' >>"$GPUJOB_METRICS\"""",
    INFER: "echo 'latency 7.5 ms'",
}


@pytest.mark.parametrize("task", [TRAIN, INFER])
def test_log_and_metrics_are_those_of_the_wrapped_command(task: str, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    command = repeats.wrapped(JOBS[task], warmup=WARMUP, repeats=REPEATS)
    log = subprocess.check_output(["sh", "-c", command], env={**os.environ, "GPUJOB_METRICS": str(metrics)})
    written = script(Measurement("a", 1, task, "t4"), began=1000.0, facts={})
    assert without_figures(whole(written, "log")) == without_figures(log)
    assert without_figures(whole(written, "metrics")) == without_figures(metrics.read_bytes())


def whole(written: Script, stream: str) -> bytes:
    parts = sorted(getattr(written, stream), key=lambda part: float(part[0]))
    return b"".join(content for _, content in parts)


def without_figures(content: bytes) -> bytes:
    """What is measured, and when, differs each time."""
    return re.sub(rb'("time": |"samples_per_second": |latency )[0-9.]+', rb"\1N", content)
