"""LocalTransport: this computer as a machine.

Commands are child processes in sessions of their own; files are read directly.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from jobs.transport.base import ByteRange, TransportError
from jobs.transport.exchange import CommandTransport, Feed, Patience, Running, Stream, name_of

_PIECE = 64 * 1024
_TICK = 0.05
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


class LocalTransport(CommandTransport):
    """Implements Transport. `env` is added to the environment of every command."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = dict(env or {})
        self._running: set[_Process] = set()

    def read(self, ranges: Sequence[ByteRange], *, timeout: float) -> list[bytes | None]:
        del timeout  # a regular file on a local disk answers or fails
        return [_read(wanted) for wanted in ranges]

    def close(self) -> None:
        for process in list(self._running):
            process.kill()

    def _open(self, argv: Sequence[str], chunks: Iterable[bytes], patience: Patience) -> Running:
        try:
            process = _Process(argv, {**os.environ, **self._env}, chunks, patience, self._running)
        except OSError as error:
            return _NotStarted(argv, error)
        self._running.add(process)
        return process


class _Process:
    """A child process, its pipes, and the session that is killed with it."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        chunks: Iterable[bytes],
        patience: Patience,
        siblings: set[_Process],
    ) -> None:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            list(argv), stdin=pipe, stdout=pipe, stderr=pipe, env=env, bufsize=0, start_new_session=True
        )
        assert self._child.stdin and self._child.stdout and self._child.stderr
        self._stdin, self._stdout, self._stderr = self._child.stdin, self._child.stdout, self._child.stderr
        for end in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(end.fileno(), False)
        self._name = name_of(argv)
        self._feed = Feed(chunks, _PIECE)
        self._patience = patience
        self._siblings = siblings

    def events(self) -> Iterator[tuple[Stream, bytes]]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdin, selectors.EVENT_WRITE)
            outputs = {self._stdout.fileno(): Stream.STDOUT, self._stderr.fileno(): Stream.STDERR}
            for descriptor in outputs:
                selector.register(descriptor, selectors.EVENT_READ)
            while outputs:
                over = self._child.poll() is not None
                ready = selector.select(0 if over else _TICK)
                for key, _ in ready:
                    if key.fileobj is self._stdin:
                        self._write(selector)
                    elif chunk := os.read(key.fd, _PIECE):
                        yield outputs[key.fd], chunk
                        self._patience.progressed()  # the caller's own time does not count
                    else:
                        selector.unregister(key.fd)
                        del outputs[key.fd]
                if over and not any(key.fd in outputs for key, _ in ready):
                    return  # what the command left in the background may hold the pipes for ever
                self._patience.check(self._name)

    def exit_code(self) -> int:
        with suppress(OSError):
            self._stdin.close()
        try:
            return self._child.wait(timeout=max(self._patience.left(), 0))
        except subprocess.TimeoutExpired:
            raise TransportError(f"{self._name} did not end within {self._patience.seconds:g} s") from None

    def end(self) -> None:
        self._siblings.discard(self)
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=5)
        for end in (self._stdin, self._stdout, self._stderr):
            with suppress(OSError):
                end.close()

    def kill(self) -> None:
        """Kill it and all of its session's group; whoever waits for it sees it end."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _write(self, selector: selectors.BaseSelector) -> None:
        piece = self._feed.next()
        if piece is not None:
            try:
                self._feed.wrote(os.write(self._stdin.fileno(), piece))
                self._patience.progressed()
            except BrokenPipeError:
                self._feed.abandon()
        if self._feed.over:
            selector.unregister(self._stdin)
            self._stdin.close()


class _NotStarted:
    """A command that this computer could not start, told as a shell tells it."""

    def __init__(self, argv: Sequence[str], error: OSError) -> None:
        self._text = f"{name_of(argv)}: {error.strerror}\n".encode()
        self._code = 127 if error.errno in _NOT_THERE else 126

    def events(self) -> Iterator[tuple[Stream, bytes]]:
        yield Stream.STDERR, self._text

    def exit_code(self) -> int:
        return self._code

    def end(self) -> None:
        return


def _read(wanted: ByteRange) -> bytes | None:
    try:
        descriptor = os.open(wanted.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise TransportError(f"cannot read {wanted.path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TransportError(f"cannot read {wanted.path}: not a regular file")
        return _pread(descriptor, wanted.offset, wanted.limit)
    except OSError as error:
        raise TransportError(f"cannot read {wanted.path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _pread(descriptor: int, offset: int, limit: int) -> bytes:
    chunks = []
    while limit > 0 and (chunk := os.pread(descriptor, limit, offset)):
        chunks.append(chunk)
        offset += len(chunk)
        limit -= len(chunk)
    return b"".join(chunks)
