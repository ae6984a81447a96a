"""Every end-to-end test gets a home of its own and leaves nothing running."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import Gpujob

MEGABYTES = 8
SmallDisk = Callable[[Path], object]


@pytest.fixture
def gpujob(tmp_path: Path) -> Iterator[Gpujob]:
    driver = Gpujob(tmp_path)
    yield driver
    for run in driver.json("ps", "--active"):
        driver("cancel", run["id"])
        driver("wait", run["id"])
    driver.kill_controller()
    assert driver.leftovers() == []


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """Puts a file system of a few megabytes at a place."""
    mounted: list[Path] = []

    def mount(place: Path) -> None:
        place.mkdir(parents=True)
        argv = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=700", "tmpfs", str(place)]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"only root may mount a small file system: {done.stderr.decode().strip()}")
        mounted.append(place)

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_home(small_disk: SmallDisk, gpujob: Gpujob) -> None:
    """Store, logs and artifacts have little space; the machines' own directories are elsewhere."""
    small_disk(gpujob.home)
    (gpujob.root / "machines").mkdir()
    (gpujob.home / "machines").symlink_to(gpujob.root / "machines")
