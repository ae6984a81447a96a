"""gpujob artifacts: the files that came back."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import results
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.documents import artifact_document
from orchestrator.cli.options import json_option, run_argument
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.records import Run
from orchestrator.reports.text import artifacts_table


@command(
    "artifacts",
    examples=("gpujob artifacts mnist", "gpujob artifacts mnist --pull results", "gpujob artifacts r-7k2m9x --json"),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.INCOMPLETE),
)
@run_argument
@click.option("--pull", "target", type=click.Path(path_type=Path), metavar="DIR", help="Copy them to DIR.")
@json_option
@pass_session
def artifacts(session: Session, run: str, target: Path | None, as_json: bool) -> int:
    """List or copy the files that came back.

    Copies are checked against their sha256; a file is there whole or not at all. What could not be had is said on
    stderr.
    """
    found = session.find(run)
    folder = session.home.run(found.id)
    listed = results.entries(folder)
    problems = results.copy(results.artifacts(folder), target) if target is not None else []
    if as_json:
        data_json([artifact_document(entry) for entry in listed])
    elif listed:
        data(artifacts_table(listed, **layout()))
    else:
        say(f"run {found.id} has brought nothing back" + ("" if found.is_over else " yet"))
    for problem in problems:
        say(problem)
    return exit_codes.INCOMPLETE if problems or _said_incomplete(found) else exit_codes.DONE


def _said_incomplete(run: Run) -> bool:
    if run.artifacts_complete is False:
        say(f"incomplete: `gpujob show {run.id} --events` says what is missing")
        return True
    return False
