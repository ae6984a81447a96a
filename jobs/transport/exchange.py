"""What every transport does with a running command: feed it, drain both of its streams, bound them, end it.

A transport brings `_open`; `run`, `send` and `receive` of the Transport protocol follow from it.
Knows no socket and no process.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Protocol

from jobs.transport.base import Completed, TransportError

OUTPUT_LIMIT = 1024 * 1024
_TAIL = 2000


def always() -> bool:
    """For a transport that nobody has told otherwise."""
    return True


class CommandFailed(TransportError):
    """The machine was reached and the command ran, but it ended with an exit code other than 0."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stream(Enum):
    STDOUT = auto()
    STDERR = auto()


class Patience:
    """How long to wait: for the whole command, or, when it renews, for the next sign of progress.

    In any case no longer than `may_go_on` says.
    """

    def __init__(self, seconds: float, *, renews: bool, may_go_on: Callable[[], bool] = always) -> None:
        self.seconds = seconds
        self._may_go_on = may_go_on
        self._renews = renews
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        return self._until - time.monotonic()

    def progressed(self) -> None:
        if self._renews:
            self._until = time.monotonic() + self.seconds

    def check(self, what: str) -> None:
        if not self._may_go_on():
            raise TransportError(f"{what} was broken off before its end")
        if self.left() > 0:
            return
        failed = "made no progress" if self._renews else "did not end"
        raise TransportError(f"{what} {failed} within {self.seconds:g} s")


class Feed:
    """The bytes for a command's stdin, taken from their source only when the command has room for them."""

    def __init__(self, chunks: Iterable[bytes], piece: int) -> None:
        self._chunks = iter(chunks)
        self._piece = piece
        self._rest = memoryview(b"")
        self.over = False

    def next(self) -> memoryview | None:
        """What to write next; None when everything was written."""
        while not self._rest and not self.over:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.over = True
            else:
                self._rest = memoryview(chunk)
        return None if self.over else self._rest[: self._piece]

    def wrote(self, count: int) -> None:
        self._rest = self._rest[count:]

    def abandon(self) -> None:
        """The command reads no more."""
        self.over = True


class Running(Protocol):
    """A command that was started."""

    def events(self) -> Iterator[tuple[Stream, bytes]]:
        """Its output as it comes, until it ends. Raises TransportError."""
        ...

    def exit_code(self) -> int:
        """After `events` ended; negative when a signal killed it."""
        ...

    def end(self) -> None:
        """Kill it if it still runs and let go of it. Never raises."""
        ...


class CommandTransport(ABC):
    """`run`, `send` and `receive` for whoever can start a command."""

    may_go_on: Callable[[], bool] = staticmethod(always)

    @abstractmethod
    def _open(self, argv: Sequence[str], chunks: Iterable[bytes], patience: Patience) -> Running:
        """Start a command whose stdin is `chunks`; an empty tuple means none."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        return self._complete(argv, _input(stdin), self._patience(timeout, renews=False))

    def send(self, argv: Sequence[str], chunks: Iterable[bytes], *, timeout: float) -> Completed:
        return self._complete(argv, chunks, self._patience(timeout, renews=True))

    @contextmanager
    def receive(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Iterator[Iterator[bytes]]:
        running = self._open(argv, _input(stdin), self._patience(timeout, renews=True))
        try:
            yield _stdout(running, argv)
        finally:
            running.end()

    def _complete(
        self, argv: Sequence[str], chunks: Iterable[bytes], patience: Patience, *, limit: int = OUTPUT_LIMIT
    ) -> Completed:
        kept = {Stream.STDOUT: _Head(limit), Stream.STDERR: _Head(OUTPUT_LIMIT)}
        running = self._open(argv, chunks, patience)
        try:
            for stream, chunk in running.events():
                kept[stream].add(chunk)
            return Completed(running.exit_code(), kept[Stream.STDOUT].content(), kept[Stream.STDERR].content())
        finally:
            running.end()

    def _patience(self, seconds: float, *, renews: bool) -> Patience:
        return Patience(seconds, renews=renews, may_go_on=self.may_go_on)


def name_of(argv: Sequence[str]) -> str:
    """How a command is called in an error: its program and first word, never its data."""
    return " ".join(argv[:3])[:120]


def _input(stdin: bytes) -> tuple[bytes, ...]:
    return (stdin,) if stdin else ()


def _stdout(running: Running, argv: Sequence[str]) -> Iterator[bytes]:
    errors = b""
    for stream, chunk in running.events():
        if stream is Stream.STDOUT:
            yield chunk
        else:
            errors = (errors + chunk)[-_TAIL:]
    code = running.exit_code()
    if code != 0:
        said = errors.decode("utf-8", "replace").strip()
        raise CommandFailed(f"{name_of(argv)} ended with exit code {code}: {said or 'it said nothing'}", exit_code=code)


class _Head:
    """The first `limit` bytes of what is added."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        if self._room > 0:
            self._chunks.append(chunk[: self._room])
            self._room -= len(self._chunks[-1])

    def content(self) -> bytes:
        return b"".join(self._chunks)
