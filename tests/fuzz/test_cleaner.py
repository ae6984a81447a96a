"""A job's log on a terminal: whatever bytes, in whatever pieces, nothing in it commands the terminal."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.cli.output import Cleaner, harmless
from tests.fuzz.nonsense import WORDS, examples

PIECES = (
    b"\xc2",
    b"\x9b",
    b"\x1b",
    b"[",
    b"]0;",
    b"\x07",
    b"\x00",
    b"m",
    b"31m",
    b"x",
    b"\n",
    b"\xf0\x9f\xa6\x8a",
    b"\x90",
    b"\\",
)
_COMMANDS = re.compile(r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join), max_size=6))
@example([b"\xc2\xc2\x9b\x9b31m"])
@example([b"\xc2\x00\x9b31m"])
@example([b"\xc2\x1b[m\x9b31m"])
@example([b"\xc2\x00", b"\x9b31m"])
@example([b"\xc2" * 5000, b"\x9b\x9b31m"])
@example([b"\x1b\x1b[31m[31m"])
@examples(500)
def test_nothing_in_a_log_commands_the_terminal(chunks: list[bytes]) -> None:
    cleaner = Cleaner()
    shown = b"".join(map(cleaner.clean, chunks))
    assert not _COMMANDS.search(shown.decode("utf-8", "replace"))


@given(st.one_of(st.sampled_from(WORDS), st.text(max_size=40)))
@examples(200)
def test_nothing_in_an_error_commands_the_terminal(said: str) -> None:
    assert not _COMMANDS.search(harmless(said))
