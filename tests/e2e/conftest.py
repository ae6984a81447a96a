"""Every end-to-end test gets a home of its own and leaves nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import Gpujob


@pytest.fixture
def gpujob(tmp_path: Path) -> Iterator[Gpujob]:
    driver = Gpujob(tmp_path)
    yield driver
    for run in driver.json("ps", "--active"):
        driver("cancel", run["id"])
        driver("wait", run["id"])
    driver.kill_controller()
    assert driver.leftovers() == []
