"""Job output on a terminal commands nothing; everything readable stays."""

from __future__ import annotations

import pytest

from orchestrator.cli.output import Cleaner

CASES = [
    (b"plain \xce\xb1 text\n", b"plain \xce\xb1 text\n"),
    (b"\x1b[31mred\x1b[0m", b"red"),
    (b"\x1b[2J\x1b[1;1Hscreen", b"screen"),
    (b"\x1b]0;title\x07after", b"after"),
    (b"\x1b]52;c;ZXZpbA==\x1b\\after", b"after"),
    (b"\x1bP$qm\x1b\\after", b"after"),
    (b"\x1bcreset", b"reset"),
    (b"\x1b(0charset", b"charset"),
    (b"10%\r20%\r\n\tback\x08", b"10%\r20%\r\n\tback\x08"),
    (b"bell\x07 nul\x00 del\x7f", b"bell nul del"),
    (b"c1 \xc2\x9b31m", b"c1 31m"),
    (b"\x1b\x1b[31m", b""),
    (b"\xff\xfe noise", b"\xff\xfe noise"),
]


@pytest.mark.parametrize(("raw", "shown"), CASES)
def test_sequences_are_taken_out(raw: bytes, shown: bytes) -> None:
    assert Cleaner().clean(raw + b".") == shown + b"."


@pytest.mark.parametrize(("raw", "shown"), CASES)
def test_also_when_they_come_in_pieces(raw: bytes, shown: bytes) -> None:
    cleaner = Cleaner()
    pieces = [cleaner.clean(bytes([byte])) for byte in raw + b"."]
    assert b"".join(pieces) == shown + b"."


def test_an_endless_sequence_is_not_kept_for_ever() -> None:
    cleaner = Cleaner()
    assert b"A" * 5000 in cleaner.clean(b"\x1b]0;" + b"A" * 100_000) + cleaner.clean(b"end")
