"""The account's pods as RunPod showed them last: one list serves everybody who asks within three seconds.

RunPod limits requests per user. What follows from that is providers/snapshot.py; here is only how pods are asked for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from providers.base import Now
from providers.snapshot import Snapshot

FRESH = timedelta(seconds=3)

Json = dict[str, Any]


class Source(Protocol):
    """Where pods are asked for."""

    def pods(self) -> list[Json]: ...
    def pod(self, pod_id: str) -> Json: ...


class Pods(Snapshot[Source]):
    """Every pod of the account."""

    def __init__(self, now: Now) -> None:
        super().__init__(now, FRESH)

    def _list(self, source: Source) -> list[Json]:
        return source.pods()

    def _one(self, source: Source, machine_id: str) -> Json:
        return source.pod(machine_id)
