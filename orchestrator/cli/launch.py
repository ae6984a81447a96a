"""From the options of `gpujob submit` to a run, or to the plan of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from orchestrator import submission
from orchestrator.api import overrides
from orchestrator.cli import exit_codes
from orchestrator.cli.attend import attend
from orchestrator.cli.documents import plan_document, show_document
from orchestrator.cli.errors import Stop
from orchestrator.cli.output import can_ask, data, data_json, layout, say
from orchestrator.cli.session import Session
from orchestrator.placement import Ranking
from orchestrator.reports import text, words
from orchestrator.submission import Prepared


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How the person wants to be told, and what was agreed to beforehand."""

    detach: bool
    quiet: bool
    as_json: bool
    any_size: bool


def launch(session: Session, file: Path, changes: Mapping[str, Any], ways: Ways) -> int:
    """Submit, and stay with the run unless detached."""
    prepared = _prepare(session, file, changes)
    any_size = ways.any_size or _agrees(prepared)
    run = submission.submit(prepared, store=session.store, home=session.home, env=session.env, any_size=any_size)
    session.ensure_controller()
    if not ways.quiet:
        limits = prepared.spec.limits
        longest = words.duration(limits.max_duration.total_seconds())
        say(f"{run.id}  {run.name}  at most {words.money(limits.max_cost)} and {longest}")
    if not ways.detach:
        return attend(session, run.id, quiet=ways.quiet, as_json=ways.as_json)
    if ways.as_json:
        data_json(show_document(session, run))
    else:
        data(run.id)
    return exit_codes.DONE


def plan(session: Session, file: Path, changes: Mapping[str, Any], *, as_json: bool) -> int:
    """Say where it would run and what it could cost."""
    prepared = _prepare(session, file, changes)
    planned = submission.plan(prepared.spec, store=session.store, home=session.home, env=session.env)
    for name, error in planned.ranking.unavailable.items():
        say(f"{name}: {words.one_line(str(error))}")
    if as_json:
        data_json(plan_document(planned))
    else:
        _show_ranking(planned.ranking)
        say(f"At the very worst {words.money(planned.worst_case_usd)}. Nothing was created.")
    return exit_codes.DONE if planned.ranking.eligible else exit_codes.NOTHING_TO_RENT


def _prepare(session: Session, file: Path, changes: Mapping[str, Any]) -> Prepared:
    return submission.prepare(file, home=session.home, env=session.env, overrides=overrides(**changes))


def _agrees(prepared: Prepared) -> bool:
    """Ask a person about what is unusual; without one the submission refuses it."""
    if prepared.objection is None or not can_ask():
        return False
    say(prepared.objection)
    if not click.confirm("Ship all of it?", err=True):
        raise Stop("not submitted")
    return True


def _show_ranking(ranking: Ranking) -> None:
    if not ranking.offers:
        say("Nothing fits.")
        return
    totals = {ranked.offer.offer_id: ranked.total_usd for ranked in ranking.offers}
    data(text.offers_table([ranked.offer for ranked in ranking.offers], totals, **layout()))
    for ranked in ranking.offers:
        if ranked.why_not is not None:
            say(f"{ranked.offer.provider} {ranked.offer.offer_id} is passed over: {ranked.why_not}")
