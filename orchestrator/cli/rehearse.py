"""gpujob rehearse: the whole of tomorrow's job today, on clouds that are simulated on this computer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import env_option, gpu_option, json_option, spot_option, train_yaml
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session
from orchestrator.home import Home
from providers.rehearsal.server import CLOUDS, RehearsalError

if TYPE_CHECKING:
    from orchestrator.rehearsal import Bill, SimulatedClouds

PRICES = 12  # rows


@command(
    "rehearse",
    examples=(
        "gpujob rehearse train.yaml --gpu RTX4090",
        "gpujob rehearse train.yaml --provider vast --spot --faults bad-day.json",
    ),
    exits=(exit_codes.USAGE, *exit_codes.OF_A_RUN),
)
@click.argument("file", default="train.yaml", type=click.Path(path_type=Path))
@click.option(
    "--provider", "providers", multiple=True, type=click.Choice(CLOUDS), help="Only there; may be given several times."
)
@gpu_option
@spot_option
@click.option("--image", help="Container image; it must be on this computer, or in a registry that can be reached.")
@env_option
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What is to go wrong: JSON, a list of faults, or one for each cloud.",
)
@click.option(
    "--machines",
    type=click.Choice(("docker", "process")),
    help="What a rented machine is. Default: docker where that answers.",
)
@click.option("--prices", "shows_prices", is_flag=True, help="First show what could be rented there.")
@json_option
@pass_session
def rehearse(
    session: Session,
    /,
    file: Path,
    *,
    providers: tuple[str, ...],
    faults: Path | None,
    machines: str | None,
    shows_prices: bool,
    as_json: bool,
    **changes: Any,
) -> int:
    """Run a job on simulated clouds on this computer.

    The same code, the same prices' shape, the same bills; no account, no money. A rented machine is a container or a
    process here, and its GPU is simulated and says so. Ctrl-C ends the job and the clouds. At the end each cloud's own
    bill is laid beside ours, and what is left there is named.
    """
    from orchestrator.rehearsal import simulated_clouds

    file = train_yaml(file)
    _refuse_suite(file)
    home = Home(session.home.root / "rehearsals" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}")
    names = providers or tuple(CLOUDS)
    try:
        with simulated_clouds(names, home=home.root, env=session.env, machines=machines, faults=faults) as clouds:
            say(f"SIMULATED clouds {', '.join(names)}; a machine there is a {_KIND[clouds.machines]} on this computer")
            return _on(clouds, home, file, {**changes, "providers": names}, shows_prices, as_json)
    except RehearsalError as error:
        raise Stop(str(error)) from None


def _refuse_suite(file: Path) -> None:
    """Before any cloud is started. Raises SpecError for what cannot be read, too."""
    from jobs import suite

    if suite.is_suite(file):
        raise Stop(
            f"{file} is a suite, not a job: run simulated clouds by themselves, and `gpujob bench run {file}` with "
            'their environment: docs/rehearsal.md, "With the clouds\' own tools"'
        )


_KIND = {"docker": "container", "process": "process", "paper": "row on paper"}


def _on(
    clouds: SimulatedClouds, home: Home, file: Path, changes: Mapping[str, Any], shows_prices: bool, as_json: bool
) -> int:
    from orchestrator.background import SERVES
    from orchestrator.cli.launch import Ways, launch

    os.environ.clear()  # whatever is started from here on must not see the way to a real cloud
    os.environ.update(clouds.environment, GPUJOB_HOME=str(home.root), **{SERVES: str(os.getpid())})
    rehearsal = Session(home, os.environ)
    try:
        if shows_prices:
            _show_prices(rehearsal, changes)
        if clouds.machines == "docker":
            _have_the_image(rehearsal, file, changes)
        ways = Ways(detach=False, quiet=as_json, as_json=False, any_size=True, ends_with_us=True)
        with _ended_like_ctrl_c():
            code = launch(rehearsal, file, changes, ways)
        _end_what_goes_on(rehearsal)
        bills = clouds.bills()
        if as_json:
            data_json(_document(rehearsal, bills))
        else:
            _show(rehearsal, bills)
            say(f"To look at the run again: GPUJOB_HOME={home.root} gpujob show")
        return exit_codes.POSSIBLY_BILLING if any(bill.alive for bill in bills) else code
    finally:
        _end_controllers(rehearsal)
        rehearsal.close()


def _have_the_image(session: Session, file: Path, changes: Mapping[str, Any]) -> None:
    """A rented container is made from an image: without it every machine would fail, one after the other."""
    from jobs import images
    from orchestrator import submission
    from orchestrator.api import overrides

    spec = submission.prepare(file, home=session.home, env=session.env, overrides=overrides(**changes)).spec
    instead = "rehearse with --machines process, which needs none"
    if spec.build is not None:
        return
    if spec.image is None:
        raise Stop(f"the job names no image, and containers are made from one: --image IMAGE, or {instead}")
    try:
        images.have(spec.image, env=session.env, say=say)
    except images.ImageError as error:
        raise Stop(f"image {spec.image} is not on this computer and cannot be pulled: {error}; or {instead}") from None


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, of a CI job that takes too long, ends the job and shows the bills too."""

    def end(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_prices(session: Session, changes: Mapping[str, Any]) -> None:
    from orchestrator.clouds import utc_now
    from orchestrator.prices import Wanted, Work, rank
    from orchestrator.reports.offers import offers_table

    gpus = (changes["gpu"],) if changes["gpu"] else ()
    wanted = Wanted(gpus=gpus, providers=changes["providers"], spot=changes["spot"])
    offers = rank(wanted, Work(), home=session.home, env=session.env).offers
    if offers:
        say(offers_table(offers[:PRICES], now=utc_now(), **layout()))
        say(f"{max(0, len(offers) - PRICES):,} more offers")


def _end_what_goes_on(session: Session) -> None:
    """A run that was left with Ctrl-C: its cloud is about to end."""
    for run in session.store.runs(active=True):
        say("Ending the job; the simulated clouds end with it.")
        session.store.request_cancel(run.id)
        for _ in session.follow(run.id):
            pass


def _end_controllers(session: Session) -> None:
    for controller in session.store.controllers():
        with suppress(ProcessLookupError):
            os.kill(controller.pid, signal.SIGTERM)


def _ours(session: Session) -> dict[str, Decimal]:
    from orchestrator import ledger

    return ledger.by(session.store.charges(), "provider")


def _show(session: Session, bills: Sequence[Bill]) -> None:
    from orchestrator.reports import words
    from orchestrator.reports.table import Column, Table

    ours = _ours(session)
    titles = ("SIMULATED CLOUD", "MACHINES", "ITS BILL", "OUR LEDGER", "DIFFERENCE", "LEFT THERE")
    columns = [Column(title, right=1 <= index <= 4) for index, title in enumerate(titles)]
    rows = [
        (
            bill.cloud,
            str(bill.machines),
            words.money(bill.usd),
            words.money(ours.get(bill.cloud, Decimal(0))),
            words.money(ours.get(bill.cloud, Decimal(0)) - bill.usd),
            ", ".join(bill.alive) or "nothing",
        )
        for bill in bills
    ]
    data(Table(columns, rows).text(**layout()))


def _document(session: Session, bills: Sequence[Bill]) -> dict[str, Any]:
    from orchestrator import ledger
    from orchestrator.cli.documents import show_document

    ours = _ours(session)
    [run] = session.store.runs(limit=1)
    return {
        "run": show_document(session, run),
        "clouds": [
            {
                "provider": bill.cloud,
                "simulated": True,
                "machines": bill.machines,
                "billed_usd": ledger.plain(bill.usd),
                "ledger_usd": ledger.plain(ours.get(bill.cloud, Decimal(0))),
                "left": list(bill.alive),
            }
            for bill in bills
        ],
    }
