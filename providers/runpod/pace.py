"""How fast RunPod may be asked: what its answers say of the limit, and the documented one while they say nothing.

Pure: the time is given. Calls that look give way to calls that rent and end.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta

# The example of RunPod's API v2, seen 2026-08: 60 a minute, 3000 an hour, 50000 a day, per user.
# https://docs.runpod.io/api-reference-v2 (headers RateLimit and RateLimit-Policy)
READS_PER_MINUTE = 50
KEPT_FOR_WRITES = 5
NO_WORD_SECONDS = 5.0  # a 429 that does not say for how long

_LONGEST_WAIT = 24 * 3600.0  # the longest window there is
_MINUTE = timedelta(seconds=60)
_WINDOW = re.compile(r'"?(\w+)"?\s*;\s*r=([0-9]{1,9})\s*;\s*t=([0-9]{1,12})')


class Pace:
    """Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: deque[datetime] = deque()
        self._quiet_until: datetime | None = None
        self._windows: dict[str, tuple[int, datetime]] = {}  # calls that are left, and until when

    def wait(self, now: datetime, *, reading: bool) -> float:
        """Seconds before the next call may be sent; 0 when it may go now."""
        with self._lock:
            waits = [_seconds(self._quiet_until, now)] if self._quiet_until else [0.0]
            if reading:
                waits += [_seconds(end, now) for left, end in self._windows.values() if left <= KEPT_FOR_WRITES]
                waits.append(self._own_count(now))
            return max(waits)

    def sent(self, now: datetime) -> None:
        with self._lock:
            self._sent.append(now)
            self._windows = {
                name: (left - 1, end) for name, (left, end) in self._windows.items() if _seconds(end, now) > 0
            }

    def heard(self, headers: Mapping[str, str], now: datetime) -> None:
        """What an answer says about the limit."""
        said = _WINDOW.findall(headers.get("RateLimit") or "")
        with self._lock:
            for name, left, seconds in said:
                wait = min(float(seconds), _LONGEST_WAIT)
                self._windows[name] = (int(left), now + timedelta(seconds=wait))

    def refused(self, retry_after: str | None, now: datetime) -> float:
        """A 429: nothing is sent before that many seconds have passed."""
        seconds = retry_seconds(retry_after)
        with self._lock:
            self._quiet_until = now + timedelta(seconds=seconds)
        return seconds

    def _own_count(self, now: datetime) -> float:
        while self._sent and not timedelta() <= now - self._sent[0] < _MINUTE:
            self._sent.popleft()
        if self._windows or len(self._sent) < READS_PER_MINUTE:
            return 0.0
        return _seconds(self._sent[-READS_PER_MINUTE] + _MINUTE, now)


def retry_seconds(header: str | None) -> float:
    """How long a 429 asks to wait; RunPod documents whole seconds, and a client may get none."""
    try:
        return max(1.0, min(float(header or ""), _LONGEST_WAIT))
    except ValueError:
        return NO_WORD_SECONDS


def _seconds(end: datetime, now: datetime) -> float:
    return max(0.0, (end - now).total_seconds())
