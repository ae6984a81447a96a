"""gpujob prices --for: what could be rented now for one job, by what it would cost there and how long it would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.offer_list import Form, show_offers
from orchestrator.cli.options import env_option, train_yaml
from orchestrator.cli.output import say
from orchestrator.cli.price_question import Question, say_who_is_missing, who_is_missing

if TYPE_CHECKING:
    from orchestrator.cli.session import Session
    from orchestrator.placement import Ranked

MOST_TOLD = 8  # lines about what the times rest on


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job that is asked for, when one is."""

    job: Path | None
    env: Mapping[str, str]

    def check(self, *, sort: str, other: str | None) -> None:
        """Raises UsageError for options that do not go together."""
        if self.job is not None and other is not None:
            raise click.UsageError(f"--for is about what could be rented now: leave out {other}")
        if self.job is None and (self.env or sort == "time"):
            raise click.UsageError(f"{'--env' if self.env else '--sort time'} goes with --for")


def job_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of which a Job is made."""
    named = click.option(
        "--for",
        "job",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What this job would cost: a train.yaml. Other options stand in for what it says.",
    )
    return named(env_option(function))


def show_job_prices(
    session: Session, file: Path, job: Job, question: Question, form: Form, *, html: Path | None
) -> int:
    """Print the offers, and write the picture when one is wanted. Raises SpecError, SubmissionError."""
    from orchestrator.clouds import utc_now
    from orchestrator.job_prices import Changes, ask_for
    from orchestrator.past_runs import measured_speeds
    from orchestrator.prices import Market
    from orchestrator.reports.job_chart import job_page

    changes = Changes(
        gpus=question.gpus,
        providers=question.providers,
        regions=question.regions,
        spot=question.spot,
        env=job.env,
        hours=question.hours,
        disk_gb=question.disk,
        egress_gb=question.egress,
        ingress_gb=question.ingress,
    )
    store, home, env = session.store, session.home, session.env
    asked = ask_for(train_yaml(file), changes, store=store, home=home, env=env, speeds=measured_speeds(store))
    market = Market(asked, home=home, env=env, work=question.rates(session))
    ranking = market.rank(sort=form.sort, seconds=question.timeout)
    say_who_is_missing(ranking)
    code = show_offers(ranking, form)
    if not (form.as_json or form.as_csv):
        _say_what_times_rest_on(ranking.offers)
    if html is not None:
        missing = who_is_missing(ranking)
        html.write_text(job_page(asked.name, ranking.offers, now=utc_now(), missing=missing), encoding="utf-8")
        say(f"written to {html}")
    return code


def _say_what_times_rest_on(offers: Sequence[Ranked]) -> None:
    from orchestrator.reports.job_chart import what_times_rest_on

    told = what_times_rest_on(offers)
    for line in told[:MOST_TOLD]:
        say(line)
    if len(told) > MOST_TOLD:
        say(f"and {len(told) - MOST_TOLD} more, which --json has")
    if any(ranked.is_best for ranked in offers):
        say("* no other offer is both cheaper and sooner done; ~ is a guess")
