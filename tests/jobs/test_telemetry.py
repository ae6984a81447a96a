"""Telemetry: what the agent sampled comes back, nonsense does not, and a stuck GPU is told from a busy one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from jobs.telemetry import samples, summary


def sample(time: float, *gpus: dict[str, Any], **figures: Any) -> dict[str, Any]:
    machine = {"cpu_percent": 50.0, "memory_used_bytes": 4e9, "memory_total_bytes": 16e9, "disk_free_bytes": 1e11}
    return {"time": time, **machine, "load1": 1.5, **figures, "gpus": list(gpus)}


def gpu(utilization: float, power: float, **figures: Any) -> dict[str, Any]:
    known = {"index": 0, "memory_used_mb": 8000, "memory_total_mb": 24564, "temperature_c": 60}
    return {**known, "utilization": utilization, "power_watts": power, **figures}


def written(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    file = path / "telemetry"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_sample_comes_back(tmp_path: Path) -> None:
    (only,) = samples(written(tmp_path, [sample(100.0, gpu(97, 310.5), network_rx_bytes=7, network_tx_bytes=8)]))
    assert (only.time, only.cpu_percent, only.memory_used_bytes, only.load1) == (100.0, 50.0, 4e9, 1.5)
    assert (only.network_rx_bytes, only.network_tx_bytes) == (7, 8)
    assert (only.gpus[0].utilization, only.gpus[0].power_watts, only.gpus[0].memory_total_mb) == (97, 310.5, 24564)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"oops",
        b"[]",
        b"{}",
        b'{"time": null}',
        b'{"time": NaN}',
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"a":"' + b"x" * 70_000,
    ],
)
def test_a_line_that_makes_no_sense_is_left_out(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "telemetry"
    file.write_bytes(line + b'\n{"time": 5, "cpu_percent": 9}\n{"time": 6')
    assert [taken.cpu_percent for taken in samples(file)] == [9]


def test_figures_that_are_missing_or_odd_are_none(tmp_path: Path) -> None:
    odd = {"time": 1, "cpu_percent": "many", "load1": True, "gpus": [{"utilization": None}, 7, "x"]}
    (only,) = samples(written(tmp_path, [odd]))
    assert (only.cpu_percent, only.load1, only.memory_used_bytes) == (None, None, None)
    assert [(one.index, one.utilization) for one in only.gpus] == [(0, None)]
    assert summary(written(tmp_path, [{"time": 1, "gpus": "none"}])) is not None


def test_no_file_and_no_sample(tmp_path: Path) -> None:
    assert list(samples(tmp_path / "none")) == []
    assert summary(tmp_path / "none") is None


def test_means_and_peaks(tmp_path: Path) -> None:
    rows = [
        sample(0, gpu(80, 200, memory_used_mb=1000), gpu(10, 50, index=1), cpu_percent=20),
        sample(10, gpu(100, 300, memory_used_mb=9000, temperature_c=71), gpu(30, 70, index=1), cpu_percent=40),
    ]
    whole = summary(written(tmp_path, rows))
    assert whole is not None
    assert (whole.samples, whole.seconds, whole.cpu_mean_percent, whole.memory_peak_bytes) == (2, 10.0, 30.0, 4e9)
    first, second = whole.gpus
    assert (first.utilization_mean, first.utilization_max, first.memory_peak_mb) == (90, 100, 9000)
    assert (first.power_mean_watts, first.temperature_max_c) == (250, 71)
    assert (second.index, second.utilization_mean) == (1, 20)
    assert whole.hints == ()


@pytest.mark.parametrize(
    ("powers", "limit", "stuck"),
    [
        ([300] * 20, None, False),
        ([300] * 20 + [90] * 20, None, True),
        ([300] * 20 + [90] * 5, None, False),  # 50 s only
        ([90] * 40, None, False),  # nothing to compare with: may be a small GPU
        ([90] * 40, 450, True),
        ([300] * 40, 450, False),
    ],
)
def test_full_utilisation_at_low_power_is_called_stuck(
    tmp_path: Path, powers: list[float], limit: float | None, stuck: bool
) -> None:
    rows = [sample(10.0 * n, gpu(100, power, power_limit_watts=limit)) for n, power in enumerate(powers)]
    whole = summary(written(tmp_path, rows))
    assert whole is not None
    assert any("stuck" in hint for hint in whole.hints) is stuck
    assert not stuck or "at 90 W" in whole.hints[0]


def test_a_gpu_that_nobody_used_is_pointed_out(tmp_path: Path) -> None:
    whole = summary(written(tmp_path, [sample(30.0 * n, gpu(0, 20)) for n in range(20)]))
    assert whole is not None
    assert whole.hints == ("GPU 0 was used 0 % of 10 min: the job may be running on the CPU.",)
