"""gpujob budget: what a month may cost, of one project or in all; and what submit says about it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import json_option
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.cli.told import option, told, told_options

if TYPE_CHECKING:
    from jobs.spec import Spec
    from orchestrator.budgets import Account

_ACTIONS = ("list", "set", "remove")


def _dollars(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 < amount < 10**12:
        raise click.BadParameter(f"{value!r}: write dollars, for example 250")
    return amount


@command(
    "budget",
    examples=(
        "gpujob budget",
        "gpujob budget set --monthly 500 --soft 400",
        "gpujob budget set --project digits --monthly 50 --webhook 'https://hooks.example.org/${HOOK_KEY}'",
        "gpujob budget set --monthly 500 --apprise 'slack://${SLACK_TOKENS}/#gpu'",
        "gpujob budget remove --project digits",
        "gpujob budget list --json | jq -r '.[] | select(.project==null).left_usd'",
    ),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@click.argument("action", type=click.Choice(_ACTIONS), default="list")
@click.option("--project", help="Of this project's runs; without it, of all runs of the store.")
@click.option("--monthly", metavar="USD", callback=_dollars, help="The most that a calendar month (UTC) may cost.")
@click.option("--soft", metavar="USD", callback=_dollars, help="Warn once a month when so much is spent.")
@told_options
@json_option
@pass_session
def budget(session: Session, /, action: str, project: str | None, as_json: bool, **given: Any) -> int:
    """Limit what a month may cost.

    `set` writes a budget, in the place of an earlier one of the same project; `list` says how much is spent and what
    is left; `remove` takes one away. A run is ended, with what it made brought back, before a budget is passed, and
    nothing is rented that could pass it: docs/budgets.md.
    """
    named = [name for name, value in given.items() if value is not None]
    if action != "set" and named:
        raise click.UsageError(f"{option(named[0])} belongs to `gpujob budget set`")
    if action == "list":
        return _list(session, project, as_json=as_json)
    if as_json:
        raise click.UsageError(f"--json belongs to `gpujob budget list`, not to {action}")
    return _set(session, project or "", **given) if action == "set" else _remove(session, project or "")


def check_budgets(session: Session, spec: Spec) -> None:
    """Refuse a run for which a budget has nothing left; say what is left where that is less than its max_cost."""
    from orchestrator.budgets import accounts

    concerned = [one for one in accounts(session.store, session.store.now()) if one.is_for(spec.project)]
    if not concerned or _costs_nothing(session, spec):
        return
    for one in concerned:
        if one.left <= 0:
            raise Stop(_refusal(one), exit_codes.BUDGET)
    least = min(concerned, key=lambda one: one.left)
    if least.left < spec.limits.max_cost:
        say(
            f"{_money(least.left)} is left of {least.name}, less than limits.max_cost ({_money(spec.limits.max_cost)}):"
            " the machine's end is set by what is left."
        )


def _refusal(one: Account) -> str:
    project = f" --project {one.budget.project}" if one.budget.project else ""
    return (
        f"{one.name} is used up: {_money(one.spent)} is spent, {_money(max(Decimal(0), one.left))} is left. "
        f"Wait for the next month (UTC), or raise it: gpujob budget set{project} --monthly USD"
    )


def _costs_nothing(session: Session, spec: Spec) -> bool:
    """Whether it may run on machines of the user's own only, and none of them has a price."""
    from orchestrator import clouds, placement

    if not spec.place.providers:
        return False
    opened, closed = clouds.open_all(spec.place.providers, home=session.home, env=session.env)
    if closed or not all(provider.traits.owned for provider in opened):
        return False
    ranking = placement.quote(spec, opened)
    return bool(ranking.offers) and all(ranked.offer.usd_per_hour == 0 for ranked in ranking.offers)


def _list(session: Session, project: str | None, *, as_json: bool) -> int:
    from orchestrator.budgets import accounts
    from orchestrator.cli.documents import budget_document

    found = accounts(session.store, session.store.now())
    if project is not None:
        found = tuple(one for one in found if one.budget.project == project)
    if as_json:
        data_json([budget_document(one) for one in found])
    elif not found:
        say("There is no budget. Set one with: gpujob budget set --monthly USD")
    else:
        _show(found)
    return exit_codes.DONE


def _show(found: Iterable[Account]) -> None:
    from orchestrator.reports.table import Cell, Column, Table

    titles = ("SPENT", "AT WORST", "SOFT", "LIMIT", "LEFT")
    columns = (Column("BUDGET"), Column("MONTH (UTC)"), *(Column(title, right=True) for title in titles))
    rows = [
        (
            one.budget.project or "all runs",
            one.month,
            _money(one.spent),
            _money(one.worst),
            "" if one.budget.soft_usd is None else _money(one.budget.soft_usd),
            _money(one.limit),
            Cell(_money(one.left), "bad" if one.left <= 0 else "warn" if one.is_soft_reached else ""),
        )
        for one in found
    ]
    data(Table(columns, rows).text(**layout()))


def _set(session: Session, project: str, **given: Any) -> int:
    from orchestrator.budgets import month_starts
    from orchestrator.store.rows import BudgetRow

    monthly, soft = given["monthly"], given["soft"]
    if monthly is None:
        raise click.UsageError("say how much: gpujob budget set --monthly USD")
    if soft is not None and soft > monthly:
        raise click.UsageError(f"--soft {soft} is above --monthly {monthly}: nobody would be warned")
    now = session.store.now()
    row = BudgetRow(
        project=project,
        monthly_usd=monthly,
        soft_usd=soft,
        set_at=now,
        **told(given),
    )
    session.store.accounts.set_budget(row, month_starts(now))
    if project and not session.store.runs(project=project, limit=1):
        say(f"No run is booked on project {project!r} yet.")
    return _list(session, project, as_json=False)


def _remove(session: Session, project: str) -> int:
    if not session.store.accounts.remove_budget(project):
        whose = f"project {project!r}" if project else "all runs"
        raise Stop(f"there is no budget of {whose}; `gpujob budget` lists them")
    return exit_codes.DONE


def _money(usd: Decimal) -> str:
    from orchestrator.reports.words import money

    return money(usd)
