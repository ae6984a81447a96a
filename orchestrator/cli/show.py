"""gpujob show: everything about one run."""

from __future__ import annotations

import sys

import click

from jobs import metrics
from orchestrator import spending
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.documents import show_document
from orchestrator.cli.options import json_option, run_argument
from orchestrator.cli.output import data, data_json, layout, plain_if_wanted
from orchestrator.cli.session import Session, pass_session
from orchestrator.records import Run
from orchestrator.reports import text
from orchestrator.results import entries


@command(
    "show",
    examples=("gpujob show mnist", "gpujob show r-7k2m9x --json | jq .metrics", "gpujob show r-7k2 --events"),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@run_argument
@click.option("--events", is_flag=True, help="Also what happened, in order.")
@json_option
@pass_session
def show(session: Session, run: str, events: bool, as_json: bool) -> None:
    """Everything about one run.

    RUN is an id, the beginning of one, or a name (then the newest run of that name).
    """
    found = session.find(run)
    if as_json:
        data_json(show_document(session, found))
        return
    data(summary(session, found, terminal=sys.stdout.isatty()))
    if events:
        data("\n" + text.events_table(session.store.events(found.id), **layout()))


def summary(session: Session, run: Run, *, terminal: bool) -> str:
    """One screen, and where the rest is."""
    folder = session.home.run(run.id)
    attempts = session.store.attempts(run.id)
    said = text.run_summary(
        run,
        attempts,
        spending.charges(session.store, run, attempts),
        metrics.last(folder.metrics),
        entries(folder),
        now=session.store.now(),
        terminal=terminal,
    )
    files = f"\n\n  {folder.report if folder.report.exists() else folder.root}"
    return plain_if_wanted(said + files)
