"""How fast a folder's disk takes a file and gives it back, and whether it was the disk at all that gave it.

Knows no PyTorch. The file is new, holds what cannot be compressed, and is removed whatever happens.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BLOCK = 8 * 1024 * 1024
KEPT_FREE = 1024**3
_LOOKS = 32


@dataclass(frozen=True)
class DiskSpeed:
    size: int  # bytes
    write: float  # bytes a second, until the disk said that it has them
    read: float
    cached: float | None  # share of the file that was still in main memory before the reading; None: not known

    @property
    def read_is_the_disks(self) -> bool:
        """Whether the reading came from the disk and not from main memory, as far as this system can tell."""
        return self.cached is not None and self.cached <= 0.1


def room(folder: Path, wanted: int) -> int:
    """How large a file may be: what is wanted, or what fits and leaves 1 GiB free, in whole blocks; 0: none fits."""
    return min(wanted, max(0, shutil.disk_usage(folder).free - KEPT_FREE)) // BLOCK * BLOCK


def measure(folder: Path, size: int) -> DiskSpeed:
    """Write `size` bytes, have them leave main memory, and read them."""
    with _new_file(folder) as file:
        written = _seconds_to_write(file, size)
        cached = _forget(file, size)
        read = _seconds_to_read(file)
    return DiskSpeed(size, size / written, size / read, cached)


@contextmanager
def _new_file(folder: Path) -> Iterator[int]:
    path = folder / f"probe-disk-{os.getpid()}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield file
    finally:
        os.close(file)
        path.unlink()


def _seconds_to_write(file: int, size: int) -> float:
    block = os.urandom(BLOCK)
    began = time.perf_counter()
    for _ in range(size // BLOCK):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(file, rest) :]
    os.fsync(file)
    return time.perf_counter() - began


def _forget(file: int, size: int) -> float | None:
    """Ask the system to drop its copy in main memory; returns the share that is there all the same."""
    if not hasattr(os, "posix_fadvise"):
        return None
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    places = range(0, size, max(BLOCK, size // _LOOKS // BLOCK * BLOCK))
    try:
        return sum(_is_cached(file, place) for place in places) / len(places)
    except OSError:
        return None  # this file system cannot be asked


def _is_cached(file: int, place: int) -> bool:
    try:
        return os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False


def _seconds_to_read(file: int) -> float:
    os.lseek(file, 0, os.SEEK_SET)
    block = bytearray(BLOCK)
    began = time.perf_counter()
    while os.readv(file, [block]):
        pass
    return time.perf_counter() - began


def kind(folder: Path) -> str:
    """The type of the file system that a folder is on, such as ext4, overlay or tmpfs; nothing where it is not told."""
    try:
        mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    whole = folder.resolve()
    over = [(len(at), kind) for _, at, kind in mounts if whole.is_relative_to(at)]
    return max(over)[1] if over else ""
