"""Following a run by reading the store and its files: what changed, what its job wrote, that it is over.

Owns the pace of looking and the order in which things are told. Changes nothing, prints nothing, knows no machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from orchestrator import ledger, spending
from orchestrator.home import RunFolder
from orchestrator.records import Attempt, Event, Run
from orchestrator.store.store import Store

QUICK = 0.05  # seconds between looks while something happens
SLOW = 0.5
CHUNK = 256 * 1024
LOOK_AFTER = 5.0  # seconds between looks whether anybody advances the run


@dataclass(frozen=True)
class Progress:
    """Where the run is now."""

    run: Run
    attempt: Attempt | None
    spent: Decimal
    now: datetime

    @property
    def seconds(self) -> float:
        """For how long it has been in this phase."""
        return max(0.0, (self.now - self.run.phase_since).total_seconds())

    @property
    def provider(self) -> str:
        return self.attempt.provider if self.attempt else ""

    @property
    def usd_per_hour(self) -> Decimal | None:
        return ledger.usd_per_hour(self.attempt) if self.attempt else None


@dataclass(frozen=True)
class Happened:
    """A new event."""

    event: Event


@dataclass(frozen=True)
class Output:
    """The next bytes of an attempt's log."""

    attempt: int
    chunk: bytes


@dataclass(frozen=True)
class Over:
    """Nothing more will come: the run is done, or nobody can say whether its machine is gone."""

    run: Run


Update = Progress | Happened | Output | Over


class LogReader:
    """The logs of all attempts of a run, in order, each byte once."""

    def __init__(self, folder: RunFolder, *, attempt: int | None = None) -> None:
        self._folder = folder
        self._only = attempt
        self._attempt = attempt or 1
        self._offset = 0

    def read(self, newest: int) -> Iterator[Output]:
        """What is new, given that attempt `newest` had begun before this call: the logs before it are complete."""
        while True:
            yield from self._rest()
            if self._only is not None or self._attempt >= newest:
                return
            self._attempt += 1
            self._offset = 0

    def _rest(self) -> Iterator[Output]:
        try:
            log = self._folder.attempt(self._attempt).log.open("rb")
        except FileNotFoundError:
            return
        with log:
            log.seek(self._offset)
            while chunk := log.read(CHUNK):
                self._offset += len(chunk)
                yield Output(self._attempt, chunk)


def follow(
    store: Store,
    folder: RunFolder,
    run_id: str,
    *,
    attempt: int | None = None,
    after_event: int = 0,
    look_after: Callable[[], object] = lambda: None,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """Updates until the run is over; each look yields one Progress, then what is new. The last one is Over.

    `look_after` is called now and then while the run goes on: a controller may have been killed. A run whose machine
    possibly still bills is not followed to its end, which may be far (its controller goes on): whoever waits is told.
    """
    log = LogReader(folder, attempt=attempt)
    pause, looked_after = QUICK, float("-inf")
    seen: object = None
    while True:
        progress = _progress(store, run_id)
        run = progress.run
        yield progress
        busy = False
        for event in store.events(run_id, after=after_event):
            after_event, busy = event.id or after_event, True
            yield Happened(event)
        for output in log.read(run.attempt):
            busy = True
            yield output
        if run.is_over or run.possibly_billing:
            if not run.is_over:
                look_after()  # nobody may be asking its cloud any more
            yield Over(run)
            return
        if clock() - looked_after >= LOOK_AFTER:
            looked_after = clock()
            look_after()
        mark = (run.phase, run.attempt)
        pause = QUICK if busy or mark != seen else min(SLOW, pause * 1.3)
        seen = mark
        sleep(pause)


def read_log(folder: RunFolder, attempts: int, *, attempt: int | None = None) -> Iterator[Output]:
    """The log as it is now: of one attempt, or of all in order."""
    yield from LogReader(folder, attempt=attempt).read(attempts)


def _progress(store: Store, run_id: str) -> Progress:
    run = store.run(run_id)
    attempts = store.attempts(run_id)
    spent = spending.spent(store, [run], {run_id: attempts})[run_id]
    return Progress(run, attempts[-1] if attempts else None, spent, store.now())
