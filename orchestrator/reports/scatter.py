"""Dots over two axes as inline SVG, the best of them numbered and joined by a staircase: time against money.

Pure: numbers in, a string out. Colours come from the page's style sheet by class. Every label is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from orchestrator.reports.scale import Range, share, ticks, time_ticks

Format = Callable[[float], str]
_Box = tuple[float, float, float, float]  # left, top, right, bottom

_WIDTH, _HEIGHT = 360, 250
_RIGHT, _TOP, _BOTTOM = 14, 22, 34
_LEAST_LEFT = 46.0
_LOG_FROM = 8.0  # a range that is so many times its low end is drawn by powers
_MOST_TICKS = 5
_TIMES = [unit * count for unit in (1.0, 60.0) for count in (1, 2, 5, 10, 20, 30)]
_TIMES += [3600.0 * hours for hours in (1, 2, 4, 8, 12, 24, 48, 120, 240, 480, 1200)]
_LETTER, _LINE = 6.2, 11.0  # room of a label, in units of the picture


@dataclass(frozen=True)
class Dot:
    """`number` and `label` are of the best only; `title` is what hovering shows."""

    x: float
    y: float
    title: str
    number: int | None = None
    label: str = ""


@dataclass(frozen=True)
class Axis:
    """What an axis is called, and how its numbers are read."""

    title: str
    format: Format
    is_seconds: bool = False


def scatter(dots: Sequence[Dot], *, title: str, x: Axis, y: Axis) -> str:
    """Empty when there is nothing to draw. The numbered dots are joined in the order of x."""
    drawn = [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
    if not drawn:
        return ""
    up = _Scale.of([dot.y for dot in drawn], _HEIGHT - _BOTTOM, _TOP)
    left = max(_LEAST_LEFT, 10 + max(len(y.format(value)) for value in up.ticks(y)) * _LETTER)
    across = _Scale.of([dot.x for dot in drawn], left, _WIDTH - _RIGHT)
    best = sorted((dot for dot in drawn if dot.number is not None), key=lambda dot: dot.x)
    parts = [*_grid(across, up, x, y), *_staircase(best, across, up)]
    parts += [_circle(dot, across, up) for dot in drawn if dot.number is None]
    parts += [_circle(dot, across, up) for dot in best]
    parts += _labels(best, across, up)
    return (
        f'<svg class="chart scatter" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


@dataclass(frozen=True)
class _Scale:
    """From a value to a place of the picture."""

    low: float
    high: float
    is_log: bool
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        """With a little room at both ends. What begins near nothing begins at nothing."""
        low, high = min(values), max(values)
        if low > 0 and high / low > _LOG_FROM:
            return cls(low / 1.3, high * 1.3, True, start, end)
        room = (high - low) / 12 or abs(high) / 10 or 1.0
        return cls(0.0 if 0 <= low < high / 2 else max(low - room, min(low, 0.0)), high + room, False, start, end)

    def at(self, value: float) -> float:
        scale: Range = (self.low, self.high)
        if self.is_log:
            value, scale = math.log(value), (math.log(self.low), math.log(self.high))
        return self.start + share(value, scale) * (self.end - self.start)

    def ticks(self, axis: Axis) -> list[float]:
        """Round numbers; of times round minutes and hours."""
        if not self.is_log:
            found = (time_ticks if axis.is_seconds else ticks)(self.low, self.high, about=4)
        else:
            found = _TIMES if axis.is_seconds else _powers(self.low)
        found = [value for value in found if self.low <= value <= self.high]
        return found[:: math.ceil(len(found) / _MOST_TICKS)] if found else [self.low, self.high]


def _powers(low: float) -> list[float]:
    first = math.floor(math.log10(low))
    return [factor * 10.0**power for power in range(first, first + 12) for factor in (1, 2, 5)]


def _grid(across: _Scale, up: _Scale, x: Axis, y: Axis) -> Iterator[str]:
    left, right, bottom = across.start, across.end, _HEIGHT - _BOTTOM
    for value in up.ticks(y):
        place = up.at(value)
        ends = f'x1="{left:.1f}" x2="{right:.1f}" y1="{place:.1f}" y2="{place:.1f}"'
        yield f'<line class="grid" stroke="currentColor" {ends}/>'
        yield f'<text x="{left - 6:.1f}" y="{place + 3.5:.1f}" text-anchor="end">{escape(y.format(value))}</text>'
    for value in across.ticks(x):
        place = across.at(value)
        yield f'<line class="grid" stroke="currentColor" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text x="{place:.1f}" y="{bottom + 13}" text-anchor="middle">{escape(x.format(value))}</text>'
    yield f'<text x="{left:.1f}" y="12" text-anchor="start">{escape(y.title)}</text>'
    yield f'<text x="{right:.1f}" y="{_HEIGHT - 6}" text-anchor="end">{escape(x.title)}</text>'


def _staircase(best: Sequence[Dot], across: _Scale, up: _Scale) -> Iterator[str]:
    """What may be spent buys this time, and no less: nothing lies below the line."""
    if not best:
        return
    places = [(across.at(best[0].x), _TOP - 4.0)]
    for dot in best:
        places += [(across.at(dot.x), places[-1][1]), (across.at(dot.x), up.at(dot.y))]
    places.append((across.end, places[-1][1]))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline class="curve" stroke="currentColor" fill="none" points="{line}"/>'


def _circle(dot: Dot, across: _Scale, up: _Scale) -> str:
    kind, size = ('class="spot"', 4.2) if dot.number is not None else ('class="dot" opacity="0.4"', 2.6)
    return (
        f'<circle {kind} fill="currentColor" cx="{across.at(dot.x):.1f}" cy="{up.at(dot.y):.1f}" r="{size}">'
        f"<title>{escape(dot.title)}</title></circle>"
    )


def _labels(best: Sequence[Dot], across: _Scale, up: _Scale) -> Iterator[str]:
    """Number and label where there is room for both, else the number. Below the line nothing is in the way."""
    taken: list[_Box] = []
    for dot in best:
        x, y = across.at(dot.x), up.at(dot.y)
        texts = (f"{dot.number} {dot.label}".strip(), f"{dot.number}")
        places = [(text, box) for text in texts for box in _boxes(text, x, y, across.start)]
        text, box = next(
            ((text, box) for text, box in places if not any(_overlap(box, other) for other in taken)), places[-1]
        )
        taken.append(box)
        yield f'<text class="best" x="{box[0]:.1f}" y="{box[3]:.1f}">{escape(text)}</text>'


def _boxes(text: str, x: float, y: float, edge: float) -> Iterator[_Box]:
    """Where a label of a dot may stand: below it to the left, else above it to the right, as far as the edges allow."""
    wide, right = len(text) * _LETTER, _WIDTH - 2.0
    if x - 6 - wide >= edge + 4:
        yield x - 6 - wide, y + 3, x - 6, y + 3 + _LINE
    start = min(x + 6, right - wide)
    yield start, y - 5 - _LINE, start + wide, y - 5


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
