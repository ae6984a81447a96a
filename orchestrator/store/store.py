"""The store: runs, attempts, events, charges and leases, in short transactions. The one API that the rest uses.

Owns who may change a run: a claim lends it to one controller for a while, a save is written only under that lease.
Knows nothing of what a phase does or of money. All times are compared on the database's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Executable

from orchestrator.records import Attempt, ChargeRow, Event, Phase, Run
from orchestrator.store.accounts import Accounts
from orchestrator.store.benchmarks import Benchmarks
from orchestrator.store.engine import Database, Write, clock_parameter, open_database
from orchestrator.store.errors import (
    LeaseLost,
    RunAmbiguous,
    RunNotFound,
    StoreBroken,
    StoreBusy,
    StoreConflict,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnreachable,
)
from orchestrator.store.leases import Lease
from orchestrator.store.migrations import migrate
from orchestrator.store.past import Past
from orchestrator.store.rows import ATTEMPTS, CHARGES, CONTROLLERS, EVENTS, RUNS, ControllerRow, readable, run_changes
from orchestrator.store.statements import Statements, list_charges, list_runs
from orchestrator.store.sums import Sums
from orchestrator.store.tables import charges as charges_table
from orchestrator.store.timetable import Timetable

_BATCH = 500  # values in one IN list

Clock = Callable[[], datetime]


class Store:
    """One open database. Threads may share it. Every method is one transaction and raises StoreError."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        self._database = database
        self._now = clock_parameter(clock) if clock else database.now(_utc_now)
        self._sql = Statements(self._now, database.insert_or_update)
        self.accounts = Accounts(database, self._now)
        self.timetable = Timetable(database, self._now)
        self.benchmarks = Benchmarks(database)
        self.sums = Sums(database)
        self.past = Past(database)

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None) -> Store:
        """Open and bring to the newest schema. `clock` replaces the database's own, for tests."""
        store = cls(open_database(url), clock=clock)
        try:
            migrate(store._database, store._now)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._database.close()

    def now(self) -> datetime:
        """The time by which leases and due times go."""
        moment: datetime = self._select(self._sql.now)[0][0]
        return moment

    # Submitting and asking

    def add_run(self, run: Run, events: Sequence[Event] = (), *, attempts: Sequence[Attempt] = ()) -> None:
        """Write a new run. Due no later than it was created means due at once, whatever the caller's clock says.

        `attempts` are of one that begins in the middle. StoreConflict when one of their machines is another's.
        """
        with self._database.transaction() as connection:
            self._add_run(connection, run, events)
            if attempts:
                connection.execute(self._sql.add_attempts, [ATTEMPTS.values(attempt) for attempt in attempts])

    def to_write(self, runs: Sequence[tuple[Run, Sequence[Event]]]) -> Write:
        """Writes new runs as a part of somebody else's transaction."""

        def write(connection: Connection) -> None:
            for run, events in runs:
                self._add_run(connection, run, events)

        return write

    def run(self, run_id: str) -> Run:
        for row in self._select(self._sql.run, run=run_id):
            return RUNS.record(row)
        raise RunNotFound(run_id)

    def find(self, text: str) -> Run:
        """The run with this id, or whose id alone begins so, or the newest one with this name."""
        matches = self._select(self._sql.find, wanted=text, letters=len(text))
        begins = [run_id for run_id, _ in matches if text and run_id.startswith(text)]
        named = [run_id for run_id, name in matches if name == text]
        if text in begins:
            return self.run(text)
        if len(begins) == 1 or named:
            return self.run(begins[0] if len(begins) == 1 else named[0])
        if begins:
            raise RunAmbiguous(text, begins)
        raise RunNotFound(text)

    def runs(
        self,
        *,
        limit: int | None = None,
        active: bool | None = None,
        name: str | None = None,
        project: str | None = None,
    ) -> list[Run]:
        """Runs that match, newest first. The list may be stale when it arrives."""
        rows = self._select(list_runs(limit=limit, active=active, name=name, project=project))
        return [RUNS.record(row) for row in rows]

    def some_runs(self, run_ids: Sequence[str]) -> list[Run]:
        """Those of these runs that there are."""
        return [RUNS.record(row) for row in self._select_in(self._sql.some_runs, run_ids)]

    def attempts(self, run_id: str) -> list[Attempt]:
        return self.attempts_of([run_id])[run_id]

    def attempts_of(self, run_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts of each of these runs, in order; an empty list for a run without."""
        found: dict[str, list[Attempt]] = {run_id: [] for run_id in run_ids}
        for row in self._select_in(self._sql.attempts, run_ids):
            attempt = ATTEMPTS.record(row)
            found[attempt.run_id].append(attempt)
        return found

    def events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """What happened to a run, in order, from after the event with that id."""
        return [EVENTS.record(row) for row in self._select(self._sql.events, run=run_id, after=after)]

    def events_of(self, run_ids: Sequence[str], kind: str) -> list[Event]:
        """What happened to these runs of one kind; of each run in order."""
        return [EVENTS.record(row) for row in self._select_in(self._sql.events_of, run_ids, kind=kind)]

    def charges(
        self, *, run_id: str | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> list[ChargeRow]:
        """Lines of the ledger in the order they were written; of those that start in [since, until) when given."""
        rows = self._select(list_charges(run_id=run_id, since=since, until=until))
        return [CHARGES.record(row) for row in rows]

    def spent(self, run_ids: Sequence[str]) -> dict[str, Decimal]:
        """What is booked for each of these runs."""
        sums = dict.fromkeys(run_ids, Decimal(0))
        for row in self._select_in(self._sql.spent, run_ids):
            run_id, amount = readable(charges_table, row)
            sums[run_id] += amount
        return sums

    def request_cancel(self, run_id: str) -> bool:
        """Ask for the end of a run and make it due. False when it is over already."""
        return self._wake(self._sql.cancel, run_id)

    def nudge(self, run_id: str) -> None:
        """Make a run due now; nothing happens to one that is over."""
        self._wake(self._sql.nudge, run_id)

    # Working on runs

    def claim(self, controller: str, *, limit: int, lease_seconds: float) -> list[Lease]:
        """Borrow up to `limit` due runs, those waiting longest first. Nobody else gets them while the lease holds."""
        asked = {"controller": controller, "at_most": limit, "span": lease_seconds}
        with self._database.transaction(durable=False) as connection:
            rows = connection.execute(self._sql.claim, asked).all()
            leases = [
                Lease(run=RUNS.record(run), token=token, owner=controller, wakes=wakes) for *run, token, wakes in rows
            ]
        return sorted(leases, key=lambda lease: (lease.run.due_at or lease.run.created_at, lease.run.id))

    def save(
        self,
        lease: Lease,
        run: Run,
        *,
        attempts: Sequence[Attempt] = (),
        events: Sequence[Event] = (),
        charges: Sequence[ChargeRow] = (),
        due_in: float | None,
        release: bool = True,
    ) -> Lease:
        """Write back what a phase found, all or nothing; LeaseLost when the run is somebody else's by now.

        With `release` the run is due again in `due_in` seconds (None: never), or at once when a cancel or a nudge came
        since the claim. Without, it stays ours and stays due: if we die, the next one goes on when the lease is over.
        Cancel and nudge are never overwritten; the lease that is returned has them as they are now.
        """
        changes = run_changes(run) | lease.fence
        statement = self._sql.save
        if release and run.is_over:
            statement = self._sql.save_the_end
        elif release:
            statement = self._sql.save_and_release
            changes["delay"] = due_in
        with self._database.transaction() as connection:
            schedule = connection.execute(statement, changes).one_or_none()
            if schedule is None:
                raise LeaseLost(run.id)
            if attempts:
                connection.execute(self._sql.save_attempts, [ATTEMPTS.values(attempt) for attempt in attempts])
            self._append(connection, events, charges)
            self.accounts.book(connection, run.project, charges)
        return lease.saved(run, schedule)

    def postpone(self, leases_and_delays: Sequence[tuple[Lease, float]]) -> None:
        """Give many unchanged runs back, each due after its delay, or at once after a nudge. Lost leases are let go."""
        self._passing(self._sql.postpone, [lease.fence | {"delay": delay} for lease, delay in leases_and_delays])

    def renew(self, leases: Sequence[Lease], lease_seconds: float) -> None:
        """Keep runs for longer. A lease that is lost stays lost; its save will say so."""
        self._passing(self._sql.renew, [lease.fence | {"span": lease_seconds} for lease in leases])

    def void_leases(self) -> int:
        """End every lease and say how many there were. Only for one who knows that no other controller lives."""
        with self._database.transaction(durable=False) as connection:
            return connection.execute(self._sql.void_leases).rowcount

    def next_due(self) -> float | None:
        """Seconds until a run may be claimed, 0 when one may be now; None when nothing is left to do."""
        seconds: float | None = self._select(self._sql.next_due)[0][0]
        return None if seconds is None else max(0, seconds)

    # Bills

    def due_bills(self, limit: int) -> list[tuple[Run, Attempt]]:
        """Attempts whose cloud is to be asked now what it billed."""
        rows = self._select(self._sql.due_bills, at_most=limit)
        width = len(RUNS.columns)
        return [(RUNS.record(row[:width]), ATTEMPTS.record(row[width:])) for row in rows]

    def book_bill(
        self, run: Run, attempt: Attempt, seen: datetime | None, rows: Sequence[ChargeRow], events: Sequence[Event]
    ) -> bool:
        """Book what a bill came to, and when to ask again. False, and nothing is written, when somebody else has.

        `seen` is the attempt's `settle_at` as it was read.
        """
        what = {"of_run": run.id, "of_number": attempt.number, "seen": seen, "ask_at": attempt.settle_at}
        with self._database.transaction() as connection:
            if not connection.execute(self._sql.settle_bill, what).rowcount:
                return False
            self._append(connection, events, rows)
            self.accounts.book(connection, run.project, rows)
        return True

    # What controllers tell each other

    def remember(self, provider: str, subject: str, reason: str, seconds: float) -> None:
        """Keep in mind for a while that a host is bad or an offer exhausted."""
        what = {"provider": provider, "subject": subject, "reason": reason, "span": seconds}
        with self._database.transaction() as connection:
            connection.execute(self._sql.forget_the_past)
            connection.execute(self._sql.remember, what)

    def remembered(self) -> dict[tuple[str, str], str]:
        """Why, by provider and subject, for everything whose time is not over."""
        return {(provider, subject): reason for provider, subject, reason in self._select(self._sql.remembered)}

    def register_controller(self, controller_id: str, host: str, pid: int) -> None:
        self._passing(self._sql.register_controller, [{"id": controller_id, "host": host, "pid": pid}])

    def beat_controller(self, controller_id: str) -> None:
        self._passing(self._sql.beat_controller, [{"controller": controller_id}])

    def controllers(self) -> list[ControllerRow]:
        """Those that were seen within the last minute."""
        return [CONTROLLERS.record(row) for row in self._select(self._sql.controllers)]

    def forget_controller(self, controller_id: str) -> None:
        self._passing(self._sql.forget_controller, [{"controller": controller_id}])

    def _add_run(self, connection: Connection, run: Run, events: Sequence[Event]) -> None:
        if run.due_at is not None and run.due_at <= run.created_at:
            connection.execute(self._sql.add_run_at_once, RUNS.values(run, without=["due_at"]))
        else:
            connection.execute(self._sql.add_run, RUNS.values(run))
        self._append(connection, events, ())

    def _wake(self, statement: Executable, run_id: str) -> bool:
        with self._database.transaction() as connection:
            woken = connection.execute(statement, {"run": run_id}).rowcount
        return bool(woken) or self.run(run_id).phase is not Phase.DONE

    def _append(self, connection: Connection, events: Sequence[Event], charges: Sequence[ChargeRow]) -> None:
        if events:
            connection.execute(self._sql.add_events, [EVENTS.values(event, without=["id"]) for event in events])
        if charges:
            connection.execute(self._sql.add_charges, [CHARGES.values(row, without=["id"]) for row in charges])

    def _passing(self, statement: Executable, each: Sequence[dict[str, Any]]) -> None:
        """A change that a power cut may undo: it ends all controllers on this computer, too."""
        if each:
            with self._database.transaction(durable=False) as connection:
                connection.execute(statement, each)

    def _select(self, statement: Executable, **parameters: Any) -> Sequence[Sequence[Any]]:
        with self._database.read() as connection:
            return connection.execute(statement, parameters).all()

    def _select_in(self, statement: Executable, run_ids: Sequence[str], **parameters: Any) -> Iterator[Sequence[Any]]:
        """Rows of a statement about these runs, in batches that every database takes."""
        for start in range(0, len(run_ids), _BATCH):
            yield from self._select(statement, run_ids=run_ids[start : start + _BATCH], **parameters)


def _utc_now() -> datetime:
    return datetime.now(UTC)


__all__ = [
    "ControllerRow",
    "Lease",
    "LeaseLost",
    "RunAmbiguous",
    "RunNotFound",
    "Store",
    "StoreBroken",
    "StoreBusy",
    "StoreConflict",
    "StoreError",
    "StoreFull",
    "StoreTooNew",
    "StoreUnreachable",
]
