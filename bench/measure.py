"""Measures whole processes: wall-clock and CPU time, medians, candidates taken in turn so that a busy moment hits all.

Knows nothing of gpujob. Figures of one table come from one call, one machine, one day, and the table says which.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

GPUJOB = str(Path(sys.executable).with_name("gpujob"))


@dataclass(frozen=True)
class Sample:
    """One process from its start to its end, its children included."""

    wall_seconds: float
    cpu_seconds: float


def once(command: Sequence[str], *, env: Mapping[str, str]) -> Sample:
    """Run it to its end; a process that fails has no figure."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    with process.stderr as stderr:
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}: {stderr.read().decode()}")
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def in_turn(
    commands: Mapping[str, Sequence[str]], *, env: Mapping[str, str], rounds: int = 11
) -> dict[str, list[Sample]]:
    """Each command once per round; the first round warms the caches and is thrown away."""
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            sample = once(command, env=env)
            if number:
                samples[name].append(sample)
    return samples


def cpu(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.cpu_seconds for sample in samples)


def wall(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.wall_seconds for sample in samples)


def spread(values: Sequence[float]) -> str:
    """Median, and the range of it all."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def clean_environment(home: Path) -> dict[str, str]:
    """This environment without anything of gpujob's, and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUJOB_")}
    return {**kept, "GPUJOB_HOME": str(home)}


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join([f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""])


def where_and_when() -> str:
    """The machine and the day, for below a table."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release()} {platform.machine()}, "
        f"{_processor()}, {os.cpu_count()} CPUs, load {load:.1f}, Python {platform.python_version()}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown processor"
