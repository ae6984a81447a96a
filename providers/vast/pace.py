"""How fast Vast.ai may be asked: the documented least seconds between two requests to one endpoint.

Pure: the time is given. The limits are per endpoint and key, not per instance, and a request that comes too early may
be punished, so it is not sent. https://docs.vast.ai/api-reference/rate-limits-and-errors, and `x-rate-limit` of each
call in the API reference, seen 2026-11.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

SEARCH, CREATE, DESTROY, SHOW, LIST, SSH, CHARGES, USER = (
    "search", "create", "destroy", "show", "list", "ssh", "charges", "user",
)  # fmt: skip

LEAST_SECONDS = {CREATE: 4.5, DESTROY: 3.0, SHOW: 2.0, LIST: 1.0, SSH: 1.0, CHARGES: 1.0}
PENALTY_SECONDS = {CREATE: 12.0}  # who was too early there waits so long
SEARCHES, SEARCH_SECONDS = 10, 60.0
NO_WORD_SECONDS = 5.0  # a 429 that does not say for how long, at an endpoint whose limit is not known

_MARGIN = 0.2  # requests do not arrive at the distance at which they were sent


class Pace:
    """Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at: dict[str, datetime] = {}
        self._searched: deque[datetime] = deque(maxlen=SEARCHES)

    def reserve(self, call: str, now: datetime, patience: float) -> float:
        """Seconds until the call may be sent. Its turn is taken unless that is longer than `patience`."""
        with self._lock:
            at = max(now, self._free_at.get(call, now))
            if call == SEARCH and len(self._searched) == SEARCHES:
                at = max(at, self._searched[0] + timedelta(seconds=SEARCH_SECONDS + _MARGIN))
            wait = (at - now).total_seconds()
            if wait <= patience:
                self._take(call, at)
            return wait

    def refused(self, call: str, seconds: float, now: datetime) -> None:
        """The cloud says that it was too early: nothing more is sent there before that many seconds have passed."""
        with self._lock:
            self._free_at[call] = max(self._free_at.get(call, now), now + timedelta(seconds=seconds))

    def _take(self, call: str, at: datetime) -> None:
        if call == SEARCH:
            self._searched.append(at)
        if call in LEAST_SECONDS:
            self._free_at[call] = at + timedelta(seconds=LEAST_SECONDS[call] + _MARGIN)


def usual_wait(call: str) -> float:
    """How long to wait after a 429 that does not say it."""
    return max(PENALTY_SECONDS.get(call, 0.0), LEAST_SECONDS.get(call, NO_WORD_SECONDS))
