"""How much of a disk is left to others: of a big one a gigabyte, of a small one a twentieth."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs import room

GB = 10**9


@pytest.mark.parametrize(
    ("blocks", "available", "size", "fits"),
    [
        (1000 * GB, 2 * GB, GB, True),
        (1000 * GB, 2 * GB, GB + 4096, False),
        (10 * GB, GB, GB // 2, True),
        (10 * GB, GB, GB // 2 + 4096, False),
        (10 * GB, GB // 4, 0, False),
        (10 * GB, 5 * GB, 2**80, False),
    ],
)
def test_a_reserve_is_left(monkeypatch: pytest.MonkeyPatch, blocks: int, available: int, size: int, fits: bool) -> None:
    disk = SimpleNamespace(f_frsize=1, f_blocks=blocks, f_bavail=available, f_files=1000, f_favail=500)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    assert _fits(size) is fits


@pytest.mark.parametrize(("files", "left", "fits"), [(1000, 40, False), (1000, 60, True), (0, 0, True)])
def test_a_disk_can_be_full_of_names(monkeypatch: pytest.MonkeyPatch, files: int, left: int, fits: bool) -> None:
    """A million empty files take no room; some file systems do not count them."""
    disk = SimpleNamespace(f_frsize=1, f_blocks=1000 * GB, f_bavail=500 * GB, f_files=files, f_favail=left)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    assert _fits(0) is fits


def _fits(size: int) -> bool:
    try:
        room.require(Path("/somewhere"), size, "it")
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return False
    return True
