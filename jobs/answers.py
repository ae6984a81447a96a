"""What a machine answers, as values of the documented types (designs/0002): records, facts, files, and what it refuses.

Nothing is believed: a field of another type is None, texts are cut, numbers are finite and bounded, keys that nobody
knows are dropped, and an answer that cannot be understood at all is an AgentError. Pure; knows no transport.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.transport.base import Completed

Json = dict[str, Any]

RECORD_BYTES = 64 * 1024
LONGEST_WORDS = 400
_LONGEST_DETAIL = 2000
_LONGEST_WORD = 200
_MOST_GPUS = 64
_MOST = 2**63  # what no size, count or time of a machine reaches
_PHASES = ("pulling", "setup", "running", "stopping", "exited")


class AgentError(Exception):
    """The agent said no, or something that is not its language. The machine was reached."""


@dataclass(frozen=True)
class FileEntry:
    """A regular file below the job's working directory, as the machine describes it."""

    path: str  # POSIX, relative
    bytes: int
    mtime_ns: int
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """The files that matched, and those that could not be described, with the reason."""

    files: tuple[FileEntry, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def answer(done: Completed) -> Json:
    """The object that a command printed. Raises AgentError, with the agent's own words where it refused."""
    if done.exit_code == 0:
        return parsed(done.stdout)
    try:
        refused = parsed(done.stdout).get("error")
    except AgentError:
        refused = None
    reason = one_line(refused) if isinstance(refused, str) else ""
    raise AgentError(reason or end_of(done.stderr) or f"exit code {done.exit_code}")


def parsed(raw: bytes) -> Json:
    """A JSON object. Raises AgentError."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise AgentError(f"not JSON: {end_of(raw)!r}") from error
    if not isinstance(value, dict):
        raise AgentError(f"not a JSON object: {end_of(raw)!r}")
    return value


def state(raw: bytes | None) -> Json | None:
    """state.json; None when there is none yet. A phase that the agent does not have is None."""
    if raw is None:
        return None
    said = _record(raw, "state.json")
    phase = said.get("phase")
    return {
        "phase": phase if isinstance(phase, str) and phase in _PHASES else None,
        "since": _number(said.get("since")),
        "beat": _whole(said.get("beat")),
        "pid": _whole(said.get("pid")),
        "runs_in": _word(said.get("runs_in")),
        "image_digest": _word(said.get("image_digest")),
        "detail": _detail(said.get("detail")),
        "fallback": _detail(said.get("fallback")) or None,
    }


def exit_record(raw: bytes | None) -> Json | None:
    """exit.json; None while the job goes on. Its presence says that the job is over, whatever else is in it."""
    if raw is None:
        return None
    said = _record(raw, "exit.json")
    return {
        "reason": _word(said.get("reason")),
        "exit_code": _whole(said.get("exit_code"), most=2**32),
        "signal": _whole(said.get("signal"), most=128),
        "detail": _detail(said.get("detail")),
        **{name: _number(said.get(name)) for name in ("started_at", "ended_at", "setup_seconds", "run_seconds")},
        **{name: _whole(said.get(name)) for name in ("log_bytes", "metrics_bytes")},
    }


def facts(said: Json) -> Json:
    """What the probe found. A figure that makes no sense is None; what is no GPU is not in the list of them."""
    gpus = said.get("gpus")
    return {
        **{name: _word(said.get(name)) for name in ("python", "os", "arch", "hostname", "cpu_model")},
        **{name: _number(said.get(name)) for name in ("cpus", "memory_bytes", "disk_free_bytes")},
        "gpus": [_gpu(gpu) for gpu in gpus[:_MOST_GPUS] if isinstance(gpu, dict)] if isinstance(gpus, list) else [],
        "cuda": _word(said.get("cuda")),
        "docker": _docker(said.get("docker")),
        "time": _number(said.get("time")),
        "boot_id": _word(said.get("boot_id")),
    }


def entry(row: Json) -> FileEntry:
    """A line of a listing. Raises AgentError."""
    path, sha256 = row.get("path"), row.get("sha256")
    size, changed = _whole(row.get("bytes")), _whole(row.get("mtime_ns"))
    told = isinstance(path, str) and (sha256 is None or isinstance(sha256, str))
    if not told or size is None or size < 0 or changed is None:
        raise AgentError(f"not a file entry: {one_line(repr(row))}")
    return FileEntry(str(path), size, changed, sha256)


def skipped(end: Json) -> tuple[tuple[str, str], ...]:
    """Paths and reasons, from the last line of a listing. Raises AgentError."""
    told = end.get("skipped", [])
    rows = told if isinstance(told, list) else [told]
    pairs = [(row.get("path"), row.get("why")) if isinstance(row, dict) else (None, None) for row in rows]
    if not all(isinstance(path, str) and isinstance(why, str) for path, why in pairs):
        raise AgentError(f"not the end of a list of files: {one_line(repr(end))}")
    return tuple((str(path), one_line(str(why))) for path, why in pairs)


def one_line(text: str, limit: int = LONGEST_WORDS) -> str:
    """What a machine says of an error, short enough for a table and without what commands a terminal."""
    start = text[: 4 * limit]
    return " ".join("".join(sign if sign.isprintable() else " " for sign in start).split())[:limit]


def end_of(raw: bytes) -> str:
    """The last words of what a command said on stderr."""
    return one_line(raw[-LONGEST_WORDS:].decode("utf-8", "replace"))


def _record(raw: bytes, name: str) -> Json:
    if len(raw) >= RECORD_BYTES:
        raise AgentError(f"{name} is over {RECORD_BYTES} bytes")
    return parsed(raw)


def _gpu(said: Mapping[str, Any]) -> Json:
    return {
        "name": _word(said.get("name")) or "",
        "memory_mb": _number(said.get("memory_mb")),
        "driver": _word(said.get("driver")),
        "uuid": _word(said.get("uuid")),
    }


def _docker(said: object) -> Json | None:
    if not isinstance(said, dict):
        return None
    program = _word(said.get("program"))
    error = said.get("error")
    return {
        "ok": said.get("ok") is True and bool(program),
        "version": _word(said.get("version")),
        "program": program,
        "error": one_line(error) if isinstance(error, str) else None,
    }


def _word(value: object) -> str | None:
    return value[:_LONGEST_WORD] if isinstance(value, str) else None


def _detail(value: object) -> str:
    return value[:_LONGEST_DETAIL] if isinstance(value, str) else ""


def _whole(value: object, *, most: int = _MOST) -> int | None:
    return value if type(value) is int and -most < value < most else None


def _number(value: object) -> float | None:
    """An int stays one: sizes are shown as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value if isinstance(value, float) else 0.0) and abs(value) < _MOST else None
