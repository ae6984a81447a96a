"""Line plots and sparklines made of characters, for metrics, prices and a running job's status line.

Braille dots where the output can show them, ASCII where not. Knows numbers and labels, nothing of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from orchestrator.reports import words
from orchestrator.reports.scale import Range, share

Series = Sequence[tuple[float, float]]  # (x, y); where y is not a number there is a gap
Format = Callable[[float], str]

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=+*#@"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # Unicode's numbering of a cell: [row][column]
_MARKS = "*o+x#@%&"
_SPOT, _ASCII_SPOT = "◆", "!"
_COLOURS = (36, 33, 35, 32, 34, 31)
_LEAST_WIDTH = 8


def can_show(encoding: str | None) -> bool:
    """Whether an output in this encoding can show braille."""
    try:
        "⣿█┤".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def sparkline(values: Sequence[float], *, width: int = 20, fancy: bool = True) -> str:
    """The last values as one line of bars, at most `width` wide; a space for what is not a number."""
    bars = _BARS if fancy else _ASCII_BARS
    shown = list(values)[-width:]
    known = [value for value in shown if math.isfinite(value)]
    if not known:
        return " " * len(shown)
    scale = (min(known), max(known))
    return "".join(bars[_step(value, scale, len(bars))] if math.isfinite(value) else " " for value in shown)


@dataclass(frozen=True)
class Axes:
    """How the numbers at the axes are written."""

    x_format: Format = words.number
    y_format: Format = words.number


def line(
    series: Mapping[str, Series],
    *,
    width: int = 72,
    height: int = 12,
    fancy: bool = True,
    colour: bool = False,
    axes: Axes = Axes(),
    spots: tuple[str, Series] = ("", ()),
) -> str:
    """Curves over one pair of axes with their numbers; several are told apart by colour, else by mark.

    `spots` are single points over the curves, with their label.
    """
    pieces = {words.one_line(label): _pieces(points) for label, points in series.items()}
    single = [point for piece in _pieces(spots[1]) for point in piece]
    every = [*single, *(point for curve in pieces.values() for piece in curve for point in piece)]
    if not every:
        return "nothing to plot"
    xs = (min(x for x, _ in every), max(x for x, _ in every))
    ys = (min(y for _, y in every), max(y for _, y in every))
    margin = max(len(axes.y_format(edge)) for edge in (*ys, _middle(ys)))
    columns, lines = max(width - margin - 2, _LEAST_WIDTH), max(height, 2)
    canvas = _Canvas(columns, lines, braille=fancy and (colour or len(pieces) == 1))
    for index, curve in enumerate(pieces.values()):
        for piece in curve:
            canvas.draw(piece, xs, ys, index)
    spot = _SPOT if fancy else _ASCII_SPOT
    canvas.spot(single, xs, ys, spot)
    legend = [f"{canvas.mark(index, colour=colour)} {label}" for index, label in enumerate(pieces)]
    legend = [*(legend if len(pieces) > 1 else ()), *([f"{spot} {words.one_line(spots[0])}"] if single else ())]
    return "\n".join(
        [
            *_beside_axis(canvas.rows(colour=colour), ys, margin, fancy=fancy, form=axes.y_format),
            _below(xs, margin, columns, form=axes.x_format),
            *([" " * (margin + 2) + "   ".join(legend)] if legend else ()),
        ]
    )


class _Canvas:
    """A grid of dots, two by four to a character in braille, otherwise one mark to a character."""

    def __init__(self, columns: int, lines: int, *, braille: bool) -> None:
        self.columns, self.lines, self.braille = columns, lines, braille
        self._wide, self._high = (columns * 2, lines * 4) if braille else (columns, lines)
        self._cells: dict[tuple[int, int], tuple[int, int]] = {}  # (line, column) -> (dots, series)
        self._spots: dict[tuple[int, int], str] = {}

    def draw(self, points: Series, xs: Range, ys: Range, index: int) -> None:
        dots = [(_step(x, xs, self._wide), self._high - 1 - _step(y, ys, self._high)) for x, y in points]
        for start, end in zip(dots, dots[1:] or dots, strict=False):
            for x, y in _between(start, end):
                self._dot(x, y, index)

    def spot(self, points: Series, xs: Range, ys: Range, character: str) -> None:
        """One character at each point, over whatever is there."""
        for x, y in points:
            row = self.lines - 1 - _step(y, ys, self.lines)
            self._spots[row, _step(x, xs, self.columns)] = character

    def rows(self, *, colour: bool) -> Iterator[str]:
        for row in range(self.lines):
            yield "".join(self._character(row, column, colour=colour) for column in range(self.columns)).rstrip()

    def mark(self, index: int, *, colour: bool) -> str:
        return _coloured("⣿" if self.braille else _MARKS[index % len(_MARKS)], index, colour=colour)

    def _dot(self, x: int, y: int, index: int) -> None:
        cell = (y // 4, x // 2) if self.braille else (y, x)
        dots = self._cells.get(cell, (0, 0))[0] | (_DOTS[y % 4][x % 2] if self.braille else 0)
        self._cells[cell] = (dots, index)

    def _character(self, row: int, column: int, *, colour: bool) -> str:
        if (row, column) in self._spots:
            return self._spots[row, column]
        if (row, column) not in self._cells:
            return " "
        dots, index = self._cells[row, column]
        return _coloured(chr(0x2800 + dots) if self.braille else _MARKS[index % len(_MARKS)], index, colour=colour)


def _pieces(points: Series) -> list[list[tuple[float, float]]]:
    """What can be drawn, in the order of x, parted where a value is none."""
    placed = sorted((point for point in points if math.isfinite(point[0])), key=lambda point: point[0])
    runs = groupby(placed, key=lambda point: math.isfinite(point[1]))
    return [list(piece) for is_known, piece in runs if is_known]


def _step(value: float, scale: Range, steps: int) -> int:
    """Which of `steps` equal steps of the scale a value is on."""
    return steps // 2 if scale[0] == scale[1] else round(share(value, scale) * (steps - 1))


def _middle(scale: Range) -> float:
    return scale[0] / 2 + scale[1] / 2


def _between(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots of a straight line."""
    across, down = end[0] - start[0], end[1] - start[1]
    steps = max(abs(across), abs(down), 1)
    for step in range(steps + 1):
        yield start[0] + round(across * step / steps), start[1] + round(down * step / steps)


def _beside_axis(rows: Iterator[str], ys: Range, margin: int, *, fancy: bool, form: Format) -> Iterator[str]:
    picture = list(rows)
    constant = not ys[1] > ys[0]
    labels = {len(picture) // 2: _middle(ys)} if constant else {0: ys[1], len(picture) - 1: ys[0]}
    if len(picture) >= 7 and not constant:
        labels[len(picture) // 2] = _middle(ys)
    ticked, plain = ("┤", "│") if fancy else ("+", "|")
    for index, row in enumerate(picture):
        label = form(labels[index]) if index in labels else ""
        yield f"{label:>{margin}} {ticked if index in labels else plain}{row}"


def _below(xs: Range, margin: int, columns: int, *, form: Format) -> str:
    low, high = form(xs[0]), form(xs[1])
    if not xs[1] > xs[0]:
        return " " * (margin + 2) + low.center(columns).rstrip()
    return " " * (margin + 2) + low + high.rjust(max(columns - len(low), len(high) + 1))


def _coloured(text: str, index: int, *, colour: bool) -> str:
    return f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{text}\x1b[0m" if colour else text
