"""gpujob wait: return when runs are over, with the exit code that tells how."""

from __future__ import annotations

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import runs_argument
from orchestrator.cli.output import say
from orchestrator.cli.session import Session, pass_session
from orchestrator.follow import Over
from orchestrator.reports import words


@command(
    "wait",
    examples=("gpujob wait r-7k2m9x", "gpujob wait $(gpujob submit -d train.yaml) && ./deploy.sh"),
    exits=(exit_codes.USAGE, *exit_codes.OF_A_RUN),
)
@runs_argument
@pass_session
def wait(session: Session, runs: tuple[str, ...]) -> int:
    """Wait until runs are over.

    The id of a sweep means all its runs. The exit code is that of the first one, in the order given, that did not
    succeed. Ctrl-C stops the waiting, not the runs.
    """
    codes = [_wait_for(session, run.id) for run in session.find_all(runs)]
    return next((code for code in codes if code != exit_codes.DONE), exit_codes.DONE)


def _wait_for(session: Session, run_id: str) -> int:
    [run] = [update.run for update in session.follow(run_id) if isinstance(update, Over)]
    outcome = run.outcome.value if run.outcome else "possibly still billing"
    say(f"{run.id}  {words.one_line(run.name)}  {outcome}" + (f": {words.one_line(run.error)}" if run.error else ""))
    return exit_codes.exit_code(run)
