"""gpujob exec: run a command on a run's machine, by the way that the controller takes."""

from __future__ import annotations

import sys

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import run_argument
from orchestrator.cli.place import machine_of, working_directory
from orchestrator.cli.session import Session, pass_session
from orchestrator.world import connect

_THERE = 'cd "$1" 2>/dev/null; shift; exec "$@"'


@command(
    "exec",
    examples=("gpujob exec mnist -- nvidia-smi", "gpujob exec r-7k2m9x -- ls -l checkpoints"),
    exits=(exit_codes.DONE, exit_codes.JOB_FAILED, exit_codes.USAGE),
    context_settings={"ignore_unknown_options": True},
)
@run_argument
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=600, show_default=True, help="Seconds to wait for its end."
)
@click.argument("argv", metavar="-- CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def execute(session: Session, run: str, timeout: float, argv: tuple[str, ...]) -> int:
    """Run a command on a run's machine.

    It runs in the job's working directory, beside the job (on a machine with Docker: outside the container). Output is
    cut at 1 MiB each. The exit code is the command's own, once it was started.
    """
    found = session.find(run)
    attempt, access = machine_of(session, found)
    machine = connect(attempt.machine, access, session.home.run(found.id))
    try:
        done = machine.execute(["sh", "-c", _THERE, "exec", working_directory(access), *argv], timeout=timeout)
    finally:
        machine.close()
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.buffer.flush()
    return done.exit_code
