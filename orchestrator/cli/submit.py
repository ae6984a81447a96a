"""gpujob submit: run a job, and stay with it until it is over unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import (
    env_option,
    gpu_option,
    json_option,
    providers_option,
    spot_option,
    train_yaml,
    yes_option,
)
from orchestrator.cli.session import Session, pass_session


@command(
    "submit",
    examples=(
        "gpujob submit",
        "gpujob submit train.yaml --provider local -e EPOCHS=3",
        "gpujob submit --gpu RTX4090:1 --max-cost 2 --dry-run",
        "ID=$(gpujob submit -d train.yaml) && gpujob wait $ID",
    ),
    exits=(exit_codes.USAGE, *exit_codes.OF_A_RUN),
)
@click.argument("file", default="train.yaml", type=click.Path(path_type=Path))
@providers_option
@gpu_option
@spot_option
@click.option("--image", help="Container image; 'none' runs the job as a process.")
@click.option("--max-cost", metavar="USD", help="Stop before it costs more.")
@click.option("--max-duration", metavar="TIME", help="Stop the job after this time: 90m, 2h, 1d.")
@click.option("--max-price", metavar="USD", help="Rent nothing dearer per hour.")
@click.option("--name", help="Name of the run.")
@click.option("--project", help="What its cost is booked on.")
@env_option
@click.option("-d", "--detach", is_flag=True, help="Print the run's id and return.")
@click.option("--wait", is_flag=True, help="Say nothing until the end: for CI.")
@click.option("--dry-run", is_flag=True, help="Say where it would run and what it could cost; create nothing.")
@yes_option
@json_option
@pass_session
def submit(
    session: Session,
    /,
    file: Path,
    *,
    detach: bool,
    wait: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **changes: Any,
) -> int:
    """Run a job from its train.yaml.

    Checks everything, writes the run down, and sees to it that a controller advances it. Then shows its phases on
    stderr and the job's own output on stdout until it is over. Ctrl-C detaches: the run goes on. With --json stdout
    gets one object, as `gpujob show --json` prints it.
    """
    if detach and wait:
        raise click.UsageError("--detach returns at once, --wait at the end: choose one")
    file = train_yaml(file)
    if not dry_run:
        session.ensure_controller()  # starting takes it as long as reading and checking takes us
    from orchestrator.cli.launch import Ways, launch, plan

    if dry_run:
        return plan(session, file, changes, as_json=as_json)
    return launch(session, file, changes, Ways(detach=detach, quiet=wait, as_json=as_json, any_size=yes))
