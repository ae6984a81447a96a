"""gpujob check: which clouds can be used as things are set up, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import json_option, providers_option, timeout_option
from orchestrator.cli.output import data, data_json, layout
from orchestrator.cli.session import Session, pass_session

if TYPE_CHECKING:
    from orchestrator.clouds import Checked
    from orchestrator.reports.table import Cell


@command(
    "check",
    examples=(
        "gpujob check",
        "gpujob check --provider aws",
        "gpujob check --json | jq -r '.[] | select(.usable).provider'",
    ),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.REFUSED),
)
@providers_option
@timeout_option(30)
@json_option
@pass_session
def check(session: Session, providers: tuple[str, ...], timeout: float, as_json: bool) -> int:
    """Say which clouds can be used, and why the others cannot.

    Asks each cloud with your key, all at once; makes nothing and costs nothing. Exit code 0 when every cloud that was
    named can be used, or, when none was named, any can; otherwise 11.
    """
    from orchestrator.clouds import check_all

    checked = check_all(providers, home=session.home, env=session.env, seconds=timeout)
    if as_json:
        from orchestrator.cli.documents import check_document

        data_json([check_document(one) for one in checked])
    else:
        _show(checked)
    usable = [one.check.usable for one in checked]
    return exit_codes.DONE if (all(usable) if providers else any(usable)) else exit_codes.REFUSED


def _show(checked: Sequence[Checked]) -> None:
    from orchestrator.reports.table import Column, Table

    columns = (Column("PROVIDER"), Column("USABLE"), Column("WHAT WAS FOUND", wraps=True))
    data(Table(columns, [row for one in checked for row in _rows(one)]).text(**layout()))


def _rows(one: Checked) -> Iterator[Sequence[Cell | str]]:
    """The problems first, a line each."""
    from orchestrator.reports.table import Cell
    from orchestrator.reports.words import one_line

    verdict = Cell("yes", "good") if one.check.usable else Cell("no", "bad")
    name = f"{one.provider} (simulated)" if one.simulated else one.provider
    for number, said in enumerate((*one.check.problems, *one.check.notes) or ("",)):
        yield (name, verdict, one_line(said)) if number == 0 else ("", "", one_line(said))
