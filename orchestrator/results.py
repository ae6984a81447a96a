"""What came back from a run and lies here: its artifacts, listed and copied. Knows folders, no store and no machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.artifacts import read_manifest
from jobs.machine import FileEntry
from orchestrator.home import RunFolder

_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Artifact:
    """A file that came back whole. `name` is its path below the job's working directory."""

    name: str
    path: Path
    bytes: int
    sha256: str


def entries(folder: RunFolder) -> list[FileEntry]:
    """The manifest: what came back whole, by name."""
    return sorted(read_manifest(folder.manifest), key=lambda entry: entry.path)


def artifacts(folder: RunFolder) -> list[Artifact]:
    """The files that came back, by name."""
    return [
        Artifact(entry.path, folder.artifacts / entry.path, entry.bytes, entry.sha256 or "")
        for entry in entries(folder)
    ]


def copy(files: Sequence[Artifact], target: Path) -> list[str]:
    """Copy each to `target`, whole or not at all. Returns in words what could not be copied."""
    target.mkdir(parents=True, exist_ok=True)
    return list(_problems(files, target))


def _problems(files: Sequence[Artifact], target: Path) -> Iterator[str]:
    for file in files:
        to = target / file.name
        new = to.with_name(f".{to.name}.new")
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, new)
            if _sha256(new) != file.sha256:
                yield f"{file.name}: its content is not what came back from the machine"
                continue
            new.replace(to)
        except (OSError, ValueError) as error:  # ValueError: a name that no disk can spell
            yield f"{file.name}: {(error.strerror if isinstance(error, OSError) else None) or error}"
        finally:
            with suppress(OSError, ValueError):
                new.unlink()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
