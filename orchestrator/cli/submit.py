"""gpujob submit: run a job, and stay with it until it is over unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator import submission
from orchestrator.api import overrides
from orchestrator.cli import exit_codes
from orchestrator.cli.attend import attend
from orchestrator.cli.command import command
from orchestrator.cli.documents import plan_document, show_document
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import json_option, yes_option
from orchestrator.cli.output import can_ask, data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.placement import Ranking
from orchestrator.reports import text, words
from orchestrator.submission import Prepared


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{value!r}: write NAME=VALUE, for example EPOCHS=3")
    return {name: rest for name, _, rest in (value.partition("=") for value in values)}


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
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only there; may be given several times.")
@click.option("--gpu", metavar="NAME[:N]", help="Instead of resources.gpu; 'cpu' for none.")
@click.option("--spot/--no-spot", default=None, help="Whether machines that can be taken away may be used.")
@click.option("--image", help="Container image; 'none' runs the job as a process.")
@click.option("--max-cost", metavar="USD", help="Stop before it costs more.")
@click.option("--max-duration", metavar="TIME", help="Stop the job after this time: 90m, 2h, 1d.")
@click.option("--max-price", metavar="USD", help="Rent nothing dearer per hour.")
@click.option("--name", help="Name of the run.")
@click.option("--project", help="What its cost is booked on.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="A variable for the job.")
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
    env: dict[str, str],
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
    file = _train_yaml(file)
    prepared = submission.prepare(file, home=session.home, env=session.env, overrides=overrides(env=env, **changes))
    if dry_run:
        return _plan(session, prepared, as_json=as_json)
    run = submission.submit(
        prepared, store=session.store, home=session.home, env=session.env, any_size=yes or _agrees(prepared)
    )
    session.ensure_controller()
    limits = prepared.spec.limits
    if not wait:
        longest = words.duration(limits.max_duration.total_seconds())
        say(f"{run.id}  {run.name}  at most {words.money(limits.max_cost)} and {longest}")
    if not detach:
        return attend(session, run.id, quiet=wait, as_json=as_json)
    if as_json:
        data_json(show_document(session, run))
    else:
        data(run.id)
    return exit_codes.DONE


def _train_yaml(file: Path) -> Path:
    if file.is_dir():
        file = file / "train.yaml"
    if not file.exists():
        raise Stop(f"there is no {file}; `gpujob init` lists templates to start from")
    return file


def _agrees(prepared: Prepared) -> bool:
    """Ask a person about what is unusual; without one the submission refuses it."""
    if prepared.objection is None or not can_ask():
        return False
    say(prepared.objection)
    if not click.confirm("Ship all of it?", err=True):
        raise Stop("not submitted")
    return True


def _plan(session: Session, prepared: Prepared, *, as_json: bool) -> int:
    plan = submission.plan(prepared.spec, store=session.store, home=session.home, env=session.env)
    for name, error in plan.ranking.unavailable.items():
        say(f"{name}: {error}")
    if as_json:
        data_json(plan_document(plan))
    else:
        _show_ranking(plan.ranking)
        say(f"At the very worst {words.money(plan.worst_case_usd)}. Nothing was created.")
    return exit_codes.DONE if plan.ranking.eligible else exit_codes.NOTHING_TO_RENT


def _show_ranking(ranking: Ranking) -> None:
    if not ranking.offers:
        say("Nothing fits.")
        return
    totals = {ranked.offer.offer_id: ranked.total_usd for ranked in ranking.offers}
    data(text.offers_table([ranked.offer for ranked in ranking.offers], totals, **layout()))
    for ranked in ranking.offers:
        if ranked.why_not is not None:
            say(f"{ranked.offer.provider} {ranked.offer.offer_id} is passed over: {ranked.why_not}")
