"""Telemetry of a machine: the agent's samples of CPU, memory, disk, network and GPUs, read back and summed up.

Owns the reader's side of telemetry.jsonl (designs/0002). Trusts nothing: a line that makes no sense is left out, and
a figure that is missing is None. Knows no cloud, no run and no store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LONGEST_LINE = 64 * 1024
_MOST_GPUS = 64
_MOST_ROWS = 1_000_000  # samples and GPUs in them: a month of one GPU, and some 200 MB
_MOST = 1e18  # nothing that a machine measures is more
_STUCK_UTILIZATION = 95.0  # percent
_STUCK_POWER = 0.4  # of the power limit, or of the most that this GPU drew
_STUCK_SECONDS = 120.0
_UNUSED_UTILIZATION = 5.0
_UNUSED_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment. Megabytes are nvidia-smi's (2**20)."""

    index: int
    utilization: float | None  # percent of the time in which any kernel ran; says nothing about how much work was done
    memory_used_mb: float | None
    memory_total_mb: float | None
    power_watts: float | None
    temperature_c: float | None
    power_limit_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A machine at one moment. Network bytes count up from the boot."""

    time: float  # seconds since the epoch, by the machine's clock
    cpu_percent: float | None
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    disk_free_bytes: float | None
    load1: float | None
    network_rx_bytes: float | None
    network_tx_bytes: float | None
    gpus: tuple[GpuSample, ...]


@dataclass(frozen=True)
class GpuSummary:
    """One GPU over all samples."""

    index: int
    utilization_mean: float | None
    utilization_max: float | None
    memory_peak_mb: float | None
    memory_total_mb: float | None
    power_mean_watts: float | None
    temperature_max_c: float | None


@dataclass(frozen=True)
class Summary:
    """A machine over all samples. `hints` are sentences about what looks wrong."""

    samples: int
    seconds: float
    cpu_mean_percent: float | None
    memory_peak_bytes: float | None
    memory_total_bytes: float | None
    gpus: tuple[GpuSummary, ...]
    hints: tuple[str, ...]


def samples(path: Path) -> Iterator[Sample]:
    """Every sample in the order written."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(_LONGEST_LINE):
            if (sample := _sample(line)) is not None:
                yield sample


def evenly(path: Path) -> list[Sample]:
    """Samples over the whole time: all, or every second, fourth and so on of a file too long to be kept in memory."""
    taken: list[Sample] = []
    every, rows = 1, 0
    for number, sample in enumerate(samples(path)):
        if number % every:
            continue
        taken.append(sample)
        rows += 1 + len(sample.gpus)
        if rows > _MOST_ROWS:
            taken, every = taken[::2], every * 2
            rows = sum(1 + len(one.gpus) for one in taken)
    return taken


def summary(path: Path) -> Summary | None:
    """Means, peaks and hints over the samples, of a very long file over every nth; None when there is no sample."""
    taken = evenly(path)
    if not taken:
        return None
    tracks = _tracks(taken)
    return Summary(
        samples=len(taken),
        seconds=max(0.0, taken[-1].time - taken[0].time),
        cpu_mean_percent=_mean(sample.cpu_percent for sample in taken),
        memory_peak_bytes=_most(sample.memory_used_bytes for sample in taken),
        memory_total_bytes=_most(sample.memory_total_bytes for sample in taken),
        gpus=tuple(_gpu_summary(index, [gpu for _, gpu in track]) for index, track in tracks.items()),
        hints=tuple(hint for index, track in tracks.items() for hint in _hints(index, track)),
    )


_Track = list[tuple[float, GpuSample]]  # one GPU over time


def _sample(line: bytes) -> Sample | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or (time := _figure(row, "time")) is None:
        return None
    gpus = row.get("gpus")
    return Sample(
        time=time,
        cpu_percent=_figure(row, "cpu_percent"),
        memory_used_bytes=_figure(row, "memory_used_bytes"),
        memory_total_bytes=_figure(row, "memory_total_bytes"),
        disk_free_bytes=_figure(row, "disk_free_bytes"),
        load1=_figure(row, "load1"),
        network_rx_bytes=_figure(row, "network_rx_bytes"),
        network_tx_bytes=_figure(row, "network_tx_bytes"),
        gpus=tuple(_gpus(gpus)) if isinstance(gpus, list) else (),
    )


def _gpus(rows: Sequence[Any]) -> Iterator[GpuSample]:
    for position, row in enumerate(rows[:_MOST_GPUS]):
        if not isinstance(row, dict):
            continue
        index = _figure(row, "index")
        yield GpuSample(
            index=position if index is None or not 0 <= index < _MOST_GPUS else int(index),
            utilization=_figure(row, "utilization"),
            memory_used_mb=_figure(row, "memory_used_mb"),
            memory_total_mb=_figure(row, "memory_total_mb"),
            power_watts=_figure(row, "power_watts"),
            temperature_c=_figure(row, "temperature_c"),
            power_limit_watts=_figure(row, "power_limit_watts"),
        )


def _figure(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        figure = float(value)
    except OverflowError:
        return None
    return figure if abs(figure) <= _MOST else None


def _tracks(taken: Iterable[Sample]) -> dict[int, _Track]:
    tracks: dict[int, _Track] = {}
    for sample in taken:
        for gpu in sample.gpus:
            tracks.setdefault(gpu.index, []).append((sample.time, gpu))
    return dict(sorted(tracks.items()))


def _gpu_summary(index: int, track: Sequence[GpuSample]) -> GpuSummary:
    return GpuSummary(
        index=index,
        utilization_mean=_mean(gpu.utilization for gpu in track),
        utilization_max=_most(gpu.utilization for gpu in track),
        memory_peak_mb=_most(gpu.memory_used_mb for gpu in track),
        memory_total_mb=_most(gpu.memory_total_mb for gpu in track),
        power_mean_watts=_mean(gpu.power_watts for gpu in track),
        temperature_max_c=_most(gpu.temperature_c for gpu in track),
    )


def _hints(index: int, track: _Track) -> Iterator[str]:
    yield from _stuck(index, track)
    used = _mean(gpu.utilization for _, gpu in track)
    seconds = track[-1][0] - track[0][0]
    if used is not None and used < _UNUSED_UTILIZATION and seconds >= _UNUSED_SECONDS:
        yield f"GPU {index} was used {used:.0f} % of {_minutes(seconds)}: the job may be running on the CPU."


def _stuck(index: int, track: _Track) -> Iterator[str]:
    """Full utilisation at low power: kernels spin, often in NCCL, and no work is done."""
    limit = _most(gpu.power_limit_watts for _, gpu in track)
    most = limit or _most(gpu.power_watts for _, gpu in track)
    if not most:
        return
    longest, watts = _longest_stretch(track, most * _STUCK_POWER)
    if longest >= _STUCK_SECONDS:
        measure = f"a limit of {most:.0f} W" if limit else f"the {most:.0f} W that it drew at most"
        yield (
            f"GPU {index} showed full utilisation at {watts:.0f} W for {_minutes(longest)}, far below {measure}: "
            "it may have been stuck (waiting in NCCL, for example) and not working."
        )


def _longest_stretch(track: _Track, low_power: float) -> tuple[float, float]:
    """Seconds of the longest stretch at full utilisation and low power, and its mean power."""
    longest, watts = 0.0, 0.0
    began, powers, count = 0.0, 0.0, 0
    for time, gpu in track:
        busy = gpu.utilization is not None and gpu.utilization >= _STUCK_UTILIZATION
        if not busy or gpu.power_watts is None or gpu.power_watts > low_power:
            count = 0
            continue
        began, powers = (began, powers) if count else (time, 0.0)
        powers, count = powers + gpu.power_watts, count + 1
        if time - began > longest:
            longest, watts = time - began, powers / count
    return longest, watts


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _mean(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return math.fsum(known) / len(known) if known else None


def _most(figures: Iterable[float | None]) -> float | None:
    return max((figure for figure in figures if figure is not None), default=None)
