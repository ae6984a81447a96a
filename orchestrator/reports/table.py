"""A table as values, and two ways to print it: whole lines for a pipe, coloured and fitted columns for a terminal.

Knows nothing of runs. Nothing is ever cut: on a terminal, columns marked `wraps` go on in the next line. Written here
and not left to rich because a list of a thousand runs must appear at once (rich takes most of a second for it).
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal
from unicodedata import east_asian_width

Tone = Literal["", "good", "bad", "warn", "busy", "dim", "strong"]
_CODES: dict[Tone, str] = {"good": "32", "bad": "1;31", "warn": "33", "busy": "36", "dim": "2", "strong": "1"}
_GAP = "  "
_LEAST_WRAPPED = 12


@dataclass(frozen=True)
class Cell:
    """Text and what it means to the eye."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Column:
    title: str
    right: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under titles. A plain string is a cell without a tone."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]

    def text(self, *, terminal: bool = False, width: int | None = None) -> str:
        """The table without a line end. `terminal` brings colour, and fits `width` (default: the screen's)."""
        titles = [Cell(column.title, "strong") for column in self.columns]
        rows = [titles, *([_cell(cell) for cell in row] for row in self.rows)]
        widths = [max(_wide(row[index].text) for row in rows) for index in range(len(self.columns))]
        if terminal:
            widths = self._fitted(widths, shutil.get_terminal_size().columns if width is None else width)
        return "\n".join(line for row in rows for line in self._lines(row, widths, terminal=terminal))

    def _fitted(self, widths: Sequence[int], screen: int) -> list[int]:
        """Widths for this screen: what is too much is taken from the widest column that wraps, again and again."""
        fitted = list(widths)
        excess = sum(fitted) + len(_GAP) * (len(fitted) - 1) - screen
        least = [max(_LEAST_WRAPPED, _wide(column.title)) for column in self.columns]
        for _ in range(max(excess, 0)):
            giving = [i for i, column in enumerate(self.columns) if column.wraps and fitted[i] > least[i]]
            if not giving:
                break
            fitted[max(giving, key=lambda index: fitted[index])] -= 1
        return fitted

    def _lines(self, row: Sequence[Cell], widths: Sequence[int], *, terminal: bool) -> Iterator[str]:
        folded = [_folded(cell.text, width) for cell, width in zip(row, widths, strict=True)]
        for texts in zip_longest(*folded, fillvalue=""):
            parts = []
            for text, cell, width, column in zip(texts, row, widths, self.columns, strict=True):
                space = " " * (width - _wide(text))
                shown = painted(Cell(text, cell.tone), terminal=terminal) if text else ""
                parts.append(space + shown if column.right else shown + space)
            yield _GAP.join(parts).rstrip()


def painted(cell: Cell, *, terminal: bool) -> str:
    """A cell's text in its colour, where there is a terminal that wants any (https://no-color.org)."""
    if not terminal or not cell.tone or os.environ.get("NO_COLOR"):
        return cell.text
    return f"\x1b[{_CODES[cell.tone]}m{cell.text}\x1b[0m"


def _cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def _folded(text: str, width: int) -> list[str]:
    if _wide(text) <= width:
        return [text]
    return textwrap.wrap(text, width if text.isascii() else max(width // 2, 1), break_on_hyphens=False) or [""]


def _wide(text: str) -> int:
    """How many columns of a screen a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
