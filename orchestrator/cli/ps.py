"""gpujob ps: the list of runs."""

from __future__ import annotations

import click

from orchestrator import spending
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import json_option
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session


@command(
    "ps",
    examples=(
        "gpujob ps",
        "gpujob ps --active",
        "gpujob ps -n 1000 --json | jq -r '.[] | select(.outcome==\"failed\").id'",
    ),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@click.option("-a", "--active", is_flag=True, help="Only runs that are not over.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--all", "every", is_flag=True, help="All there are.")
@click.option("--project", help="Only runs of this project.")
@json_option
@pass_session
def ps(session: Session, active: bool, limit: int, every: bool, project: str | None, as_json: bool) -> None:
    """List runs, newest first."""
    runs = session.store.runs(limit=None if every else limit, active=True if active else None, project=project)
    ids = [run.id for run in runs]
    attempts = session.store.attempts_of(ids)
    spent = spending.spent(session.store, runs, attempts)
    if as_json:
        from orchestrator.cli.documents import run_document

        now = session.store.now()
        data_json([run_document(run, attempts[run.id], spent[run.id], now=now) for run in runs])
        return
    if not runs:
        say("No run is active." if active else "No runs yet. Start with: gpujob init mnist && gpujob submit mnist")
        return
    from orchestrator.reports.text import runs_table

    data(runs_table(runs, attempts, spent, now=session.store.now(), **layout()))
    _warn_if_alone(session, any(not run.is_over for run in runs))


def _warn_if_alone(session: Session, something_is_active: bool) -> None:
    """Runs that nobody advances cost money for nothing."""
    if something_is_active and not session.is_served():
        say("Nobody advances these runs: `gpujob controller` does, and so do submit, wait, logs -f and cancel.")
