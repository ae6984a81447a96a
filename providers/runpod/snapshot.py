"""The account's pods as RunPod showed them last: one list serves everybody who asks within three seconds.

RunPod limits requests per user, not per pod: whoever polls each pod is throttled. Not being in the list says nothing
here: the pod's own GET decides. Knows pods as JSON only.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from providers.base import Now
from providers.errors import Throttled

FRESH = timedelta(seconds=3)
TOLERABLE = timedelta(seconds=30)  # a pod's last state is served for so long when nothing may be asked

Json = dict[str, Any]


class Source(Protocol):
    """Where pods are asked for."""

    def pods(self) -> list[Json]: ...
    def pod(self, pod_id: str) -> Json: ...


class Pods:
    """Safe between threads; of several who need the list at once one asks."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._asking = threading.Lock()
        self._seen: Mapping[str, tuple[Json, datetime]] = {}
        self._listed: Sequence[Json] = ()
        self._listed_at: datetime | None = None
        self._alone: set[str] = set()  # pods that the list is not asked about: those that are being ended

    def all(self, source: Source, *, fresh: bool = False) -> Sequence[Json]:
        """Every pod of the account. `fresh` asks in any case."""
        with self._asking:
            if fresh or not self._is_fresh(self._listed_at):
                asked_at = self._now()
                listed = source.pods()
                self._listed, self._listed_at = listed, asked_at
                self._seen = {str(pod.get("id")): (pod, asked_at) for pod in listed}
            return self._listed

    def get(self, source: Source, pod_id: str) -> Json:
        """One pod. Raises NotFound when the cloud says so about this very pod, never for want of it in a list."""
        pod, seen_at = self._seen.get(pod_id, (None, None))
        if pod is not None and self._is_fresh(seen_at):
            return pod
        try:
            return self._ask(source, pod_id)
        except Throttled:
            if pod is not None and seen_at is not None and timedelta() <= self._now() - seen_at < TOLERABLE:
                return pod
            raise

    def known(self, pod_id: str) -> Json | None:
        """What is remembered of a pod, however old."""
        return self._seen.get(pod_id, (None, None))[0]

    def put(self, pod: Json) -> None:
        """A pod that was just made: the list may not show it yet."""
        with self._asking:
            self._listed_at = None
            self._remember(str(pod["id"]), pod)

    def expire(self, pod_id: str = "", *, ending: bool = False) -> None:
        """Something was or may have been changed: what was seen before is not believed any more."""
        with self._asking:
            self._listed_at = None
            self._seen = {name: seen for name, seen in self._seen.items() if name != pod_id}
            if ending:
                self._alone.add(pod_id)

    def is_ending(self, pod_id: str) -> bool:
        return pod_id in self._alone

    def _ask(self, source: Source, pod_id: str) -> Json:
        if pod_id not in self._alone:
            self.all(source)
            if (listed := self.known(pod_id)) is not None:
                return listed
        pod = source.pod(pod_id)
        with self._asking:
            self._remember(pod_id, pod)
        return pod

    def _remember(self, pod_id: str, pod: Json) -> None:
        self._seen = {**self._seen, pod_id: (pod, self._now())}

    def _is_fresh(self, at: datetime | None) -> bool:
        return at is not None and timedelta() <= self._now() - at < FRESH
