"""A machine whose agent runs a script instead of a job, on an injected clock: jobs.machine.Machine without a machine.

    script = Script(seconds=60, log=[(0, b"hello\\n")], files=[(50, "outputs/model.bin", b"...")])
    machine = FakeMachine(clock, script)

    machines = FakeMachines(clock, cloud, script)        # many of them, up while the cloud says that they run
    World(..., connect=machines.connect)
    assert machines["gpujob-r-1-1-1"].started == 1       # the job ran once

Nothing happens between calls: each call works out what the clock and the script say by then.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.machine import STREAMS, AgentError, FileEntry, Json, Manifest, Visit
from jobs.transport.base import Completed, TransportError
from providers.base import Now
from tests.fakes.memory_provider import MemoryProvider

_MIB = 1024 * 1024
_HEALTHY: Json = {
    "python": "3.11.7",
    "os": "Linux",
    "arch": "x86_64",
    "hostname": "fake",
    "cpus": 16,
    "memory_bytes": 64 * 10**9,
    "disk_free_bytes": 1000 * 10**9,
    "gpus": [],
    "cuda": None,
    "docker": {"ok": True, "version": "28.0", "program": "/usr/bin/docker", "error": None},
    "boot_id": "fake",
}

Timed = Sequence[tuple[float, bytes]]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What the job does. Times are seconds from the start of `run`, but where something else is said."""

    seconds: float = 10.0  # math.inf: until it is stopped
    exit_code: int = 0
    reason: str = "exited"
    signal: int | None = None
    detail: str = ""
    setup_seconds: float = 0.0
    stop_seconds: float = 0.0  # how long it takes to end after TERM; the grace bounds it
    runs_in: str = "container"
    log: Timed = ()
    metrics: Timed = ()
    telemetry: Timed = ()
    events: Timed = ()
    files: Sequence[tuple[float, str, bytes]] = ()  # (when, path below work, content); a later one replaces
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the probe says otherwise than usual
    agent_dies_at: float | None = None  # from `start`: the agent and its twin are killed, and the job with them
    unreachable: Sequence[tuple[float, float]] = ()  # from when the machine was first spoken to


class FakeMachine:
    """The methods of jobs.machine.Machine. `started` counts how often a job was really started."""

    def __init__(self, clock: Now, script: Script | None = None, *, is_up: Callable[[], bool] = lambda: True) -> None:
        self.script = script or Script()
        self.started = 0
        self.job: Json = {}
        self.secrets: dict[str, str] = {}
        self.unpacked: list[tuple[str, str | None]] = []  # (digest, folder), each once
        self.executed: list[Sequence[str]] = []
        self.images: list[str] = []
        self.installed = 0
        self.visits = 0
        self._clock = clock
        self._is_up = is_up
        self._born = self._now()
        self.may_go_on: Callable[[], bool] = lambda: True
        self._start = 0.0
        self._stop: tuple[float, float, str] | None = None  # asked at, grace, reason
        self._streams = {name: _Stream(getattr(self.script, name)) for name in STREAMS}

    def install(self, *, timeout: float = 60) -> None:
        self._reach()
        self.installed += 1

    def probe(self, *, docker: bool = True, timeout: float = 60) -> Json:
        self._reach()
        return {**_HEALTHY, "time": self._now(), **self.script.facts}

    def unpack(self, bundle: Path, digest: str, *, folder: str | None = None, timeout: float = 120) -> Json:
        self._reach()
        if (digest, folder) not in self.unpacked:
            self.unpacked.append((digest, folder))
        return {"files": 1, "bytes": 1}

    def has_image(self, name: str, *, docker: str, timeout: float = 60) -> bool:
        self._reach()
        return name in self.images

    def load_image(self, chunks: Iterable[bytes], *, docker: str, timeout: float = 300) -> None:
        """Its Docker has an image whose name is what was sent."""
        self._reach()
        self.images.append(b"".join(chunks).decode())

    def start(
        self, job: Json, secrets: Mapping[str, str], *, registry: Mapping[str, str] | None = None, timeout: float = 60
    ) -> bool:
        self._reach()
        if self.started:
            return False
        self.started, self.job, self.secrets, self._start = 1, job, dict(secrets), self._now()
        return True

    def visit(self, offsets: Mapping[str, int], *, limit: int = 4 * _MIB, timeout: float = 30) -> Visit:
        self._reach()
        self.visits += 1
        run_time = self._moment() - self._start - self.script.setup_seconds if self.started else -1.0
        new = {name: self._streams[name].read(run_time, offsets.get(name, 0), limit) for name in STREAMS}
        return Visit(
            state=self._state(),
            exit=self._exit(),
            new=new,
            drained=all(len(chunk) < limit for chunk in new.values()),
        )

    def alive(self, *, timeout: float = 30) -> bool:
        self._reach()
        return bool(self.started) and self._ended() is None and not self._is_dead()

    def stop(self, reason: str, grace_seconds: float, *, timeout: float = 30) -> None:
        self._reach()
        if self.started and self._stop is None:
            self._stop = (self._now(), grace_seconds, reason)

    def manifest(self, patterns: Sequence[str], *, hashed: bool = True, timeout: float = 600) -> Manifest:
        self._reach()
        wanted = re.compile("|".join(map(_expression, patterns)) or r"(?!)")
        matching = {path: found for path, found in self._files().items() if wanted.fullmatch(path)}
        return Manifest(tuple(_entry(path, *found, hashed=hashed) for path, found in sorted(matching.items())))

    @contextmanager
    def pack(self, paths: Sequence[str], *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        self._reach()
        files, packed = self._files(), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w|") as tar:
            for path in paths:
                if path in files:
                    member = tarfile.TarInfo(path)
                    member.size = len(files[path][1])
                    tar.addfile(member, io.BytesIO(files[path][1]))
        yield iter([packed.getvalue()])

    @contextmanager
    def cut(self, path: str, offset: int, length: int, *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        self._reach()
        if path not in self._files():
            raise AgentError(f"there is no {path}")
        yield iter([self._files()[path][1][offset : offset + length]])

    @contextmanager
    def as_long_as(self, may_go_on: Callable[[], bool]) -> Iterator[None]:
        self.may_go_on = may_go_on
        try:
            yield
        finally:
            self.may_go_on = lambda: True

    def execute(self, argv: Sequence[str], *, timeout: float = 60) -> Completed:
        self._reach()
        self.executed.append(argv)
        return Completed(0, b"", b"")

    def close(self) -> None:
        return

    def _reach(self) -> None:
        age = self._now() - self._born
        if not self._is_up() or any(start <= age < end for start, end in self.script.unreachable):
            raise TransportError("the machine does not answer")

    def _state(self) -> Json | None:
        if not self.started:
            return None
        moment = self._moment()
        phase = "exited" if self._ended() is not None else "stopping" if self._stop else "running"
        if phase == "running" and moment < self._start + self.script.setup_seconds:
            phase = "setup"
        return {
            "phase": phase,
            "since": self._start,
            "beat": int(moment - self._start),
            "pid": 1,
            "runs_in": self.script.runs_in,
            "image_digest": None,
            "detail": "",
        }

    def _exit(self) -> Json | None:
        ended = self._ended()
        if ended is None:
            return None
        at, reason, detail = ended
        natural = reason == self.script.reason
        began = self._start + self.script.setup_seconds
        return {
            "reason": reason,
            "exit_code": self.script.exit_code if natural else None,
            "signal": self.script.signal if natural else 15,
            "detail": detail,
            "started_at": began,
            "ended_at": at,
            "setup_seconds": self.script.setup_seconds,
            "run_seconds": at - began,
            "log_bytes": self._streams["log"].length(at - began),
            "metrics_bytes": self._streams["metrics"].length(at - began),
        }

    def _ended(self) -> tuple[float, str, str] | None:
        """When the exit record was written and why: whatever came first. A dead agent writes none."""
        if not self.started:
            return None
        began = self._start + self.script.setup_seconds
        ends = [(began + self.script.seconds, self.script.reason, self.script.detail)]
        if self._stop is not None:
            asked, grace, reason = self._stop
            ends.append((asked + min(self.script.stop_seconds, grace), "stopped", reason))
        if (limit := self.job.get("max_duration_seconds")) is not None:
            ends.append((began + limit, "max_duration", ""))
        if (deadline := self.job.get("deadline_seconds")) is not None:
            ends.append((self._start + deadline, "deadline", ""))
        first = min(ends)
        return first if first[0] <= self._moment_of_life() else None

    def _moment(self) -> float:
        """Now; or when everything stopped, once it did."""
        ended = self._ended()
        return self._moment_of_life() if ended is None else min(ended[0], self._moment_of_life())

    def _moment_of_life(self) -> float:
        dies_at = self.script.agent_dies_at
        return self._now() if dies_at is None else min(self._now(), self._start + dies_at)

    def _is_dead(self) -> bool:
        dies_at = self.script.agent_dies_at
        return dies_at is not None and self._now() >= self._start + dies_at

    def _files(self) -> dict[str, tuple[float, bytes]]:
        if not self.started:
            return {}
        run_time = self._moment() - self._start - self.script.setup_seconds
        return {path: (at, content) for at, path, content in self.script.files if at <= run_time}

    def _now(self) -> float:
        return self._clock().timestamp()


class FakeMachines:
    """The machines of a cloud in memory, by name. `script` may be a function of the machine's name."""

    def __init__(
        self, clock: Now, cloud: MemoryProvider, script: Script | Callable[[str], Script] | None = None
    ) -> None:
        self._clock = clock
        self._cloud = cloud
        self._script = script or Script()
        self._machines: dict[str, FakeMachine] = {}

    def __getitem__(self, name: str) -> FakeMachine:
        """The machine of that name, whether it still exists or not."""
        return self._machines[name]

    def __iter__(self) -> Iterator[FakeMachine]:
        return iter(self._machines.values())

    def connect(self, name: str, access: object, folder: object) -> Any:
        """Fits orchestrator.world.Connect. A second connection leads to the same machine."""
        if name not in self._machines:
            script = self._script if isinstance(self._script, Script) else self._script(name)
            self._machines[name] = FakeMachine(self._clock, script, is_up=lambda: self._cloud.is_up(name))
        return self._machines[name]

    @property
    def started(self) -> int:
        """How many jobs were started, on all machines together."""
        return sum(machine.started for machine in self)


def metric_lines(*values: tuple[float, Mapping[str, object]]) -> list[tuple[float, bytes]]:
    """(when, row) as the JSON lines that a job appends to $GPUJOB_METRICS."""
    return [(at, json.dumps(row).encode() + b"\n") for at, row in values]


class _Stream:
    """Bytes that appear at their times; only ever grows."""

    def __init__(self, script: Timed) -> None:
        self._left = sorted(script, key=lambda item: item[0])[::-1]
        self._bytes = bytearray()

    def read(self, run_time: float, offset: int, limit: int) -> bytes:
        self.length(run_time)
        return bytes(self._bytes[offset : offset + limit])

    def length(self, run_time: float) -> int:
        while self._left and self._left[-1][0] <= run_time:
            self._bytes += self._left.pop()[1]
        return len(self._bytes)


def _expression(pattern: str) -> str:
    """`**` is any depth, `*` and `?` stay within a name; a name without wildcards is also all below it."""
    words = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    below = "" if len(parts) > 1 else r"(?:/.*)?"
    return "".join(words.get(part, re.escape(part)) for part in parts) + below


def _entry(path: str, at: float, content: bytes, *, hashed: bool) -> FileEntry:
    digest = hashlib.sha256(content).hexdigest() if hashed else None
    return FileEntry(path, len(content), int(at * 10**9), digest)
