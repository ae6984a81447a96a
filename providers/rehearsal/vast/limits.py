"""Rate limits: the least seconds between two requests of one identity to one endpoint, as documented.

The numbers are those of the API reference (vast-ai/docs, x-rate-limit and the examples of 429, 2026-11). Three forms
of body are documented and all are met here. None of these says how long to wait, but the one for charges does.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import UTC, datetime, time, timedelta

from providers.rehearsal.vast.refused import Refused

THRESHOLDS = {
    "create": 4.5,
    "destroy": 3.0,
    "show": 2.0,
    "list": 1.0,
    "change": 1.0,
    "bid": 5.5,
    "reboot": 1.0,
    "charges": 1.0,
    "invoices": 3.0,
    "command": 1.5,
    "ssh_create": 1.0,
    "ssh_detach": 2.0,
}
PENALTY = {"create": 12.0}  # who is refused here waits so long
SEARCHES, SEARCH_SECONDS = 10, 60.0

_AS_DETAIL = ("create",)
_AS_JSON = ("destroy",)
_WITH_RETRY_AFTER = ("charges",)


class Limits:
    """Who asked for what, and when he may again. With `daily_searches` there is a quota of them, too."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.daily_searches = 0
        self._next: dict[tuple[str, str], datetime] = {}
        self._penalty: dict[tuple[str, str], datetime] = {}
        self._searches: dict[str, deque[datetime]] = {}

    def check(self, endpoint: str, identity: str, now: datetime) -> None:
        """Count a request. Raises Refused (429) when it comes too soon."""
        if endpoint == "search":
            self._check_search(identity, now)
        if not self.on or endpoint not in THRESHOLDS:
            return
        place = (endpoint, identity)
        until = max(self._next.get(place, now), self._penalty.get(place, now))
        if now < until:
            # A penalty does not grow with every request: the SDK's own repetitions would never end it.
            if endpoint in PENALTY and now >= self._penalty.get(place, now):
                self._penalty[place] = now + timedelta(seconds=PENALTY[endpoint])
            raise _too_frequent(endpoint, (until - now).total_seconds())
        self._next[place] = now + timedelta(seconds=THRESHOLDS[endpoint])

    def _check_search(self, identity: str, now: datetime) -> None:
        asked = self._searches.setdefault(identity, deque())
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        while asked and asked[0] < midnight - timedelta(days=1):
            asked.popleft()
        if self.daily_searches and len(asked) >= self.daily_searches:
            raise _quota_exceeded(midnight, now)
        recent = sum(at > now - timedelta(seconds=SEARCH_SECONDS) for at in list(asked)[-SEARCHES:])
        if self.on and recent >= SEARCHES:
            raise Refused(429, "API requests too frequent")
        asked.append(now)


def _too_frequent(endpoint: str, seconds: float) -> Refused:
    threshold = f"threshold={THRESHOLDS[endpoint]:.1f}"
    if endpoint in _AS_DETAIL:
        return Refused(429, {"detail": f"API requests too frequent endpoint {threshold}"})
    if endpoint in _AS_JSON:
        message = f"API requests too frequent: endpoint {threshold}"
        return Refused(429, {"success": False, "error": "rate_limit_exceeded", "msg": message})
    if endpoint in _WITH_RETRY_AFTER:
        wait = max(1, math.ceil(seconds))
        body = {"error": "HTTPTooManyRequests", "msg": "API requests too frequent", "retry_after": wait}
        return Refused(429, body, {"Retry-After": str(wait)})
    return Refused(429, f"API requests too frequent: endpoint {threshold}")


def _quota_exceeded(midnight: datetime, now: datetime) -> Refused:
    body = {"success": False, "error": "search_quota_exceeded", "msg": "You have reached your daily search quota"}
    wait = math.ceil((midnight - now).total_seconds())
    return Refused(429, body, {"Retry-After": str(wait), "X-RateLimit-Reset": str(int(midnight.timestamp()))})
