"""What a machine may answer to a question for byte ranges, and what is no answer."""

from __future__ import annotations

import pytest

from jobs.transport.base import ByteRange, Completed
from jobs.transport.ranges import Question


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("file\nabc{end}missing\n{end}", [b"abc", None]),
        ("file\n{end}file\n\n{end}", [b"", b"\n"]),
        ("file\nabcdef{end}missing\n{end}", "more of /a came"),
        ("unreadable\n{end}missing\n{end}", "cannot read /a"),
        ("file\nabc{end}", "exit code 0"),
        ("file\nabc{end}missing\n{end}file\n{end}", "exit code 0"),
        ("", "exit code 0"),
        ("x" * 1000, "1000 bytes"),
    ],
)
def test_an_answer_is_taken_only_when_it_fits(output: str, expected: list[bytes | None] | str) -> None:
    question = Question([ByteRange("/a", 0, 5), ByteRange("/b", 7, 5)])
    mark = question.argv[4]
    done = Completed(0, output.replace("{end}", f"\n{mark}\n").encode(), b"")
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            question.answer(done)
    else:
        assert question.answer(done) == expected


def test_the_mark_cannot_be_guessed() -> None:
    assert Question([]).argv[4] != Question([]).argv[4]


def test_a_command_that_failed_is_no_answer() -> None:
    with pytest.raises(ValueError, match="tail: not found"):
        Question([]).answer(Completed(127, b"", b"sh: tail: not found"))
