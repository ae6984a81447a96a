"""Time against money as a picture: a dot for each machine, and the line of those that nothing beats in both.

Pure: numbers in, inline SVG out. Dots have numbers, so that names of any length stand beside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from orchestrator.reports.scale import Range, share, ticks, time_ticks

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 38
_FAR = 20.0  # times: beyond that a scale is logarithmic
_ROOM = 0.08
_AROUND = ((9, -6), (-9, -6), (0, -9), (11, 4), (-11, 4), (9, 14), (-9, 14), (0, 17))  # where a number may stand


@dataclass(frozen=True)
class Spot:
    """One machine. `seconds` and `usd` are more than nothing."""

    number: int
    label: str
    seconds: float
    usd: float
    is_best: bool


@dataclass(frozen=True)
class _Axis:
    """Where a value stands on one axis, from `start` to `end` of the picture."""

    values: Range
    start: float
    end: float
    is_time: bool = False

    @property
    def is_log(self) -> bool:
        return self.values[1] > _FAR * self.values[0]

    def at(self, value: float) -> float:
        low, high = self._range()
        here = math.log(value) if self.is_log else value
        return self.start + share(here, (low, high)) * (self.end - self.start)

    def ticks(self) -> list[float]:
        low, high = self._range()
        if not self.is_log:
            return time_ticks(low, high, about=4) if self.is_time and high - low > 4 else ticks(low, high, about=4)
        powers = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [factor * 10.0**power for power in powers for factor in factors]
            found = [value for value in found if low <= math.log(value) <= high]
            if len(found) <= 5:
                break
        return found[:: max(1, len(found) // 4)]

    def _range(self) -> Range:
        low, high = map(math.log, self.values) if self.is_log else self.values
        room = (high - low) * _ROOM or abs(high) / 10 or 1.0
        return low - room, high + room


def picture(
    spots: Sequence[Spot], *, title: str, x_format: Callable[[float], str], y_format: Callable[[float], str]
) -> str:
    """Time to the right, money upwards: the lower left is the best. Empty for less than two machines."""
    if len(spots) < 2:
        return ""
    seconds, usd = [spot.seconds for spot in spots], [spot.usd for spot in spots]
    xs = _Axis((min(seconds), max(seconds)), _LEFT, _WIDTH - _RIGHT, is_time=True)
    ys = _Axis((min(usd), max(usd)), _HEIGHT - _BOTTOM, _TOP)
    parts = [*_grid(xs, ys, x_format, y_format), _line(spots, xs, ys)]
    parts += [_dot(spot, xs, ys, f"{x_format(spot.seconds)}, {y_format(spot.usd)}") for spot in spots]
    parts += _numbers(spots, xs, ys)
    return (
        f'<svg class="frontier" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _grid(xs: _Axis, ys: _Axis, x_format: Callable[[float], str], y_format: Callable[[float], str]) -> Iterator[str]:
    for value in ys.ticks():
        y = ys.at(value)
        yield f'<line class="grid" stroke="currentColor" x1="{xs.start}" x2="{xs.end}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{xs.start - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(y_format(value))}</text>'
    for value in xs.ticks():
        x = xs.at(value)
        yield f'<line class="grid" stroke="currentColor" x1="{x:.1f}" x2="{x:.1f}" y1="{ys.end}" y2="{ys.start}"/>'
        anchor = "end" if x > xs.end - 20 else "middle"
        yield f'<text x="{x:.1f}" y="{ys.start + 15}" text-anchor="{anchor}">{escape(x_format(value))}</text>'
    yield f'<text x="{xs.end}" y="{_HEIGHT - 6}" text-anchor="end">time: faster to the left</text>'
    yield f'<text x="{xs.start}" y="{_HEIGHT - 6}">money: cheaper below</text>'


def _line(spots: Sequence[Spot], xs: _Axis, ys: _Axis) -> str:
    best = sorted((spot for spot in spots if spot.is_best), key=lambda spot: spot.seconds)
    line = " ".join(f"{xs.at(spot.seconds):.1f},{ys.at(spot.usd):.1f}" for spot in best)
    return f'<polyline class="curve" stroke="currentColor" fill="none" points="{line}"/>' if len(best) > 1 else ""


def _dot(spot: Spot, xs: _Axis, ys: _Axis, read: str) -> str:
    look = 'class="dot" fill="currentColor"' if spot.is_best else 'fill="none" stroke="currentColor"'
    return (
        f'<circle {look} cx="{xs.at(spot.seconds):.1f}" cy="{ys.at(spot.usd):.1f}" r="4">'
        f"<title>{escape(f'{spot.label}: {read}')}</title></circle>"
    )


def _numbers(spots: Sequence[Spot], xs: _Axis, ys: _Axis) -> Iterator[str]:
    """Each beside its dot, where nothing else stands as far as that can be."""
    taken = [(xs.at(spot.seconds), ys.at(spot.usd) + 4) for spot in spots]
    for spot in spots:
        x, y = xs.at(spot.seconds), ys.at(spot.usd)
        places = [(x + right, y + down) for right, down in _AROUND]
        free = [place for place in places if all(math.dist(place, other) > 10 for other in taken)]
        place = (free or places)[0]
        taken.append(place)
        look = ' class="best"' if spot.is_best else ""
        yield f'<text{look} x="{place[0]:.1f}" y="{place[1]:.1f}" text-anchor="middle">{spot.number}</text>'
