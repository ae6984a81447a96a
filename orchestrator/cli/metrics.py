"""gpujob metrics: what the job measured, as numbers or as curves."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from jobs.metrics import Point, series
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.documents import metrics_document
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import json_option, run_argument
from orchestrator.cli.output import data, data_json, say, wants_colour, width
from orchestrator.cli.session import Session, pass_session
from orchestrator.reports import plot, words
from orchestrator.reports.table import Column, Table


@command(
    "metrics",
    examples=("gpujob metrics mnist", "gpujob metrics mnist --plot loss accuracy", "gpujob metrics r-7k2m9x --json"),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@run_argument
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--plot", "plotted", is_flag=True, help="Draw curves.")
@json_option
@pass_session
def metrics(session: Session, run: str, names: tuple[str, ...], plotted: bool, as_json: bool) -> None:
    """Print or plot what the job measured."""
    found = session.find(run)
    measured = _chosen(series(session.home.run(found.id).metrics), names)
    if as_json:
        data_json(metrics_document(measured))
    elif not measured:
        say(f"run {found.id} has measured nothing" + ("" if found.is_over else " yet"))
    elif plotted:
        data("\n\n".join(_curve(name, points) for name, points in measured.items()))
    else:
        data(_table(measured))


def _chosen(measured: Mapping[str, list[Point]], names: tuple[str, ...]) -> Mapping[str, list[Point]]:
    for name in names:
        if name not in measured:
            raise Stop(f"there is no metric {name!r}; there are: {', '.join(measured) or 'none'}")
    return {name: measured[name] for name in names} if names else measured


def _curve(name: str, points: list[Point]) -> str:
    """Over the steps that the job counted, else over seconds."""
    counted = all(point.step is not None for point in points)
    start = min(point.time for point in points)
    curve = [
        (point.step if counted and point.step is not None else point.time - start, point.value) for point in points
    ]
    fancy, colour = plot.can_show(sys.stdout.encoding), wants_colour()
    drawn = plot.line({name: curve}, width=min(width(), 100), fancy=fancy, colour=colour)
    return f"{words.one_line(name)}, by {'step' if counted else 'seconds'}\n{drawn}"


def _table(measured: Mapping[str, list[Point]]) -> str:
    columns = (Column("METRIC"), *(Column(title, right=True) for title in ("LAST", "LEAST", "MOST", "POINTS", "STEP")))
    rows = [
        (
            words.one_line(name),
            words.number(points[-1].value),
            words.number(min(point.value for point in points)),
            words.number(max(point.value for point in points)),
            str(len(points)),
            "-" if points[-1].step is None else words.number(points[-1].step),
        )
        for name, points in measured.items()
    ]
    return Table(columns, rows).text()
