"""The account's instances as Vast.ai showed them last: one list serves everybody who asks within two seconds.

The rate limit is per endpoint and key. What follows from that is providers/snapshot.py; here is how instances are asked
for, and that a list has pages and a single GET a limit of its own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from providers.base import Now
from providers.errors import Throttled
from providers.snapshot import Snapshot

FRESH = timedelta(seconds=2)

Json = dict[str, Any]


class Source(Protocol):
    """Where instances are asked for."""

    def instances(self, filters: Json | None = None) -> list[Json]: ...
    def instance(self, instance_id: str, *, patience: float | None = None) -> Json: ...


class Instances(Snapshot[Source]):
    """Every instance of the account."""

    def __init__(self, now: Now) -> None:
        super().__init__(now, FRESH)

    def get(self, source: Source, machine_id: str) -> Json:
        """What is being ended is asked for by itself each time: only that can say that it is gone.

        While that may not be asked, a list that still shows it will do.
        """
        if not self.is_ending(machine_id):
            return super().get(source, machine_id)
        try:
            return self._one(source, machine_id)
        except Throttled:
            for row in self.all(source):
                if str(row.get("id")) == machine_id:
                    return row
            raise

    def _list(self, source: Source) -> list[Json]:
        return source.instances()

    def _one(self, source: Source, machine_id: str) -> Json:
        return source.instance(machine_id)

    def _fresh_for(self) -> timedelta:
        """A list of many pages takes longer than it would be fresh."""
        return max(super()._fresh_for(), 2 * self._took)
