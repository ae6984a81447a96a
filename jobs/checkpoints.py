"""Checkpoints brought home while a job runs, so that another machine can go on from the newest.

A snapshot is one consistent set: every file as it was at one moment between two writes of the job. It is a numbered
folder, there whole or not at all, with `files/` (as in the job's working directory) and `snapshot.json`. Knows no run.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.artifacts import literally, row_of
from jobs.bundle import Bundle, BundleError, BundleFile, write
from jobs.copies import Copies
from jobs.machine import FileEntry, Machine

_TRIES = 3
_KEPT = 2
_UNFINISHED = (".tmp", ".partial")


@dataclass(frozen=True)
class Snapshot:
    """A whole set of files, and its folder here. Paths of files count from the job's working directory."""

    path: Path
    source: str  # the job's checkpoint path
    files: tuple[FileEntry, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def pull(machine: Machine, path: str, folder: Path) -> Snapshot | None:
    """Bring home what lies under the job's checkpoint path. None when there is nothing new, or when it never rests.

    TransportError, AgentError and OSError pass through; whole files that came before are used next time.
    """
    source = posixpath.normpath(path)
    previous = _newest(folder)
    for _ in range(_TRIES):
        seen = _list(machine, source, hashed=False)
        if not seen or (previous and _times(seen) == _times(previous.files)):
            return None
        files = _list(machine, source, hashed=True)
        if not files or (previous and _contents(files) == _contents(previous.files)):
            return None
        incoming = folder / ".incoming"
        if not _gather(machine, files, incoming / "files", previous):
            continue
        if _times(_list(machine, source, hashed=False)) == _times(files):
            return _commit(incoming, source, files, folder)
    return None


def newest(folder: Path) -> Path | None:
    """The folder of the newest snapshot that is whole."""
    found = _newest(folder)
    return found.path if found else None


def bundle(snapshot: Path, target: Path) -> str:
    """Write a snapshot as a tar.gz, to be unpacked under the checkpoint path, and return its digest."""
    loaded = _load(snapshot)
    if loaded is None:
        raise BundleError(f"{snapshot} is not a whole snapshot")
    prefix = _prefix(loaded.source)
    files = [BundleFile(path=file.path.removeprefix(prefix), bytes=file.bytes) for file in loaded.files]
    return write(Bundle(snapshot / "files" / prefix, tuple(files)), target)


def _list(machine: Machine, source: str, *, hashed: bool) -> tuple[FileEntry, ...]:
    prefix = _prefix(source)
    found = machine.manifest([f"{literally(prefix)}**"], hashed=hashed).files
    kept = [entry for entry in found if entry.path.startswith(prefix) and not entry.path.endswith(_UNFINISHED)]
    return tuple(sorted(kept, key=lambda entry: entry.path))


def _prefix(source: str) -> str:
    return "" if source == "." else f"{source}/"


def _times(files: Sequence[FileEntry]) -> list[tuple[str, int, int]]:
    return [(file.path, file.bytes, file.mtime_ns) for file in files]


def _contents(files: Sequence[FileEntry]) -> list[tuple[str, int, str | None]]:
    return [(file.path, file.bytes, file.sha256) for file in files]


def _gather(machine: Machine, files: Sequence[FileEntry], target: Path, previous: Snapshot | None) -> bool:
    """Put these files, and no others, below `target`. False when one could not be had."""
    copies = Copies(target)
    target.mkdir(parents=True, exist_ok=True)
    if copies.refuse(files):
        return False
    _clear(target, {file.path for file in files})
    old = set(_contents(previous.files)) if previous else set()
    wanted: list[FileEntry] = []
    for file, content in zip(files, _contents(files), strict=True):
        if previous and content in old:
            _link(previous.path / "files" / file.path, target / file.path)
        known = content in old and copies.has(file)
        if not known and not copies.verify(file):
            wanted.append(file)
    return not wanted or not copies.fetch(machine, wanted, lambda _: None)


def _clear(target: Path, wanted: set[str]) -> None:
    """Remove what an earlier try left and nobody wants now."""
    for folder, _, names in os.walk(target, topdown=False):
        for name in names:
            file = Path(folder, name)
            if file.relative_to(target).as_posix() not in wanted:
                file.unlink()
        if Path(folder) != target:
            with suppress(OSError):
                Path(folder).rmdir()  # goes only when it is empty


def _link(old: Path, new: Path) -> None:
    with suppress(OSError):  # a disk without hard links, or no place for it: the copy from the machine will tell
        new.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        os.link(old, new)


def _commit(incoming: Path, source: str, files: tuple[FileEntry, ...], folder: Path) -> Snapshot:
    rows = [row_of(file) for file in files]
    with (incoming / "snapshot.json").open("w") as file:
        json.dump({"source": source, "files": rows}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Copies(incoming / "files").forget_parts()
    number = max((int(path.name) for path in _snapshots(folder)), default=0) + 1
    path = folder / f"{number:06}"
    incoming.rename(path)
    _prune(folder)
    return Snapshot(path, source, files)


def _prune(folder: Path) -> None:
    whole = [path for path in _snapshots(folder) if _load(path)]
    for path in _snapshots(folder):
        if path not in whole[:_KEPT]:
            trash = folder / f".old-{path.name}"
            path.rename(trash)
    for trash in folder.glob(".old-*"):
        shutil.rmtree(trash, ignore_errors=True)


def _newest(folder: Path) -> Snapshot | None:
    return next((found for path in _snapshots(folder) if (found := _load(path))), None)


def _snapshots(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.glob("[0-9]*") if path.name.isdecimal()), key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name)


def _load(path: Path) -> Snapshot | None:
    """A snapshot with all of its files in their sizes; None for anything else."""
    try:
        content = json.loads((path / "snapshot.json").read_bytes())
        files = tuple(_entry(row) for row in content["files"])
        source = str(content["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    copies = Copies(path / "files")
    return Snapshot(path, source, files) if all(copies.has(file) for file in files) else None


def _entry(row: dict[str, Any]) -> FileEntry:
    return FileEntry(str(row["path"]), int(row["bytes"]), int(row["mtime_ns"]), str(row["sha256"]))
