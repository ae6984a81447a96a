"""gpujob prices: what could be rented now, ranked by what it would cost in total; or what it was, or until it is cheap.

The past is in price_history.py, the wait in price_watch.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import Decorated, complete_gpu, json_option, providers_option, timeout_option
from orchestrator.cli.output import data, data_csv, data_json, layout, say
from orchestrator.cli.price_history import Past, history_options, show_history
from orchestrator.cli.price_question import Question, say_who_is_missing, taken
from orchestrator.cli.price_watch import Wait, watch_options, watch_prices
from orchestrator.cli.session import Session, pass_session

if TYPE_CHECKING:
    from orchestrator.placement import Ranked

MOST = 1_000_000  # hours or GB
ON_A_SCREEN = 20  # rows, unless told otherwise
ORDERS = ("total", "hour", "gpu-hour", "tflop", "reliability", "provider")


def _decimal(_ctx: click.Context, _param: click.Parameter, value: float) -> Decimal:
    if not value <= MOST:  # not a number is none either
        raise click.BadParameter(f"{value:g} is more than anybody rents: at most {MOST:,}")
    return Decimal(str(value))


def _amount(name: str, unit: str, default: float, help_text: str) -> Callable[[Decorated], Decorated]:
    return click.option(
        name,
        type=click.FloatRange(min=0),
        default=default,
        show_default=True,
        callback=_decimal,
        metavar=unit,
        help=help_text,
    )


@command(
    "prices",
    examples=(
        "gpujob prices",
        "gpujob prices --gpu RTX4090 --gpu RTX3090:2 --hours 8 --disk 100 --egress 20",
        "gpujob prices --gpu H100-SXM:8 --no-spot --sort gpu-hour",
        "gpujob prices --provider vast --provider runpod --csv > prices.csv",
        "gpujob prices --history RTX4090 --days 30 --html rtx4090.html",
        "gpujob prices --watch --gpu RTX4090 --under 0.30 --once && gpujob submit train.yaml --gpu RTX4090",
    ),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.NOTHING_TO_RENT, exit_codes.INTERRUPTED),
)
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    shell_complete=complete_gpu,
    metavar="NAME[:N]",
    help="Only machines with at least N of this GPU (default 1); may be given several times. 'cpu': without a GPU.",
)
@providers_option
@click.option("--region", "regions", multiple=True, metavar="NAME", help="Only there; may be given several times.")
@click.option("--spot/--no-spot", default=None, help="Only what can be taken away, or none of it. Default: both.")
@_amount("--hours", "H", 1, "Hours of work.")
@_amount("--disk", "GB", 20, "Disk.")
@_amount("--egress", "GB", 0, "What is brought back.")
@_amount("--ingress", "GB", 0, "What is sent there.")
@click.option("--sort", type=click.Choice(ORDERS), default="total", show_default=True, help="What comes first.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most so many rows; 0 for all. Default: {ON_A_SCREEN} on a terminal, otherwise all.",
)
@timeout_option(20)
@history_options
@watch_options
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with the columns of --json.")
@json_option
@pass_session
def prices(session: Session, /, *, sort: str, limit: int | None, as_csv: bool, as_json: bool, **others: Any) -> int:
    """Rank what could be rented now by its total price.

    The total is that of the stated hours, disk and traffic. All clouds are asked at once. For one that does not answer,
    the reason is on stderr, and its last known prices are listed with their age. Without --gpu any GPU is listed, and
    your own computers in any case.

    Every answer is noted, also that to a job's own question: --history draws what was noted, and what your own runs
    paid. --watch asks again and again, and tells what appears under a price.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of the same: choose one")
    past, waited_for, question = taken(Past, others), taken(Wait, others), Question(**others)
    past.check(gpus=question.gpus, watches=waited_for.watch)
    waited_for.check(as_csv=as_csv)
    if past.history is not None:
        return show_history(session, past, question, as_csv=as_csv, as_json=as_json)
    market = question.market(session)
    if waited_for.watch:
        return watch_prices(session, market, waited_for, seconds=question.timeout, as_json=as_json)
    from orchestrator.clouds import utc_now

    ranking = market.rank(sort=sort, seconds=question.timeout)
    say_who_is_missing(ranking)
    shown = ranking.offers[: limit or None]
    if as_json:
        data_json(_documents(shown, utc_now()))
    elif as_csv:
        data_csv(_documents(shown, utc_now()))
    elif shown:
        _show(ranking.offers, sort, utc_now(), limit=limit)
    else:
        say("Nothing fits.")
    return exit_codes.DONE if ranking.offers else exit_codes.NOTHING_TO_RENT


def _show(offers: Sequence[Ranked], sort: str, now: datetime, *, limit: int | None) -> None:
    """On a terminal few rows, of which each may stand for several offers that are alike; in a pipe all of them."""
    from orchestrator.reports.offers import Row, alike, offers_table

    fit = layout()
    rows = alike(offers) if fit["terminal"] else [Row(ranked) for ranked in offers]
    if limit is None and fit["terminal"]:
        limit = ON_A_SCREEN
    data(offers_table(rows[: limit or None], now=now, sort=sort, **fit))
    if limit and len(rows) > limit:
        left_out = sum(row.count for row in rows[limit:])
        say(f"{left_out:,} more: --limit 0 lists them all, --gpu, --region and --provider fewer.")


def _documents(shown: Sequence[Ranked], now: datetime) -> list[dict[str, Any]]:
    from orchestrator.cli.documents import offer_document

    return [offer_document(ranked, now=now) for ranked in shown]
