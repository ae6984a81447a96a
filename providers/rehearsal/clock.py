"""The simulated clouds' clock: it may run faster than ours and be pushed forward. Knows nothing else."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta


class SimulatedClock:
    """UTC that starts at the real time, runs `speed` times as fast, and jumps when it is told. Safe between threads.

    `start` is another time to start at.
    """

    def __init__(self, *, speed: float = 1.0, start: datetime | None = None) -> None:
        self.speed = speed
        self._started = start or datetime.now(UTC)
        self._origin = time.monotonic()
        self._pushed = timedelta()
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        elapsed = timedelta(seconds=(time.monotonic() - self._origin) * self.speed)
        with self._lock:
            return self._started + elapsed + self._pushed

    def advance(self, seconds: float) -> None:
        """Let that much time pass at once; it never goes back."""
        if seconds < 0:
            raise ValueError("time goes forward only")
        with self._lock:
            self._pushed += timedelta(seconds=seconds)
