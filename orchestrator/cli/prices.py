"""gpujob prices: what could be rented now, ranked by what it would cost in total."""

from __future__ import annotations

from decimal import Decimal

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.documents import offer_document
from orchestrator.cli.options import complete_gpu, complete_provider, json_option
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.prices import Work, rank
from orchestrator.reports.text import offers_table


def _dollars(_ctx: click.Context, _param: click.Parameter, value: float) -> Decimal:
    return Decimal(str(value))


@command(
    "prices",
    examples=("gpujob prices", "gpujob prices --gpu RTX4090 --hours 8", "gpujob prices --provider local --json"),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.NOTHING_TO_RENT),
)
@click.option("--gpu", shell_complete=complete_gpu, metavar="NAME[:N]", help="Only machines with this GPU.")
@click.option(
    "--provider",
    "providers",
    multiple=True,
    shell_complete=complete_provider,
    metavar="NAME",
    help="Only there; may be given several times.",
)
@click.option(
    "--hours", type=click.FloatRange(min=0), default=1, show_default=True, callback=_dollars, help="Hours of work."
)
@click.option(
    "--disk", type=click.FloatRange(min=0), default=20, show_default=True, callback=_dollars, help="GB of disk."
)
@click.option(
    "--egress", type=click.FloatRange(min=0), default=0, show_default=True, callback=_dollars, help="GB brought back."
)
@json_option
@pass_session
def prices(
    session: Session,
    gpu: str | None,
    providers: tuple[str, ...],
    hours: Decimal,
    disk: Decimal,
    egress: Decimal,
    as_json: bool,
) -> int:
    """Rank what could be rented now by its total price.

    Every provider is asked at once; one that does not answer is named on stderr and left out.
    """
    work = Work(hours=hours, disk_gb=disk, egress_gb=egress)
    ranking = rank(gpu, providers, work, store=session.store, home=session.home, env=session.env)
    for name, error in ranking.unavailable.items():
        say(f"{name}: {error}")
    if as_json:
        data_json([offer_document(ranked) for ranked in ranking.offers])
    elif ranking.offers:
        totals = {ranked.offer.offer_id: ranked.total_usd for ranked in ranking.offers}
        data(offers_table([ranked.offer for ranked in ranking.offers], totals, **layout()))
    else:
        say("Nothing fits.")
    return exit_codes.DONE if ranking.offers else exit_codes.NOTHING_TO_RENT
