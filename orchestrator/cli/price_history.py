"""gpujob prices --history: what a GPU cost lately, and what was paid for it. Asks no cloud."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.options import complete_gpu
from orchestrator.cli.output import data, data_csv, data_json, layout, say, wants_colour, width
from orchestrator.cli.price_question import Question

if TYPE_CHECKING:
    from orchestrator.cli.session import Session
    from orchestrator.price_series import Paid
    from orchestrator.reports.price_chart import History

DAYS = 30
MOST_DAYS = 3650
WIDEST = 100


@dataclass(frozen=True, kw_only=True)
class Past:
    """What was, when it is asked for."""

    history: str | None
    days: int | None
    html: Path | None

    def check(self, *, gpus: Sequence[str], watches: bool, asks_for_a_job: bool) -> None:
        """Raises UsageError for options that do not go together."""
        if self.history is None:
            if self.days is not None:
                raise click.UsageError("--days goes with --history")
            if self.html is not None and not asks_for_a_job:
                raise click.UsageError("--html goes with --history or --for")
        elif gpus or watches:
            raise click.UsageError(f"--history names the GPU itself: leave out {'--watch' if watches else '--gpu'}")


def history_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of which a Past is made."""
    for option in (
        click.option(
            "--html",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="With --history or --for: write it as a page, too.",
        ),
        click.option("--days", type=click.IntRange(1, MOST_DAYS), metavar="N", help=f"How far back. Default: {DAYS}."),
        click.option(
            "--history",
            shell_complete=complete_gpu,
            metavar="NAME[:N]",
            help="What machines with N of this GPU cost lately (default 1), and what your own runs paid.",
        ),
    ):
        function = option(function)
    return function


def show_history(session: Session, past: Past, question: Question, *, as_csv: bool, as_json: bool) -> int:
    """Raises UnknownName."""
    from orchestrator.cli.documents import history_document
    from orchestrator.reports.price_chart import price_page

    history, others = _history(session, past, question)
    if past.html is not None:
        past.html.write_text(price_page(history), encoding="utf-8")
        say(f"written to {past.html}")
    if as_json:
        data_json(history_document(history))
    elif as_csv:
        data_csv(_points(history_document(history)))
    elif not history.series and not history.paid:
        say(f"Of {history.hardware} nothing was heard in {past.days or DAYS} days.{others}")
    else:
        _show(history)
    return exit_codes.DONE


def _history(session: Session, past: Past, question: Question) -> tuple[History, str]:
    """And what else there would be, for when there is nothing."""
    from orchestrator.clouds import named, utc_now
    from orchestrator.price_history import PriceHistory
    from orchestrator.price_series import series
    from orchestrator.prices import gpu_and_count
    from orchestrator.reports.price_chart import History

    name, count = gpu_and_count(past.history or "")
    gpu = name if count else None
    providers = named(question.providers)
    until = utc_now()
    since = until - timedelta(days=past.days or DAYS)
    heard = [
        one
        for one in PriceHistory(session.home).read(gpu, since=since, until=until, providers=providers)
        if (not question.regions or one.kind.region in question.regions) and question.spot in (None, one.kind.spot)
    ]
    history = History(
        gpu=gpu,
        gpu_count=count,
        since=since,
        until=until,
        series=series(one for one in heard if one.kind.gpu_count == count),
        paid=[
            one
            for one in _paid(session, gpu, count, since)
            if one.provider in providers
            and (not question.regions or one.region in question.regions)
            and question.spot in (None, one.spot)
        ],
    )
    sizes = sorted({one.kind.gpu_count for one in heard} - {count})
    return history, f" There is: {', '.join(f'--history {name}:{size}' for size in sizes)}" if sizes else _HOW


_HOW = " Prices are noted whenever clouds are asked: by `gpujob prices`, and by `gpujob submit`."


def _paid(session: Session, gpu: str | None, count: int, since: datetime) -> list[Paid]:
    """What runs paid since then; a home without runs is not given a store."""
    from orchestrator.price_series import paid

    if not session.env.get("GPUJOB_DATABASE_URL") and not (session.home.root / "store.db").exists():
        return []
    recent = [run.id for run in session.store.runs() if run.ended_at is None or run.ended_at >= since]
    attempts = [attempt for some in session.store.attempts_of(recent).values() for attempt in some]
    return [one for one in paid(attempts, gpu, count) if one.at >= since]


def _show(history: History) -> None:
    from orchestrator.reports import plot
    from orchestrator.reports.price_chart import curves, figures

    fancy = plot.can_show(sys.stdout.encoding)
    data(f"{history.hardware}: the lowest price by the hour (UTC)")
    data(curves(history, width=min(width(), WIDEST), fancy=fancy, colour=wants_colour()))
    data(f"\n{figures(history, **layout())}")


def _points(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each point of each series, and for each time that something was paid."""
    named = ("provider", "spot", "simulated")
    heard = [
        {"kind": "heard", **{name: one[name] for name in named}, **point, "run_id": None}
        for one in document["series"]
        for point in one["points"]
    ]
    paid = [
        {"kind": "paid", **{name: one[name] for name in (*named, "at", "usd_per_hour", "run_id")}}
        for one in document["paid"]
    ]
    return heard + paid
