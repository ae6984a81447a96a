"""gpujob cancel: ask for the end of runs."""

from __future__ import annotations

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import runs_argument
from orchestrator.cli.output import say
from orchestrator.cli.session import Session, pass_session
from orchestrator.follow import Over
from orchestrator.records import Run
from orchestrator.reports import words


@command(
    "cancel",
    examples=("gpujob cancel r-7k2m9x", "gpujob cancel --wait mnist", "gpujob cancel b-e30ae5"),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.POSSIBLY_BILLING, exit_codes.INTERRUPTED),
)
@runs_argument
@click.option("--wait", is_flag=True, help="Return when their machines are gone.")
@pass_session
def cancel(session: Session, runs: tuple[str, ...], wait: bool) -> int:
    """Stop runs and release their machines.

    The id of a sweep means all its runs. The job gets SIGTERM and half a minute; what it wrote until then comes back. A
    run that is over stays as it is.
    """
    latest_first = reversed(session.find_all(runs))  # none of a sweep gets its turn by the end of the one before it
    asked = [run for run in latest_first if _ask(session, run)]
    if asked:
        session.ensure_controller()
    ends = [_wait_for_end(session, run) for run in asked] if wait else []
    return exit_codes.POSSIBLY_BILLING if any(run.possibly_billing for run in ends) else exit_codes.DONE


def _ask(session: Session, run: Run) -> bool:
    """Whether there is an end to wait for."""
    if session.store.request_cancel(run.id):
        say(
            f"{run.id}  {words.one_line(run.name)}  "
            + ("was asked before" if run.cancel_requested_at else "is asked to stop")
        )
        return True
    outcome = session.store.run(run.id).outcome
    say(f"{run.id}  {words.one_line(run.name)}  is over already: {outcome.value if outcome else 'done'}")
    return False


def _wait_for_end(session: Session, run: Run) -> Run:
    [end] = [update.run for update in session.follow(run.id) if isinstance(update, Over)]
    say(f"{end.id}  {words.one_line(end.name)}  {end.outcome.value if end.outcome else 'possibly still billing'}")
    return end
