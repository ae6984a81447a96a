"""Data goes to stdout, talk to stderr. Job output is made harmless before a terminal sees it.

Knows streams and bytes, no run.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import click

_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, screen
    rb"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC and other strings: titles, clipboards
    rb"|[ -/]*[0-~])"  # everything else of two bytes or a few more
)
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)\Z")
_CONTROLS = re.compile(rb"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f]")
# The controls of Latin 1 in UTF-8. All of a run goes: what is left of \xc2\xc2\x9b\x9b without its middle is one.
_LATIN_CONTROLS = re.compile(rb"\xc2+[\x80-\x9f]+")
_BEGUN = re.compile(rb"\xc2+\Z")
_LONGEST_SEQUENCE = 4096
# Controls that JSON lets stand as they are, and halves of a surrogate pair: how Python spells a byte that is no UTF-8.
_NOT_IN_JSON = re.compile("[\x7f-\x9f\ud800-\udfff]")


def data(text: str) -> None:
    """A line, or several, of what was asked for."""
    click.echo(plain_if_wanted(text))


def data_json(value: Any) -> None:
    """The same as one JSON document. What stdout cannot spell, or a terminal would obey, stands in it as an escape."""
    import json

    spells_all = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    text = json.dumps(value, indent=2, ensure_ascii=not spells_all)
    click.echo(_NOT_IN_JSON.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text))


def data_csv(documents: Sequence[Mapping[str, Any]]) -> None:
    """Documents of one shape as CSV, under the names of their fields; without any document nothing."""
    import csv
    import io

    if not documents:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*documents[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in documents)
    data(text.getvalue().rstrip("\n"))


def say(text: str) -> None:
    """A line of talk, of which a machine or a cloud may have written some: colours are all that it can command."""
    click.echo(_without_commands(text), err=True)


class Layout(TypedDict):
    """What a table has to fit."""

    terminal: bool
    width: int | None


def layout() -> Layout:
    """For tables on stdout: columns for a pipe, colour and the screen's width for a terminal."""
    return {"terminal": True, "width": width()} if sys.stdout.isatty() else {"terminal": False, "width": None}


def width() -> int:
    return shutil.get_terminal_size().columns


def wants_colour() -> bool:
    """On a terminal, unless https://no-color.org is asked for."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def plain_if_wanted(text: str) -> str:
    return click.unstyle(text) if os.environ.get("NO_COLOR") else text


def can_ask() -> bool:
    """Whether there is a person to answer a question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _field(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


class RawOutput:
    """Job output on stdout, byte for byte; on a terminal without anything that could command the terminal."""

    def __init__(self, *, raw: bool = False) -> None:
        self._stream = sys.stdout.buffer
        self._on_screen = sys.stdout.isatty()
        self._clean = Cleaner() if self._on_screen and not raw else None
        self._ends_line = True

    def write(self, chunk: bytes) -> None:
        shown = self._clean.clean(chunk) if self._clean else chunk
        if not shown:
            return
        self._stream.write(shown)
        self._stream.flush()
        self._ends_line = shown.endswith(b"\n")

    def end_line(self) -> None:
        """On a terminal, talk after the job's unfinished line begins on a line of its own."""
        if self._on_screen and not self._ends_line:
            say("")
            self._ends_line = True


def harmless(text: str) -> str:
    """The same for words of which a machine may have written some."""
    return Cleaner().clean(text.encode(errors="replace") + b" ").decode(errors="replace")[:-1]


def _without_commands(text: str) -> str:
    if text.isprintable():
        return text
    parts = _COLOUR.split(text)  # every other part is a colour
    return "".join(part if number % 2 else harmless(part) for number, part in enumerate(parts))


class Cleaner:
    """Takes terminal sequences and control characters out of a stream; tab, newline, return and backspace stay."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = b""  # of a control in two bytes, when all else has been taken out

    def clean(self, chunk: bytes) -> bytes:
        text = self._rest + chunk
        unfinished = _UNFINISHED.search(text, max(0, len(text) - _LONGEST_SEQUENCE))
        self._rest = text[unfinished.start() :] if unfinished else b""
        if unfinished:
            text = text[: unfinished.start()]
        shown = self._begun + _CONTROLS.sub(b"", _ESCAPE.sub(b"", text))
        begun = _BEGUN.search(shown[-_LONGEST_SEQUENCE:])
        self._begun = begun[0] if begun else b""
        return _LATIN_CONTROLS.sub(b"", shown[: len(shown) - len(self._begun)])
