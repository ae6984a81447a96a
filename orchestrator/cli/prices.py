"""gpujob prices: what could be rented now, ranked by what it would cost in total; or what it was, or until it is cheap.

The past is in price_history.py, the wait in price_watch.py, one job's prices in job_prices.py.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.job_prices import Job, job_options, show_job_prices
from orchestrator.cli.offer_list import ON_A_SCREEN, Form, show_offers
from orchestrator.cli.options import Decorated, complete_gpu, json_option, providers_option, timeout_option
from orchestrator.cli.price_history import Past, history_options, show_history
from orchestrator.cli.price_question import Question, say_who_is_missing, taken
from orchestrator.cli.price_watch import Wait, watch_options, watch_prices
from orchestrator.cli.session import Session, pass_session

MOST = 1_000_000  # hours or GB
ORDERS = ("total", "time", "hour", "gpu-hour", "tflop", "work", "reliability", "provider")


def _decimal(_ctx: click.Context, _param: click.Parameter, value: float | None) -> Decimal | None:
    if value is None:
        return None
    if not value <= MOST:  # not a number is none either
        raise click.BadParameter(f"{value:g} is more than anybody rents: at most {MOST:,}")
    return Decimal(str(value))


def _amount(name: str, unit: str, help_text: str) -> Callable[[Decorated], Decorated]:
    return click.option(
        name,
        type=click.FloatRange(min=0),
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
        "gpujob prices --for train.yaml --gpu RTX3090 --gpu RTX4090 --gpu H100-SXM --html train.html",
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
@_amount("--hours", "H", "Hours of work. Default: 1; with --for, only where nothing is known of it.")
@_amount("--disk", "GB", "Disk. Default: 20, or the job's.")
@_amount("--egress", "GB", "What is brought back. Default: 0, or what the job's earlier runs did.")
@_amount("--ingress", "GB", "What is sent there. Default: 0, or the job's files.")
@click.option("--sort", type=click.Choice(ORDERS), default="total", show_default=True, help="What comes first.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most so many rows; 0 for all. Default: {ON_A_SCREEN} on a terminal, otherwise all.",
)
@click.option("--per", metavar="WORK", help="What a unit of work costs, such as tokens: by your benchmarks.")
@timeout_option(20)
@job_options
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

    --per names a kind of work that your benchmarks have counted on some of these GPUs, and says what a unit of it
    costs; --sort work ranks by that.

    --for ranks by what one job would cost, and says how long it would take, by its earlier runs. Offers marked * are
    those that no other beats in both.

    Every answer is noted, also that to a job's own question: --history draws what was noted, and what your own runs
    paid. --watch asks again and again, and tells what appears under a price.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of the same: choose one")
    past, waited_for, job = taken(Past, others), taken(Wait, others), taken(Job, others)
    question = Question(**others)
    past.check(gpus=question.gpus, watches=waited_for.watch, asks_for_a_job=job.job is not None)
    waited_for.check(as_csv=as_csv)
    job.check(sort=sort, other="--history" if past.history else "--watch" if waited_for.watch else None)
    if past.history is not None:
        return show_history(session, past, question, as_csv=as_csv, as_json=as_json)
    form = Form(sort=sort, limit=limit, as_csv=as_csv, as_json=as_json)
    if job.job is not None:
        return show_job_prices(session, job.job, job, question, form, html=past.html)
    market = question.market(session)
    if waited_for.watch:
        return watch_prices(session, market, waited_for, seconds=question.timeout, as_json=as_json)
    ranking = market.rank(sort=sort, seconds=question.timeout)
    say_who_is_missing(ranking)
    return show_offers(ranking, form)
