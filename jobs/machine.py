"""A machine as the controller sees it: the agent's commands as methods, over any Transport.

Owns the wire format of `designs/0002-the-agent.md` on the controller's side. Knows no cloud, no run and no store.
Whatever a machine answers is checked and bounded (jobs/answers.py): what makes no sense raises AgentError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jobs import answers
from jobs.answers import AgentError, FileEntry, Json, Manifest
from jobs.transport.base import ByteRange, Completed, Transport, TransportError

STREAMS = ("log", "metrics", "telemetry", "events")
_PATHS = {
    "log": "log",
    "metrics": "shared/metrics.jsonl",
    "telemetry": "telemetry.jsonl",
    "events": "events.jsonl",
}
_AGENT_FILES = ("agent.py", "unpack.py", "gather.py")
# All of the agent in one exchange, each file whole or not at all.
_PUT = """
import json, os, sys
os.umask(0o077)
os.makedirs(sys.argv[1], exist_ok=True)
for name, text in json.load(sys.stdin).items():
    path = os.path.join(sys.argv[1], name)
    with open(path + ".new", "wb") as file:
        file.write(text.encode())
    os.replace(path + ".new", path)
"""
_CHUNK = 1024 * 1024
_SHORT_REQUEST = 4096
MOST_FILES = 500_000  # a machine that lists more wants to fill this computer's memory
LISTING_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Visit:
    """What one look at a machine brought: records as they are now, and the new bytes of each stream."""

    state: Json | None
    exit: Json | None
    new: Mapping[str, bytes] = field(default_factory=dict)
    drained: bool = True  # False: some stream had more than the limit, look again at once


class Machine:
    """The agent on one machine. Methods raise TransportError when it cannot be reached, AgentError when it refuses."""

    def __init__(self, transport: Transport, directory: str, *, python: str = "python3") -> None:
        self._transport = transport
        self._directory = directory.rstrip("/")
        # Isolated and without site-packages: the agent needs neither, and it starts in half the time.
        self._python = [python, "-I", "-S"]
        self._agent, self._unpack, self._gather = (
            [*self._python, f"{self._directory}/{name}"] for name in _AGENT_FILES
        )

    def install(self, *, timeout: float = 60) -> None:
        """Put the agent on the machine; the directory is made when it is missing."""
        sources = {name: files("jobs.agent").joinpath(name).read_text("utf-8") for name in _AGENT_FILES}
        argv = [*self._python, "-c", _PUT, self._directory]
        done = self._transport.run(argv, stdin=json.dumps(sources).encode(), timeout=timeout)
        if done.exit_code != 0:
            raise AgentError(f"cannot write the agent on the machine: {answers.end_of(done.stderr)}")

    def probe(self, *, docker: bool = True, timeout: float = 60) -> Json:
        """Facts about the machine: GPUs, CPUs, memory, disk, Python, and Docker where it matters. See designs/0002."""
        return answers.facts(self._ask("probe", {"docker": docker}, timeout=timeout))

    def unpack(self, bundle: Path, digest: str, *, folder: str | None = None, timeout: float = 120) -> Json:
        """Ship a tar file into the job's working directory, or a folder of it; doing it twice changes nothing."""
        argv = [*self._unpack, "unpack", digest, *([folder] if folder else [])]
        with bundle.open("rb") as tar:
            done = self._transport.send(argv, _chunks(tar), timeout=timeout)
        return answers.answer(done)

    def has_image(self, name: str, *, docker: str, timeout: float = 60) -> bool:
        """Whether the machine's Docker has the image; `docker` is the client that the probe found to answer."""
        return self._transport.run([docker, "image", "inspect", name], timeout=timeout).exit_code == 0

    def load_image(self, chunks: Iterable[bytes], *, docker: str, timeout: float = 300) -> None:
        """Give the machine's Docker an image, as `docker save` packs it."""
        done = self._transport.send([docker, "load", "--quiet"], chunks, timeout=timeout)
        if done.exit_code != 0:
            raise AgentError(f"docker load: {answers.end_of(done.stderr)}")

    def start(
        self, job: Json, secrets: Mapping[str, str], *, registry: Mapping[str, str] | None = None, timeout: float = 60
    ) -> bool:
        """Start the job, detached. False when it was started before. Secrets go over stdin and stay in memory.

        `registry` is who may pull the image: server, username, password.
        """
        request = {"job": job, "secrets": dict(secrets), "registry": dict(registry or {})}
        answer = self._ask("start", request, timeout=timeout)
        return not answer.get("already", False)

    def visit(self, offsets: Mapping[str, int], *, limit: int = 4 * _CHUNK, timeout: float = 30) -> Visit:
        """Records and the next bytes of every stream from its offset, in one round trip, `limit` bytes per stream."""
        wanted = [self._range("state.json", 0, answers.RECORD_BYTES), self._range("exit.json", 0, answers.RECORD_BYTES)]
        wanted += [self._range(_PATHS[name], offsets.get(name, 0), limit) for name in STREAMS]
        state, ended, *streams = self._transport.read(wanted, timeout=timeout)
        new = {name: chunk or b"" for name, chunk in zip(STREAMS, streams, strict=True)}
        return Visit(
            state=answers.state(state),
            exit=answers.exit_record(ended),
            new=new,
            drained=all(len(chunk) < limit for chunk in new.values()),
        )

    def alive(self, *, timeout: float = 30) -> bool:
        """Whether the agent holds its lock."""
        return bool(self._ask("alive", timeout=timeout).get("alive"))

    def stop(self, reason: str, grace_seconds: float, *, timeout: float = 30) -> None:
        """Ask the agent to end the job: TERM, the grace, KILL. Returns when asked."""
        self._ask("stop", {"reason": reason, "grace_seconds": grace_seconds}, timeout=timeout)

    def manifest(self, patterns: Sequence[str], *, hashed: bool = True, timeout: float = 600) -> Manifest:
        """The files below the working directory that match; `hashed` adds sha256, computed on the machine."""
        argv, stdin = self._gathering("manifest", {"patterns": list(patterns), "hash": hashed})
        entries: list[FileEntry] = []
        end: Json | None = None
        with self._transport.receive(argv, stdin=stdin, timeout=timeout) as chunks:
            for line in _lines(_bounded(chunks)):  # to the command's own end: to kill it would take two round trips
                row = answers.parsed(line)
                if end is not None or len(entries) > MOST_FILES:
                    raise AgentError("the list of files does not end")
                if row.get("end"):
                    end = row
                else:
                    entries.append(answers.entry(row))
        if end is None:
            raise AgentError("the list of files ended in the middle")
        return Manifest(tuple(entries), answers.skipped(end))

    @contextmanager
    def pack(self, paths: Sequence[str], *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        """A tar stream of those files."""
        argv, stdin = self._gathering("pack", {"paths": list(paths)})
        with self._transport.receive(argv, stdin=stdin, timeout=timeout) as chunks:
            yield chunks

    @contextmanager
    def cut(self, path: str, offset: int, length: int, *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        """`length` bytes of one file from `offset`."""
        argv, stdin = self._gathering("cut", {"path": path, "offset": offset, "limit": length})
        with self._transport.receive(argv, stdin=stdin, timeout=timeout) as chunks:
            yield chunks

    @contextmanager
    def as_long_as(self, may_go_on: Callable[[], bool]) -> Iterator[None]:
        """What is asked inside ends with TransportError once `may_go_on` says no, whatever progress it makes."""
        before, self._transport.may_go_on = self._transport.may_go_on, may_go_on
        try:
            yield
        finally:
            self._transport.may_go_on = before

    def execute(self, argv: Sequence[str], *, timeout: float = 60) -> Completed:
        """Run any command there, for `gpujob exec` and diagnosis."""
        return self._transport.run(argv, timeout=timeout)

    def close(self) -> None:
        self._transport.close()

    def _gathering(self, command: str, request: Json) -> tuple[list[str], bytes]:
        """Argv and stdin. What is short goes with the command: stdin is only taken a round trip later."""
        raw = json.dumps(request)
        if len(raw) <= _SHORT_REQUEST:
            return [*self._gather, raw, command], b""
        return [*self._gather, command], raw.encode()

    def _ask(self, command: str, request: Json | None = None, *, timeout: float) -> Json:
        stdin = b"" if request is None else json.dumps(request).encode()
        return answers.answer(self._transport.run([*self._agent, command], stdin=stdin, timeout=timeout))

    def _range(self, name: str, offset: int, limit: int) -> ByteRange:
        return ByteRange(f"{self._directory}/{name}", offset, limit)


def _chunks(source: Any) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = bytearray()  # not joined anew with each chunk: a machine may send a byte at a time
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest += first
        if len(rest) > _CHUNK:
            raise AgentError("the machine sent a line of over 1 MiB")
        if others:
            *whole, last = bytes(rest), *others
            rest = bytearray(last)
            yield from (line for line in whole if line)
    if rest:
        yield bytes(rest)


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    left = LISTING_BYTES
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise AgentError(f"the list of files is over {LISTING_BYTES} bytes")
        yield chunk


__all__ = ["STREAMS", "AgentError", "FileEntry", "Json", "Machine", "Manifest", "TransportError", "Visit"]
