"""gpujob reap: end the machines that no run looks after, and wait until their clouds say that they are gone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.options import json_option, providers_option, yes_option
from orchestrator.cli.output import can_ask, data, data_json, layout, say
from orchestrator.cli.session import Session, pass_session

if TYPE_CHECKING:
    from orchestrator.reaper import Found, Look
    from orchestrator.records import Run
    from orchestrator.world import World

LOOK_SECONDS = 0.5
LEFT, ENDING, ENDED = "left", "ending", "ended"


@command(
    "reap",
    examples=("gpujob reap", "gpujob reap --yes", "gpujob reap --owner ada-laptop --provider vast"),
    exits=(exit_codes.DONE, exit_codes.USAGE, exit_codes.POSSIBLY_BILLING),
)
@providers_option
@click.option("--owner", metavar="NAME", help="Whose machines; yours when it is not said.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until they are gone.",
)
@yes_option
@json_option
@pass_session
def reap(
    session: Session, providers: tuple[str, ...], owner: str | None, timeout: float, yes: bool, as_json: bool
) -> int:
    """End machines that no run looks after.

    Asks every cloud that is set up, in all its regions, for the machines of one owner, then the store which of them a
    run looks after. The others are ended, each by a run of its own that books what it cost; so is what is left of
    machines: volumes, security groups, key pairs. Works on any computer that has the keys: from another one than the
    runs were submitted on, all runs are unknown, so look at the list before you say yes. Exit code 13 when something
    is still there, or a cloud did not answer.
    """
    from orchestrator.clouds import named
    from orchestrator.reaper import look
    from orchestrator.submission import owner as own_name

    whose = owner or own_name(session.env)
    with _world(session) as world:
        seen = look(world, whose, named(providers) if providers else ())
        if not as_json:
            _show(seen, whose)
        nobodys = [found for found in seen.found if _may_end(found)]
        agreed = bool(nobodys) and _agrees(len(nobodys), yes=yes)
        done = _end(session, world, nobodys, timeout) if agreed else {}
        done |= _wait(
            session, {one.instance.id: one.run for one in seen.found if one.is_being_ended and one.run}, timeout
        )
    actions = [done.get(found.instance.id, LEFT) for found in seen.found]
    if as_json:
        from orchestrator.cli.documents import found_document

        data_json([found_document(found, action) for found, action in zip(seen.found, actions, strict=True)])
    for name, error in seen.unheard.items():
        say(f"{name}: what it holds is not known: {error}")
    return _verdict(seen, actions)


def _world(session: Session) -> World:
    from orchestrator.world import World, steady_clock

    return World(store=session.store, home=session.home, env=session.env, clock=steady_clock())


def _may_end(found: Found) -> bool:
    from orchestrator.reaper import Verdict

    return found.verdict in (Verdict.STRAY, Verdict.UNKNOWN_RUN)


def _agrees(count: int, *, yes: bool) -> bool:
    """Whether they are to be ended; where nobody can be asked, only with --yes."""
    if yes:
        return True
    what = "it" if count == 1 else f"these {count}"
    if not can_ask():
        say(f"To end {what}: gpujob reap --yes")
        return False
    return click.confirm(f"End {what}? What is on a machine and was not brought home is lost", err=True)


def _end(session: Session, world: World, nobodys: Sequence[Found], timeout: float) -> dict[str, str]:
    """What became of each machine, by its id."""
    from orchestrator.reaper import adopt
    from providers.errors import ProviderError

    done: dict[str, str] = {}
    runs: dict[str, Run] = {}
    for found in nobodys:
        try:
            run = adopt(world, found)
        except ProviderError as error:
            say(f"{found.instance.name}: {error}")
            continue
        done[found.instance.id] = ENDED if run is None else ENDING
        if run is not None:
            runs[found.instance.id] = run
    return {**done, **_wait(session, runs, timeout)}


def _wait(session: Session, runs: Mapping[str, Run], timeout: float) -> dict[str, str]:
    """Until every one is gone or the time is over; a controller goes on in any case."""
    left, ends = dict(runs), time.monotonic() + timeout
    while left and time.monotonic() < ends:
        session.ensure_controller()
        time.sleep(LOOK_SECONDS)
        for instance_id, run in list(left.items()):
            if session.store.run(run.id).is_over:
                say(f"{run.id}  {run.name.removeprefix('stray-')}  is gone")
                del left[instance_id]
    for run in left.values():
        say(f"{run.id}  {run.name.removeprefix('stray-')}  is not gone yet; it is asked again: gpujob show {run.id}")
    return {instance_id: ENDING if instance_id in left else ENDED for instance_id in runs}


def _show(seen: Look, owner: str) -> None:
    from orchestrator.reports.table import Column, Table
    from orchestrator.reports.words import one_line

    if not seen.found:
        say(f"No cloud that was heard holds a machine of {owner}.")
        return
    columns = (Column("PROVIDER"), Column("MACHINE"), Column("ID"), Column("WHOSE"), Column("WHY", wraps=True))
    rows = [
        tuple(map(one_line, (one.instance.provider, one.instance.name, one.instance.id, one.verdict.value, one.why)))
        for one in seen.found
    ]
    data(Table(columns, rows).text(**layout()))


def _verdict(seen: Look, actions: Sequence[str]) -> int:
    from orchestrator.reaper import Verdict

    remains = [
        found
        for found, action in zip(seen.found, actions, strict=True)
        if found.verdict is not Verdict.CLAIMED and action != ENDED
    ]
    return exit_codes.POSSIBLY_BILLING if remains or seen.unheard else exit_codes.DONE
