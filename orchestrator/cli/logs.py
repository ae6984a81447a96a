"""gpujob logs: what the job wrote, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import run_argument
from orchestrator.cli.output import RawOutput, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.follow import Output, read_log
from orchestrator.records import Run


@command(
    "logs",
    examples=("gpujob logs mnist", "gpujob logs -f r-7k2m9x", "gpujob logs r-7k2m9x --attempt 2 > attempt-2.log"),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.INTERRUPTED),
)
@run_argument
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the run is over.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Only this attempt; otherwise all in order.")
@click.option("--raw", is_flag=True, help="Leave terminal sequences in, also on a terminal.")
@pass_session
def logs(session: Session, run: str, following: bool, attempt: int | None, raw: bool) -> None:
    """Print what the job wrote.

    stdout gets the job's own bytes and nothing else. On a terminal, sequences that could command it are taken out.
    """
    found = session.find(run)
    if attempt is not None and attempt > found.attempt and not following:
        raise Stop(f"run {found.id} has {found.attempt} attempt{'' if found.attempt == 1 else 's'}")
    shown, printed = 0, RawOutput(raw=raw)
    for output in _outputs(session, found, attempt, following=following):
        if output.attempt != shown and (shown or found.attempt > 1) and attempt is None:
            say(f"--- attempt {output.attempt} ---")
        shown = output.attempt
        printed.write(output.chunk)
    if not shown and not following:
        say(_why_nothing(found))


def _why_nothing(run: Run) -> str:
    if not run.is_over:
        return f"run {run.id} has written nothing yet; it is in phase {run.phase.value}"
    return f"run {run.id} wrote nothing" + (f": {run.error}" if run.error else "")


def _outputs(session: Session, run: Run, attempt: int | None, *, following: bool) -> Iterator[Output]:
    if not following or run.is_over:
        return read_log(session.home.run(run.id), run.attempt, attempt=attempt)
    return (update for update in session.follow(run.id, attempt=attempt) if isinstance(update, Output))
