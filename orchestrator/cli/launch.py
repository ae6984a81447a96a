"""From the options of `gpujob submit` to a run, or to the plan of one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.spec import Spec
from orchestrator import submission
from orchestrator.api import overrides
from orchestrator.cli import exit_codes
from orchestrator.cli.attend import attend
from orchestrator.cli.budget import check_budgets
from orchestrator.cli.documents import plan_document, show_document
from orchestrator.cli.errors import Stop
from orchestrator.cli.output import can_ask, data, data_json, layout, say
from orchestrator.cli.session import Session
from orchestrator.clouds import utc_now
from orchestrator.records import Run
from orchestrator.reports import words
from orchestrator.store.errors import StoreError
from orchestrator.submission import Plan, Prepared
from providers.errors import AuthFailed, NoFunds, QuotaExceeded

if TYPE_CHECKING:
    from orchestrator.estimates import Expectation
    from orchestrator.placement import Ranked, Ranking

MOST_OFFERS = 10  # that a person is shown of a plan


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How the person wants to be told, and what was agreed to beforehand."""

    detach: bool
    quiet: bool
    as_json: bool
    any_size: bool
    ends_with_us: bool = False  # a rehearsal's run does not go on without the command


def launch(session: Session, file: Path, changes: Mapping[str, Any], ways: Ways) -> int:
    """Submit, and stay with the run unless detached."""
    prepared = _prepare(session, file, changes)
    check_budgets(session, prepared.spec)
    any_size = ways.any_size or _agrees(prepared)
    run = submission.submit(
        prepared, store=session.store, home=session.home, env=session.env, any_size=any_size, say=say
    )
    session.ensure_controller()
    if not ways.quiet:
        _say_what_it_costs(session, run, prepared.spec)
    if not ways.detach:
        return attend(session, run.id, quiet=ways.quiet, as_json=ways.as_json, ends_with_us=ways.ends_with_us)
    if ways.as_json:
        data_json(show_document(session, run))
    else:
        data(run.id)
    return exit_codes.DONE


def plan(session: Session, file: Path, changes: Mapping[str, Any], *, as_json: bool) -> int:
    """Say where it would run and what it could cost."""
    prepared = _prepare(session, file, changes)
    check_budgets(session, prepared.spec)
    planned = submission.plan(
        prepared.spec, store=session.store, home=session.home, env=session.env, ships_bytes=prepared.bundle.bytes
    )
    if as_json:
        data_json(plan_document(planned, now=utc_now()))
    else:
        _show_plan(planned, now=utc_now())
    return _verdict(planned.ranking)


def _say_what_it_costs(session: Session, run: Run, spec: Spec) -> None:
    """What is expected, by earlier runs, and the most. No cloud is asked: that is what --dry-run does."""
    from orchestrator import past_runs  # not before the run is written down

    limits = spec.limits
    longest = limits.max_duration.total_seconds()
    most = f"at most {words.money(limits.max_cost)} and {words.duration(longest)}"
    before = None
    with suppress(StoreError):  # the run is written down: nothing that is only told may end this
        before = past_runs.expectation(session.store, spec, digest=run.notes.get("bundle_digest"))
    if before is None:
        say(f"{run.id}  {run.name}  {most}")
        return
    say(f"{run.id}  {run.name}  {_expected(before)}, {most}")
    for name, is_less in (("max_cost", limits.max_cost < before.usd), ("max_duration", longest < before.job_seconds)):
        if is_less:
            say(f"limits.{name} is less than what the job took before: it is likely to be stopped before its end.")


def _expected(before: Expectation) -> str:
    """expected $0.04 and 6m 05s of work (3 earlier runs on RTX4090, $0.03 to $0.06)."""
    span = ""
    if before.least_usd != before.most_usd:
        span = f", {words.money(before.least_usd)} to {words.money(before.most_usd)}"
    work = words.duration(before.job_seconds)
    return f"expected {words.money(before.usd)} and {work} of work ({before.rests_on}{span})"


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


def _show_plan(planned: Plan, *, now: datetime) -> None:
    """The first offers in the order in which they would be tried; of every cloud that has none of them, why."""
    from orchestrator.reports.offers import offers_table

    ranking = planned.ranking
    shown = [*ranking.eligible[:MOST_OFFERS], *_avoided(ranking)[:MOST_OFFERS]]
    if shown:
        data(offers_table(shown, now=now, **layout()))
    if left_out := len(ranking.offers) - len(shown):
        say(f"{left_out:,} more; --json lists them all.")
    for name, error in ranking.unavailable.items():
        say(f"{name}: {words.one_line(str(error))}")
    for name, reason in ranking.passed_over.items():
        say(f"{name} is passed over: {words.one_line(reason)}")
    if not ranking.eligible:
        say("Nothing can be rented for this job now.")
        return
    say(_expected_there(ranking.eligible[0]))
    say(f"At the very worst {words.money(planned.worst_case_usd)}. Nothing was created.")


def _expected_there(first: Ranked) -> str:
    """What the first choice costs, and what that rests on."""
    estimate = first.estimate
    if estimate is None:
        return f"Expected {words.money(first.total_usd)}."
    around = words.duration(estimate.overhead_seconds)
    return (
        f"Expected {words.money(first.total_usd)} and {words.duration(estimate.seconds)} at {first.offer.provider}: "
        f"{words.duration(estimate.job_seconds)} of work ({estimate.rests_on}) and {around} around it."
    )


def _avoided(ranking: Ranking) -> list[Ranked]:
    return [ranked for ranked in ranking.offers if ranked.why_not is not None]


def _verdict(ranking: Ranking) -> int:
    """The exit code that the run would end with if nothing changed."""
    if ranking.eligible:
        return exit_codes.DONE
    refused = [isinstance(error, (AuthFailed, NoFunds, QuotaExceeded)) for error in ranking.unavailable.values()]
    return exit_codes.REFUSED if refused and all(refused) and not ranking.offers else exit_codes.NOTHING_TO_RENT
