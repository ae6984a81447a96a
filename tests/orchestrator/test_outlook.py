"""What is said of a run's end while it goes on: by what was expected of it, and never of a job that takes longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from orchestrator import ledger, outlook
from orchestrator.estimates import Basis, Estimate
from orchestrator.records import Attempt, AttemptOutcome
from providers.base import Meter

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
EXPECTED = outlook.notes_of(
    Estimate(job_seconds=3600.0, overhead_seconds=600.0, basis=Basis.RUNS, rests_on="3 earlier runs on RTX4090", runs=3)
)


def minutes(count: float) -> datetime:
    return NOON + timedelta(minutes=count)


def an_attempt(**changes: Any) -> Attempt:
    plain: dict[str, Any] = {
        "run_id": "r-1", "number": 1, "machine": "m", "provider": "vast", "offer": {}, "created_at": NOON,
        "billing_from": NOON, "running_from": NOON, "notes": EXPECTED,
        "meters": ledger.meters_to_json([Meter(name="compute", unit="hour", usd_per_unit=Decimal(6))]),
    }  # fmt: skip
    return Attempt(**{**plain, **changes})


def test_before_the_job_has_begun_all_that_is_expected_is_still_to_come() -> None:
    seen = outlook.of(an_attempt(), Decimal("0.50"), minutes(5))
    assert seen is not None and seen.ends_at == minutes(70), "an hour of work and ten minutes around it"
    assert seen.usd == Decimal("0.50") + Decimal("6.50"), "65 minutes are to come"
    assert seen.rests_on == "3 earlier runs on RTX4090"


def test_from_the_jobs_start_its_own_time_counts() -> None:
    seen = outlook.of(an_attempt(started_at=minutes(20)), Decimal(2), minutes(20))
    assert seen is not None and (seen.ends_at, seen.usd) == (minutes(80), Decimal(8))


def test_a_job_that_takes_longer_has_no_end_in_sight() -> None:
    seen = outlook.of(an_attempt(started_at=minutes(1)), Decimal(7), minutes(61))
    assert seen is not None and (seen.ends_at, seen.usd) == (None, None)


def test_of_what_is_over_or_was_never_expected_nothing_is_said() -> None:
    assumed = Estimate(job_seconds=3600.0, overhead_seconds=0.0, basis=Basis.NOTHING, rests_on="nothing known")
    assert outlook.notes_of(assumed) == {} == outlook.notes_of(None), "an assumption is no expectation"
    assert outlook.of(None, Decimal(0), NOON) is None
    assert outlook.of(an_attempt(notes={}), Decimal(0), NOON) is None
    assert outlook.of(an_attempt(exited_at=minutes(1)), Decimal(0), minutes(2)) is None
    assert outlook.of(an_attempt(outcome=AttemptOutcome.PREEMPTED), Decimal(0), minutes(2)) is None
