"""gpujob prices --watch: says when something appears under a price."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.output import data, say
from orchestrator.cli.price_question import who_is_missing

if TYPE_CHECKING:
    from orchestrator.cli.session import Session
    from orchestrator.placement import Ranked
    from orchestrator.prices import Market

COMMAND_SECONDS = 60.0
MOST_LINES = 5  # of one look, for a person


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What is waited for, when it is."""

    watch: bool
    under: Decimal | None
    every: timedelta | None
    once: bool
    command: tuple[str, ...]

    def check(self, *, as_csv: bool) -> None:
        """Raises UsageError for options that do not go together."""
        if not self.watch:
            if self.under is not None or self.every is not None or self.once or self.command:
                raise click.UsageError("--under, --every, --once and --command go with --watch")
        elif self.under is None:
            raise click.UsageError("--watch needs --under USD: the price that a machine's hour has to be under")
        elif as_csv:
            raise click.UsageError("--watch prints lines, or with --json JSON lines: leave out --csv")


def _under(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Decimal | None:
    from jobs.quantities import price

    try:
        return None if value is None else price(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _every(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    from jobs.quantities import duration
    from orchestrator.price_watch import LEAST_EVERY, MOST_EVERY

    try:
        every = duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not LEAST_EVERY <= every <= MOST_EVERY:
        raise click.BadParameter("at least 30s, which is what clouds allow, and at most 1d")
    return every


def _command(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    from orchestrator.notices import checked_command

    try:
        return tuple(checked_command(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def watch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of which a Wait is made."""
    for option in (
        click.option(
            "--command",
            callback=_command,
            metavar="PROG",
            help="Run this, too, when something appears; it gets JSON on stdin.",
        ),
        click.option("--once", is_flag=True, help="Exit when something has appeared."),
        click.option("--every", callback=_every, metavar="TIME", help="Between two looks. Default: 5m."),
        click.option("--under", callback=_under, metavar="USD", help="By the hour, of the whole machine."),
        click.option("--watch", is_flag=True, help="Ask again and again, and tell what appears under a price."),
    ):
        function = option(function)
    return function


def watch_prices(session: Session, market: Market, wait: Wait, *, seconds: float, as_json: bool) -> int:
    """Until Ctrl-C; with `once` until something has appeared."""
    from orchestrator.clouds import utc_now
    from orchestrator.price_watch import watch
    from orchestrator.reports import words

    under, every = wait.under or Decimal(0), wait.every or timedelta(minutes=5)
    said: list[str] = []
    is_first = True
    for look in watch(lambda: market.rank(sort="hour", seconds=seconds), under=under, every=every, sleep=session.sleep):
        now = utc_now()
        missing = who_is_missing(replace(look.ranking, offers=()))  # nothing is listed here
        for line in missing:
            if line not in said:  # once, until it is over
                say(line)
        said = missing
        if look.appeared:
            _tell(look.appeared, now, under, as_json=as_json)
            _run(wait.command, look.appeared, now, under, session)
            if wait.once:
                return exit_codes.DONE
        elif is_first:
            say(f"Nothing is under {words.rate(under)} now. Asking every {words.duration(every.total_seconds())}.")
        is_first = False
    raise AssertionError("a watch has no end")


def _tell(appeared: Sequence[Ranked], now: datetime, under: Decimal, *, as_json: bool) -> None:
    if as_json:
        for document in _documents(appeared, now, under):
            data(json.dumps(document, ensure_ascii=False))
        return
    from orchestrator.reports.words import moment

    for ranked in appeared[:MOST_LINES]:
        data(f"{moment(now)}  {_words(ranked)}")
    if len(appeared) > MOST_LINES:
        data(f"{moment(now)}  and {len(appeared) - MOST_LINES:,} more")


def _words(ranked: Ranked) -> str:
    """vast US: 1x RTX4090 at $0.28/h spot."""
    from orchestrator.reports import words

    offer = ranked.offer
    hardware = words.hardware({"gpu_count": offer.gpu_count, "gpu": offer.gpu, "vcpus": offer.vcpus})
    name = f"{offer.provider}{' (simulated)' if ranked.is_simulated else ''}"
    where = words.one_line(f"{name} {offer.region}")
    return f"{where}: {hardware} at {words.rate(offer.usd_per_hour)}{' spot' if offer.spot else ''}"


def _documents(appeared: Sequence[Ranked], now: datetime, under: Decimal) -> list[dict[str, Any]]:
    from orchestrator.cli.documents import appeared_document

    return [appeared_document(ranked, now=now, under=under) for ranked in appeared]


def _run(command: Sequence[str], appeared: Sequence[Ranked], now: datetime, under: Decimal, session: Session) -> None:
    """The user's own program, for a bounded time; that it fails ends no watch."""
    if not command:
        return
    told = {"text": f"gpujob: {_words(appeared[0])}", "offers": _documents(appeared, now, under)}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(told).encode(),
            env=session.env,
            timeout=COMMAND_SECONDS,
            check=False,
            stdout=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        say(f"{command[0]} took longer than {COMMAND_SECONDS:g} s and was ended")
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
    else:
        if done.returncode:
            say(f"{command[0]} ended with exit code {done.returncode}")
