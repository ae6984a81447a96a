"""What `gpujob schedule` shows: the list, one schedule with what became of its times, and the times to come."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from orchestrator import schedules
from orchestrator.background import is_running
from orchestrator.cli import exit_codes
from orchestrator.cli.documents import (
    coming_document,
    firing_document,
    schedule_document,
    schedule_state,
    told_document,
)
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session
from orchestrator.firings import fired
from orchestrator.records import FiringKind, Json
from orchestrator.reports import words
from orchestrator.reports.table import Cell, Column, Table, Tone
from orchestrator.reports.text import status, status_of_all
from orchestrator.store.rows import FiringRow, ScheduleRow
from orchestrator.together import Together

MOST_FIRINGS = 100  # of one schedule that are shown; --json has as many
COMING = 5

_TONES: Mapping[FiringKind, Tone] = {
    FiringKind.FIRED: "good",
    FiringKind.WAITING: "busy",
    FiringKind.SKIPPED: "warn",
    FiringKind.FAILED: "bad",
}


def show_list(session: Session, *, as_json: bool) -> int:
    """Every schedule, with its next time and what became of the last one."""
    timetable, now = session.store.timetable, session.store.now()
    rows = timetable.schedules()
    last = {row.id: next(iter(timetable.firings(row.id, limit=1)), None) for row in rows}
    if as_json:
        spent = (schedules.spent(session.store, row.id, now) for row in rows)
        became = (_newest(session, last[row.id]) for row in rows)
        data_json([schedule_document(*facts) for facts in zip(rows, spent, became, strict=True)])
    elif not rows:
        say("There is no schedule. Make one with: gpujob schedule add train.yaml --cron '0 2 * * *'")
    else:
        columns = (Column("NAME"), Column("STATE"), Column("WHEN"), Column("NEXT"), Column("LAST", wraps=True))
        cells = [(row.name, _state(row), f"{row.cron} {row.tz}", _next(row, now), _last(last[row.id])) for row in rows]
        data(Table(columns, cells).text(**layout()))
        _warn_if_nobody_fires(session, rows)
    return exit_codes.DONE


def show_one(session: Session, row: ScheduleRow, *, as_json: bool) -> int:
    """All about one schedule."""
    now = session.store.now()
    spent = schedules.spent(session.store, row.id, now)
    firings = session.store.timetable.firings(row.id, limit=MOST_FIRINGS)
    coming = [] if row.paused_at else list(islice(schedules.coming(row, now), COMING))
    if as_json:
        made = fired(session.store, firings)
        became = [firing_document(firing, one) for firing, one in zip(firings, made, strict=True)]
        document = schedule_document(row, spent, became[0] if became else None)
        data_json({**document, "next": [coming_document(*times) for times in coming], "firings": became})
        return exit_codes.DONE
    budget = f" of {words.money(row.monthly_usd)}" if row.monthly_usd is not None else ""
    facts = {
        "job": f"{row.file}{', frozen when it was added' if row.frozen else ''}",
        "options": ", ".join(f"{key}={value}" for key, value in row.overrides.items()),
        "when": f"{row.cron} {row.tz}" + (f", up to {row.jitter_seconds} s later" if row.jitter_seconds else ""),
        "missed": row.missed.value,
        "overlap": row.overlap.value,
        "this month": f"{words.money(spent)}{budget}",
        "next": _next(row, now).text,
        "fired by": row.host,
        "tells": ", ".join(_told(row)),
    }
    data(f"{row.name}  {row.id}  {schedule_state(row)}\n")
    data("\n".join(f"  {label:<10} {words.one_line(fact)}" for label, fact in facts.items() if fact))
    if firings:
        data("\n" + _firings_table(session, row, firings))
    _warn_if_nobody_fires(session, [row])
    return exit_codes.DONE


def show_coming(session: Session, row: ScheduleRow, count: int, *, as_json: bool) -> int:
    """Its next times, as they will be when nobody pauses it."""
    coming = list(islice(schedules.coming(row, session.store.now()), count))
    if as_json:
        data_json([coming_document(*times) for times in coming])
        return exit_codes.DONE
    columns = [Column("PLANNED"), Column("UTC")]
    rows = [[_local(row, at), f"{at:%Y-%m-%d %H:%M}"] for at, _ in coming]
    if row.jitter_seconds:
        columns.append(Column("FIRED (UTC)"))
        rows = [[*cells, f"{due:%Y-%m-%d %H:%M:%S}"] for cells, (_, due) in zip(rows, coming, strict=True)]
    data(Table(columns, rows).text(**layout()))
    if row.paused_at:
        say(f"{row.name} is paused: none of these is fired before `gpujob schedule resume {row.name}`.")
    return exit_codes.DONE


def say_when(row: ScheduleRow, now: datetime) -> None:
    """The next times, for whoever has just set or resumed it."""
    times = ", ".join(_local(row, at) for at, _ in islice(schedules.coming(row, now), 3))
    say(f"{row.name}: next at {times}")


def _warn_if_nobody_fires(session: Session, rows: list[ScheduleRow]) -> None:
    here = [row for row in rows if session.home.schedule(row.id).root.exists() and row.paused_at is None]
    if here and not is_running(session.home):
        say("No controller runs in this home: nothing is fired until `gpujob controller` does (docs/schedules.md).")


def _firings_table(session: Session, row: ScheduleRow, firings: list[FiringRow]) -> str:
    columns = (
        *(Column("PLANNED"), Column("BECAME"), Column("RUN"), Column("STATUS"), Column("COST", right=True)),
        Column("WHY", wraps=True),
    )
    rows = [
        (
            *(_local(row, firing.planned_at), _kind(firing), firing.run_id or firing.sweep_id or "-"),
            *(_status(firing, made), words.money(made.usd) if made.runs else "", words.one_line(firing.text)),
        )
        for firing, made in zip(firings, fired(session.store, firings), strict=True)
    ]
    return Table(columns, rows).text(**layout())


def _status(firing: FiringRow, made: Together) -> Cell | str:
    if not made.runs:
        return ""
    return status(made.runs[0]) if firing.sweep_id is None else status_of_all(made.runs)


def _newest(session: Session, firing: FiringRow | None) -> Json | None:
    return None if firing is None else firing_document(firing, *fired(session.store, [firing]))


def _told(row: ScheduleRow) -> list[str]:
    told = told_document(row)
    return [where for where in (told["webhook"], told["apprise"], shlex.join(told["command"] or ())) if where]


def _state(row: ScheduleRow) -> Cell:
    state = schedule_state(row)
    return Cell(state, "good" if state == "active" else "busy" if state == "waiting" else "dim")


def _kind(firing: FiringRow) -> Cell:
    return Cell(firing.kind.value, _TONES[firing.kind])


def _next(row: ScheduleRow, now: datetime) -> Cell:
    if row.planned_at is None:
        return Cell("-", "dim")
    at = _local(row, row.planned_at)
    return Cell(f"overdue since {at}", "warn") if schedules.is_overdue(row, now) else Cell(at)


def _last(firing: FiringRow | None) -> Cell:
    if firing is None:
        return Cell("-", "dim")
    what = " ".join(filter(None, (firing.kind.value, firing.run_id or firing.sweep_id, firing.text)))
    return Cell(f"{firing.planned_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {words.one_line(what)}", _TONES[firing.kind])


def _local(row: ScheduleRow, moment: datetime) -> str:
    return f"{moment.astimezone(ZoneInfo(row.tz)):%a %Y-%m-%d %H:%M %Z}"
