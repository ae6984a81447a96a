"""gpujob controller: advance runs in the foreground, for a server."""

from __future__ import annotations

import logging

import click

from orchestrator import background
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.output import say
from orchestrator.cli.session import Session, pass_session


@command(
    "controller",
    examples=("gpujob controller", "gpujob controller --until-idle"),
    exits=(exit_codes.DONE, exit_codes.JOB_FAILED, exit_codes.USAGE),
)
@click.option("--until-idle", is_flag=True, help="End when nothing is left to do.")
@pass_session
def controller(session: Session, until_idle: bool) -> int:
    """Advance runs in the foreground.

    On one's own computer this is not needed: submit starts one in the background, which ends by itself. On a server
    run it under systemd or in a container; several may share one PostgreSQL (GPUJOB_DATABASE_URL). While one in the
    background has runs, it waits for that one's end. Ctrl-C ends it; no run is lost.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if background.serve(session.home, session.env, until_idle=until_idle, say=say) != 0:
        raise Stop(
            f"another controller serves {session.home.root} already; on SQLite there is one. Its log: "
            f"{session.home.controller_log}",
            exit_codes.JOB_FAILED,
        )
    return exit_codes.DONE
