"""The account's instances as Vast.ai showed them last: one list serves everybody who asks within two seconds.

The rate limit is per endpoint and key: whoever polls each instance by itself is throttled from the second one on. Not
being in the list says nothing: the instance's own GET decides. Knows instances as JSON only.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from providers.base import Now
from providers.errors import Throttled

FRESH = timedelta(seconds=2)
TOLERABLE = timedelta(seconds=30)  # an instance's last state is served for so long when nothing may be asked

Json = dict[str, Any]


class Source(Protocol):
    """Where instances are asked for."""

    def instances(self, filters: Json | None = None) -> list[Json]: ...
    def instance(self, instance_id: str, *, patience: float | None = None) -> Json: ...


class Instances:
    """Safe between threads; of several who need the list at once one asks."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._asking = threading.Lock()
        self._seen: Mapping[str, tuple[Json, datetime]] = {}
        self._listed: Sequence[Json] = ()
        self._listed_at: datetime | None = None
        self._took = timedelta()  # a list of many pages takes longer than it would be fresh
        self._ending: set[str] = set()

    def all(self, source: Source) -> Sequence[Json]:
        """Every instance of the account."""
        with self._asking:
            if not self._is_fresh(self._listed_at):
                asked_at = self._now()
                listed = source.instances()
                self._took = max(timedelta(), self._now() - asked_at)
                self._listed, self._listed_at = listed, asked_at
                self._seen = {str(row.get("id")): (row, asked_at) for row in listed}
            return self._listed

    def get(self, source: Source, instance_id: str) -> Json:
        """One instance. Raises NotFound when the cloud says so of this very one, never for want of it in a list."""
        if instance_id in self._ending:
            return self._ask_for_its_end(source, instance_id)
        row, seen_at = self._seen.get(instance_id, (None, None))
        if row is not None and self._is_fresh(seen_at):
            return row
        try:
            self.all(source)
            listed = self._seen.get(instance_id)
            return listed[0] if listed is not None else self._ask(source, instance_id)
        except Throttled:
            if row is not None and seen_at is not None and timedelta() <= self._now() - seen_at < TOLERABLE:
                return row
            raise

    def put(self, row: Json) -> None:
        """An instance that was just made or found: the list may not show it yet."""
        with self._asking:
            self._listed_at = None
            self._remember(row)

    def expire(self, ending: str = "") -> None:
        """Something was changed: what was seen before is not believed any more."""
        with self._asking:
            self._listed_at = None
            if ending:
                self._ending.add(ending)
                self._seen = {name: seen for name, seen in self._seen.items() if name != ending}

    def is_ending(self, instance_id: str) -> bool:
        return instance_id in self._ending

    def _ask_for_its_end(self, source: Source, instance_id: str) -> Json:
        """Its own GET, which alone can say that it is gone; while that may not be asked, a list that still shows it."""
        try:
            return source.instance(instance_id)
        except Throttled:
            for row in self.all(source):
                if str(row.get("id")) == instance_id:
                    return row
            raise

    def _ask(self, source: Source, instance_id: str) -> Json:
        row = source.instance(instance_id)
        with self._asking:
            self._remember(row)
        return row

    def _remember(self, row: Json) -> None:
        self._seen = {**self._seen, str(row.get("id")): (row, self._now())}

    def _is_fresh(self, at: datetime | None) -> bool:
        return at is not None and timedelta() <= self._now() - at < max(FRESH, 2 * self._took)
