"""Charts as inline SVG: curves over axes, and the bar of one attempt's phases.

Pure: numbers in, a string out. Colours come from the page's style sheet by class; without one everything is drawn in
the text's colour. Every label is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape

from orchestrator.reports import words
from orchestrator.reports.scale import Range, share, ticks, time_ticks

Dot = tuple[float, float]
Format = Callable[[float], str]

MOST_DOTS = 500
_WIDTH, _HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 20
_FEW_DOTS = 40
_SHADES = (1.0, 0.55, 0.75, 0.35, 0.85, 0.45, 0.65, 0.3)
_LEAST_PERCENT = 0.4


@dataclass(frozen=True)
class Curve:
    """One line of a chart, in pieces where there is a gap. Spots are dots for themselves; a level has no dots."""

    label: str
    pieces: Sequence[Sequence[Dot]]
    is_spots: bool = False
    is_level: bool = False


@dataclass(frozen=True)
class Axes:
    """How numbers are read. `y_range` widens to what the curves need; `marks` are places on x worth a thin line."""

    x_format: Format = words.number
    y_format: Format = words.number
    y_range: Range | None = None
    x_is_seconds: bool = False
    x_is_whole: bool = False
    marks: Sequence[float] = field(default_factory=tuple)


@dataclass(frozen=True)
class Block:
    """A stretch of an attempt's bar, in seconds from the bar's start."""

    label: str
    css_class: str
    start: float
    seconds: float


def thinned(dots: Sequence[Dot], most: int = MOST_DOTS) -> list[Dot]:
    """At most `most` dots that keep every bucket's least and greatest value, and both ends."""
    finite = [(x, y) for x, y in dots if math.isfinite(x) and math.isfinite(y)]
    if len(finite) <= most:
        return finite
    inner = finite[1:-1]
    buckets = (most - 2) // 2
    kept = [finite[0]]
    for bucket in range(buckets):
        piece = range(len(inner) * bucket // buckets, len(inner) * (bucket + 1) // buckets)
        ends = {min(piece, key=lambda place: inner[place][1]), max(piece, key=lambda place: inner[place][1])}
        kept += [inner[place] for place in sorted(ends)]
    return [*kept, finite[-1]]


def line_chart(curves: Sequence[Curve], *, title: str, axes: Axes) -> str:
    """Curves over one pair of axes. Empty when there is nothing to draw."""
    drawn = [replace(curve, pieces=[piece for dots in curve.pieces if (piece := thinned(dots))]) for curve in curves]
    dots = [dot for curve in drawn for piece in curve.pieces for dot in piece]
    if not dots:
        return ""
    xs = _range([x for x, _ in dots])
    ys = _range([*(y for _, y in dots), *(axes.y_range or ())])
    if axes.y_range is None:
        ys = _widened(ys)
    parts = [*_grid(xs, ys, axes)]
    for index, curve in enumerate(drawn):
        parts += _curve(curve, xs, ys, strength=1.0 if curve.is_spots else shade(index), axes=axes)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def bar(blocks: Sequence[Block], *, seconds: float) -> str:
    """Phases in a row, to the scale of `seconds` for the whole width; too short ones are made just visible."""
    parts = []
    for block in blocks:
        width = max(100 * block.seconds / seconds if seconds > 0 else 100.0, _LEAST_PERCENT)
        left = min(100 * block.start / seconds if seconds > 0 else 0.0, 100 - width)
        label = escape(f"{block.label} {words.duration(block.seconds)}")
        parts.append(
            f'<rect class="{escape(block.css_class)}" x="{max(left, 0.0):.3f}%" width="{min(width, 100.0):.3f}%" '
            f'height="100%"><title>{label}</title></rect>'
        )
    described = escape(", ".join(f"{block.label} {words.duration(block.seconds)}" for block in blocks))
    return f'<svg class="bar" width="100%" height="16" role="img" aria-label="{described}">{"".join(parts)}</svg>'


def shade(index: int) -> float:
    """How strong the curve of this number is drawn: curves differ in opacity, not in colour."""
    return _SHADES[index % len(_SHADES)]


def short_time(seconds: float) -> str:
    """A tick of a time axis: 0, 30s, 5m, 1h30."""
    whole = round(seconds)
    if whole >= 3600:
        minutes = whole % 3600 // 60
        return f"{whole // 3600}h{minutes:02d}" if minutes else f"{whole // 3600}h"
    if whole >= 60:
        return f"{whole // 60}m{whole % 60:02d}" if whole % 60 else f"{whole // 60}m"
    return f"{whole}s" if whole else "0"


def _range(numbers: Sequence[float]) -> Range:
    return min(numbers), max(numbers)


def _widened(ys: Range) -> Range:
    """A little room, and a constant in the middle. A range that starts just above zero starts at zero."""
    low, high = ys
    room = (high / 20 - low / 20) or abs(high) / 10 or 1.0
    bottom = 0.0 if 0 <= low < high / 4 else low - room
    top = high + room
    return bottom if math.isfinite(bottom) else low, top if math.isfinite(top) else high


def _grid(xs: Range, ys: Range, axes: Axes) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in ticks(*ys, about=3):
        y = _y(value, ys)
        yield f'<line class="grid" stroke="currentColor" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escape(axes.y_format(value))}</text>'
    for value in axes.marks:
        if xs[0] < value < xs[1]:
            x = _x(value, xs)
            yield f'<line class="mark" stroke="currentColor" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
    for value in _x_ticks(xs, axes):
        x = _x(value, xs)
        anchor = "end" if x > right - 12 else "middle"
        label = escape(axes.x_format(value))
        yield f'<text x="{min(x, right):.1f}" y="{_HEIGHT - 5}" text-anchor="{anchor}">{label}</text>'


def _x_ticks(xs: Range, axes: Axes) -> list[float]:
    if axes.x_is_seconds:
        return time_ticks(*xs, about=4)
    return ticks(*xs, about=4, least=1.0 if axes.x_is_whole else 0.0)


def _curve(curve: Curve, xs: Range, ys: Range, *, strength: float, axes: Axes) -> Iterator[str]:
    count = sum(len(piece) for piece in curve.pieces)
    faint = "" if strength == 1.0 else f' opacity="{strength}"'
    for piece in curve.pieces:
        places = [(_x(x, xs), _y(y, ys)) for x, y in piece]
        if len(places) > 1:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            yield f'<polyline class="curve" stroke="currentColor" fill="none"{faint} points="{line}"/>'
        if len(places) == 1 or (count <= _FEW_DOTS and not curve.is_level):
            for (x, y), (at, value) in zip(places, piece, strict=True):
                kind = "spot" if curve.is_spots else "dot"
                read = escape(f"{curve.label} {axes.y_format(value)} at {axes.x_format(at)}".strip())
                yield (
                    f'<circle class="{kind}" fill="currentColor"{faint} cx="{x:.1f}" cy="{y:.1f}" r="2.2">'
                    f"<title>{read}</title></circle>"
                )


def _x(value: float, xs: Range) -> float:
    return _LEFT + share(value, xs) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, ys: Range) -> float:
    return _HEIGHT - _BOTTOM - share(value, ys) * (_HEIGHT - _TOP - _BOTTOM)
