"""Artifacts: what a job made, brought home file by file while it runs and once more at its end.

Owns the local manifest, which says what is here and what is missing. Knows no run: a machine, patterns and two paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.copies import Copies
from jobs.machine import FileEntry, Machine, Manifest

_ROUNDS = 3  # a file that changes while it is copied is asked for again, at the end
_MANY = 200


@dataclass(frozen=True)
class Pulled:
    """What is here after a visit. `bytes` were copied by it."""

    complete: bool  # nothing is missing
    files: tuple[FileEntry, ...]
    missing: tuple[tuple[str, str], ...]  # path and why
    bytes: int
    unmatched: tuple[str, ...]  # patterns that match nothing; known at the end only


def pull(machine: Machine, patterns: Sequence[str], folder: Path, manifest: Path, *, final: bool) -> Pulled:
    """Copy what matches and is not here yet. `final` for the visit after the job's end, which looks most closely.

    Files of earlier visits stay, also when the machine has them no more. TransportError, AgentError and OSError pass
    through: what was whole by then stays, and the manifest says so.
    """
    visit = _Visit(machine, patterns, Copies(folder), _Record.read(manifest))
    try:
        for _ in range(_ROUNDS if final else 1):
            visit.look(hashed=final)
            if not visit.missing:
                break
        if final:
            visit.find_unmatched()
    finally:
        here = visit.files()
        visit.write(manifest, here)
    return visit.outcome(here)


def read_manifest(manifest: Path) -> tuple[FileEntry, ...]:
    """The files that a local manifest says are here, whole; none when there is no manifest yet."""
    return tuple(_Record.read(manifest).files.values())


@dataclass
class _Record:
    """The local manifest: files that are here, by path."""

    files: dict[str, FileEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> _Record:
        try:
            rows = json.loads(path.read_bytes())["files"]
            return cls({row["path"]: _entry(row) for row in rows})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return cls()  # the files themselves will tell


class _Visit:
    """One pull."""

    def __init__(self, machine: Machine, patterns: Sequence[str], copies: Copies, record: _Record) -> None:
        self._machine = machine
        self._patterns = patterns
        self._copies = copies
        self._here = record.files
        self._bytes = 0
        self._unmatched: tuple[str, ...] = ()
        self._looked = False
        self.missing: dict[str, str] = {}

    def look(self, *, hashed: bool) -> None:
        """One round: what is there, what is new in it, and the copies of that."""
        self._looked = False
        listed = self._machine.manifest(self._patterns) if hashed else self._news()
        refused = self._copies.refuse(listed.files)
        wanted = [entry for entry in listed.files if entry.path not in refused and not self._is_here(entry)]
        self.missing = {**dict(listed.skipped), **refused}
        if wanted:
            self.missing |= self._copies.fetch(self._machine, wanted, self._arrived)
        self._looked = True

    def find_unmatched(self) -> None:
        """Patterns without a single file. The machine says what a pattern means."""
        self._unmatched = tuple(pattern for pattern in self._patterns if not self._matches(pattern))

    def files(self) -> tuple[FileEntry, ...]:
        """What is here now."""
        return tuple(entry for _, entry in sorted(self._here.items()) if self._copies.has(entry))

    def write(self, path: Path, here: Sequence[FileEntry]) -> None:
        """Replace the local manifest."""
        about = {
            "complete": self._looked and not self.missing,
            "missing": [{"path": name, "why": why} for name, why in sorted(self.missing.items())],
            "unmatched": self._unmatched,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            with new.open("w") as file:
                # A file a line, and not by `indent`, which takes ten times as long.
                rows = ",\n".join(json.dumps(row_of(entry)) for entry in here)
                file.write(f'{json.dumps(about)[:-1]}, "files": [\n{rows}\n]}}\n')
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def outcome(self, here: tuple[FileEntry, ...]) -> Pulled:
        missing = tuple(sorted(self.missing.items()))
        return Pulled(not missing, here, missing, self._bytes, self._unmatched)

    def _news(self) -> Manifest:
        """The files that changed since the last visit, by size and time: only these are worth hashing."""
        seen = self._machine.manifest(self._patterns, hashed=False)
        new = [entry for entry in seen.files if not self._is_unchanged(entry)]
        if not new:
            return Manifest((), seen.skipped)
        patterns = self._patterns if len(new) > _MANY else [literally(entry.path) for entry in new]
        hashed = self._machine.manifest(patterns)
        return Manifest(hashed.files, tuple({**dict(seen.skipped), **dict(hashed.skipped)}.items()))

    def _is_unchanged(self, seen: FileEntry) -> bool:
        known = self._here.get(seen.path)
        same = known is not None and (known.bytes, known.mtime_ns) == (seen.bytes, seen.mtime_ns)
        return same and self._copies.has(seen)

    def _is_here(self, entry: FileEntry) -> bool:
        known = self._here.get(entry.path)
        if known is not None and (known.bytes, known.sha256) == (entry.bytes, entry.sha256):
            here = self._copies.has(entry)
        else:
            here = self._copies.verify(entry)  # copied by a visit that was killed before it could write so
        if here:
            self._here[entry.path] = entry
        return here

    def _arrived(self, entry: FileEntry) -> None:
        self._here[entry.path] = entry
        self._bytes += entry.bytes

    def _matches(self, pattern: str) -> bool:
        if len(self._patterns) == 1 and self._here:
            return True
        found = self._machine.manifest([pattern], hashed=False)
        return bool(found.files or found.skipped)


def literally(path: str) -> str:
    """A pattern for this very path."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def row_of(entry: FileEntry) -> dict[str, Any]:
    """A file as it stands in a manifest, and in a snapshot."""
    return {"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256, "mtime_ns": entry.mtime_ns}


def _entry(row: dict[str, Any]) -> FileEntry:
    return FileEntry(str(row["path"]), int(row["bytes"]), int(row.get("mtime_ns", -1)), str(row["sha256"]))
