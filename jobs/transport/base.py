"""The Transport protocol: run a command on a machine, stream into and out of it, read byte ranges of its files.

A transport knows nothing of jobs. It never trusts what the machine says about sizes: every answer is bounded by the
caller's limit, and every call ends within its timeout. Both output streams are always drained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class TransportError(Exception):
    """The machine could not be reached or did not answer in time. Says nothing about whether it still exists."""


class AccessRefused(TransportError):
    """The machine answered, but not as ours: a wrong host key, or our key is not let in."""


@dataclass(frozen=True)
class Completed:
    """A command's end. Outputs are cut at 1 MiB each."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class ByteRange:
    """At most `limit` bytes of the file `path` (absolute, on the machine) from `offset` on."""

    path: str
    offset: int
    limit: int


class Transport(Protocol):
    """One machine, reached in one way. Safe to use from one thread at a time; `close` may come from any.

    `may_go_on` is asked several times a second while a command runs: when it says no, the call ends with
    TransportError, whatever progress it makes.
    """

    may_go_on: Callable[[], bool]

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        """Run a command to its end. Raises TransportError; a non-zero exit code is a value."""
        ...

    def send(self, argv: Sequence[str], chunks: Iterable[bytes], *, timeout: float) -> Completed:
        """Run a command and stream `chunks` into its stdin. `timeout` is for the longest wait without progress."""
        ...

    def receive(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Run a command and iterate over its stdout as it comes.

        The iterator raises TransportError when the command failed (its stderr in the message), when nothing came for
        `timeout` seconds, or when the connection broke. Leaving the context early ends the command.
        """
        ...

    def read(self, ranges: Sequence[ByteRange], *, timeout: float) -> list[bytes | None]:
        """The bytes of several files in one round trip, each at most its limit; None for a file that is not there."""
        ...

    def close(self) -> None:
        """Let go of the connection. The machine and what runs on it are not touched."""
        ...
