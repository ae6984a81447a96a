"""Every statement of the store, built when it is first used and compiled once per database.

`now` is the clock that leases and due times go by. Parameters that are not a column's value have names that no column
has. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    type_coerce,
    update,
)

from orchestrator.records import Phase
from orchestrator.store.columns import AnyText, Seconds, UtcTime, Word
from orchestrator.store.leases import FENCE, SCHEDULE, WOKEN
from orchestrator.store.rows import ATTEMPTS, CHARGES, CONTROLLERS, EVENTS, RUNS
from orchestrator.store.tables import attempts, charges, controllers, events, remembered, runs

CONTROLLER_SEEN_SECONDS = 60.0
_CLOCK_WENT_BACK_SECONDS = 60.0  # less than this only delays a run by as much

_THIS_RUN = runs.c.id == bindparam("run", type_=AnyText())
_THESE_RUNS = bindparam("run_ids", type_=AnyText(), expanding=True)
_DELAY = bindparam("delay", type_=Seconds())
_SPAN = bindparam("span", type_=Seconds())


class Statements:
    """`insert_or_update` is the database's own `insert`, the one that knows ON CONFLICT."""

    def __init__(self, now: ColumnElement[datetime], insert_or_update: Callable[[Table], Any]) -> None:
        self._now = now
        self._insert_or_update = insert_or_update

    # Submitting and asking

    @cached_property
    def now(self) -> Executable:
        return select(self._now.label("now"))

    @cached_property
    def add_run(self) -> Executable:
        return insert(runs).values(scheduled_at=self._now).inline()

    @cached_property
    def add_run_at_once(self) -> Executable:
        return insert(runs).values(scheduled_at=self._now, due_at=self._now).inline()

    @cached_property
    def run(self) -> Executable:
        return select(*RUNS.columns).where(_THIS_RUN)

    @cached_property
    def some_runs(self) -> Executable:
        return select(*RUNS.columns).where(runs.c.id.in_(_THESE_RUNS))

    @cached_property
    def find(self) -> Executable:
        """Runs with this id or name, and those whose id begins so, newest first."""
        wanted = bindparam("wanted", type_=AnyText())
        begins = func.substr(runs.c.id, 1, bindparam("letters", type_=Integer()))
        return (
            select(runs.c.id, runs.c.name)
            .where(or_(runs.c.id == wanted, runs.c.name == wanted, begins == wanted))
            .order_by(*_NEWEST_FIRST)
        )

    @cached_property
    def attempts(self) -> Executable:
        return select(*ATTEMPTS.columns).where(attempts.c.run_id.in_(_THESE_RUNS)).order_by(attempts.c.number)

    @cached_property
    def events(self) -> Executable:
        of_run = events.c.run_id == bindparam("run", type_=AnyText())
        return select(*EVENTS.columns).where(of_run, events.c.id > bindparam("after")).order_by(events.c.id)

    @cached_property
    def events_of(self) -> Executable:
        of_kind = events.c.kind == bindparam("kind", type_=AnyText())
        return select(*EVENTS.columns).where(events.c.run_id.in_(_THESE_RUNS), of_kind).order_by(events.c.id)

    @cached_property
    def spent(self) -> Executable:
        return select(charges.c.run_id, charges.c.amount_usd).where(charges.c.run_id.in_(_THESE_RUNS))

    @cached_property
    def add_events(self) -> Executable:
        return insert(events).inline()

    @cached_property
    def add_attempts(self) -> Executable:
        return insert(attempts).inline()

    @cached_property
    def add_charges(self) -> Executable:
        return insert(charges).inline()

    @cached_property
    def due_bills(self) -> Executable:
        """Attempts whose cloud is to be asked what it billed, those that wait longest first."""
        return (
            select(*RUNS.columns, *ATTEMPTS.columns)
            .join(attempts, attempts.c.run_id == runs.c.id)
            .where(attempts.c.settle_at <= self._now)
            .order_by(attempts.c.settle_at)
            .limit(bindparam("at_most", type_=Integer()))
        )

    @cached_property
    def settle_bill(self) -> Executable:
        """Only whoever saw the bill as it is in the store may book it."""
        return (
            update(attempts)
            .where(
                attempts.c.run_id == bindparam("of_run", type_=AnyText()),
                attempts.c.number == bindparam("of_number", type_=Integer()),
                attempts.c.settle_at == bindparam("seen", type_=UtcTime()),
            )
            .values(settle_at=bindparam("ask_at", type_=UtcTime()))
        )

    # Working on runs

    @cached_property
    def claim(self) -> Executable:
        free = or_(runs.c.lease_until.is_(None), runs.c.lease_until < self._now)
        due = (
            select(runs.c.id)
            .where(self._is_due, free)
            .order_by(runs.c.due_at)
            .limit(bindparam("at_most", type_=Integer()))
            .with_for_update(skip_locked=True)
            .cte("due")
            .prefix_with("MATERIALIZED")
        )
        return (
            update(runs)
            .where(runs.c.id.in_(select(due.c.id)))
            .values(
                lease_owner=bindparam("controller", type_=AnyText()),
                lease_until=self._now + _SPAN,
                claims=runs.c.claims + 1,
            )
            .returning(*RUNS.columns, runs.c.claims, runs.c.wakes)
        )

    @cached_property
    def save(self) -> Executable:
        return update(runs).where(FENCE).returning(*SCHEDULE)

    @cached_property
    def save_and_release(self) -> Executable:
        return self._release(self._after_delay).returning(*SCHEDULE)

    @cached_property
    def save_the_end(self) -> Executable:
        return self._release(null()).returning(*SCHEDULE)

    @cached_property
    def save_attempts(self) -> Executable:
        keys = ("run_id", "number")
        added = self._insert_or_update(attempts)
        changes = {column.name: added.excluded[column.name] for column in attempts.c if column.name not in keys}
        statement: Executable = added.on_conflict_do_update(index_elements=keys, set_=changes)
        return statement

    @cached_property
    def postpone(self) -> Executable:
        return self._release(self._after_delay)

    @cached_property
    def renew(self) -> Executable:
        return update(runs).where(FENCE).values(lease_until=self._now + _SPAN)

    @cached_property
    def void_leases(self) -> Executable:
        return update(runs).where(runs.c.lease_owner.is_not(None)).values(lease_owner=None, lease_until=None)

    @cached_property
    def nudge(self) -> Executable:
        return self._wake

    @cached_property
    def cancel(self) -> Executable:
        return self._wake.values(cancel_requested_at=func.coalesce(runs.c.cancel_requested_at, self._now))

    @cached_property
    def next_due(self) -> Executable:
        """The time from now until the first run may be claimed; negative when one waits already."""
        soonest = case(
            (runs.c.lease_until > runs.c.due_at, runs.c.lease_until),
            (self._is_due, self._now),
            else_=runs.c.due_at,
        )
        return select(type_coerce(func.min(soonest) - self._now, Seconds())).where(runs.c.due_at.is_not(None))

    # What controllers tell each other

    @cached_property
    def forget_the_past(self) -> Executable:
        return delete(remembered).where(remembered.c.until <= self._now)

    @cached_property
    def remember(self) -> Executable:
        added = self._insert_or_update(remembered).values(until=self._now + _SPAN)
        changes = {name: added.excluded[name] for name in ("reason", "until")}
        statement: Executable = added.on_conflict_do_update(index_elements=("provider", "subject"), set_=changes)
        return statement

    @cached_property
    def remembered(self) -> Executable:
        what = (remembered.c.provider, remembered.c.subject, remembered.c.reason)
        return select(*what).where(remembered.c.until > self._now)

    @cached_property
    def register_controller(self) -> Executable:
        added = self._insert_or_update(controllers).values(started_at=self._now, seen_at=self._now)
        changes = {name: added.excluded[name] for name in ("host", "pid", "seen_at")}
        statement: Executable = added.on_conflict_do_update(index_elements=("id",), set_=changes)
        return statement

    @cached_property
    def beat_controller(self) -> Executable:
        return update(controllers).where(_THIS_CONTROLLER).values(seen_at=self._now)

    @cached_property
    def controllers(self) -> Executable:
        lately = controllers.c.seen_at > self._now - literal(CONTROLLER_SEEN_SECONDS, Seconds())
        return select(*CONTROLLERS.columns).where(lately).order_by(controllers.c.id)

    @cached_property
    def forget_controller(self) -> Executable:
        return delete(controllers).where(_THIS_CONTROLLER)

    @property
    def _is_due(self) -> ColumnElement[bool]:
        went_back = runs.c.scheduled_at > self._now + literal(_CLOCK_WENT_BACK_SECONDS, Seconds())
        return and_(or_(runs.c.due_at <= self._now, went_back), runs.c.due_at.is_not(None))

    @property
    def _wake(self) -> Update:
        return (
            update(runs)
            .where(_THIS_RUN, _IS_ACTIVE)
            .values(
                nudged_at=self._now,
                wakes=runs.c.wakes + 1,
                scheduled_at=self._now,
                due_at=case((runs.c.due_at < self._now, runs.c.due_at), else_=self._now),
            )
        )

    @property
    def _after_delay(self) -> ColumnElement[Any]:
        """Whoever asked for a look while the run was leased gets it at once. Without a delay a run is never due."""
        return case((WOKEN, self._now), else_=self._now + _DELAY)

    def _release(self, due_at: ColumnElement[Any]) -> Update:
        ended = {"lease_owner": None, "lease_until": None}
        return update(runs).where(FENCE).values(due_at=due_at, scheduled_at=self._now, **ended)


def list_runs(*, limit: int | None, active: bool | None, name: str | None, project: str | None) -> Executable:
    """Runs that match, newest first."""
    statement = select(*RUNS.columns).order_by(*_NEWEST_FIRST)
    if name is not None:
        statement = statement.where(runs.c.name == name)
    if project is not None:
        statement = statement.where(runs.c.project == project)
    if active is not None:
        statement = statement.where(_IS_ACTIVE if active else ~_IS_ACTIVE)
    return statement if limit is None else statement.limit(limit)


def list_charges(*, run_id: str | None, since: datetime | None, until: datetime | None) -> Executable:
    """Charges that start in [since, until), in the order they were written."""
    statement: Select[Any] = select(*CHARGES.columns).order_by(charges.c.id)
    if run_id is not None:
        statement = statement.where(charges.c.run_id == run_id)
    if since is not None:
        statement = statement.where(charges.c.start >= since)
    return statement if until is None else statement.where(charges.c.start < until)


_NEWEST_FIRST = (runs.c.created_at.desc(), runs.c.id.desc())
# Written out, not a parameter: the index of active runs serves only a condition that is known to be its own.
_IS_ACTIVE = runs.c.phase != literal(Phase.DONE, Word(Phase), literal_execute=True)
_THIS_CONTROLLER = controllers.c.id == bindparam("controller", type_=AnyText())
