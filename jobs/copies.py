"""Copies of a machine's files in a folder of this computer: each whole, with the sha256 that was announced, or absent.

A copy is made beside the folder and renamed into it. Big files go on where they broke. The machine is not trusted: it
cannot write outside the folder, nor send more than it announced. Knows no run, and not what the files are for.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from jobs import room
from jobs.agent.unpack import FILES, Member, TarError, members, write_all
from jobs.machine import AgentError, FileEntry, Machine
from jobs.transport.exchange import CommandFailed

BIG = 4 * 1024 * 1024
CHANGED = "it changed while it was copied"
_CHUNK = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABOUT_THE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)
_LONGEST_NAME = 255  # of most file systems, in bytes
_LONGEST_PATH = 3000  # less than the 4096 of Linux, which the folder counts for, too
_TAR_OVERHEAD = 8192  # headers and padding of a member, besides twice its name
_TAR_END = 2 * 1024 * 1024

_HOLE = 4096  # a block of most file systems

Why = dict[str, str]


class Copies:
    """The copies below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._partial = self._folder.with_name(f".{self._folder.name}.partial")
        self._made: set[str] = set()  # folders that are there

    def has(self, entry: FileEntry) -> bool:
        """Whether there is a file of that name and size. Whether it is the same one, a record or `verify` must say."""
        try:
            found = os.lstat(self._path(entry))
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == entry.bytes

    def verify(self, entry: FileEntry) -> bool:
        """Whether the copy has the announced content."""
        return self.has(entry) and _digest(Path(self._path(entry))).hexdigest() == entry.sha256

    def refuse(self, entries: Sequence[FileEntry]) -> Why:
        """Those that cannot have a place in the folder, and why."""
        real: set[str] = set()
        refused = {entry.path: why for entry in entries if (why := self._why_not(entry, real))}
        if len({entry.path for entry in entries}) < len(entries):
            times = Counter(entry.path for entry in entries)
            refused |= {path: "the machine lists it twice" for path, count in times.items() if count > 1}
        return {**refused, **self._clashes([entry for entry in entries if entry.path not in refused])}

    def fetch(self, machine: Machine, entries: Sequence[FileEntry], on_whole: Callable[[FileEntry], None]) -> Why:
        """Copy files that were not refused; `on_whole` is called as each is in its place. Returns what did not come.

        Raises OSError when this disk has no room for what was announced (jobs/room.py); what came of a big file stays.
        """
        for folder in (self._folder, self._partial):
            folder.mkdir(parents=True, exist_ok=True)
        self._drop_stale(entries)
        failed: Why = {}
        small = [entry for entry in entries if entry.bytes < BIG]
        if small:
            failed |= self._fetch_small(machine, small, on_whole)
        no_room = None
        for entry in entries:
            if entry.bytes < BIG:
                continue
            try:
                self._require_room(entry)
            except OSError as error:
                no_room = error  # others may have room
                continue
            if why := self._fetch_big(machine, entry, on_whole):
                failed[entry.path] = why
        if no_room is not None:
            raise no_room
        with suppress(OSError):
            self._partial.rmdir()
        return failed

    def forget_parts(self) -> None:
        """Remove what came of files that are not whole."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _path(self, entry: FileEntry) -> str:
        """A plain string: there may be 100,000 of them, and a Path takes longer to make than a file to look at."""
        return f"{self._folder}/{entry.path}"

    def _why_not(self, entry: FileEntry, real: set[str]) -> str | None:
        """`real` are folders that are known to be no links."""
        parts = entry.path.split("/")
        if "\0" in entry.path or any(part in ("", ".", "..") for part in parts):
            return "its name leads out of the folder"
        if re.match(r"[A-Za-z]:|\\", entry.path) or ".." in entry.path.replace("\\", "/").split("/"):
            return "its name leads out of the folder on other systems"
        if not _can_be_spelt(entry.path):
            return "its name cannot be spelt on this disk"
        if entry.bytes < 0 or entry.sha256 is None or not _SHA256.fullmatch(entry.sha256):
            return "the machine did not say what is in it"
        raw = os.fsencode(entry.path)
        if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > _LONGEST_NAME:
            return "its name is too long for this disk"
        parent = "/".join(parts[:-1])
        if parent not in real:
            if link := self._link_on_the_way(parts[:-1]):
                return f"{link} is a link in the local folder"
            real.add(parent)
        return None

    def _link_on_the_way(self, folders: Sequence[str]) -> str | None:
        for depth in range(1, len(folders) + 1):
            way = "/".join(folders[:depth])
            try:
                found = os.lstat(f"{self._folder}/{way}")
            except OSError:
                return None  # it is not there, and nothing is below it
            if stat.S_ISLNK(found.st_mode):
                return way
        return None

    def _clashes(self, entries: Sequence[FileEntry]) -> Why:
        """Names that differ only in case or in the spelling of accents, where the local disk makes no difference."""
        seen: dict[str, str] = {}
        clashes: Why = {}
        for entry in entries:
            first = seen.setdefault(unicodedata.normalize("NFC", entry.path).casefold(), entry.path)
            if first != entry.path:
                clashes[entry.path] = f"this computer's disk cannot tell it from {first}"
        return clashes if clashes and self._folds_case() else {}

    def _folds_case(self) -> bool:
        self._partial.mkdir(parents=True, exist_ok=True)
        probe = self._partial / "Case"
        probe.touch()
        try:
            return (self._partial / "cASE").exists()
        finally:
            probe.unlink(missing_ok=True)

    def _drop_stale(self, entries: Sequence[FileEntry]) -> None:
        """Parts of what is no longer wanted as it was."""
        parts = list(self._partial.iterdir())
        wanted = {self._part(entry) for entry in entries} if parts else set()
        for path in parts:
            if str(path) not in wanted:
                path.unlink(missing_ok=True)

    def _part(self, entry: FileEntry) -> str:
        return f"{self._partial}/{hashlib.sha256(os.fsencode(entry.path)).hexdigest()[:16]}-{entry.sha256}"

    def _fetch_small(
        self, machine: Machine, entries: Sequence[FileEntry], on_whole: Callable[[FileEntry], None]
    ) -> Why:
        waiting = {entry.path: entry for entry in entries}
        failed: Why = {}
        bound = sum(entry.bytes + _TAR_OVERHEAD + 2 * len(os.fsencode(entry.path)) for entry in entries) + _TAR_END
        try:
            with machine.pack([entry.path for entry in entries]) as chunks:
                for member in members(_bounded(chunks, bound)):
                    name = os.fsdecode(member.name)
                    entry = waiting.pop(name, None) if member.kind in FILES else None
                    if entry is not None and (why := self._keep(entry, member, on_whole)):
                        failed[name] = why
        except CommandFailed as error:
            return {**failed, **{path: str(error) for path in waiting}}
        except TarError as error:
            raise AgentError(f"the machine did not send a tar stream: {error}") from error
        return {**failed, **dict.fromkeys(waiting, CHANGED)}

    def _keep(self, entry: FileEntry, member: Member, on_whole: Callable[[FileEntry], None]) -> str | None:
        if member.size != entry.bytes:
            return CHANGED
        room.require(self._folder, member.size, entry.path)
        part = self._part(entry)
        digest = hashlib.sha256()
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            for chunk in member.content:
                digest.update(chunk)
                write_all(descriptor, chunk)
        finally:
            os.close(descriptor)
        return self._place(entry, part, digest.hexdigest(), member.size, on_whole)

    def _require_room(self, entry: FileEntry) -> None:
        """Before the disk is filled with what will not fit, or with what a machine only says that it has."""
        try:
            here = os.lstat(self._part(entry)).st_size
        except FileNotFoundError:
            here = 0
        room.require(self._folder, entry.bytes - (here if here <= entry.bytes else 0), entry.path)

    def _fetch_big(self, machine: Machine, entry: FileEntry, on_whole: Callable[[FileEntry], None]) -> str | None:
        part = Path(self._part(entry))
        with part.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size > entry.bytes:
                size = file.truncate(0)
            left = entry.bytes - size
            digest = _digest(part)
            try:
                if left:
                    left = _append(machine, entry, size, left, file.fileno(), digest)
            except CommandFailed as error:
                return str(error)
            os.fsync(file.fileno())
        if left:
            part.unlink(missing_ok=True)
            return CHANGED
        return self._place(entry, str(part), digest.hexdigest(), part.stat().st_size, on_whole)

    def _place(
        self, entry: FileEntry, part: str, digest: str, size: int, on_whole: Callable[[FileEntry], None]
    ) -> str | None:
        if digest != entry.sha256 or size != entry.bytes:
            Path(part).unlink()
            return CHANGED
        path = self._path(entry)
        try:
            self._make_way(path)
            os.replace(part, path)  # noqa: PTH105 - a Path costs more than the rename
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in (*_ABOUT_THE_NAME, errno.EEXIST):
                raise
            Path(part).unlink()
            return f"it has no place here: {error}"
        on_whole(entry)
        return None

    def _make_way(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self._made:
            Path(parent).mkdir(parents=True, exist_ok=True)
            self._made.add(parent)


def _append(
    machine: Machine,
    entry: FileEntry,
    offset: int,
    left: int,
    descriptor: int,
    digest: hashlib._Hash,
) -> int:
    """Write the rest of a file as it comes, and return how many bytes did not come."""
    with machine.cut(entry.path, offset, left) as chunks:
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise AgentError(f"the machine sent more of {entry.path} than it had announced")
            digest.update(chunk)
            offset += len(chunk)
            if _is_hole(chunk):
                os.ftruncate(descriptor, offset)
            else:
                write_all(descriptor, chunk)
    return left


def _is_hole(chunk: bytes) -> bool:
    """Zeros take no room: a job may lay out a file of many gigabytes and write little of it."""
    return len(chunk) >= _HOLE and not chunk[0] and not chunk[-1] and chunk == bytes(len(chunk))


def _bounded(chunks: Iterator[bytes], bound: int) -> Iterator[bytes]:
    """The same chunks, which end with an error after `bound` bytes."""
    for chunk in chunks:
        bound -= len(chunk)
        if bound < 0:
            raise AgentError("the machine sent more than it had announced")
        yield chunk


def _can_be_spelt(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _digest(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest
