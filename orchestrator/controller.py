"""Who advances which run, and when: claims due runs under a lease, runs one phase at a time, writes back what it found.

A worker holds a run only for a visit; what waits costs a row and nothing else. Several controllers may serve one
PostgreSQL store; on SQLite the one that holds the file lock serves. Decides nothing about a run: the phases do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from jobs.spec import Spec
from orchestrator import unclear
from orchestrator.phases import PHASES, Next, Visit, trouble
from orchestrator.records import Attempt, Phase
from orchestrator.store.errors import StoreBroken, StoreBusy, StoreError, StoreFull, StoreTooNew, StoreUnreachable
from orchestrator.store.store import Lease, LeaseLost
from orchestrator.world import World

log = logging.getLogger("gpujob.controller")

LEASE_SECONDS = 20.0
POLL_SECONDS = 0.05
LOOK_SECONDS = 1.0  # between two looks whether nothing is left
STORE_PAUSE_SECONDS = 2.0  # after the store did not answer
GIVEN_BACK_SECONDS = 1.0

# Says nothing about the run: nothing was written, and its next visit looks again.
_TRY_LATER = (LeaseLost, StoreBusy, StoreFull, StoreUnreachable)


@dataclass
class Controller:
    """One process's share of the work. `serve` runs until stopped or idle; `tick` is one round of it, for tests."""

    world: World
    id: str
    workers: int = 8
    is_one_of_many: bool = False  # on a database that controllers with other homes may serve, too
    lease_seconds: float = LEASE_SECONDS
    _held: dict[str, Lease] = field(default_factory=dict)
    _unchanged: list[tuple[Lease, float]] = field(default_factory=list)
    _specs: dict[str, Spec] = field(default_factory=dict)
    _attempts: dict[str, tuple[int, Attempt]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tick(self, limit: int = 64) -> int:
        """Claim what is due and advance each by one visit, in this thread. Returns how many were advanced."""
        leases = self._claim(limit)
        for lease in leases:
            try:
                self._visit(lease)
            finally:
                self._let_go(lease)
        self._postpone_unchanged()
        return len(leases)

    def serve(self, stop: threading.Event, *, idle_seconds: float | None = None) -> None:
        """Work until `stop` is set, or until there has been nothing left to do for `idle_seconds`."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep_leases, args=(over,), daemon=True)
        keeper.start()
        try:
            with ThreadPoolExecutor(self.workers, thread_name_prefix="run") as pool:
                self._work(pool, stop, idle_seconds)
                pool.shutdown(wait=False, cancel_futures=True)
            self._postpone_unchanged()
        finally:
            over.set()
            keeper.join()

    def _work(self, pool: ThreadPoolExecutor, stop: threading.Event, idle_seconds: float | None) -> None:
        """Rounds; a store that does not answer for a while only delays them, and the jobs go on meanwhile."""
        busy_at = time.monotonic()
        while not stop.is_set():
            try:
                if self._round(pool):
                    busy_at = time.monotonic()
                elif idle_seconds is not None and time.monotonic() - busy_at > idle_seconds:
                    if self._nothing_left():
                        return
                    busy_at += LOOK_SECONDS
            except (StoreBroken, StoreTooNew):
                raise
            except StoreError as error:
                log.warning("trying again: %s", error)
                stop.wait(STORE_PAUSE_SECONDS)
            stop.wait(POLL_SECONDS)

    def _round(self, pool: ThreadPoolExecutor) -> bool:
        """Hand due runs to free workers; True when any run is in hand."""
        self._postpone_unchanged()
        with self._lock:
            free = self.workers * 4 - len(self._held)
        for lease in self._claim(free) if free > 0 else []:
            pool.submit(self._advance, lease)
        with self._lock:
            return bool(self._held)

    def _claim(self, limit: int) -> Sequence[Lease]:
        """Due runs, less those that are not ours to advance.

        A worker of ours may still have one: it is about to let go, or has lost its lease. And where controllers on one
        database have different homes, a run belongs to those that have its files.
        """
        leases = self.world.store.claim(self.id, limit=limit, lease_seconds=self.lease_seconds)
        with self._lock:
            fresh = [lease for lease in leases if lease.run.id not in self._held and self._is_ours(lease.run.id)]
            self._unchanged += [(lease, GIVEN_BACK_SECONDS) for lease in leases if lease not in fresh]
            self._held.update({lease.run.id: lease for lease in fresh})
        return fresh

    def _is_ours(self, run_id: str) -> bool:
        return not self.is_one_of_many or self.world.home.run(run_id).root.exists()

    def _let_go(self, lease: Lease) -> None:
        with self._lock:
            self._held.pop(lease.run.id, None)

    def _postpone_unchanged(self) -> None:
        """Release in one statement all runs whose visit found nothing new."""
        with self._lock:
            batch, self._unchanged = self._unchanged, []
        if batch:
            self.world.store.postpone(batch)

    def _nothing_left(self) -> bool:
        return self.world.store.next_due() is None and not unclear.names(self.world.store)

    def _advance(self, lease: Lease) -> None:
        """One visit, and further ones at once while the run is due at once."""
        try:
            following: Lease | None = lease
            while following is not None:
                following = self._visit(following, go_on=True)
        except _TRY_LATER as error:
            log.warning("%s: %s", lease.run.id, error)
            self._forget(lease)
        except Exception:
            log.exception("%s: could not be saved; tried again when the lease has run out", lease.run.id)
            self._forget(lease)
        finally:
            self._let_go(lease)

    def _visit(self, lease: Lease, *, go_on: bool = False) -> Lease | None:
        """Advance a run by one phase and write it back. Returns the lease where it was kept for more at once."""
        visit = self._open(lease)
        try:
            following = PHASES[visit.run.phase](visit)
        except _TRY_LATER:
            raise
        except Exception as error:
            log.exception("%s: error in phase %s", visit.run.id, visit.run.phase)
            following = trouble.after(visit, error)
        else:
            trouble.forget(visit)
        return self._close(visit, following, go_on=go_on)

    def _open(self, lease: Lease) -> Visit:
        return Visit(run=lease.run, attempt=self._attempt(lease), world=self.world, lease=lease, specs=self._specs)

    def _attempt(self, lease: Lease) -> Attempt | None:
        """The run's current attempt; read again unless nobody else can have written since our last visit."""
        run = lease.run
        if run.attempt == 0:
            return None
        token, known = self._attempts.get(run.id, (-1, None))
        if known is not None and lease.token - token in (0, 1) and known.number == run.attempt:
            return known
        return next(attempt for attempt in self.world.store.attempts(run.id) if attempt.number == run.attempt)

    def _close(self, visit: Visit, following: Next, *, go_on: bool) -> Lease | None:
        run = visit.run
        if following.phase is run.phase and not visit.changed:
            self._keep(visit)
            with self._lock:
                self._unchanged.append((visit.lease, following.delay))
            return None
        if following.phase is not run.phase:
            _enter(visit, following.phase)
        if following.phase is Phase.DONE:
            visit.commit(due_in=None, release=True)
            self._forget(visit.lease)
            return None
        at_once = go_on and following.delay <= 0
        visit.commit(due_in=following.delay, release=not at_once)
        self._keep(visit)
        return visit.lease if at_once else None

    def _keep(self, visit: Visit) -> None:
        """The attempt as it is in the store now: the next visit need not read it."""
        if visit.attempt is not None:
            self._attempts[visit.run.id] = (visit.lease.token, visit.attempt)

    def _forget(self, lease: Lease) -> None:
        self._specs.pop(lease.run.id, None)
        self._attempts.pop(lease.run.id, None)

    def _keep_leases(self, over: threading.Event) -> None:
        """Visits that take long (a big artifact) keep their runs; a dead process keeps nothing."""
        while not over.wait(self.lease_seconds / 4):
            with self._lock:
                held = list(self._held.values())
            try:
                self.world.store.renew(held, self.lease_seconds)
                self.world.store.beat_controller(self.id)
            except Exception:
                log.exception("the leases could not be renewed")


def _enter(visit: Visit, phase: Phase) -> None:
    visit.run.phase = phase
    visit.run.phase_since = visit.now
    visit.note("phase", phase.value)
