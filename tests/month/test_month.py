"""A month of nightly benchmarks at three simulated clouds: what is told is what happened, and nothing else.

GPUJOB_MONTH_SEEDS=5 lives five more months, each drawn from its number: what befalls it in which night, and all noise.
About one of forty such months is told of a step by chance: it has twelve series with noise (docs/benchmarks.md).

Slow, with a minute of CPU time for each: less than thirty nights is no month, and does not tell noise from a step.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest

from orchestrator import ledger
from orchestrator.benchmarks.overview import Overview, overview
from orchestrator.benchmarks.results import USD_PER_HOUR
from orchestrator.cli.exit_codes import INCOMPLETE, JOB_FAILED
from orchestrator.records import AttemptOutcome, FiringKind, Outcome
from orchestrator.store.rows import ChangeRow
from tests.bills import accounts
from tests.month.measured import METRICS, REPEATS, TRAIN
from tests.month.office import NIGHTS, Month, Plan, a_month

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]

MORE = int(os.environ.get("GPUJOB_MONTH_SEEDS", "0"))  # read here: no test sees the variable
FIRST, SUMMER_TIME = date(2026, 3, 10), date(2026, 3, 30)
TESTBEDS = {"t4": "aws/g4dn.xlarge/T4:1", "rtx4090": "runpod/community/RTX4090:1", "rtx3090": "vast//RTX3090:1"}

Incident = tuple[int, str]  # the night, and what


def drawn(number: int) -> Plan:
    """The month of a number. The marketplace's GPU is too noisy for a step of an eighth."""
    dice = random.Random(f"month {number}")
    return Plan(
        seed=f"{number}",
        preemption=dice.randint(2, NIGHTS - 1),
        outage=dice.randint(2, NIGHTS - 1),
        regression=dice.randint(16, 24),
        task=dice.choice(list(METRICS)),
        target=dice.choice(("t4", "rtx4090")),
        price_jump=dice.randint(16, 24),
        noticed_within=6,
        put_off_by=1,
    )


PLANS = [Plan(seed="the month"), *(drawn(number) for number in range(1, MORE + 1))]


@pytest.fixture(scope="module", params=PLANS, ids=lambda plan: plan.seed)
def month(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Month]:
    with a_month(request.param, tmp_path_factory.mktemp("month")) as lived:
        lived.live()
        yield lived


def test_every_night_is_fired_once_at_two_in_berlin(month: Month) -> None:
    """On the 29th there is no two o'clock: it is three, which is the same moment as two would have been."""
    days = [FIRST + timedelta(days=number) for number in range(NIGHTS)]
    hours = [0 if day >= SUMMER_TIME else 1 for day in days]
    wanted = [datetime.combine(day, time(hour), UTC) for day, hour in zip(days, hours, strict=True)]
    assert [firing.planned_at for firing in month.firings if firing.kind is FiringKind.FIRED] == wanted
    assert all(firing.at - firing.planned_at < timedelta(seconds=10) for firing in month.firings)
    assert len(month.firings) == NIGHTS
    sweeps = month.store.benchmarks.sweeps(suite="nightly")
    assert sorted(sweep.id for sweep in sweeps) == sorted(firing.sweep_id or "" for firing in month.firings)
    assert len(month.store.runs()) == NIGHTS * len(METRICS) * len(TESTBEDS)


def test_what_is_told_is_what_happened_and_nothing_else(month: Month) -> None:
    assert_same(month, as_the_store_says(month))


def test_the_regression_is_told_with_the_commit_that_explains_it(month: Month) -> None:
    plan = month.plan
    [change] = [change for change in month.store.benchmarks.changes() if change.metric != USD_PER_HOUR]
    assert change.series == f"nightly/{plan.task}/{plan.target}/{METRICS[plan.task]}/{TESTBEDS[plan.target]}/simulated"
    rate = change.after / change.before if plan.task == TRAIN else change.before / change.after
    assert change.is_worse and rate == pytest.approx(plan.speed, rel=0.05)
    assert_told_in_time(month, change, plan.regression)
    assert change.differs["commit"] == month.commits and set(change.differs) == {"commit", "code"}


def test_the_price_is_told_once_for_all_tasks_and_no_commit_is_blamed(month: Month) -> None:
    [change] = [change for change in month.store.benchmarks.changes() if change.metric == USD_PER_HOUR]
    assert change.series == f"nightly/rtx3090/{USD_PER_HOUR}/{TESTBEDS['rtx3090']}/simulated"
    assert change.is_worse and Decimal(str(change.after)) / Decimal(str(change.before)) == month.plan.dearer
    assert_told_in_time(month, change, month.plan.price_jump)
    nights_compared = range(month.plan.price_jump - 1, month.night_of(change.noticed_by) + 1)
    assert ("commit" in change.differs) == (month.plan.regression in nights_compared)


def test_the_gate_stops_once_for_the_regression_and_never_for_a_price(month: Month) -> None:
    [change] = [change for change in month.store.benchmarks.changes() if change.metric != USD_PER_HOUR]
    stopped = {night: code for night, code in month.gates.items() if code}
    assert stopped == {month.plan.outage: INCOMPLETE} | {month.night_of(change.noticed_by): JOB_FAILED}


def test_a_report_tells_the_same_four_things(month: Month) -> None:
    view = overview(month.store, "nightly")
    assert_same(month, as_the_overview_says(month, view))
    assert (len(view.nights), view.its.usd) == (NIGHTS, ledger.total(month.store.charges()))
    assert not view.its.going


def test_a_machine_that_was_taken_away_cost_a_second_attempt_and_no_result(month: Month) -> None:
    runs = month.runs(month.plan.preemption, "vast")
    ends = sorted([attempt.outcome for attempt in month.store.attempts(run.id)] for run in runs)
    assert ends == [[AttemptOutcome.PREEMPTED, AttemptOutcome.SUCCEEDED], [AttemptOutcome.SUCCEEDED]]
    assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * 2
    measured = {row.run_id for row in month.store.benchmarks.results() if row.is_main}
    assert {run.id for run in runs} <= measured


def test_a_cloud_that_is_out_for_a_night_is_named_and_disturbs_no_other(month: Month) -> None:
    out = month.runs(month.plan.outage, "runpod")
    assert {run.outcome for run in out} == {Outcome.NO_CAPACITY}
    assert all("RunPod did not answer" in (run.error or "") for run in out)
    assert all(any("runpod: RunPod did not answer" in text for text in month.words(run)) for run in out)
    others = {run.id for run in month.store.runs()} - {run.id for run in out}
    assert {month.store.run(run_id).outcome for run_id in others} == {Outcome.SUCCEEDED}
    results = [row for row in month.store.benchmarks.results() if row.is_main]
    assert {row.run_id for row in results} == others
    assert {len(row.repeats) for row in results} == {REPEATS}, "none counts that was lost with its machine"


def test_nothing_is_left_and_the_month_costs_what_the_clouds_have_billed(month: Month) -> None:
    charges = month.store.charges()
    for name, cloud in month.clouds.items():
        assert (accounts.alive(cloud), cloud.bill.running()) == ([], set())
        assert accounts.wrong(cloud, month.store) == {}
        bill = accounts.billed(cloud)
        booked = ledger.total(row for row in charges if row.provider == name)
        assert abs(booked - sum(bill.values())) <= accounts.ROUNDING[name] * len(bill)
        assert booked > 0
    attempts = month.store.attempts_of([run.id for run in month.store.runs()])
    assert not any(attempt.settle_at for of_run in attempts.values() for attempt in of_run), "every bill is final"


def assert_same(month: Month, told: list[Incident]) -> None:
    """The four things that happened and no other. Whoever tells of a month, such as a report, is held against them."""
    plan = month.plan
    happened = [
        (plan.preemption, "preempted"),
        (plan.outage, "no answer from runpod"),
        (plan.regression, f"{plan.task} on {plan.target} got worse"),
        (plan.price_jump, "vast got dearer"),
    ]
    ours, theirs = (sorted(incidents, key=lambda incident: incident[1]) for incidents in (happened, told))
    assert [what for _, what in theirs] == [what for _, what in ours]
    off = [abs(night - real) for (night, _), (real, _) in zip(theirs, ours, strict=True)]
    assert max(off) <= plan.put_off_by


def as_the_store_says(month: Month) -> list[Incident]:
    """What was noted of the month's runs and series."""
    found: list[Incident] = []
    for change in month.store.benchmarks.changes():
        words = f"{change.series.split('/')[3]} got dearer"
        if change.metric != USD_PER_HOUR:
            task, target = change.series.split("/")[1:3]
            words = f"{task} on {target} got {'worse' if change.is_worse else 'better'}"
        found.append((month.night_of(change.run_id), words))
    for night in range(1, NIGHTS + 1):
        for run in month.runs(night):
            attempts = month.store.attempts(run.id)
            lost = [attempt for attempt in attempts if attempt.outcome is not AttemptOutcome.SUCCEEDED]
            found += [(night, str(attempt.outcome)) for attempt in lost]
        silent = {run.spec["place"]["providers"][0] for run in month.runs(night) if not run.attempt}
        found += [(night, f"no answer from {name}") for name in silent]
    return found


def as_the_overview_says(month: Month, view: Overview) -> list[Incident]:
    """Of which every report is made."""
    found: list[Incident] = []
    for change in view.changes:
        assert len(change.steps) == 1
        first, word = change.main.first, change.main.word
        words = f"{first.task} on {first.target} got {'worse' if word in ('slower', 'worse') else word}"
        if first.metric == USD_PER_HOUR:
            words = f"{first.provider} got {word}"
        found.append((month.night_of(first.run_id), words))
    silent: set[Incident] = set()
    for incident in view.incidents:
        night = month.night_of(incident.run_id)
        if incident.kind in ("unanswered", "nothing to rent"):
            assert "RunPod did not answer" in incident.text
            silent.add((night, "no answer from runpod"))
        else:
            found.append((night, incident.kind))
    return [*found, *silent]


def assert_told_in_time(month: Month, change: ChangeRow, night: int) -> None:
    """Put where it was, told within a few nights, and on no morning before."""
    assert abs(month.night_of(change.run_id) - night) <= month.plan.put_off_by
    noticed = month.night_of(change.noticed_by)
    assert night <= noticed < night + month.plan.noticed_within
    told = [morning for morning, known in month.known.items() if change in known]
    assert told == list(range(noticed, NIGHTS + 1))
