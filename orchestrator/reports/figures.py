"""A run's small charts for the report: its metrics, and what its machines were doing.

Knows the files of metrics and telemetry, and HTML. Every name comes from a job or a machine and is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

from jobs import metrics, telemetry
from jobs.metrics import Point
from jobs.telemetry import GpuSample, Sample
from orchestrator.reports import words
from orchestrator.reports.svg import Axes, Curve, Dot, line_chart, shade, short_time

MOST_CHARTS = 60
_MB = 2**20
_GAP_SECONDS = 120.0


def metric_cards(path: Path) -> list[str]:
    """One card for each metric, in the order in which they first appeared."""
    reported = metrics.series(path)
    newest = metrics.last(path)
    cards = [_metric_card(name, points, newest[name]) for name, points in list(reported.items())[:MOST_CHARTS]]
    if len(reported) > MOST_CHARTS:
        cards.append(f'<p class="more">and {len(reported) - MOST_CHARTS:,} more metrics in metrics.jsonl</p>')
    return cards


def machine_cards(files: Mapping[int, Path]) -> list[str]:
    """Charts of GPUs, CPU, memory and network over the time of all attempts."""
    of_attempts = {number: taken for number, file in files.items() if (taken := telemetry.evenly(file))}
    if not of_attempts:
        return []
    origin = min(taken[0].time for taken in of_attempts.values())
    charts = (_gpu_cards(of_attempts, origin), _host_cards(of_attempts, origin))
    return [card for cards in charts for card in cards]


def hints(files: Mapping[int, Path]) -> list[str]:
    """Sentences about what looked wrong, with the attempt where there were several."""
    said = []
    for number, file in files.items():
        summary = telemetry.summary(file)
        prefix = f"Attempt {number}: " if len(files) > 1 else ""
        said += [prefix + hint for hint in (summary.hints if summary else ())]
    return said


def card(title: str, value: str, note: str, body: str) -> str:
    """A titled box; title, value and note are plain text, the body is HTML."""
    name = f'<span class="name" title="{escape(title)}">{escape(title)}</span>'
    told = f'<span class="value">{escape(value)}</span><span class="note">{escape(note)}</span>'
    return f'<figure class="card"><figcaption>{name}{told}</figcaption>{body}</figure>'


def _metric_card(name: str, points: Sequence[Point], newest: float) -> str:
    title = words.one_line(name)
    if len(points) == 1:
        return card(title, words.number(newest), "one value", "")
    counted = all(point.step is not None for point in points)
    steps = [point.step or 0.0 for point in points] if counted else [float(n) for n in range(1, len(points) + 1)]
    dots = [(step, point.value) for step, point in zip(steps, points, strict=True)]
    values = [point.value for point in points]
    whole = all(step == int(step) for step in steps)
    axes = Axes(marks=_new_attempts(points, dots), x_is_whole=whole)
    note = f"{words.number(min(values))} to {words.number(max(values))}"
    return card(title, words.number(newest), note, line_chart([Curve("", [dots])], title=title, axes=axes))


def _new_attempts(points: Sequence[Point], dots: Sequence[Dot]) -> list[float]:
    pairs = zip(pairwise(points), dots[1:], strict=True)
    return [x for (before, after), (x, _) in pairs if after.attempt > before.attempt][:20]


Figure = Callable[[GpuSample], float | None]
Taken = Mapping[int, Sequence[Sample]]


def _gpu_cards(of_attempts: Taken, origin: float) -> Iterator[str]:
    capacity = max((gpu.memory_total_mb or 0 for sample in _all(of_attempts) for gpu in sample.gpus), default=0)
    memory_range = (0.0, capacity * _MB / 1e9) if capacity else (0.0, 0.0)
    shown: tuple[tuple[str, str, Figure, tuple[float, float] | None], ...] = (
        ("GPU utilisation", "%", lambda gpu: gpu.utilization, (0.0, 100.0)),
        ("GPU memory", " GB", lambda gpu: _scaled(gpu.memory_used_mb, _MB / 1e9), memory_range),
        ("GPU power", " W", lambda gpu: gpu.power_watts, (0.0, 0.0)),
        ("GPU temperature", " °C", lambda gpu: gpu.temperature_c, None),
    )
    indices = sorted({gpu.index for sample in _all(of_attempts) for gpu in sample.gpus})
    for title, unit, figure, limits in shown:
        curves = [_gpu_curve(of_attempts, origin, index, figure) for index in indices]
        yield from _card_of(title, unit, curves, limits)


def _gpu_curve(of_attempts: Taken, origin: float, index: int, figure: Figure) -> Curve:
    def of_this(sample: Sample) -> float | None:
        return next((figure(gpu) for gpu in sample.gpus if gpu.index == index), None)

    return _curve(f"GPU {index}", of_attempts, origin, of_this)


def _host_cards(of_attempts: Taken, origin: float) -> Iterator[str]:
    memory = max((sample.memory_total_bytes or 0 for sample in _all(of_attempts)), default=0) / 1e9
    cpu = _curve("CPU", of_attempts, origin, lambda sample: sample.cpu_percent)
    used = _curve("memory", of_attempts, origin, lambda sample: _scaled(sample.memory_used_bytes, 1e-9))
    yield from _card_of("CPU", "%", [cpu], (0.0, 100.0))
    yield from _card_of("Memory", " GB", [used], (0.0, memory))
    received = _rate("received", of_attempts, origin, lambda sample: sample.network_rx_bytes)
    sent = _rate("sent", of_attempts, origin, lambda sample: sample.network_tx_bytes)
    yield from _card_of("Network", " MB/s", [received, sent], (0.0, 0.1))


def _card_of(title: str, unit: str, curves: Sequence[Curve], limits: tuple[float, float] | None) -> Iterator[str]:
    values = [value for curve in curves for piece in curve.pieces for _, value in piece]
    if not values:
        return
    mean = words.number(round(sum(values) / len(values), 1))
    axes = Axes(x_format=short_time, y_range=limits, x_is_seconds=True)
    chart = line_chart(curves, title=f"{title}{unit} over time", axes=axes)
    note = f"on average; {words.number(round(max(values), 1))}{unit} at most"
    yield card(title, f"{mean}{unit}", note, chart + _legend([curve.label for curve in curves]))


def _legend(labels: Sequence[str]) -> str:
    if len(labels) < 2:
        return ""
    items = (
        f'<li><i class="work" style="opacity:{shade(index)}"></i>{escape(label)}</li>'
        for index, label in enumerate(labels)
    )
    return f'<ul class="phases">{"".join(items)}</ul>'


def _curve(label: str, of_attempts: Taken, origin: float, figure: Callable[[Sample], float | None]) -> Curve:
    pieces: list[list[Dot]] = []
    for taken in of_attempts.values():
        pieces += _pieces((sample.time - origin, value) for sample in taken if (value := figure(sample)) is not None)
    return Curve(label, pieces)


def _rate(label: str, of_attempts: Taken, origin: float, figure: Callable[[Sample], float | None]) -> Curve:
    """Megabytes per second from a counter; a counter that went back has been reset and says nothing."""
    pieces: list[list[Dot]] = []
    for taken in of_attempts.values():
        dots = []
        for before, after in pairwise(taken):
            old, new, seconds = figure(before), figure(after), after.time - before.time
            if old is not None and new is not None and new >= old and seconds > 0:
                dots.append((after.time - origin, (new - old) / seconds / 1e6))
        pieces += _pieces(dots)
    return Curve(label, pieces)


def _pieces(dots: Iterable[Dot]) -> list[list[Dot]]:
    """Dots in order of time, broken where nothing was heard for long."""
    pieces: list[list[Dot]] = []
    for dot in sorted(dots):
        if not pieces or dot[0] - pieces[-1][-1][0] > _GAP_SECONDS:
            pieces.append([])
        pieces[-1].append(dot)
    return pieces


def _all(of_attempts: Taken) -> Iterator[Sample]:
    for taken in of_attempts.values():
        yield from taken


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
