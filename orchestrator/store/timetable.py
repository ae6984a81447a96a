"""Schedules in the store: when somebody has to look at one, whose turn that is, and what became of its times.

Owns the transaction that makes a run and moves its schedule on: both or neither, by whoever has the turn. Knows
neither cron nor what a job is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    update,
)

from orchestrator.records import FiringKind, Phase
from orchestrator.store.columns import AnyText, Seconds, UtcTime
from orchestrator.store.engine import Database, Write
from orchestrator.store.errors import LeaseLost
from orchestrator.store.rows import FIRINGS, SCHEDULES, FiringRow, ScheduleRow
from orchestrator.store.tables import cells, firings, runs, schedules

_MOVES = ("planned_at", "waiting_at", "due_at")  # what a turn changes


@dataclass(frozen=True)
class Turn:
    """The right to move one schedule on. Every claim has a higher `token`: an old one opens nothing any more."""

    schedule: ScheduleRow
    token: int


class Timetable:
    """Every method is one transaction and raises StoreError."""

    def __init__(self, database: Database, now: ColumnElement[datetime]) -> None:
        self._database = database
        self._now = now

    # What a person asks for

    def add(self, schedule: ScheduleRow) -> None:
        """StoreConflict when there is one of this name."""
        with self._database.transaction() as connection:
            connection.execute(insert(schedules), SCHEDULES.values(schedule))

    def schedules(self) -> list[ScheduleRow]:
        """All of them, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(*SCHEDULES.columns).order_by(schedules.c.name))
            return [SCHEDULES.record(row) for row in rows]

    def remove(self, schedule_id: str) -> None:
        """It and the record of its times. Its runs stay."""
        with self._database.transaction() as connection:
            connection.execute(self._change(schedule_id))  # first, as in `settle`: whoever comes second waits
            connection.execute(delete(firings).where(firings.c.schedule_id == schedule_id))
            connection.execute(delete(schedules).where(schedules.c.id == schedule_id))

    def pause(self, schedule_id: str) -> None:
        """Nothing more comes of it: what waits is skipped, and who has the turn has lost it."""
        with self._database.transaction() as connection:
            connection.execute(
                self._change(schedule_id).values(paused_at=self._now, planned_at=None, waiting_at=None, due_at=None)
            )
            connection.execute(
                update(firings)
                .where(firings.c.schedule_id == schedule_id, firings.c.kind == FiringKind.WAITING)
                .values(kind=FiringKind.SKIPPED, text="paused while it waited")
            )

    def resume(self, schedule_id: str, *, planned_at: datetime | None, due_at: datetime | None) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                self._change(schedule_id).values(paused_at=None, planned_at=planned_at, due_at=due_at),
            )

    def fire_by_hand(self, firing: FiringRow, write: Write) -> None:
        """What a person asked for, and its mark, all or nothing. StoreConflict when the schedule is gone."""
        with self._database.transaction() as connection:
            write(connection)
            connection.execute(insert(firings), FIRINGS.values(firing))

    def firings(self, schedule_id: str, *, limit: int) -> list[FiringRow]:
        """What became of its times, the newest first."""
        statement = (
            select(*FIRINGS.columns)
            .where(firings.c.schedule_id == schedule_id)
            .order_by(firings.c.planned_at.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [FIRINGS.record(row) for row in connection.execute(statement)]

    # Whose turn it is

    def due(self) -> list[str]:
        """The ids of schedules that somebody has to look at now, those that wait longest first."""
        with self._database.read() as connection:
            return list(connection.scalars(self._due))

    def claim(self, schedule_id: str, *, lease_seconds: float) -> Turn | None:
        """The turn, when the schedule is still due and nobody else has it."""
        with self._database.transaction() as connection:
            row = connection.execute(self._claim, {"wanted": schedule_id, "span": lease_seconds}).one_or_none()
        return None if row is None else Turn(SCHEDULES.record(row[:-1]), row[-1])

    def renew(self, turn: Turn, *, lease_seconds: float) -> None:
        """Keep it for longer. One that is lost stays lost; `settle` will say so."""
        with self._database.transaction(durable=False) as connection:
            connection.execute(self._renew, self._fence(turn) | {"span": lease_seconds})

    def settle(
        self,
        turn: Turn,
        schedule: ScheduleRow,
        *,
        became: Iterable[FiringRow] = (),
        write: Write = lambda _: None,
    ) -> None:
        """Move the schedule on, with what became of its times and what was made, and give the turn back.

        All or nothing; LeaseLost when the turn is somebody else's by now, or the schedule is gone or paused.
        """
        moves = {f"new_{name}": getattr(schedule, name) for name in _MOVES}
        with self._database.transaction() as connection:
            if not connection.execute(self._settle, self._fence(turn) | moves).rowcount:
                raise LeaseLost(turn.schedule.id)
            write(connection)
            for firing in became:
                connection.execute(self._record, FIRINGS.values(firing))

    # Who is to be told

    def to_tell(self) -> list[FiringRow]:
        """What became of times for which somebody waits now, and of whose runs all are over, or possibly still bill."""
        with self._database.read() as connection:
            return [FIRINGS.record(row) for row in connection.execute(self._to_tell)]

    def claim_telling(self, firing: FiringRow, seconds: float) -> FiringRow | None:
        """The right to tell it now. It is due again after `seconds`, and later with every try, unless it was told."""
        with self._database.transaction() as connection:
            row = connection.execute(self._claim_telling, _key(firing) | {"span": seconds}).one_or_none()
        return None if row is None else FIRINGS.record(row)

    def told(self, firing: FiringRow) -> None:
        """Or given up: nobody waits for it any more."""
        with self._database.transaction() as connection:
            connection.execute(update(firings).where(_THIS_TIME).values(tell_at=None), _key(firing))

    # Its runs

    def going(self, schedule_id: str) -> list[str]:
        """The ids of its runs that are not over, the newest first."""
        return self._runs(schedule_id, runs.c.phase != Phase.DONE)

    def runs_since(self, schedule_id: str, moment: datetime) -> list[str]:
        """The ids of its runs that were not over then."""
        return self._runs(schedule_id, or_(runs.c.phase != Phase.DONE, runs.c.ended_at >= moment))

    def _runs(self, schedule_id: str, which: ColumnElement[bool]) -> list[str]:
        statement = (
            select(runs.c.id)
            .outerjoin(cells, cells.c.run_id == runs.c.id)
            .join(firings, or_(firings.c.run_id == runs.c.id, firings.c.sweep_id == cells.c.sweep_id))
            .where(firings.c.schedule_id == schedule_id, which)
            .order_by(firings.c.planned_at.desc())
        )
        with self._database.read() as connection:
            return list(connection.scalars(statement))

    def _change(self, schedule_id: str) -> Any:
        """By a person: whoever has the turn has lost it."""
        return (
            update(schedules)
            .where(schedules.c.id == schedule_id)
            .values(claims=schedules.c.claims + 1, lease_until=None)
        )

    def _fence(self, turn: Turn) -> dict[str, Any]:
        return {"wanted": turn.schedule.id, "token": turn.token}

    @property
    def _is_due(self) -> ColumnElement[bool]:
        free = or_(schedules.c.lease_until.is_(None), schedules.c.lease_until < self._now)
        return and_(schedules.c.due_at <= self._now, schedules.c.paused_at.is_(None), free)

    @cached_property
    def _due(self) -> Executable:
        return select(schedules.c.id).where(self._is_due).order_by(schedules.c.due_at)

    @cached_property
    def _claim(self) -> Executable:
        return (
            update(schedules)
            .where(_WANTED, self._is_due)
            .values(lease_until=self._now + _SPAN, claims=schedules.c.claims + 1)
            .returning(*SCHEDULES.columns, schedules.c.claims)
        )

    @cached_property
    def _to_tell(self) -> Executable:
        goes_on = and_(runs.c.phase != Phase.DONE, runs.c.possibly_billing == literal(0))
        its_run = exists().where(runs.c.id == firings.c.run_id, goes_on)
        one_of_its_sweep = exists().where(cells.c.sweep_id == firings.c.sweep_id, runs.c.id == cells.c.run_id, goes_on)
        return (
            select(*FIRINGS.columns)
            .where(firings.c.tell_at <= self._now, ~its_run, ~one_of_its_sweep)
            .order_by(firings.c.tell_at)
        )

    @cached_property
    def _claim_telling(self) -> Executable:
        return (
            update(firings)
            .where(_THIS_TIME, firings.c.tell_at <= self._now)
            .values(tell_at=self._now + _SPAN * (1 + firings.c.tries), tries=firings.c.tries + 1)
            .returning(*FIRINGS.columns)
        )

    @cached_property
    def _renew(self) -> Executable:
        return update(schedules).where(_WANTED, _TURN).values(lease_until=self._now + _SPAN)

    @cached_property
    def _settle(self) -> Executable:
        moves = {name: bindparam(f"new_{name}", type_=schedules.c[name].type) for name in _MOVES}
        return update(schedules).where(_WANTED, _TURN).values(lease_until=None, **moves)

    @cached_property
    def _record(self) -> Executable:
        """What waited has become something else by now."""
        keys = ("schedule_id", "planned_at")
        added = self._database.insert_or_update(firings)
        changes = {column.name: added.excluded[column.name] for column in firings.c if column.name not in keys}
        statement: Executable = added.on_conflict_do_update(index_elements=keys, set_=changes)
        return statement


_WANTED = schedules.c.id == bindparam("wanted", type_=AnyText())
_TURN = schedules.c.claims == bindparam("token", type_=BigInteger())
_SPAN = bindparam("span", type_=Seconds())
_THIS_TIME = and_(
    firings.c.schedule_id == bindparam("of_schedule", type_=AnyText()),
    firings.c.planned_at == bindparam("of_time", type_=UtcTime()),
)


def _key(firing: FiringRow) -> dict[str, Any]:
    return {"of_schedule": firing.schedule_id, "of_time": firing.planned_at}
