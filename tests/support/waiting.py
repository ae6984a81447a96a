"""For tests of real processes: how long a test waits for what comes in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(found: Callable[[], T], seconds: float = 60, otherwise: Callable[[], str] = lambda: "") -> T:
    """What it gives, once it gives something; `otherwise` says what there is instead when it never does."""
    give_up = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < give_up, otherwise()
        time.sleep(0.02)
    return value
