"""Records and rows: which fields of a record a statement writes, and what a row that came back says. No SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from sqlalchemy import Table

from orchestrator.records import Attempt, ChargeRow, Event, FiringKind, Json, Missed, Overlap, Run
from orchestrator.store.columns import Unreadable
from orchestrator.store.errors import StoreBroken, StoreTooNew
from orchestrator.store.tables import (
    attempts,
    budgets,
    cells,
    changes,
    charges,
    controllers,
    events,
    firings,
    notices,
    results,
    runs,
    schedules,
    sweeps,
)

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class ControllerRow:
    """A controller that shares this store, and when it last said that it lives."""

    id: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime


class Told:
    """Who is told something: a web address, a command, a service of apprise's; none, one or all of them."""

    webhook: str | None
    command: Sequence[str] | None
    apprise: str | None

    @property
    def names_somebody(self) -> bool:
        """Whether a notice is to be delivered."""
        return bool(self.webhook or self.command or self.apprise)


@dataclass(frozen=True, kw_only=True)
class BudgetRow(Told):
    """The most that the runs of a project, or with "" all runs, may cost in a month, and who is told about it."""

    project: str
    monthly_usd: Decimal
    soft_usd: Decimal | None = None
    webhook: str | None = None
    command: Sequence[str] | None = None
    set_at: datetime
    apprise: str | None = None


@dataclass(frozen=True, kw_only=True)
class NoticeRow:
    """Something about a budget that is to be told once a month. `due_at` is None when nobody waits for it."""

    month: str
    project: str
    kind: str
    text: str
    at: datetime
    due_at: datetime | None
    tries: int = 0


@dataclass(frozen=True, kw_only=True)
class LiveMachine:
    """A machine that costs money, or is about to. `reserved`: the most that it may cost; None where nobody said."""

    run_id: str
    project: str
    attempt: Attempt
    reserved: Decimal | None


@dataclass(frozen=True, kw_only=True)
class ScheduleRow(Told):
    """A job that is run again and again. `planned_at` is its next time by cron; `due_at` when somebody has to look."""

    id: str
    name: str
    host: str
    file: str
    overrides: Json
    frozen: Json | None = None
    any_size: bool = False
    cron: str
    tz: str
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.SKIP
    jitter_seconds: int = 0
    monthly_usd: Decimal | None = None
    added_at: datetime
    paused_at: datetime | None = None
    planned_at: datetime | None
    waiting_at: datetime | None = None
    due_at: datetime | None
    webhook: str | None = None
    command: Sequence[str] | None = None
    apprise: str | None = None


@dataclass(frozen=True, kw_only=True)
class FiringRow:
    """What became of one time of a schedule, or, for a run that a person asked for, of that moment.

    `tell_at` is None when nobody waits to be told; `tries` counts how often somebody tried to.
    """

    schedule_id: str
    planned_at: datetime
    at: datetime
    kind: FiringKind
    run_id: str | None = None
    text: str = ""
    sweep_id: str | None = None  # of a suite: all its runs
    tell_at: datetime | None = None
    tries: int = 0


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """A suite that is run once: all its jobs. After `until` nothing of it is begun."""

    id: str
    suite: str
    file: str
    host: str
    created_at: datetime
    commit: str | None = None
    cap_usd: Decimal | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class CellRow:
    """One job of a sweep, and its run. `provider` is "" where any would do."""

    sweep_id: str
    number: int
    run_id: str
    task: str
    target: str
    gpu: str
    provider: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """What one metric of one run came to: `value` is the median of its repeats. `testbed` says where, in detail."""

    run_id: str
    metric: str
    sweep_id: str
    suite: str
    task: str
    target: str
    provider: str
    machine: str
    gpu: str | None
    gpu_count: int
    is_simulated: bool
    unit: str
    better: str
    work: str | None
    is_main: bool
    repeats: Sequence[float]
    value: float
    usd_per_hour: Decimal
    at: datetime
    testbed: Json


@dataclass(frozen=True, kw_only=True)
class ChangeRow:
    """A series that went to another level with `run_id`, as the result of `noticed_by` told."""

    run_id: str
    metric: str
    suite: str
    series: str
    noticed_by: str
    noticed_at: datetime
    before: float
    after: float
    p_value: float
    is_worse: bool
    differs: Json


class Rows(Generic[R]):
    """The rows of a table, each a record of one type whose fields are columns of the same names."""

    def __init__(self, kind: type[R], table: Table) -> None:
        self._kind = kind
        self._names = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]
        self.table = table
        self.columns = tuple(table.c[name] for name in self._names)

    def values(self, record: R, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """The record's fields by column, but for the columns that the database fills."""
        return {name: getattr(record, name) for name in self._names if name not in without}

    def record(self, row: Sequence[Any]) -> R:
        """From a row of `columns`."""
        return self._kind(**dict(zip(self._names, readable(self.table, row), strict=True)))


def readable(table: Table, row: Sequence[Any]) -> Sequence[Any]:
    """The row, when all of it makes sense. Its first column says which one it is."""
    for value in row:
        if type(value) is Unreadable:
            where = f"table {table.name}, row {row[0]!r}"
            if value.newer:
                raise StoreTooNew(f"{where}: {value.reason}; a newer gpujob wrote it: upgrade this one")
            raise StoreBroken(f"{where} makes no sense: {value.reason}")
    return row


RUNS = Rows(Run, runs)
ATTEMPTS = Rows(Attempt, attempts)
EVENTS = Rows(Event, events)
CHARGES = Rows(ChargeRow, charges)
CONTROLLERS = Rows(ControllerRow, controllers)
BUDGETS = Rows(BudgetRow, budgets)
NOTICES = Rows(NoticeRow, notices)
SCHEDULES = Rows(ScheduleRow, schedules)
FIRINGS = Rows(FiringRow, firings)
SWEEPS = Rows(SweepRow, sweeps)
CELLS = Rows(CellRow, cells)
RESULTS = Rows(ResultRow, results)
CHANGES = Rows(ChangeRow, changes)

# What a phase may change. The rest is fixed at submission or belongs to claim, cancel and nudge.
RUN_CHANGES = (
    "phase",
    "phase_since",
    "attempt",
    "outcome",
    "exit_code",
    "error",
    "started_at",
    "ended_at",
    "artifacts_complete",
    "possibly_billing",
    "notes",
)


def run_changes(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in RUN_CHANGES}
