"""Budgets in the store: what was set, what is booked in a month, what live machines may still cost, who is to be told.

Owns the one lock under which a machine's share of a budget is given out. Knows no clock but the database's, and not
how a share is reckoned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    and_,
    bindparam,
    case,
    delete,
    exists,
    literal,
    or_,
    select,
    type_coerce,
    update,
)

from orchestrator.records import ChargeRow, Json, Phase
from orchestrator.store.columns import AnyText, Money, Seconds, Word
from orchestrator.store.engine import Database
from orchestrator.store.rows import ATTEMPTS, BUDGETS, NOTICES, BudgetRow, LiveMachine, NoticeRow, readable
from orchestrator.store.tables import attempts, booked_months, budgets, charges, notices, reservations, runs

ALL = ""  # the project of a budget that is for all runs
_LOOKS = 5  # at figures that change meanwhile

# Of one budget: what its runs have booked, their other live machines, the specs of those that wait for one -> dollars.
Share = Callable[[BudgetRow, Decimal, Sequence[LiveMachine], Sequence[Json]], Decimal]


def month_of(moment: datetime) -> str:
    """2026-11: the calendar month in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m}"


class Accounts:
    """Every method is one transaction, but for `book`, which is part of another, and raises StoreError."""

    def __init__(self, database: Database, now: ColumnElement[datetime]) -> None:
        self._database = database
        self._now = now

    # What was set

    def set_budget(self, budget: BudgetRow, month_starts: datetime) -> None:
        """Write it, in the place of an earlier one of its project; and count this month anew, by the ledger.

        The count is kept by every save from then on. That it begins here makes up for what a controller of an older
        version has booked, which knew of no count.
        """
        with self._database.transaction() as connection:
            added = self._database.insert_or_update(budgets)
            changes = {column.name: added.excluded[column.name] for column in budgets.c if column.name != "project"}
            connection.execute(
                added.on_conflict_do_update(index_elements=["project"], set_=changes), BUDGETS.values(budget)
            )
            self._count(connection, month_starts)

    def remove_budget(self, project: str) -> bool:
        with self._database.transaction() as connection:
            return bool(connection.execute(delete(budgets).where(budgets.c.project == project)).rowcount)

    def budgets(self) -> list[BudgetRow]:
        """All of them, the one for all runs first."""
        with self._database.read() as connection:
            return _budgets(connection.execute(self._budgets))

    # What is spent and what may still be

    def book(self, connection: Connection, project: str, rows: Iterable[ChargeRow]) -> None:
        """Add charges of one project to their months, in the transaction that writes them."""
        sums: dict[str, Decimal] = {}
        for row in rows:
            month = month_of(row.start)
            sums[month] = sums.get(month, Decimal(0)) + row.amount_usd
        for month in sorted(sums):
            for whose in (ALL, project):  # always in this order: two who wait for each other would wait for ever
                booked = self._lock_month(connection, month, whose)
                self._write_month(connection, month, whose, booked + sums[month])

    def figures(self, month: str) -> tuple[dict[str, Decimal], list[LiveMachine]]:
        """What is booked in a month, by project and for all; and the machines that cost more than that by now."""
        with self._database.read() as connection:
            return self._figures(connection, month)

    def reserve(
        self,
        run_id: str,
        project: str,
        machine: str,
        month: str,
        share: Share,
    ) -> tuple[Decimal, BudgetRow] | None:
        """Set aside for a machine what the project's budgets have for it; None when there is no budget.

        `share` is asked once for each budget. The least of the answers is written and returned, with the budget that it
        comes from; an answer of 0 is not written. Nobody else who reserves from one of these budgets is between the
        questions and the answer.
        """
        with self._database.transaction() as connection:
            concerned = _budgets(connection.execute(self._budgets_of(project)))
            if not concerned:
                return None
            booked, live = self._figures(connection, month)
            waiting = connection.execute(self._waiting, {"but_for": run_id}).all()
            shares = []
            for budget in concerned:
                others = [one for one in live if one.run_id != run_id and budget.project in (ALL, one.project)]
                specs = [spec for of, spec in waiting if budget.project in (ALL, of)]
                shares.append(share(budget, booked.get(budget.project, Decimal(0)), others, specs))
            usd = min(shares)
            if usd > 0:
                connection.execute(self._reserve, {"run_id": run_id, "machine": machine, "usd": usd})
            return usd, concerned[shares.index(usd)]

    # Who is to be told

    def add_notice(self, notice: NoticeRow) -> bool:
        """False when it was said before: once per month, project and kind."""
        statement = self._database.insert_or_update(notices).on_conflict_do_nothing().returning(notices.c.month)
        with self._database.transaction() as connection:
            return connection.execute(statement, NOTICES.values(notice)).first() is not None

    def has_notices(self) -> bool:
        """Whether one is due to be delivered."""
        with self._database.read() as connection:
            return connection.execute(self._due_notice).first() is not None

    def claim_notices(self, seconds: float) -> list[NoticeRow]:
        """Those that are due. Each is due again after `seconds`, and later with every try, unless it was delivered."""
        later = self._now + type_coerce(literal(seconds, Seconds()), Seconds()) * (1 + notices.c.tries)
        statement = (
            update(notices)
            .where(notices.c.due_at <= self._now)
            .values(due_at=later, tries=notices.c.tries + 1)
            .returning(*NOTICES.columns)
        )
        with self._database.transaction() as connection:
            return [NOTICES.record(row) for row in connection.execute(statement)]

    def notice_delivered(self, notice: NoticeRow) -> None:
        """Or given up: nobody waits for it any more."""
        this = and_(*(notices.c[name] == getattr(notice, name) for name in ("month", "project", "kind")))
        with self._database.transaction() as connection:
            connection.execute(update(notices).where(this).values(due_at=None))

    def _figures(self, connection: Connection, month: str) -> tuple[dict[str, Decimal], list[LiveMachine]]:
        """Both as of one moment: when something was booked between the two questions they are asked again."""
        booked = self._booked(connection, month)
        for _ in range(_LOOKS):
            live = [_live_machine(row) for row in connection.execute(self._live)]
            before, booked = booked, self._booked(connection, month)
            if booked == before:
                break
        return booked, live

    def _booked(self, connection: Connection, month: str) -> dict[str, Decimal]:
        rows = connection.execute(self._booked_in, {"of_month": month})
        return {project: usd for _, project, usd in (readable(booked_months, row) for row in rows)}

    def _count(self, connection: Connection, month_starts: datetime) -> None:
        """What every project has booked since then, under the lock of all months: the one that `book` takes first."""
        month = month_of(month_starts)
        self._lock_month(connection, month, ALL)
        sums: dict[str, Decimal] = {ALL: Decimal(0)}
        statement = (
            select(runs.c.project, charges.c.start, charges.c.amount_usd)
            .join(runs, runs.c.id == charges.c.run_id)
            .where(charges.c.start >= month_starts)
        )
        for project, start, usd in connection.execute(statement):
            if month_of(start) == month:
                sums[project] = sums.get(project, Decimal(0)) + usd
                sums[ALL] += usd
        for project, usd in sums.items():
            self._lock_month(connection, month, project)
            self._write_month(connection, month, project, usd)

    def _lock_month(self, connection: Connection, month: str, project: str) -> Decimal:
        """What is booked there; nobody else changes it until the end of the transaction."""
        row = connection.execute(self._locked_month, {"month": month, "project": project, "usd": Decimal(0)}).one()
        usd: Decimal = readable(booked_months, row)[2]
        return usd

    def _write_month(self, connection: Connection, month: str, project: str, usd: Decimal) -> None:
        connection.execute(self._changed_month, {"of_month": month, "of_project": project, "new_usd": usd})

    @cached_property
    def _budgets(self) -> Executable:
        return select(*BUDGETS.columns).order_by(budgets.c.project)

    def _budgets_of(self, project: str) -> Executable:
        return (
            select(*BUDGETS.columns)
            .where(budgets.c.project.in_([ALL, project]))
            .order_by(budgets.c.project)
            .with_for_update()
        )

    @cached_property
    def _booked_in(self) -> Executable:
        return select(*booked_months.c).where(booked_months.c.month == bindparam("of_month", type_=AnyText()))

    @cached_property
    def _locked_month(self) -> Executable:
        added = self._database.insert_or_update(booked_months)
        statement: Executable = added.on_conflict_do_update(
            index_elements=["month", "project"], set_={"usd": booked_months.c.usd}
        ).returning(*booked_months.c)
        return statement

    @cached_property
    def _changed_month(self) -> Executable:
        this = and_(
            booked_months.c.month == bindparam("of_month", type_=AnyText()),
            booked_months.c.project == bindparam("of_project", type_=AnyText()),
        )
        return update(booked_months).where(this).values(usd=bindparam("new_usd", type_=Money()))

    @cached_property
    def _live(self) -> Executable:
        """Whose accounts are not closed. A run with an outcome has booked all, and is only not put away yet."""
        reserved = case((reservations.c.machine == attempts.c.machine, reservations.c.usd))
        return (
            select(runs.c.id, runs.c.project, type_coerce(reserved, Money()), *ATTEMPTS.columns)
            .join(attempts, and_(attempts.c.run_id == runs.c.id, attempts.c.number == runs.c.attempt))
            .join(reservations, reservations.c.run_id == runs.c.id, isouter=True)
            .where(_IS_ACTIVE, runs.c.phase != Phase.QUOTE, runs.c.outcome.is_(None))
        )

    @cached_property
    def _waiting(self) -> Executable:
        """Project and spec of the runs that will want a machine, and have nothing set aside for it yet."""
        has_one = exists().where(
            reservations.c.run_id == runs.c.id,
            attempts.c.run_id == runs.c.id,
            attempts.c.number == runs.c.attempt,
            attempts.c.machine == reservations.c.machine,
        )
        wants_one = or_(runs.c.phase == Phase.QUOTE, and_(runs.c.phase == Phase.PROVISION, ~has_one))
        return select(runs.c.project, runs.c.spec).where(
            _IS_ACTIVE,
            wants_one,
            runs.c.cancel_requested_at.is_(None),
            runs.c.id != bindparam("but_for", type_=AnyText()),
        )

    @cached_property
    def _reserve(self) -> Executable:
        added = self._database.insert_or_update(reservations)
        changes = {name: added.excluded[name] for name in ("machine", "usd")}
        statement: Executable = added.on_conflict_do_update(index_elements=["run_id"], set_=changes)
        return statement

    @cached_property
    def _due_notice(self) -> Executable:
        return select(notices.c.month).where(notices.c.due_at <= self._now).limit(1)


def _budgets(rows: Iterable[Any]) -> list[BudgetRow]:
    return [BUDGETS.record(row) for row in rows]


def _live_machine(row: Any) -> LiveMachine:
    run_id, project, reserved, *attempt = row
    return LiveMachine(run_id=run_id, project=project, attempt=ATTEMPTS.record(attempt), reserved=reserved)


# Written out, not a parameter: the index of active runs serves only a condition that is known to be its own.
_IS_ACTIVE = runs.c.phase != literal(Phase.DONE, Word(Phase), literal_execute=True)
