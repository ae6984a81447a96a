"""Records docs/pictures/run.svg from a real run: `python docs/record.py [submit|rehearse [TRAIN.YAML [OPTION...]]]`.

Runs it in a pseudo terminal with a home of its own (rehearse.svg: `gpujob rehearse`), keeps what the screen showed and
when, and draws that as an SVG, which plays once and then stands still; what cannot play it shows the last screen.
Without arguments it runs the template mnist on this computer. The run stays in the home that is named at the end;
docs/pictures/report.png is its report.html in a browser, 960 pixels wide.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path

PICTURES = Path(__file__).parent / "pictures"
TEMPLATE = Path(__file__).parents[1] / "templates" / "mnist" / "train.yaml"
KINDS = {  # command -> (picture, options when none are given)
    "submit": ("run.svg", ("--provider", "local")),
    "rehearse": ("rehearse.svg", ("--gpu", "RTX4090")),
}

COLUMNS, ROWS = 84, 60
LONGEST_PAUSE = 1.0  # seconds: nobody needs to wait while nothing changes
SHORTEST_CHANGE = 0.1

CHARACTER, LINE, MARGIN, TOP = 8.4, 20, 20, 46
GROUND, TEXT, DIM = "#0d1117", "#e6edf3", "#8b949e"
COLOURS = ("#6e7681", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", "#e6edf3")

_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[^\[]")


@dataclass(frozen=True)
class Style:
    colour: str = TEXT
    bold: bool = False

    def changed(self, code: int) -> Style:
        """After `ESC [ code m`."""
        if code == 0:
            return Style()
        if code in (1, 22):
            return Style(self.colour, code == 1)
        if code == 2:
            return Style(DIM, self.bold)
        if 30 <= code <= 37 or 90 <= code <= 97:
            return Style(COLOURS[code % 10], self.bold)
        return Style(TEXT, self.bold) if code == 39 else self


Row = tuple[tuple[str, Style], ...]
Shown = tuple[float, tuple[Row, ...]]  # seconds since the start, and what was on the screen from then on


@dataclass
class Terminal:
    """As much of a terminal as gpujob uses: text, colours, and moving up to write a line again."""

    rows: list[list[tuple[str, Style]]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    style: Style = Style()

    def feed(self, text: str) -> None:
        place = 0
        for match in _SEQUENCE.finditer(text):
            self._write(text[place : match.start()])
            if match[2]:
                self._obey(match[2], [int(number) for number in re.findall(r"\d+", match[1])])
            place = match.end()
        self._write(text[place:])

    def screen(self) -> tuple[Row, ...]:
        return tuple(tuple(row) for row in self.rows)

    def _write(self, text: str) -> None:
        for char in text:
            if char == "\r":
                self.column = 0
            elif char == "\n":
                self.row += 1
                self.rows += [[] for _ in range(self.row + 1 - len(self.rows))]
            elif char.isprintable():
                self._put(char)

    def _put(self, char: str) -> None:
        line = self.rows[self.row]
        line += [(" ", Style())] * (self.column + 1 - len(line))
        line[self.column] = (char, self.style)
        self.column += 1

    def _obey(self, command: str, numbers: Sequence[int]) -> None:
        first = numbers[0] if numbers else 0
        if command == "m":
            for code in numbers or [0]:
                self.style = self.style.changed(code)
        elif command == "A":
            self.row = max(0, self.row - max(1, first))
        elif command == "K":
            keep = 0 if first == 2 else self.column
            del self.rows[self.row][keep:]


def main(arguments: Sequence[str]) -> int:
    command, *rest = arguments or ["submit"]
    name, usual = KINDS[command]
    picture, train = PICTURES / name, Path(rest[0] if rest else TEMPLATE).resolve()
    home = Path(tempfile.mkdtemp(prefix="gpujob-"))
    argv = ["gpujob", command, train.name, *(rest[1:] or usual)]
    shown, code = record(argv, train.parent, home)
    PICTURES.mkdir(exist_ok=True)
    picture.write_text(draw(list(paced(shown)), shlex.join(argv)), encoding="utf-8")
    print(f"{picture}: {picture.stat().st_size:,} bytes; the run is in {home}")  # noqa: T201
    return code


def record(argv: Sequence[str], folder: Path, home: Path) -> tuple[list[Shown], int]:
    """Run the command in a terminal of its own; what its screen showed and when, and its exit code."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GPUJOB_", "NO_COLOR"))}
    env |= {"GPUJOB_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    command = [str(Path(sys.executable).with_name(argv[0])), *argv[1:]]
    process = subprocess.Popen(command, cwd=folder, env=env, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown: list[Shown] = []
    terminal, started = Terminal(), time.monotonic()
    while chunk := _read(outside):
        terminal.feed(chunk.decode("utf-8", "replace"))
        shown.append((time.monotonic() - started, terminal.screen()))
    return shown, process.wait()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # Linux says so when the last program has closed the terminal
        return b""


def paced(shown: Sequence[Shown]) -> Iterator[Shown]:
    """Without what nobody could see, and without long pauses."""
    at, before, latest = 0.5, 0.0, -1.0
    for number, (seconds, screen) in enumerate(shown):
        at += min(seconds - before, LONGEST_PAUSE)
        before = seconds
        if at - latest >= SHORTEST_CHANGE or number == len(shown) - 1:
            latest = at
            yield at, screen


def draw(shown: Sequence[Shown], typed: str) -> str:
    """The recording as an SVG."""
    last = shown[-1][1]
    rows = max(number for number, row in enumerate(last) if _text(row)) + 2
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, TOP + rows * LINE + MARGIN
    prompt = _row(tuple((char, Style(bold=True)) for char in f"$ {typed}"), 0, "")
    lines = [line for number in range(rows - 1) for line in _history(shown, number)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">',
            f"<title>{escape(typed)}, as a terminal showed it</title>",
            f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
            *(f'<circle cx="{MARGIN + 18 * dot}" cy="20" r="5" fill="{COLOURS[0]}"/>' for dot in range(3)),
            '<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="14">',
            prompt,
            *lines,
            "</g>\n</svg>\n",
        ]
    )


def _history(shown: Sequence[Shown], number: int) -> Iterator[str]:
    """One line of the screen: each text that it had, from when to when."""
    texts = [(at, screen[number] if number < len(screen) else ()) for at, screen in shown]
    spans = [(row, next(group)[0]) for row, group in groupby(texts, key=lambda text: text[1])]
    for (row, since), (_, until) in zip(spans, [*spans[1:], ((), None)], strict=True):
        if _text(row):
            yield _row(row, number + 1, _timing(since, until))


def _timing(since: float, until: float | None) -> str:
    """Visible by itself is only what stays; the rest is switched on and off."""
    if until is None:
        return f'<set attributeName="visibility" to="hidden" begin="0s" end="{since:.2f}s"/>'
    return f'<set attributeName="visibility" to="visible" begin="{since:.2f}s" end="{until:.2f}s"/>'


def _row(row: Row, number: int, timing: str) -> str:
    y = TOP + (number + 0.75) * LINE
    pieces = [piece for column, text, style in _runs(row) for piece in _pieces(text, style, column)]
    hidden = ' visibility="hidden"' if 'to="visible"' in timing else ""
    return f'<text y="{y:g}"{hidden}>{timing}{"".join(pieces)}</text>'


def _runs(row: Row) -> Iterator[tuple[int, str, Style]]:
    """Neighbours of one style, and the column where they begin."""
    column = 0
    for style, group in groupby(row, key=lambda cell: cell[1]):
        text = "".join(char for char, _ in group)
        yield column, text, style
        column += len(text)


def _pieces(text: str, style: Style, column: int) -> Iterator[str]:
    """Each at its own place, so that no font and no collapsed space moves what follows."""
    weight = ' font-weight="bold"' if style.bold else ""
    for match in re.finditer(r"\S+(?: \S+)*", text):
        place = f'x="{MARGIN + (column + match.start()) * CHARACTER:g}" textLength="{len(match[0]) * CHARACTER:g}"'
        yield f'<tspan {place} fill="{style.colour}"{weight}>{escape(match[0])}</tspan>'


def _text(row: Row) -> str:
    return "".join(char for char, _ in row).strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
