"""Which quotas have turned out to be used up: their offers are left out for a while. No network, no SDK."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from providers.aws.codes import quota_class
from providers.aws.mapping import Place
from providers.base import Now

KEPT = timedelta(minutes=10)  # a machine that ends gives its vCPUs back

Quota = tuple[str, str, bool]  # region, class of machine types, spot


class UsedUp:
    """A quota counts vCPUs of a class of types in one region and market. Safe between threads."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._seen: dict[Quota, datetime] = {}
        self._lock = threading.Lock()

    def note(self, place: Place) -> None:
        with self._lock:
            self._seen[_quota_of(place)] = self._now()

    def has(self, place: Place) -> bool:
        with self._lock:
            seen = self._seen.get(_quota_of(place))
        return seen is not None and self._now() - seen < KEPT


def _quota_of(place: Place) -> Quota:
    return place.region, quota_class(place.machine_type), place.spot
