"""Byte ranges of many files in one shell command, for machines that are reached by commands only. Runs nothing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from jobs.transport.base import ByteRange, Completed

# $1 is a mark that no file can know; then path, first byte (from 1) and limit of each file.
# The mark comes after the bytes, so that a file replaced or grown in the meantime breaks nothing.
# Runs on dash, bash, busybox and macOS.
_SCRIPT = (
    'mark=$1; shift; while [ $# -gt 2 ]; do if [ -f "$1" ] && [ -r "$1" ]; then echo file; '
    'if [ "$3" -gt 0 ]; then tail -c "+$2" "$1" 2>/dev/null | head -c "$3"; fi; '
    'elif [ -e "$1" ]; then echo unreadable; else echo missing; fi; printf "\\n%s\\n" "$mark"; shift 3; done'
)
_WORD = 100  # more than a word and a mark take


class Question:
    """One command, and how its output is understood."""

    def __init__(self, ranges: Sequence[ByteRange]) -> None:
        self._ranges = tuple(ranges)
        self._mark = secrets.token_hex(16)
        self.bound = sum(wanted.limit + _WORD for wanted in ranges) + 1

    @property
    def argv(self) -> list[str]:
        words = [(wanted.path, str(wanted.offset + 1), str(wanted.limit)) for wanted in self._ranges]
        return ["sh", "-c", _SCRIPT, "read", self._mark, *(word for three in words for word in three)]

    def answer(self, done: Completed) -> list[bytes | None]:
        """The bytes, None where there is no file. Raises ValueError for what cannot be an answer."""
        parts = done.stdout.split(b"\n" + self._mark.encode() + b"\n")
        if done.exit_code != 0 or len(parts) != len(self._ranges) + 1 or len(done.stdout) >= self.bound:
            said = done.stderr.decode("utf-8", "replace").strip()[-400:]
            raise ValueError(said or f"exit code {done.exit_code}, {len(done.stdout)} bytes")
        return [_part(part, wanted) for part, wanted in zip(parts, self._ranges, strict=False)]


def _part(raw: bytes, wanted: ByteRange) -> bytes | None:
    word, _, content = raw.partition(b"\n")
    if word == b"missing":
        return None
    if word != b"file":
        raise ValueError(f"cannot read {wanted.path}")
    if len(content) > wanted.limit:
        raise ValueError(f"more of {wanted.path} came than was asked for")
    return content
