"""An account's machines as its cloud showed them last: one list serves everybody who asks within seconds.

Clouds limit requests per account, not per machine: whoever polls each machine by itself is throttled. Not being in the
list says nothing: the machine's own GET decides. Knows machines as JSON with an `id` only, and no cloud.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from providers.base import Now
from providers.errors import Throttled

NEW_FRESH = timedelta(seconds=0.5)  # of a machine that was just made: a boot may be over in a moment
NEW_FRESH_PART = 5  # of its age, until that is as long as for any other
TOLERABLE = timedelta(seconds=30)  # a machine's last state is served for so long when nothing may be asked

Json = dict[str, Any]
Source = TypeVar("Source")


class Snapshot(ABC, Generic[Source]):
    """Safe between threads; of several who need the list at once one asks. `Source` is where machines are asked for."""

    def __init__(self, now: Now, fresh: timedelta) -> None:
        self._now = now
        self._fresh = fresh
        self._asking = threading.Lock()
        self._seen: Mapping[str, tuple[Json, datetime]] = {}
        self._listed: Sequence[Json] = ()
        self._listed_at: datetime | None = None
        self._took = timedelta()  # the newest list
        self._ending: set[str] = set()
        self._put_at: dict[str, datetime] = {}

    @abstractmethod
    def _list(self, source: Source) -> list[Json]:
        """Asks for every machine of the account."""

    @abstractmethod
    def _one(self, source: Source, machine_id: str) -> Json:
        """Asks for one machine. Raises NotFound when the cloud says so of this very one."""

    def all(self, source: Source, *, fresh: bool = False) -> Sequence[Json]:
        """Every machine of the account. `fresh` asks in any case."""
        return self._all(source, timedelta() if fresh else self._fresh_for())

    def _all(self, source: Source, fresh_for: timedelta) -> Sequence[Json]:
        with self._asking:
            if not self._is_fresh(self._listed_at, fresh_for):
                asked_at = self._now()
                listed = self._list(source)
                self._took = max(timedelta(), self._now() - asked_at)
                self._listed, self._listed_at = listed, asked_at
                self._seen = {str(row.get("id")): (row, asked_at) for row in listed}
            return self._listed

    def get(self, source: Source, machine_id: str) -> Json:
        """One machine. Raises NotFound when the cloud says so of this very one, never for want of it in a list."""
        row, seen_at = self._seen.get(machine_id, (None, None))
        fresh_for = self._fresh_for_one(machine_id)
        if row is not None and self._is_fresh(seen_at, fresh_for):
            return row
        try:
            return self._ask(source, machine_id, fresh_for)
        except Throttled:
            if row is not None and seen_at is not None and timedelta() <= self._now() - seen_at < TOLERABLE:
                return row
            raise

    def known(self, machine_id: str) -> Json | None:
        """What is remembered of a machine, however old."""
        return self._seen.get(machine_id, (None, None))[0]

    def put(self, row: Json) -> None:
        """A machine that was just made or found: the list may not show it yet."""
        with self._asking:
            self._listed_at = None
            self._put_at.setdefault(str(row.get("id")), self._now())
            self._remember(row)

    def expire(self, machine_id: str = "", *, ending: bool = False) -> None:
        """Something was or may have been changed: what was seen before is not believed any more.

        The list is not asked about a machine that is `ending`: it may still show it, and cannot say that it is gone.
        """
        with self._asking:
            self._listed_at = None
            self._seen = {name: seen for name, seen in self._seen.items() if name != machine_id}
            if ending:
                self._ending.add(machine_id)
                self._put_at.pop(machine_id, None)

    def is_ending(self, machine_id: str) -> bool:
        return machine_id in self._ending

    def _ask(self, source: Source, machine_id: str, fresh_for: timedelta) -> Json:
        if not self.is_ending(machine_id):
            self._all(source, fresh_for)
            if (listed := self.known(machine_id)) is not None:
                return listed
        row = self._one(source, machine_id)
        with self._asking:
            self._remember(row)
        return row

    def _remember(self, row: Json) -> None:
        self._seen = {**self._seen, str(row.get("id")): (row, self._now())}

    def _is_fresh(self, at: datetime | None, fresh_for: timedelta) -> bool:
        return at is not None and timedelta() <= self._now() - at < fresh_for

    def _fresh_for_one(self, machine_id: str) -> timedelta:
        """What was just made is looked at again sooner: a boot of a second would else be waited for longer."""
        put_at = self._put_at.get(machine_id)
        if put_at is None:
            return self._fresh_for()
        age = max(timedelta(), self._now() - put_at)
        return min(self._fresh_for(), max(NEW_FRESH, age / NEW_FRESH_PART, 2 * self._took))

    def _fresh_for(self) -> timedelta:
        return self._fresh
