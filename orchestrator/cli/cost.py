"""gpujob cost: the ledger, line by line, summed up, by what came of it, or as FOCUS rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.books import Books
from orchestrator.cli.command import command
from orchestrator.cli.documents import charge_document, group_document, per_document
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import complete_provider, json_option, pairs, some_runs_argument
from orchestrator.cli.output import data, data_csv, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.costs import LABEL, Wanted, per, reached, summed
from orchestrator.reports import words
from orchestrator.reports.bill import for_nothing
from orchestrator.reports.table import Column, Table
from orchestrator.reports.text import charges_table

WAYS = ("run", "attempt", "meter", "provider", "project", "gpu", "day", "month", "use")
_OF_RUNS = ("run", "project")  # and labels: all of a run's money is in one group


def _known_ways(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value not in WAYS and (not value.startswith(LABEL) or value == LABEL):
            raise click.BadParameter(f"{value!r} is none of {', '.join(WAYS)}, label:NAME")
    return values


def _complete_way(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [way for way in (*WAYS, LABEL) if way.startswith(incomplete)]


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """A month, a day or a time; UTC where no zone is given."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{value}-01" if len(value) == len("2026-11") else value)
    except ValueError:
        raise click.BadParameter(f"{value!r}: write 2026-11, 2026-11-21 or 2026-11-21T08:30") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@command(
    "cost",
    examples=(
        "gpujob cost mnist",
        "gpujob cost --by month",
        "gpujob cost --by project --by use --since 2026-11",
        "gpujob cost --by label:team --project digits --csv > november.csv",
        "gpujob cost mnist --per epoch",
        "gpujob cost --focus costs.csv",
        "gpujob cost --json | jq '[.[].amount_usd|tonumber]|add'",
    ),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@some_runs_argument
@click.option(
    "--by",
    "ways",
    multiple=True,
    callback=_known_ways,
    shell_complete=_complete_way,
    metavar="WAY",
    help=f"Sum up by {', '.join(WAYS)} or label:NAME; days and months are UTC. May be given several times.",
)
@click.option("--since", metavar="TIME", callback=_moment, help="Only charges that start then or later: 2026-11-21.")
@click.option("--until", metavar="TIME", callback=_moment, help="Only charges that start before.")
@click.option("--project", metavar="NAME", help="Only of its runs.")
@click.option("--provider", metavar="NAME", shell_complete=complete_provider, help="Only there.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", callback=pairs, help="Only of runs with that label."
)
@click.option("--per", "metric", metavar="METRIC", help="Dollars for each of what a job counted: epoch, samples, step.")
@click.option("--focus", "target", metavar="FILE", help="Write FOCUS rows to FILE: .csv or .parquet; - for stdout.")
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="PROVIDER=ID",
    callback=pairs,
    help="The billing account that is written into FOCUS rows; default: the provider's name.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with the columns of --json.")
@json_option
@pass_session
def cost(
    session: Session, /, runs: tuple[str, ...], ways: tuple[str, ...], as_csv: bool, as_json: bool, **asked: Any
) -> None:
    """What runs cost, by meter.

    Without RUN: all of them. An estimate accrues while a machine exists; a settlement adds the difference to the
    cloud's own figure. What was paid for nothing is told apart, with --by use: docs/cost.md.
    """
    _check(ways, as_csv=as_csv, as_json=as_json, **asked)
    ids = [run.id for run in session.find_all(runs)] if runs else None
    names = ("since", "until", "project", "provider", "labels")
    books = Books(session, Wanted(**{name: asked[name] for name in names}), ids)
    if asked["target"] is not None:
        _write_focus(session, books, asked["target"], asked["accounts"])
    elif asked["metric"] is not None:
        _per(session, books, ways or ("run",), asked["metric"], as_csv=as_csv, as_json=as_json)
    elif ways:
        _sums(books, ways, as_csv=as_csv, as_json=as_json)
    else:
        _lines(books, as_csv=as_csv, as_json=as_json)


def _check(ways: Sequence[str], *, as_csv: bool, as_json: bool, **asked: Any) -> None:
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of the same: choose one")
    if asked["target"] is not None and (ways or as_csv or as_json or asked["metric"]):
        raise click.UsageError("--focus writes whole lines: it goes with --since, --until and other filters only")
    if asked["accounts"] and asked["target"] is None:
        raise click.UsageError("--account belongs to --focus")
    divided = [way for way in ways if way not in _OF_RUNS and not way.startswith(LABEL)]
    if asked["metric"] is not None and divided:
        raise click.UsageError(f"--per is about whole runs: --by {divided[0]} divides them")


def _lines(books: Books, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        data_json([charge_document(charge) for charge in books.charges])
    elif as_csv:
        data_csv([charge_document(charge) for charge in books.charges])
    elif not books.charges:
        say("Nothing has cost anything.")
    else:
        data(charges_table(books.charges, **layout()))
        if line := for_nothing(_by_use(books)):
            data(line)


def _by_use(books: Books) -> dict[str, Decimal]:
    sums = summed(books.uses(), ["use"], books.about(["use"]))
    return {use: usd for (use,), usd in sums.items()}


def _sums(books: Books, ways: Sequence[str], *, as_csv: bool, as_json: bool) -> None:
    ways = _distinct(ways)
    titles = _titles(ways)
    sums = summed(books.spent(ways), ways, books.about(ways))
    if as_json:
        data_json([group_document(titles, group, amount) for group, amount in sums.items()])
    elif as_csv:
        data_csv([_flat(group_document(titles, group, amount)) for group, amount in sums.items()])
    else:
        rows = [(*_shown(group), words.money(amount)) for group, amount in sums.items()]
        total = words.money(sum(sums.values(), Decimal(0)))
        columns = (*_columns(titles), Column("COST", right=True))
        data(Table(columns, [*rows, ("total", *[""] * (len(titles) - 1), total)]).text(**layout()))


def _per(session: Session, books: Books, ways: Sequence[str], metric: str, *, as_csv: bool, as_json: bool) -> None:
    """All that its runs have cost, over the sum of how far they got. Runs that did not report it are left out."""
    from jobs.metrics import series

    ways = _distinct(ways)
    about = books.about(ways)
    found: dict[tuple[str, ...], tuple[Decimal, float]] = {}
    without = []
    for (run_id, *rest), usd in summed(books.spent(ways), ["run", *ways], about).items():
        value = reached(series(session.home.run(run_id).metrics), metric)
        if value is None:
            without.append(run_id)
        else:
            group = tuple(rest)
            known, counted = found.get(group, (Decimal(0), 0.0))
            found[group] = (known + usd, counted + value)
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        say(f"left out, no {metric!r} was reported: {', '.join(without[:3])}{more}")
    titles = _titles(ways)
    documents = [per_document(titles, group, usd, metric, value) for group, (usd, value) in found.items()]
    if as_json:
        data_json(documents)
    elif as_csv:
        data_csv([_flat(document) for document in documents])
    elif found:
        rows = [
            (*_shown(group), words.money(usd), words.number(value), words.fine(per(usd, value)))
            for group, (usd, value) in found.items()
        ]
        shown = words.one_line(metric).upper()
        right = [Column(title, right=True) for title in ("COST", shown, f"PER {shown}")]
        data(Table((*_columns(titles), *right), rows).text(**layout()))


def _write_focus(session: Session, books: Books, target: str, accounts: Mapping[str, str]) -> None:
    from orchestrator.reports import focus

    if target != "-" and not target.endswith((".csv", ".parquet")):
        raise click.UsageError(f"--focus {target}: name a file that ends in .csv or .parquet, or - for stdout")
    runs = {run.id: run for run in session.store.some_runs([*{charge.run_id for charge in books.charges}])}
    rows = focus.rows(books.charges, runs, books.attempts, accounts)
    if target == "-":
        focus.write_csv(rows, sys.stdout)
        return
    path = Path(target)
    new = path.with_name(f".{path.name}.new")
    try:
        if target.endswith(".csv"):
            with new.open("w", encoding="utf-8", newline="") as file:
                count = focus.write_csv(rows, file)
        else:
            count = focus.write_parquet(rows, new)
        new.replace(path)
    except (OSError, focus.NoParquet) as error:
        new.unlink(missing_ok=True)
        raise Stop(f"{target} was not written: {error}") from None
    say(f"{words.plural(count, 'row')} in {target}")


def _distinct(ways: Sequence[str]) -> list[str]:
    """Each once. An attempt names its run."""
    return [way for way in dict.fromkeys(ways) if way != "run" or "attempt" not in ways]


def _titles(ways: Sequence[str]) -> list[str]:
    fields = {"run": ["run_id"], "attempt": ["run_id", "attempt"]}
    return [title for way in ways for title in fields.get(way, [way])]


def _columns(titles: Sequence[str]) -> list[Column]:
    return [Column(words.one_line(title.removesuffix("_id").removeprefix(LABEL)).upper()) for title in titles]


def _shown(group: Sequence[str]) -> list[str]:
    return [words.one_line(word) or "-" for word in group]


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Labels as columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        flat |= {f"{LABEL}{label}": said for label, said in value.items()} if name == "labels" else {name: value}
    return flat
