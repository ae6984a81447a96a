"""A price history as a person sees it: curves and a table in the terminal, or a page with a picture for each cloud.

Draws what `price_series` found; reads no file and asks nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median

from orchestrator.price_history import HOLDS
from orchestrator.price_series import Paid, Series, Step
from orchestrator.reports import plot, words
from orchestrator.reports.page import page, safe
from orchestrator.reports.svg import Axes, Curve, line_chart
from orchestrator.reports.table import Column, Table

_TITLES = ("NOW", "LEAST", "MEDIAN", "MOST", "HEARD", "PAID")


@dataclass(frozen=True, kw_only=True)
class History:
    """What was asked for, and what was found."""

    gpu: str | None
    gpu_count: int
    since: datetime
    until: datetime
    series: Sequence[Series]
    paid: Sequence[Paid]

    @property
    def hardware(self) -> str:
        return f"{self.gpu_count}x {self.gpu}" if self.gpu_count else "no GPU"

    def paid_in(self, one: Series) -> list[Paid]:
        kind = (one.provider, one.spot, one.is_simulated)
        return [run for run in self.paid if (run.provider, run.spot, run.is_simulated) == kind]


def label(one: Series | Paid) -> str:
    """vast spot (simulated)."""
    name = words.one_line(one.provider)
    return f"{name}{' spot' if one.spot else ''}{' (simulated)' if one.is_simulated else ''}"


def curves(history: History, *, width: int, fancy: bool, colour: bool) -> str:
    """All clouds over one pair of axes; what is simulated has a picture of its own."""
    pictures = []
    for is_simulated in (False, True):
        shown = [one for one in history.series if one.is_simulated == is_simulated]
        spots = [
            (run.at.timestamp(), float(run.usd_per_hour)) for run in history.paid if run.is_simulated == is_simulated
        ]
        if shown or spots:
            pictures.append(
                plot.line(
                    {label(one): _with_gaps(one, history.until) for one in shown},
                    width=width,
                    fancy=fancy,
                    colour=colour,
                    axes=plot.Axes(x_format=_moment(history.until - history.since), y_format=_rate),
                    spots=("paid by your runs", spots),
                )
            )
    return "\n\n".join(pictures)


def figures(history: History, *, terminal: bool = False, width: int | None = None) -> str:
    """One line for each curve."""
    columns = (Column("WHERE"), *(Column(title, right=True) for title in _TITLES))
    rows = []
    for one in history.series:
        now, runs = one.now(history.until), history.paid_in(one)
        rows.append(
            (
                label(one),
                "-" if now is None else words.rate(now),
                words.rate(one.least),
                words.rate(one.median(history.until)),
                words.rate(one.most),
                words.ago(one.heard_at, history.until),
                _paid(runs),
            )
        )
    return Table(columns, rows).text(terminal=terminal, width=width)


def price_page(history: History) -> str:
    """One file, for a browser."""
    days = words.plural(max(1, round((history.until - history.since) / timedelta(days=1))), "day")
    cards = [card for one in history.series if (card := _card(one, history))]
    lost = [run for run in history.paid if not any(run in history.paid_in(one) for one in history.series)]
    title = f"{history.hardware}, the last {days}"
    told = "The lowest price by the hour that each cloud asked anywhere, whenever gpujob asked."
    if history.paid:
        told += " Dots are what your own runs paid."
    body = [
        f'<header><div class="line"><h1>{safe(title)}</h1></div><div class="sub">{told}</div></header>',
        f'<section><div class="cards">{"".join(cards)}</div></section>' if cards else "<p>Nothing was heard.</p>",
        _list_of_paid(lost),
        f"<footer>gpujob · written {words.moment(history.until)}</footer>",
    ]
    return page(f"Prices of {title}", body)


def _card(one: Series, history: History) -> str:
    runs = history.paid_in(one)
    drawn = [[(at, y) for at, y in piece] for piece in _pieces(one, history.until)]
    dots = [
        Curve(f"{run.run_id} paid", [[(run.at.timestamp(), float(run.usd_per_hour))]], is_spots=True) for run in runs
    ]
    axes = Axes(x_format=_moment(history.until - history.since), y_format=_rate, x_is_seconds=True)
    chart = line_chart([Curve("", drawn), *dots], title=f"{label(one)}: lowest price by the hour", axes=axes)
    now = one.now(history.until)
    value = "not offered now" if now is None else words.rate(now)
    note = f"least {words.rate(one.least)}, median {words.rate(one.median(history.until))}, most {words.rate(one.most)}"
    note += f"; heard {words.ago(one.heard_at, history.until)}" + (f"; paid by {_paid(runs)}" if runs else "")
    return (
        f'<figure class="card"><figcaption><span class="name">{safe(label(one))}</span>'
        f'<span class="value">{safe(value)}</span><span class="note">{safe(note)}</span></figcaption>{chart}</figure>'
    )


def _list_of_paid(runs: Sequence[Paid]) -> str:
    if not runs:
        return ""
    rows = "".join(
        f'<tr><td>{safe(run.run_id)}</td><td class="wide">{safe(label(run))}</td>'
        f'<td class="n">{words.rate(run.usd_per_hour)}</td><td class="n">{words.moment(run.at)}</td></tr>'
        for run in runs
    )
    return (
        f'<section><h2>Paid elsewhere</h2><div class="box scroll"><table><tbody>{rows}</tbody></table></div></section>'
    )


def _with_gaps(one: Series, until: datetime) -> list[tuple[float, float]]:
    """The curve, with a number that is none between its pieces."""
    found: list[tuple[float, float]] = []
    for piece in _pieces(one, until):
        found += [*piece, (piece[-1][0], math.nan)]
    return found


def _pieces(one: Series, until: datetime) -> list[list[tuple[float, float]]]:
    """Each piece as a staircase: a price holds until another is heard, the last one as long as it can be of then."""
    return [_staircase(piece, _held_until(piece, one, until)) for piece in one.pieces()]


def _held_until(piece: Sequence[Step], one: Series, until: datetime) -> datetime:
    """To the time at which there was nothing any more, when that was said soon."""
    after = next((step.at for step in one.steps if step.at > piece[-1].at), until)
    return min(after, piece[-1].at + HOLDS)


def _staircase(piece: Sequence[Step], end: datetime) -> list[tuple[float, float]]:
    stairs: list[tuple[float, float]] = []
    for step in piece:
        at, usd = step.at.timestamp(), float(step.usd_per_hour or 0)
        stairs += [(at, stairs[-1][1]), (at, usd)] if stairs else [(at, usd)]
    return [*stairs, (end.timestamp(), stairs[-1][1])]


def _paid(runs: Sequence[Paid]) -> str:
    """3 runs, median $0.31/h."""
    if not runs:
        return "-"
    return f"{words.plural(len(runs), 'run')}, median {words.rate(Decimal(median(run.usd_per_hour for run in runs)))}"


def _rate(usd: float) -> str:
    return words.rate(Decimal(f"{usd:.4g}"))


def _moment(span: timedelta) -> Callable[[float], str]:
    """Days for long times, hours for short ones; UTC."""
    form = "%H:%M" if span <= timedelta(days=2) else "%d %b"
    return lambda seconds: f"{datetime.fromtimestamp(seconds, UTC):{form}}"
