"""gpujob schedule: run a job again and again, by cron."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import exit_codes, job_options
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import json_option, train_yaml, yes_option
from orchestrator.cli.output import data, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.cli.told import NAMES as TOLD
from orchestrator.cli.told import option, told, told_options

if TYPE_CHECKING:
    from orchestrator.store.rows import ScheduleRow

_ACTIONS = ("list", "add", "show", "next", "pause", "resume", "run-now", "remove")
_FOR_ADD = ("cron", "tz", "name", "missed", "overlap", "jitter", "monthly", "frozen", *TOLD, "yes")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@command(
    "schedule",
    examples=(
        'gpujob schedule add nightly.yaml --cron "0 2 * * *" --tz Europe/Berlin',
        'gpujob schedule add bench/ --cron "*/30 * * * *" --overlap queue --monthly 40 -- --provider vast -e EPOCHS=3',
        "gpujob schedule add suite.yaml --cron '0 2 * * *' --apprise 'slack://${SLACK_TOKENS}/#gpu'",
        "gpujob schedule next nightly -n 3",
        "gpujob schedule show nightly",
        "gpujob schedule list --json | jq -r '.[] | select(.last.kind==\"failed\").name'",
    ),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.BUDGET),
)
@click.argument("action", type=click.Choice(_ACTIONS), default="list", metavar="[ACTION]")
@click.argument("subject", metavar="[FILE|NAME]", required=False)
@click.argument("options", metavar="[-- SUBMIT OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@click.option("--cron", metavar="'M H D M W'", help="Minute, hour, day, month, weekday.")
@click.option("--tz", metavar="ZONE", help="The time zone of --cron, such as Europe/Berlin; UTC by default.")
@click.option("--name", help="Name of the schedule; the job's name by default.")
@click.option("--missed", type=click.Choice(("skip", "once")), help="Times at which no controller was there: skip.")
@click.option(
    "--overlap", type=click.Choice(("skip", "queue", "replace")), help="Times at which the last run goes on: skip."
)
@click.option("--jitter", metavar="TIME", help="Fire up to so much later, a different time each time: 10m.")
@click.option("--monthly", metavar="USD", help="Fire no more when its runs have cost so much in a month (UTC).")
@click.option("--frozen", is_flag=True, help="Keep the job and its files as they are now.")
@told_options
@click.option("-n", "--count", type=click.IntRange(min=1, max=1000), default=5, show_default=True, help="Of `next`.")
@yes_option
@json_option
@pass_session
def schedule(
    session: Session,
    /,
    action: str,
    subject: str | None,
    options: tuple[str, ...],
    *,
    count: int,
    as_json: bool,
    **given: Any,
) -> int:
    """Run a job again and again, by cron.

    `add FILE` makes a schedule of a train.yaml; what follows `--` are options of `gpujob submit`. `list`, `show NAME`
    and `next NAME` say what came of it and what will; `pause`, `resume` and `remove` take its NAME. `run-now NAME`
    makes a run at once and prints its id. Whom --webhook, --apprise or --command name is told when the runs of a time
    are over: how they ended, what they cost, what changed. Times are fired by `gpujob controller`, which has to run on
    this computer: docs/schedules.md.
    """
    if action != "add" and (named := [name for name in _FOR_ADD if given[name]]):
        raise click.UsageError(f"{option(named[0])} belongs to `gpujob schedule add`")
    if action != "add" and options:
        raise click.UsageError(f"{options[0]!r}: options of submit belong to `gpujob schedule add`")
    if as_json and action not in ("list", "show", "next"):
        raise click.UsageError(f"--json belongs to list, show and next, not to {action}")
    if action == "list":
        from orchestrator.cli.schedule_views import show_list

        return show_list(session, as_json=as_json)
    if subject is None:
        raise click.UsageError(f"say which: gpujob schedule {action} {'FILE' if action == 'add' else 'NAME'}")
    if action == "add":
        return _add(session, train_yaml(Path(subject)), options, given)
    return _one(session, action, _find(session, subject), count=count, as_json=as_json)


def _one(session: Session, action: str, found: ScheduleRow, *, count: int, as_json: bool) -> int:
    from orchestrator.cli.schedule_views import show_coming, show_one

    if action == "show":
        return show_one(session, found, as_json=as_json)
    if action == "next":
        return show_coming(session, found, count, as_json=as_json)
    if action == "run-now":
        return _run_now(session, found)
    {"pause": _pause, "resume": _resume, "remove": _remove}[action](session, found)
    return exit_codes.DONE


def _add(session: Session, file: Path, options: Sequence[str], given: dict[str, Any]) -> int:
    from dataclasses import replace
    from shutil import rmtree

    from orchestrator import making, notices
    from orchestrator.cli.schedule_views import say_when
    from orchestrator.store.errors import StoreConflict

    file = file.absolute()
    row = _row(session, file, job_options.changes(options, of="schedule add"), given)
    subject = making.look(file, home=session.home, env=session.env, overrides=row.overrides)
    if subject.objection is not None and not row.any_size:
        raise Stop(f"{subject.objection}; --yes ships it as it is, every time")
    row = replace(row, name=_checked_name(given["name"] or subject.name))
    try:
        row = making.keep(row, subject, home=session.home, env=session.env, frozen=given["frozen"], say=say)
        session.store.timetable.add(row)
    except BaseException as error:
        rmtree(session.home.schedule(row.id).root, ignore_errors=True)
        if isinstance(error, StoreConflict):
            raise Stop(f"there is a schedule {row.name!r} already: choose another --name, or remove it") from None
        raise
    data(row.name)
    say_when(row, session.store.now())
    _say_what_is_needed(session, [*subject.secrets, *notices.names_in(row)])
    return exit_codes.DONE


def _row(session: Session, file: Path, changes: dict[str, object], given: dict[str, Any]) -> ScheduleRow:
    """The schedule as it was asked for, with its first time; refused when there is none."""
    import secrets
    import socket

    from orchestrator import schedules
    from orchestrator.records import Missed, Overlap
    from orchestrator.store.rows import ScheduleRow

    if given["cron"] is None:
        raise click.UsageError("say when: gpujob schedule add FILE --cron '0 2 * * *'")
    now = session.store.now()
    row = ScheduleRow(
        id=f"s-{secrets.token_hex(4)}",
        name="",
        host=socket.gethostname(),
        file=str(file),
        overrides=changes,
        any_size=given["yes"],
        cron=given["cron"],
        tz=given["tz"] or "UTC",
        missed=Missed(given["missed"] or "skip"),
        overlap=Overlap(given["overlap"] or "skip"),
        jitter_seconds=_jitter(given),
        monthly_usd=_dollars(given["monthly"]),
        added_at=now,
        planned_at=None,
        due_at=None,
        **told(given),
    )
    try:
        row = schedules.planned(row, now)
        _check_jitter(row)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if row.planned_at is None:
        raise click.UsageError(f"--cron {row.cron!r}: this never comes")
    return row


def _jitter(given: dict[str, Any]) -> int:
    if given["jitter"] is None:
        return 0
    from jobs.quantities import duration

    try:
        return round(duration(given["jitter"]).total_seconds())
    except ValueError as error:
        raise click.UsageError(f"--jitter: {error}") from None


def _check_jitter(row: ScheduleRow) -> None:
    """A time that is delayed beyond the next one would be taken for missed."""
    from orchestrator import cron

    step = cron.shortest_step(row.cron, row.tz, row.added_at) if row.jitter_seconds else None
    if step is not None and row.jitter_seconds >= step.total_seconds():
        between = f"the {step.total_seconds():.0f} s between two times"
        raise ValueError(f"--jitter: {row.jitter_seconds} s is not less than {between}")


def _dollars(text: str | None) -> Any:
    if text is None:
        return None
    from jobs.quantities import price

    try:
        return price(text)
    except ValueError as error:
        raise click.UsageError(f"--monthly: {error}") from None


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.UsageError(f"--name {name!r}: write letters, digits, '.', '_' and '-', at most 63")
    return name


def _say_what_is_needed(session: Session, names: Sequence[str]) -> None:
    """A controller that serves all the time, and secrets that it finds without this shell."""
    from orchestrator import secrets
    from orchestrator.background import is_running

    if missing := secrets.check(dict.fromkeys(names), session.home, {}):
        say(
            f"Without this shell {', '.join(missing)} cannot be found: write NAME=VALUE lines into "
            f"{session.home.secrets} (mode 0600), or set them for the controller."
        )
    alive = (
        "One runs now; if it was started by submit, it ends when it has nothing to do"
        if is_running(session.home)
        else "None runs now"
    )
    say(f"Times are fired by `gpujob controller` on this computer. {alive}: docs/schedules.md has a unit for systemd.")


def _run_now(session: Session, found: ScheduleRow) -> int:
    from orchestrator import schedules

    _must_be_here(session, found)
    now = session.store.now()
    if no_money := schedules.used_up(found, schedules.spent(session.store, found.id, now), now):
        raise Stop(f"{found.name}: {no_money}", exit_codes.BUDGET)
    made = schedules.fire_by_hand(found, store=session.store, home=session.home, env=session.env, say=say)
    session.ensure_controller()
    data(made.id)
    return exit_codes.DONE


def _must_be_here(session: Session, found: ScheduleRow) -> None:
    if not session.home.schedule(found.id).root.exists():
        raise Stop(f"{found.name} was added on {found.host}, in another home: its file is there")


def _pause(session: Session, found: ScheduleRow) -> None:
    session.store.timetable.pause(found.id)
    say(f"{found.name} is paused; a run that goes on is left alone. Go on with: gpujob schedule resume {found.name}")


def _resume(session: Session, found: ScheduleRow) -> None:
    from orchestrator import schedules
    from orchestrator.cli.schedule_views import say_when

    now = session.store.now()
    if found.paused_at is not None:
        found = schedules.planned(found, now)
        session.store.timetable.resume(found.id, planned_at=found.planned_at, due_at=found.due_at)
    say_when(found, now)


def _remove(session: Session, found: ScheduleRow) -> None:
    from shutil import rmtree

    going = session.store.timetable.going(found.id)
    session.store.timetable.remove(found.id)
    rmtree(session.home.schedule(found.id).root, ignore_errors=True)
    say(f"{found.name} is removed; its runs stay.")
    for run_id in going:
        say(f"{run_id} goes on: gpujob cancel {run_id}")


def _find(session: Session, text: str) -> ScheduleRow:
    """By name or id."""
    rows = session.store.timetable.schedules()
    for row in rows:
        if text in (row.name, row.id):
            return row
    from difflib import get_close_matches

    near = get_close_matches(text, [row.name for row in rows], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`gpujob schedule list` has them all"
    raise Stop(f"there is no schedule {text!r}; {hint}")
