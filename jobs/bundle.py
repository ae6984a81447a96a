"""Which files of a working directory are shipped, and the one file that they travel in.

`.gitignore` files are respected as git does, and `.gpujobignore` files, which have the same syntax and the last word.
Knows no machine and no run.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.ignore import IgnoreFile

IGNORE_FILE = ".gpujobignore"
_GIT_IGNORE_FILE = ".gitignore"
_CHUNK = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_SAMPLE = 16 * 1024
_GAIN = 0.8  # what does not shrink to this is not packed


class BundleError(Exception):
    """The directory cannot be shipped as it is; the message says which file and what to do."""


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """A file or link below the working directory; `path` is relative, with slashes."""

    path: str
    bytes: int
    executable: bool = False
    link: str | None = None  # where a symbolic link points


@dataclass(frozen=True)
class Bundle:
    """What would be shipped, sorted by path."""

    root: Path
    files: tuple[BundleFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def largest(self, count: int) -> tuple[tuple[str, int], ...]:
        """The largest entries of the working directory with their bytes; a directory ends with a slash."""
        sizes: Counter[str] = Counter()
        for file in self.files:
            top, slash, _ = file.path.partition("/")
            sizes[top + slash] += file.bytes
        return tuple(sizes.most_common(count))


def scan(workdir: Path, *, leave_out: Collection[Path] = ()) -> Bundle:
    """Look what is to be shipped. Reads no file but the ignore files. `leave_out` are folders that never are."""
    root = workdir.resolve()
    if not root.is_dir():
        raise BundleError(f"{workdir} is not a directory: set `workdir` to the one to ship")
    hidden = {str(folder.resolve()) for folder in leave_out}
    files = sorted(_walk(root, hidden), key=lambda file: os.fsencode(file.path))
    return Bundle(root, tuple(files))


def write(bundle: Bundle, target: Path) -> str:
    """Write the files as a tar.gz and return the digest of what is in it.

    The same files give the same bytes and the same digest. `target` is there whole or not at all.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as raw:
            digest = write_tar(bundle, raw)
            raw.flush()
            os.fsync(raw.fileno())
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    return digest


def write_tar(bundle: Bundle, raw: io.BufferedWriter) -> str:
    """The same into an open file."""
    digest = hashlib.sha256()
    with (
        io.BufferedWriter(_Gzip(raw), _CHUNK) as buffered,
        tarfile.open(
            fileobj=buffered, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as tar,
    ):
        for file in bundle.files:
            _add(tar, bundle.root, file, digest)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Rules:
    """One ignore file's patterns, for what lies below `base`."""

    base: str
    patterns: IgnoreFile

    @classmethod
    def read(cls, folder: str, name: str) -> tuple[_Rules, ...]:
        path = Path(folder, name)
        try:
            text = os.fsdecode(path.read_bytes())
        except (FileNotFoundError, IsADirectoryError):
            return ()
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror}") from error
        return (cls(folder, IgnoreFile.parse(text)),)

    def verdict(self, path: str, *, directory: bool) -> bool | None:
        """True: left out, False: taken, None: nothing said. `path` is absolute."""
        return self.patterns.verdict(path[len(self.base) :].lstrip("/"), directory=directory)


@dataclass(frozen=True)
class _Folder:
    """A directory to look into, with the ignore files that count there, the nearest last."""

    path: str
    git: tuple[_Rules, ...]
    own: tuple[_Rules, ...]

    def leaves_out(self, path: str, *, directory: bool) -> bool:
        for rules in (*reversed(self.own), *reversed(self.git)):
            verdict = rules.verdict(path, directory=directory)
            if verdict is not None:
                return verdict
        return False

    def enter(self, path: str) -> _Folder:
        git = _Rules.read(path, _GIT_IGNORE_FILE)
        own = _Rules.read(path, IGNORE_FILE)
        return _Folder(path, self.git + git, self.own + own)


def _walk(root: Path, hidden: Collection[str]) -> Iterator[BundleFile]:
    top = str(root)
    waiting = [_Folder(top, _rules_above(root), ()).enter(top)]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(folder.path):
            directory = entry.is_dir(follow_symlinks=False)
            if entry.name == ".git" or entry.path in hidden or folder.leaves_out(entry.path, directory=directory):
                continue
            if directory:
                waiting.append(folder.enter(entry.path))
            elif file := _file(root, entry):
                yield file


def _rules_above(root: Path) -> tuple[_Rules, ...]:
    """The rules of the repository that the directory is a part of, but none that leaves out the directory itself."""
    parents = list(root.parents)
    repository = next((n for n, parent in enumerate(parents) if (parent / ".git").exists()), None)
    if repository is None or (root / ".git").exists():
        return ()
    found: list[_Rules] = []
    for parent in reversed(parents[: repository + 1]):
        rules = _Rules.read(str(parent), _GIT_IGNORE_FILE)
        found += [one for one in rules if not one.verdict(str(root), directory=True)]
    return tuple(found)


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise _unreadable(path, error) from error


def _file(root: Path, entry: os.DirEntry[str]) -> BundleFile | None:
    path = entry.path[len(str(root)) :].lstrip("/")
    try:
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            return BundleFile(path=path, bytes=0, link=_link(root, path, entry.path))
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(info.st_mode):
        return None  # a socket, a pipe or a device is of no use elsewhere
    return BundleFile(path=path, bytes=info.st_size, executable=bool(info.st_mode & 0o100))


def _link(root: Path, path: str, full: str) -> str:
    target = os.readlink(full)  # noqa: PTH115
    real = Path(os.path.realpath(full))
    by_name = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
    if os.path.isabs(target) or by_name.split("/")[0] == ".." or not real.is_relative_to(root):  # noqa: PTH117
        raise BundleError(
            f"{path} is a link to {target}, outside of what is shipped: add {path} to {IGNORE_FILE}, "
            "or put the file itself there"
        )
    return target


def _add(tar: tarfile.TarFile, root: Path, file: BundleFile, digest: hashlib._Hash) -> None:
    entry = tarfile.TarInfo(file.path)
    entry.mode = 0o755 if file.executable else 0o644
    if file.link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, file.link
        _count(digest, "link", file.path, len(os.fsencode(file.link)))
        digest.update(os.fsencode(file.link))
        tar.addfile(entry)
        return
    try:
        with (root / file.path).open("rb") as source:
            entry.size = os.fstat(source.fileno()).st_size
            _count(digest, f"{entry.mode:o}", file.path, entry.size)
            tar.addfile(entry, _Counted(source, digest))
    except tarfile.ReadError as error:
        raise BundleError(f"{file.path} became shorter while it was read: submit when nobody writes to it") from error
    except OSError as error:
        if error.filename is None:
            raise  # writing failed, not reading
        raise _unreadable(file.path, error) from error


def _count(digest: hashlib._Hash, kind: str, path: str, size: int) -> None:
    digest.update(f"{kind} {size} {len(os.fsencode(path))} ".encode() + os.fsencode(path))


class _Counted(io.RawIOBase):
    """A file whose bytes go into a digest as they are read."""

    def __init__(self, source: io.BufferedReader, digest: hashlib._Hash) -> None:
        self._source = source
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self._digest.update(chunk)
        return chunk


class _Gzip(io.RawIOBase):
    """A gzip file whose members are packed, or only wrapped where packing gains nothing (weights, pictures)."""

    def __init__(self, raw: io.BufferedWriter) -> None:
        self._raw = raw
        self._level: int | None = None
        self._written = 0
        self._member = zlib.compressobj()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, block: Any) -> int:
        """`block` is up to a chunk of the tar stream, files across it."""
        view = memoryview(block)
        sample = view[:_SAMPLE]
        level = 1 if len(zlib.compress(sample, 1)) < len(sample) * _GAIN else 0
        if level != self._level:
            self._end_member()
            self._level, self._member = level, zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        self._raw.write(self._member.compress(view))
        self._written += len(view)
        return len(view)

    def close(self) -> None:
        if not self.closed:
            self._end_member()
        super().close()

    def _end_member(self) -> None:
        if self._level is not None:
            self._raw.write(self._member.flush())
            self._level = None


def _unreadable(path: str, error: OSError) -> BundleError:
    return BundleError(f"cannot read {path}: {error.strerror}. Make it readable, or add it to {IGNORE_FILE}")
