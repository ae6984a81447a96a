"""How long a copy to or from a machine may take: until its run has a reason to end, however little comes meanwhile.

A machine that sends a byte per second makes progress for ever, and bills for it. Knows no transport and no files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta

from orchestrator.phases.stopping import is_used_up, reason_to_stop
from orchestrator.phases.visit import Visit
from orchestrator.store.errors import StoreError

LOOK_EVERY = timedelta(seconds=2)
PULL_LIMIT = timedelta(minutes=10)  # of one visit, which holds up the run's own log and other runs; the next goes on

CANCELLED_LIMIT = timedelta(minutes=30)  # whoever cancels wants what is there, and an end


def while_it_ships(visit: Visit) -> AbstractContextManager[None]:
    """Broken off (TransportError) when the run has a reason to stop, also one that comes meanwhile."""
    return _as_long_as(visit, lambda: reason_to_stop(visit) is None)


def while_it_runs(visit: Visit) -> AbstractContextManager[None]:
    """The same, and after a while: what is not here by then comes with the next visits."""
    until = visit.now + PULL_LIMIT
    return _as_long_as(visit, lambda: visit.now < until and reason_to_stop(visit) is None)


def while_it_is_waited_for(visit: Visit) -> AbstractContextManager[None]:
    """Of a job that is over: broken off when what it made is waited for no more."""
    return _as_long_as(visit, lambda: not is_waited_for_no_more(visit))


def is_waited_for_no_more(visit: Visit) -> bool:
    """Whether there is neither money nor time left for what a job made; of one that was cancelled, not much time."""
    cancelled = visit.run.cancel_requested_at is not None
    return is_used_up(visit) or (cancelled and visit.waited > CANCELLED_LIMIT)


def _as_long_as(visit: Visit, allowed: Callable[[], bool]) -> AbstractContextManager[None]:
    looked_at = visit.now

    def may_go_on() -> bool:
        nonlocal looked_at
        if visit.now - looked_at < LOOK_EVERY:
            return True
        looked_at = visit.now
        _hear_of_a_cancel(visit)
        return allowed()

    return visit.machine().as_long_as(may_go_on)


def _hear_of_a_cancel(visit: Visit) -> None:
    with suppress(StoreError):  # it is no reason to break off what comes
        visit.run.cancel_requested_at = visit.world.store.run(visit.run.id).cancel_requested_at
