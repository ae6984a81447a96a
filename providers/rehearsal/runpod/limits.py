"""RunPod's rate limit: three fixed windows per account on the simulated clock, and the headers that tell of them.

The figures are the example of docs.runpod.io's REST v2 specification (2026-08); GraphQL has no documented limit.
"""

from __future__ import annotations

import math
from datetime import datetime

WINDOWS = (("minute", 60, 60), ("hour", 3_000, 3_600), ("day", 50_000, 86_400))  # name, requests, seconds


class Limits:
    """Counts requests. Not safe between threads: the cloud's lock guards it."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, int]] = {}  # window -> (its number, requests in it)

    def take(self, now: datetime) -> tuple[str, int] | None:
        """Count one request, or say which window is full and in how many seconds it is over."""
        for name, most, seconds in WINDOWS:
            if self._used(name, seconds, now) >= most:
                return name, _left(seconds, now)
        for name, _, seconds in WINDOWS:
            self._counted[name] = (_number(seconds, now), self._used(name, seconds, now) + 1)
        return None

    def headers(self, now: datetime) -> dict[str, str]:
        """On every authenticated answer, not only on refusals."""
        state = (
            f'"{name}";r={max(0, most - self._used(name, seconds, now))};t={_left(seconds, now)}'
            for name, most, seconds in WINDOWS
        )
        policy = (f'"{name}";q={most};w={seconds}' for name, most, seconds in WINDOWS)
        return {"RateLimit": ", ".join(state), "RateLimit-Policy": ", ".join(policy)}

    def _used(self, name: str, seconds: int, now: datetime) -> int:
        number, used = self._counted.get(name, (-1, 0))
        return used if number == _number(seconds, now) else 0


def _number(seconds: int, now: datetime) -> int:
    return int(now.timestamp()) // seconds


def _left(seconds: int, now: datetime) -> int:
    """Whole seconds until the window is over; never 0."""
    return max(1, math.ceil(seconds - now.timestamp() % seconds))
