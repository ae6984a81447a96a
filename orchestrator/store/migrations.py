"""How the tables came to be: numbered steps, applied once each, in order, by one process at a time.

A step that was released is never changed; a change is another step at the end of MIGRATIONS. Steps define what they
need by themselves and do not use `tables.py`, which describes only the newest state.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
    text,
)

from orchestrator.store.columns import UtcTime
from orchestrator.store.engine import Database
from orchestrator.store.errors import StoreTooNew

_applied_steps = Table(
    "migrations",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("applied_at", UtcTime, nullable=False),
)


def migrate(database: Database, now: ColumnElement[datetime]) -> None:
    """Bring the database to this version's state. One short look when there is nothing to do."""
    with database.read() as connection:
        if _applied(connection) == len(MIGRATIONS):
            return
    with database.migration() as connection:
        done = _applied(connection)  # somebody else may have done it meanwhile
        if done == 0:
            _applied_steps.create(connection)
        for number, step in enumerate(MIGRATIONS[done:], start=done + 1):
            step(connection)
            connection.execute(insert(_applied_steps).values(number=number, name=step.__name__, applied_at=now))


def m001_initial(connection: Connection) -> None:
    tables = MetaData()
    new_id = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts in a column of this type only
    _m001_runs(tables)
    _m001_attempts(tables)
    _m001_events(tables, new_id)
    _m001_charges(tables, new_id)
    _m001_what_controllers_share(tables)
    tables.create_all(connection, checkfirst=False)
    for statement in _APPEND_ONLY_CHARGES[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def m002_running_until(connection: Connection) -> None:
    """Machines that were asked to end before there was this column are taken to have stopped when they were asked."""
    connection.exec_driver_sql("ALTER TABLE attempts ADD COLUMN running_until BIGINT")
    connection.exec_driver_sql("UPDATE attempts SET running_until = terminate_asked_at")


def m003_budgets(connection: Connection) -> None:
    """Nothing is counted yet: what is booked in a month is summed up when a budget is set."""
    tables = MetaData()
    _m003_budgets(tables)
    tables.create_all(connection, checkfirst=False)


def m004_bills(connection: Connection) -> None:
    """Attempts of before are taken to be settled."""
    connection.exec_driver_sql("ALTER TABLE attempts ADD COLUMN settle_at BIGINT")
    connection.exec_driver_sql("CREATE INDEX attempts_to_settle ON attempts (settle_at) WHERE settle_at IS NOT NULL")


def m005_schedules(connection: Connection) -> None:
    tables = MetaData()
    _m005_schedules(tables)
    tables.create_all(connection, checkfirst=False)


def m006_benchmarks(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE firings ADD COLUMN sweep_id TEXT")
    tables = MetaData()
    Table("runs", tables, Column("id", Text, primary_key=True))  # is there: others refer to it
    _m006_sweeps(tables)
    _m006_results(tables)
    tables.create_all(connection, tables=[table for table in tables.sorted_tables if table.name != "runs"])


def m007_apprise(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE budgets ADD COLUMN apprise TEXT")


def m008_schedules_tell(connection: Connection) -> None:
    """Nobody waits to be told of the times of before."""
    for name in ("webhook", "command", "apprise"):
        connection.exec_driver_sql(f"ALTER TABLE schedules ADD COLUMN {name} TEXT")
    connection.exec_driver_sql("ALTER TABLE firings ADD COLUMN tell_at BIGINT")
    connection.exec_driver_sql("ALTER TABLE firings ADD COLUMN tries INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("CREATE INDEX firings_to_tell ON firings (tell_at) WHERE tell_at IS NOT NULL")


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    m001_initial,
    m002_running_until,
    m003_budgets,
    m004_bills,
    m005_schedules,
    m006_benchmarks,
    m007_apprise,
    m008_schedules_tell,
)


def _applied(connection: Connection) -> int:
    if not inspect(connection).has_table(_applied_steps.name):
        return 0
    newest: int = connection.execute(select(func.coalesce(func.max(_applied_steps.c.number), 0))).scalar_one()
    if newest > len(MIGRATIONS):
        raise StoreTooNew(f"the store is at step {newest}, this gpujob knows {len(MIGRATIONS)}: upgrade gpujob")
    return newest


def _m001_runs(tables: MetaData) -> None:
    runs = Table(
        "runs",
        tables,
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("owner", Text, nullable=False),
        Column("project", Text, nullable=False),
        Column("spec", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("phase", Text, nullable=False),
        Column("phase_since", BigInteger, nullable=False),
        Column("due_at", BigInteger),
        Column("scheduled_at", BigInteger, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("outcome", Text),
        Column("exit_code", Integer),
        Column("error", Text),
        Column("cancel_requested_at", BigInteger),
        Column("nudged_at", BigInteger),
        Column("started_at", BigInteger),
        Column("ended_at", BigInteger),
        Column("artifacts_complete", Integer),
        Column("possibly_billing", Integer, nullable=False),
        Column("notes", Text, nullable=False),
        Column("lease_owner", Text),
        Column("lease_until", BigInteger),
        Column("claims", BigInteger, nullable=False, server_default=text("0")),
        Column("wakes", BigInteger, nullable=False, server_default=text("0")),
    )
    has_time, is_active = runs.c.due_at.is_not(None), text("phase <> 'done'")
    Index(
        "runs_due",
        *(runs.c.due_at, runs.c.lease_until, runs.c.scheduled_at),
        sqlite_where=has_time,
        postgresql_where=has_time,
    )
    Index("runs_newest", runs.c.created_at, runs.c.id)
    Index("runs_active", runs.c.created_at, runs.c.id, sqlite_where=is_active, postgresql_where=is_active)
    Index("runs_name", runs.c.name, runs.c.created_at, runs.c.id)


def _m001_attempts(tables: MetaData) -> None:
    Table(
        "attempts",
        tables,
        Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("machine", Text, nullable=False, unique=True),
        Column("provider", Text, nullable=False),
        Column("offer", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("instance_id", Text),
        Column("host_id", Text, nullable=False),
        Column("usd_per_hour", Text, nullable=False),
        Column("meters", Text, nullable=False),
        Column("billing_from", BigInteger),
        Column("running_from", BigInteger),
        Column("started_at", BigInteger),
        Column("exited_at", BigInteger),
        Column("terminate_asked_at", BigInteger),
        Column("gone_at", BigInteger),
        Column("outcome", Text),
        Column("error", Text),
        Column("exit", Text),
        Column("facts", Text),
        Column("tries", Text, nullable=False),
        Column("notes", Text, nullable=False),
    )


def _m001_events(tables: MetaData, new_id: BigInteger) -> None:
    events = Table(
        "events",
        tables,
        Column("id", new_id, Identity(), primary_key=True),
        Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("phase", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("text", Text, nullable=False),
        Column("details", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    Index("events_of_run", events.c.run_id, events.c.id)


def _m001_charges(tables: MetaData, new_id: BigInteger) -> None:
    charges = Table(
        "charges",
        tables,
        Column("id", new_id, Identity(), primary_key=True),
        Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("provider", Text, nullable=False),
        Column("meter", Text, nullable=False),
        Column("quantity", Text, nullable=False),
        Column("unit", Text, nullable=False),
        Column("rate_usd", Text, nullable=False),
        Column("amount_usd", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("start", BigInteger, nullable=False),
        Column("end", BigInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    Index("charges_of_run", charges.c.run_id, charges.c.amount_usd)
    Index("charges_by_start", charges.c.start)


def _m001_what_controllers_share(tables: MetaData) -> None:
    Table(
        "remembered",
        tables,
        Column("provider", Text, primary_key=True),
        Column("subject", Text, primary_key=True),
        Column("reason", Text, nullable=False),
        Column("until", BigInteger, nullable=False),
    )
    Table(
        "controllers",
        tables,
        Column("id", Text, primary_key=True),
        Column("host", Text, nullable=False),
        Column("pid", BigInteger, nullable=False),
        Column("started_at", BigInteger, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
    )


def _m003_budgets(tables: MetaData) -> None:
    Table(
        "budgets",
        tables,
        Column("project", Text, primary_key=True),
        Column("monthly_usd", Text, nullable=False),
        Column("soft_usd", Text),
        Column("webhook", Text),
        Column("command", Text),
        Column("set_at", BigInteger, nullable=False),
    )
    Table(
        "booked_months",
        tables,
        Column("month", Text, primary_key=True),
        Column("project", Text, primary_key=True),
        Column("usd", Text, nullable=False),
    )
    Table(
        "reservations",
        tables,
        Column("run_id", Text, primary_key=True),
        Column("machine", Text, nullable=False),
        Column("usd", Text, nullable=False),
    )
    Table(
        "notices",
        tables,
        Column("month", Text, primary_key=True),
        Column("project", Text, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("text", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("due_at", BigInteger),
        Column("tries", Integer, nullable=False),
    )


def _m005_schedules(tables: MetaData) -> None:
    Table(
        "schedules",
        tables,
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False, unique=True),
        Column("host", Text, nullable=False),
        Column("file", Text, nullable=False),
        Column("overrides", Text, nullable=False),
        Column("frozen", Text),
        Column("any_size", Integer, nullable=False),
        Column("cron", Text, nullable=False),
        Column("tz", Text, nullable=False),
        Column("missed", Text, nullable=False),
        Column("overlap", Text, nullable=False),
        Column("jitter_seconds", Integer, nullable=False),
        Column("monthly_usd", Text),
        Column("added_at", BigInteger, nullable=False),
        Column("paused_at", BigInteger),
        Column("planned_at", BigInteger),
        Column("waiting_at", BigInteger),
        Column("due_at", BigInteger),
        Column("lease_until", BigInteger),
        Column("claims", BigInteger, nullable=False, server_default=text("0")),
    )
    firings = Table(
        "firings",
        tables,
        Column("schedule_id", Text, ForeignKey("schedules.id"), primary_key=True),
        Column("planned_at", BigInteger, primary_key=True),
        Column("at", BigInteger, nullable=False),
        Column("kind", Text, nullable=False),
        Column("run_id", Text),
        Column("text", Text, nullable=False),
    )
    has_run = firings.c.run_id.is_not(None)
    Index(
        "firings_with_runs",
        *(firings.c.schedule_id, firings.c.planned_at, firings.c.run_id),
        sqlite_where=has_run,
        postgresql_where=has_run,
    )


def _m006_sweeps(tables: MetaData) -> None:
    sweeps = Table(
        "sweeps",
        tables,
        Column("id", Text, primary_key=True),
        Column("suite", Text, nullable=False),
        Column("file", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("commit", Text),
        Column("cap_usd", Text),
        Column("until", BigInteger),
    )
    Index("sweeps_newest", sweeps.c.suite, sweeps.c.created_at)
    Table(
        "cells",
        tables,
        Column("sweep_id", Text, ForeignKey("sweeps.id"), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("run_id", Text, ForeignKey("runs.id"), nullable=False, unique=True),
        Column("task", Text, nullable=False),
        Column("target", Text, nullable=False),
        Column("gpu", Text, nullable=False),
        Column("provider", Text, nullable=False),
    )


def _m006_results(tables: MetaData) -> None:
    results = Table(
        "results",
        tables,
        Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
        Column("metric", Text, primary_key=True),
        Column("sweep_id", Text, nullable=False),
        Column("suite", Text, nullable=False),
        Column("task", Text, nullable=False),
        Column("target", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("machine", Text, nullable=False),
        Column("gpu", Text),
        Column("gpu_count", Integer, nullable=False),
        Column("is_simulated", Integer, nullable=False),
        Column("unit", Text, nullable=False),
        Column("better", Text, nullable=False),
        Column("work", Text),
        Column("is_main", Integer, nullable=False),
        Column("repeats", Text, nullable=False),
        Column("value", Float, nullable=False),
        Column("usd_per_hour", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("testbed", Text, nullable=False),
    )
    Index("results_of_suite", results.c.suite, results.c.at)
    changes = Table(
        "changes",
        tables,
        Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
        Column("metric", Text, primary_key=True),
        Column("suite", Text, nullable=False),
        Column("series", Text, nullable=False),
        Column("noticed_by", Text, nullable=False),
        Column("noticed_at", BigInteger, nullable=False),
        Column("before", Float, nullable=False),
        Column("after", Float, nullable=False),
        Column("p_value", Float, nullable=False),
        Column("is_worse", Integer, nullable=False),
        Column("differs", Text, nullable=False),
    )
    Index("changes_of_suite", changes.c.suite, changes.c.noticed_at)


_APPEND_ONLY_CHARGES = {
    "sqlite": (
        """CREATE TRIGGER charges_no_update BEFORE UPDATE ON charges
        BEGIN SELECT RAISE(ABORT, 'charges are append-only'); END""",
        """CREATE TRIGGER charges_no_delete BEFORE DELETE ON charges
        BEGIN SELECT RAISE(ABORT, 'charges are append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION charges_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''charges are append-only''; END'""",
        """CREATE TRIGGER charges_append_only BEFORE UPDATE OR DELETE ON charges
        FOR EACH ROW EXECUTE FUNCTION charges_are_append_only()""",
        """CREATE TRIGGER charges_no_truncate BEFORE TRUNCATE ON charges
        FOR EACH STATEMENT EXECUTE FUNCTION charges_are_append_only()""",
    ),
}
