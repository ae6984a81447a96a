"""The real agent in a folder of this computer, reached by a transport whose streams can be cut in the middle."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobs.machine import Machine
from jobs.transport.base import TransportError
from jobs.transport.local import LocalTransport


class BreakingTransport(LocalTransport):
    """Local, but every stream out of a command breaks when `bytes_left` have come; None for never."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_left: int | None = None
        self.commands: list[str] = []

    @contextmanager
    def receive(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Iterator[Iterator[bytes]]:
        self.commands.append(argv[-1])
        with super().receive(argv, stdin=stdin, timeout=timeout) as chunks:
            yield self._breaking(chunks)

    def _breaking(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self.bytes_left is None:
                yield chunk
                continue
            yield chunk[: self.bytes_left]
            self.bytes_left -= len(chunk)
            if self.bytes_left < 0:
                raise TransportError("the connection broke")


class LocalMachine:
    """A machine folder with the agent in it. `work` is the job's working directory there."""

    def __init__(self, folder: Path) -> None:
        self.transport = BreakingTransport()
        self.machine = Machine(self.transport, str(folder), python=sys.executable)
        self.work = folder / "shared" / "work"
        self.work.mkdir(parents=True)
        self.machine.install()

    def put(self, name: str, content: bytes = b"") -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
