"""Creates that nobody answered: names that are looked for although no run waits for them any more.

A cloud may show a machine long after its run has gone on without it. Until that can be told, the reaper looks often,
and a controller does not leave. Kept in the store, so that it outlives a controller. Asks no cloud.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.store.store import Store

SECONDS = 600.0
_REASON = "a create that nobody answered"


def note(store: Store, provider: str, name: str) -> None:
    """Nothing came of this create as far as anybody can see."""
    store.remember(provider, name, _REASON, SECONDS)


def names(store: Store) -> Sequence[str]:
    """Of the machines that may still appear."""
    return [subject for (_, subject), reason in store.remembered().items() if reason == _REASON]
