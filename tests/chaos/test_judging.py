"""Every promise can be seen to be broken: a round that went well, and one thing in it that did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.records import Attempt, AttemptOutcome, Outcome, Phase, Run
from providers.rehearsal.faults import Fault
from tests.chaos import job
from tests.chaos.facts import Facts, MachineFact
from tests.chaos.judging import EXIT_CODES, judge
from tests.chaos.plans import Job, Plan

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
JOB = Job(seed=7, lines=20, seconds=1.0, files=(10, 3000))
PLAN = Plan(
    seed=7, cloud="vast", spot=False, job=JOB, faults=(), strikes=(), cancel=None, expected=frozenset(),
    deadline_seconds=240,
)  # fmt: skip
LAG = Fault(kind="list_lag", seconds=70)


def seconds(count: float) -> datetime:
    return NOON + timedelta(seconds=count)


def a_run(**changes: Any) -> Run:
    plain: dict[str, Any] = {
        "id": "r-1", "name": "chaos-7", "owner": "chaos", "project": "default", "spec": {}, "created_at": NOON,
        "phase": Phase.DONE, "phase_since": seconds(60), "due_at": None, "attempt": 1, "outcome": Outcome.SUCCEEDED,
        "exit_code": 0, "artifacts_complete": True,
    }  # fmt: skip
    return Run(**{**plain, **changes})


def an_attempt(**changes: Any) -> Attempt:
    plain: dict[str, Any] = {
        "run_id": "r-1", "number": 1, "machine": "gpujob-r-1-1-1", "provider": "vast", "offer": {}, "created_at": NOON,
        "instance_id": "101", "gone_at": seconds(60), "outcome": AttemptOutcome.SUCCEEDED, "exit": {"exit_code": 0},
    }  # fmt: skip
    return Attempt(**{**plain, **changes})


def a_machine(**changes: Any) -> MachineFact:
    plain: dict[str, Any] = {
        "cloud": "vast", "id": "101", "name": "gpujob-r-1-1-1", "status": "destroyed", "alive": False,
        "created_at": seconds(1), "ended_at": seconds(60), "usd": Decimal("0.01"), "usd_per_hour": Decimal("0.60"),
        "billed_from": seconds(1), "billed_until": seconds(60),
    }  # fmt: skip
    return MachineFact(**{**plain, **changes})


def a_charge(usd: str = "0.01", **changes: Any) -> Mapping[str, Any]:
    return {"run_id": "r-1", "attempt": 1, "amount_usd": usd, **changes}


WELL = Facts(
    run=a_run(),
    attempts=[an_attempt()],
    machines=[a_machine()],
    charges=[a_charge()],
    logs={1: job.log(7, 20)},
    artifacts={"out/1.bin": job.content(7, 1, 10), "out/2.bin": job.content(7, 2, 3000)},
    wait_code=0,
    reap_code=0,
)


def kinds(facts: Facts, plan: Plan = PLAN) -> list[str]:
    return [problem.kind for problem in judge(plan, facts)]


def test_a_round_that_went_well() -> None:
    assert judge(PLAN, WELL) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"machines": [a_machine(alive=True, status="running")]},
        {"leftovers": ["aws us-east-1 key pair gpujob-r-1-1-1"]},
        {"reap_code": 13},
        {"alive_before_reaping": ["gpujob-r-1-1-1"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_left_is_a_leak(changes: dict[str, Any]) -> None:
    assert kinds(replace(WELL, **changes)) == ["leak"]


def test_what_only_the_reaper_could_know_is_none() -> None:
    facts = replace(WELL, alive_before_reaping=["gpujob-r-1-1-1"], struck=[LAG])
    assert kinds(facts) == []


def test_one_name_is_one_machine() -> None:
    other = a_machine(id="102", created_at=seconds(70), usd=Decimal(0))
    assert kinds(replace(WELL, machines=[a_machine(), other])) == ["double"]
    assert kinds(replace(WELL, machines=[a_machine(), other], struck=[LAG])) == ["double"], "no list explains that"


def test_a_machine_that_its_attempt_went_on_without() -> None:
    other = a_machine(id="102", name="gpujob-r-1-1-0", created_at=seconds(-50), ended_at=seconds(-20), usd=Decimal(0))
    assert kinds(replace(WELL, machines=[other, a_machine()])) == ["double"]
    assert kinds(replace(WELL, machines=[other, a_machine()], struck=[LAG])) == [], "its list was late"


def test_two_machines_of_a_run_at_a_time() -> None:
    second = an_attempt(number=2, machine="gpujob-r-1-2-1", instance_id="102", gone_at=seconds(90))
    first = an_attempt(outcome=AttemptOutcome.HOST_LOST, exit=None)
    other = a_machine(id="102", name="gpujob-r-1-2-1", created_at=seconds(30), ended_at=seconds(90), usd=Decimal(0))
    facts = replace(WELL, attempts=[first, second], machines=[a_machine(), other], logs={2: job.log(7, 20)})
    assert kinds(facts) == ["double"]
    assert kinds(replace(facts, machines=[a_machine(), replace(other, created_at=seconds(61))])) == []


@pytest.mark.parametrize("usd", ["0.0094", "0.0106", "0"])
def test_the_ledger_has_what_was_billed(usd: str) -> None:
    assert kinds(replace(WELL, charges=[a_charge(usd)])) == ["ledger"]


def test_an_end_that_was_seen_late_may_be_booked_late_and_not_later() -> None:
    """Six seconds at $0.60 an hour are $0.001."""
    late = replace(WELL, machines=[a_machine(billed_until=seconds(54))])
    assert kinds(replace(late, charges=[a_charge("0.0114")])) == []
    assert kinds(replace(late, charges=[a_charge("0.0116")])) == ["ledger"]
    assert kinds(replace(late, charges=[a_charge("0.0094")])) == ["ledger"], "it never explains too little"


def test_a_start_that_was_seen_late_may_be_missing_and_no_more() -> None:
    """Six seconds at $0.60 an hour are $0.001."""
    late = replace(WELL, attempts=[an_attempt(running_from=seconds(7))])
    assert kinds(replace(late, charges=[a_charge("0.0086")])) == []
    assert kinds(replace(late, charges=[a_charge("0.0084")])) == ["ledger"]
    assert kinds(replace(late, charges=[a_charge("0.0106")])) == ["ledger"], "it never explains too much"


def test_what_the_reaper_ended_is_booked_too() -> None:
    stray = a_run(id="r-2", name="stray-gpujob-r-1-1-0", outcome=None)
    ended = an_attempt(run_id="r-2", machine="gpujob-r-1-1-0@102", instance_id="us/102", gone_at=seconds(90))
    second = a_machine(id="102", name="gpujob-r-1-1-0", created_at=seconds(-80), ended_at=seconds(90))
    facts = replace(
        WELL, strays=[stray], stray_attempts=[ended], machines=[second, a_machine()], struck=[LAG],
        charges=[a_charge(), a_charge(run_id="r-2")],
    )  # fmt: skip
    assert kinds(replace(facts, machines=[replace(second, billed_until=seconds(90)), a_machine()])) == []
    assert kinds(replace(facts, charges=[a_charge()])) == ["ledger"]
    assert kinds(replace(facts, strays=[replace(stray, phase=Phase.TEARDOWN)])) == ["unfinished"]


def test_nothing_is_booked_for_a_machine_that_never_was() -> None:
    lost = an_attempt(number=2, machine="gpujob-r-1-2-1", instance_id=None, outcome=AttemptOutcome.NEVER_BOOTED)
    facts = replace(WELL, attempts=[an_attempt(), lost], charges=[a_charge(), a_charge("0.2", attempt=2)])
    assert kinds(facts) == ["ledger"]


WHOLE = job.log(7, 20)


@pytest.mark.parametrize(
    "log",
    [
        b"",
        WHOLE[:-1],
        WHOLE.replace(b"\n3 ", b"\n4 "),
        WHOLE + WHOLE[-67:],
        WHOLE + b"more\n",
        job.log(8, 20),
    ],
    ids=["nothing", "a byte missing", "another line", "a line twice", "more", "another job's"],
)
def test_a_log_is_what_the_job_wrote(log: bytes) -> None:
    assert "lost" in kinds(replace(WELL, logs={1: log}))


def test_the_log_of_an_attempt_that_was_cut_off_is_its_beginning() -> None:
    second = an_attempt(number=2, machine="gpujob-r-1-2-1", instance_id=None, gone_at=None)
    facts = replace(WELL, attempts=[an_attempt(outcome=AttemptOutcome.PREEMPTED, exit=None), second])
    assert kinds(replace(facts, logs={1: WHOLE[:500], 2: WHOLE})) == []
    assert kinds(replace(facts, logs={1: WHOLE[:500].replace(b"\n2 ", b"\n2 2 "), 2: WHOLE})) == ["lost"]


def test_only_a_job_with_checkpoints_goes_on_in_the_middle() -> None:
    resumed = replace(WELL, logs={1: job.log(7, 20, begun=10)})
    assert kinds(resumed) == ["lost"]
    assert kinds(resumed, replace(PLAN, job=replace(JOB, checkpointed=True))) == []


@pytest.mark.parametrize(
    "changed", [{"out/1.bin": b"0123456789"}, {"out/1.bin": b""}, {"out/3.bin": b"nobody wrote this"}]
)
def test_an_artifact_is_what_the_job_wrote(changed: dict[str, bytes]) -> None:
    assert kinds(replace(WELL, artifacts={**WELL.artifacts, **changed})) == ["lost"]
    assert kinds(replace(WELL, artifacts={"out/1.bin": job.content(7, 1, 10)})) == ["lost"]


def test_a_run_has_an_end() -> None:
    assert kinds(replace(WELL, run=a_run(phase=Phase.TEARDOWN))) == ["unfinished"]


def test_outcomes_and_exit_codes() -> None:
    lost = replace(WELL, run=a_run(outcome=Outcome.LOST, exit_code=None), wait_code=1)
    assert kinds(lost) == ["outcome"]
    assert kinds(lost, replace(PLAN, expected=frozenset({"lost"}))) == []
    assert kinds(replace(WELL, wait_code=3)) == ["outcome"]
    assert kinds(replace(WELL, run=a_run(exit_code=1))) == ["outcome"]


def test_a_job_that_fails_has_to_fail() -> None:
    plan = replace(PLAN, job=replace(JOB, exit_code=7))
    failed = replace(WELL, run=a_run(outcome=Outcome.FAILED, exit_code=7), wait_code=1)
    assert kinds(failed, plan) == []
    assert kinds(WELL, plan) == ["outcome", "outcome"] or "outcome" in kinds(WELL, plan)
    assert kinds(replace(failed, run=a_run(outcome=Outcome.FAILED, exit_code=1)), plan) == ["outcome"]


def test_errors_of_gpujob_itself_are_told() -> None:
    assert kinds(replace(WELL, errors=["Traceback"])) == ["bug"]


def test_every_outcome_has_its_exit_code() -> None:
    assert set(EXIT_CODES) >= {outcome.value for outcome in Outcome} - {"reaped"}
