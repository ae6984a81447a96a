"""gpujob cost: the ledger, line by line or summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from decimal import Decimal

import click

from orchestrator import ledger
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.documents import charge_document, group_document
from orchestrator.cli.options import json_option, some_runs_argument
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.records import ChargeRow
from orchestrator.reports import words
from orchestrator.reports.table import Column, Table
from orchestrator.reports.text import charges_table

WAYS = ("run", "attempt", "meter", "provider", "project", "day", "month")


@command(
    "cost",
    examples=("gpujob cost mnist", "gpujob cost --by month", "gpujob cost --json | jq '[.[].amount_usd|tonumber]|add'"),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@some_runs_argument
@click.option("--by", type=click.Choice(WAYS), help="Sum up; days and months are UTC.")
@json_option
@pass_session
def cost(session: Session, runs: tuple[str, ...], by: str | None, as_json: bool) -> None:
    """What runs cost, by meter.

    Without RUN: all of them. An estimate accrues while a machine exists; a settlement adds the difference to the
    cloud's own figure.
    """
    charges = _charges(session, runs)
    if by is not None:
        projects = {run.id: run.project for run in session.store.runs()} if by == "project" else {}
        _sums(by, summed(charges, by, projects), as_json=as_json)
    elif as_json:
        data_json([charge_document(charge) for charge in charges])
    elif not charges:
        say("Nothing has cost anything.")
    else:
        data(charges_table(charges, **layout()))


def summed(charges: Sequence[ChargeRow], by: str, projects: Mapping[str, str]) -> dict[tuple[str, ...], Decimal]:
    """Dollars for each group, in the order in which the groups first appear."""
    groups: dict[str, Callable[[ChargeRow], tuple[str, ...]]] = {
        "run": lambda charge: (charge.run_id,),
        "attempt": lambda charge: (charge.run_id, str(charge.attempt)),
        "meter": lambda charge: (charge.meter,),
        "provider": lambda charge: (charge.provider,),
        "project": lambda charge: (projects.get(charge.run_id, ""),),
        "day": lambda charge: (f"{charge.start.astimezone(UTC):%Y-%m-%d}",),
        "month": lambda charge: (f"{charge.start.astimezone(UTC):%Y-%m}",),
    }
    return ledger.by(charges, groups[by])


def _charges(session: Session, runs: tuple[str, ...]) -> list[ChargeRow]:
    if not runs:
        return session.store.charges()
    ids = dict.fromkeys(session.find(text).id for text in runs)
    return [charge for run_id in ids for charge in session.store.charges(run_id=run_id)]


def _sums(by: str, sums: Mapping[tuple[str, ...], Decimal], *, as_json: bool) -> None:
    titles = ("run_id", "attempt") if by == "attempt" else ("run_id",) if by == "run" else (by,)
    if as_json:
        data_json([group_document(titles, group, amount) for group, amount in sums.items()])
        return
    columns = (*(Column(title.removesuffix("_id").upper()) for title in titles), Column("COST", right=True))
    total = sum(sums.values(), Decimal(0))
    rows = [(*map(words.one_line, group), words.money(amount)) for group, amount in sums.items()]
    data(Table(columns, [*rows, ("total", *[""] * (len(titles) - 1), words.money(total))]).text(**layout()))
