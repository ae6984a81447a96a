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
import tarfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.machine import AgentError, FileEntry, Machine
from jobs.transport.exchange import CommandFailed

BIG = 4 * 1024 * 1024
CHANGED = "it changed while it was copied"
_CHUNK = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABOUT_THE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)
_TAR_OVERHEAD = 8192  # headers and padding of a member, besides twice its name
_TAR_END = 2 * 1024 * 1024

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
        return {**refused, **self._clashes([entry for entry in entries if entry.path not in refused])}

    def fetch(self, machine: Machine, entries: Sequence[FileEntry], on_whole: Callable[[FileEntry], None]) -> Why:
        """Copy files that were not refused; `on_whole` is called as each is in its place. Returns what did not come."""
        self._partial.mkdir(parents=True, exist_ok=True)
        self._drop_stale(entries)
        failed: Why = {}
        small = [entry for entry in entries if entry.bytes < BIG]
        if small:
            failed |= self._fetch_small(machine, small, on_whole)
        for entry in entries:
            if entry.bytes >= BIG and (why := self._fetch_big(machine, entry, on_whole)):
                failed[entry.path] = why
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
        if entry.bytes < 0 or entry.sha256 is None or not _SHA256.fullmatch(entry.sha256):
            return "the machine did not say what is in it"
        parent = "/".join(parts[:-1])
        if parent not in real:
            for depth in range(1, len(parts)):
                if self._folder.joinpath(*parts[:depth]).is_symlink():
                    return f"{'/'.join(parts[:depth])} is a link in the local folder"
            real.add(parent)
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
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _part(self, entry: FileEntry) -> Path:
        return self._partial / f"{hashlib.sha256(os.fsencode(entry.path)).hexdigest()[:16]}-{entry.sha256}"

    def _fetch_small(
        self, machine: Machine, entries: Sequence[FileEntry], on_whole: Callable[[FileEntry], None]
    ) -> Why:
        waiting = {entry.path: entry for entry in entries}
        failed: Why = {}
        bound = sum(entry.bytes + _TAR_OVERHEAD + 2 * len(os.fsencode(entry.path)) for entry in entries) + _TAR_END
        try:
            with machine.pack([entry.path for entry in entries]) as chunks:
                stream = _Bounded(chunks, bound)
                for name, content in _members(stream):
                    entry = waiting.pop(name, None)
                    if entry is not None and (why := self._keep(entry, content, on_whole)):
                        failed[name] = why
                stream.drain()
        except CommandFailed as error:
            return {**failed, **{path: str(error) for path in waiting}}
        return {**failed, **dict.fromkeys(waiting, CHANGED)}

    def _keep(self, entry: FileEntry, content: Iterator[bytes], on_whole: Callable[[FileEntry], None]) -> str | None:
        part = self._part(entry)
        digest, size = hashlib.sha256(), 0
        with part.open("wb", buffering=0) as file:
            for chunk in content:
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)
        return self._place(entry, part, digest.hexdigest(), size, on_whole)

    def _fetch_big(self, machine: Machine, entry: FileEntry, on_whole: Callable[[FileEntry], None]) -> str | None:
        part = self._part(entry)
        with part.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size > entry.bytes:
                size = file.truncate(0)
            digest = _digest(part)
            left = entry.bytes - size
            try:
                if left:
                    left = _append(machine, entry, size, left, file.write, digest)
            except CommandFailed as error:
                return str(error)
            file.flush()
            os.fsync(file.fileno())
        if left:
            part.unlink(missing_ok=True)
            return CHANGED
        return self._place(entry, part, digest.hexdigest(), part.stat().st_size, on_whole)

    def _place(
        self, entry: FileEntry, part: Path, digest: str, size: int, on_whole: Callable[[FileEntry], None]
    ) -> str | None:
        if digest != entry.sha256 or size != entry.bytes:
            part.unlink(missing_ok=True)
            return CHANGED
        path = self._path(entry)
        try:
            self._make_way(path)
            part.replace(path)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in (*_ABOUT_THE_NAME, errno.EEXIST):
                raise
            part.unlink(missing_ok=True)
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
    write: Callable[[bytes], object],
    digest: hashlib._Hash,
) -> int:
    """Write the rest of a file as it comes, and return how many bytes did not come."""
    with machine.cut(entry.path, offset, left) as chunks:
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise AgentError(f"the machine sent more of {entry.path} than it had announced")
            write(chunk)
            digest.update(chunk)
    return left


class _Bounded:
    """A stream of chunks as a file for `tarfile`, which ends with an error after `bound` bytes."""

    def __init__(self, chunks: Iterator[bytes], bound: int) -> None:
        self._chunks = chunks
        self._left = bound
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        parts: list[memoryview] = []
        while size > 0 and (self._rest or self._next()):
            parts.append(self._rest[:size])
            size -= len(parts[-1])
            self._rest = self._rest[len(parts[-1]) :]
        return b"".join(parts)

    def drain(self) -> None:
        """To the command's end, which may be an error."""
        while self._next():
            pass

    def _next(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._left -= len(chunk)
        if self._left < 0:
            raise AgentError("the machine sent more than it had announced")
        self._rest = memoryview(chunk)
        return True


def _members(stream: _Bounded) -> Iterator[tuple[str, Iterator[bytes]]]:
    with (
        _only_tar(),
        tarfile.open(  # type: ignore[call-overload]
            fileobj=stream, mode="r|", bufsize=_CHUNK, encoding="utf-8", errors="surrogateescape"
        ) as tar,
    ):
        for member in tar:
            if member.isreg() and not member.issparse():
                yield member.name, _content(tar, member)
            tar.members = []  # tarfile would keep them all


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with _only_tar():
        file = tar.extractfile(member)
        while file is not None and (chunk := file.read(_CHUNK)):
            yield chunk


@contextmanager
def _only_tar() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise AgentError(f"the machine did not send a tar stream: {error}") from error


def _digest(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest
