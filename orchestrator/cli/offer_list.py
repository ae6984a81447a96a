"""Offers as `gpujob prices` prints them: a table that a person can read, JSON, or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.cli import exit_codes
from orchestrator.cli.output import data, data_csv, data_json, layout, say

if TYPE_CHECKING:
    from orchestrator.placement import Ranked, Ranking

ON_A_SCREEN = 20  # rows, unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Form:
    """How they are wanted."""

    sort: str
    limit: int | None
    as_csv: bool
    as_json: bool


def show_offers(ranking: Ranking, form: Form) -> int:
    """Print them; returns the exit code."""
    from orchestrator.clouds import utc_now

    now = utc_now()
    if form.as_json:
        data_json(_documents(ranking.offers[: form.limit or None], now))
    elif form.as_csv:
        data_csv(_documents(ranking.offers[: form.limit or None], now))
    elif ranking.offers:
        _table(ranking.offers, form, now)
    else:
        say("Nothing fits.")
    return exit_codes.DONE if ranking.offers else exit_codes.NOTHING_TO_RENT


def _table(offers: Sequence[Ranked], form: Form, now: datetime) -> None:
    """On a terminal few rows, of which each may stand for several offers that are alike; in a pipe all of them."""
    from orchestrator.reports.offers import Row, alike, offers_table

    fit, limit = layout(), form.limit
    rows = alike(offers) if fit["terminal"] else [Row(ranked) for ranked in offers]
    if limit is None and fit["terminal"]:
        limit = ON_A_SCREEN
    data(offers_table(rows[: limit or None], now=now, sort=form.sort, **fit))
    if limit and len(rows) > limit:
        left_out = sum(row.count for row in rows[limit:])
        say(f"{left_out:,} more: --limit 0 lists them all, --gpu, --region and --provider fewer.")


def _documents(shown: Sequence[Ranked], now: datetime) -> list[dict[str, Any]]:
    from orchestrator.cli.documents import offer_document
    from orchestrator.cli.estimate_documents import job_offer_document

    return [(job_offer_document if ranked.estimate else offer_document)(ranked, now=now) for ranked in shown]
