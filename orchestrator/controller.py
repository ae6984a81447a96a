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
from orchestrator.phases import PHASES, Next, Visit
from orchestrator.records import Attempt, AttemptOutcome, Outcome, Phase
from orchestrator.store.store import Lease, LeaseLost
from orchestrator.world import World

log = logging.getLogger("gpujob.controller")

LEASE_SECONDS = 20.0
POLL_SECONDS = 0.05
BUG_LIMIT = 5  # visits in a row that may end in an error of ours before the attempt is ended


@dataclass
class Controller:
    """One process's share of the work. `serve` runs until stopped or idle; `tick` is one round of it, for tests."""

    world: World
    id: str
    workers: int = 8
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
            self._visit(lease)
            self._let_go(lease)
        self._postpone_unchanged()
        return len(leases)

    def serve(self, stop: threading.Event, *, idle_seconds: float | None = None) -> None:
        """Work until `stop` is set, or until there has been nothing left to do for `idle_seconds`."""
        busy_at = time.monotonic()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="run") as pool:
            threading.Thread(target=self._keep_leases, args=(stop,), daemon=True).start()
            while not stop.is_set():
                if self._round(pool):
                    busy_at = time.monotonic()
                elif idle_seconds is not None and time.monotonic() - busy_at > idle_seconds and self._nothing_left():
                    break
                stop.wait(POLL_SECONDS)
        self._postpone_unchanged()

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
        """Due runs, less those that a worker of ours still has: their lease ran out, and the save will say so."""
        leases = self.world.store.claim(self.id, limit=limit, lease_seconds=self.lease_seconds)
        with self._lock:
            fresh = [lease for lease in leases if lease.run.id not in self._held]
            self._held.update({lease.run.id: lease for lease in fresh})
        return fresh

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
        return self.world.store.next_due() is None

    def _advance(self, lease: Lease) -> None:
        """One visit, and further ones at once while the run is due at once."""
        try:
            following: Lease | None = lease
            while following is not None:
                following = self._visit(following, go_on=True)
        except LeaseLost:
            log.info("%s: another controller took over", lease.run.id)
        except Exception:
            log.exception("%s: the store could not be written; the lease runs out by itself", lease.run.id)
        finally:
            self._let_go(lease)

    def _visit(self, lease: Lease, *, go_on: bool = False) -> Lease | None:
        """Advance a run by one phase and write it back. Returns the lease where it was kept for more at once."""
        visit = self._open(lease)
        try:
            following = PHASES[visit.run.phase](visit)
        except LeaseLost:
            raise
        except Exception as error:
            log.exception("%s: error in phase %s", visit.run.id, visit.run.phase)
            following = _after_a_bug(visit, error)
        else:
            _forget_bugs(visit)
        return self._close(visit, following, go_on=go_on)

    def _open(self, lease: Lease) -> Visit:
        run = lease.run
        if run.id not in self._specs:
            self._specs[run.id] = Spec.from_json(run.spec)
        return Visit(run=run, attempt=self._attempt(lease), spec=self._specs[run.id], world=self.world, lease=lease)

    def _attempt(self, lease: Lease) -> Attempt | None:
        """The run's current attempt; read again unless nobody else can have written since our last visit."""
        run = lease.run
        if run.attempt == 0:
            return None
        token, known = self._attempts.get(run.id, (-1, None))
        if known is not None and token + 1 == lease.token and known.number == run.attempt:
            return known
        return next(attempt for attempt in self.world.store.attempts(run.id) if attempt.number == run.attempt)

    def _close(self, visit: Visit, following: Next, *, go_on: bool) -> Lease | None:
        run = visit.run
        if visit.attempt is not None:
            self._attempts[run.id] = (visit.lease.token, visit.attempt)
        if following.phase is run.phase and not visit.changed:
            with self._lock:
                self._unchanged.append((visit.lease, following.delay))
            return None
        if following.phase is not run.phase:
            _enter(visit, following.phase)
        if following.phase is Phase.DONE:
            visit.commit(due_in=None, release=True)
            self._specs.pop(run.id, None)
            self._attempts.pop(run.id, None)
            return None
        at_once = go_on and following.delay <= 0
        visit.commit(due_in=following.delay, release=not at_once)
        return visit.lease if at_once else None

    def _keep_leases(self, stop: threading.Event) -> None:
        """Visits that take long (a big artifact) keep their runs; a dead process keeps nothing."""
        while not stop.wait(self.lease_seconds / 4):
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


def _forget_bugs(visit: Visit) -> None:
    if visit.run.notes.pop("bugs", None) is not None:
        visit.changed = True


def _after_a_bug(visit: Visit, error: Exception) -> Next:
    """An error of ours must not strand a machine: try again, then end the attempt; teardown never gives up."""
    bugs = int(visit.run.notes.get("bugs", 0)) + 1
    visit.run.notes["bugs"] = bugs
    visit.note("error", f"internal error in {visit.run.phase}: {type(error).__name__}: {error}")
    if bugs < BUG_LIMIT:
        return visit.stay(float(bugs))
    text = f"internal error in phase {visit.run.phase}: {error}"
    if visit.run.phase is Phase.TEARDOWN:
        visit.run.possibly_billing = True
        return visit.stay(60.0)
    if visit.run.phase is Phase.SETTLE:
        visit.run.outcome, visit.run.error = visit.run.outcome or Outcome.ERROR, visit.run.error or text
        visit.run.ended_at = visit.run.ended_at or visit.now
        return Next(Phase.DONE)
    visit.run.notes.pop("bugs")
    if visit.attempt is None or visit.run.phase is Phase.QUOTE:
        visit.run.notes["verdict"] = {"outcome": Outcome.ERROR.value, "error": text}
        return Next(Phase.SETTLE)
    visit.close_attempt(AttemptOutcome.ERROR, text)
    return Next(Phase.TEARDOWN)
