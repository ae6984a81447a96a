"""Room on this computer's disk: what machines send leaves some of it to everything else. Knows no run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_RESERVE_BYTES = 1_000_000_000
_RESERVE_SHARE = 20  # or a twentieth of the disk, where that is less; of the files that it can hold, always a twentieth


def require(folder: Path, size: int, what: str) -> None:
    """Raise OSError, as a full disk does, when `size` more bytes below `folder` would leave less than the reserve.

    The reserve keeps the store, the logs of other runs and the user's own work going while a machine sends without end.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    kept = min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVE_SHARE)
    if size > free - kept:
        about = f"{size} bytes of {what} are to come, {free} are free, and {kept} are kept free for other things"
        raise OSError(errno.ENOSPC, f"No space left on device: {about}", str(folder))
    if disk.f_files and disk.f_favail < disk.f_files // _RESERVE_SHARE:
        about = f"{disk.f_favail} more files are possible"
        raise OSError(errno.ENOSPC, f"No space left on device: {about}", str(folder))
