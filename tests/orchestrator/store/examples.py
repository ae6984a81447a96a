"""Records as they may be, with every field set unless a test says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from orchestrator.records import (
    Attempt,
    AttemptOutcome,
    ChargeKind,
    ChargeRow,
    Event,
    Outcome,
    Phase,
    Run,
)

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def a_run(run_id: str = "r-7k2m9x", **changes: Any) -> Run:
    values: dict[str, Any] = {
        "id": run_id,
        "name": "mnist",
        "owner": "ada@laptop",
        "project": "digits",
        "spec": {"name": "mnist", "limits": {"max_cost": "5.00"}},
        "created_at": NOON,
        "phase_since": NOON,
        "due_at": NOON,
    }
    return Run(**{**values, **changes})


def a_finished_run(run_id: str = "r-7k2m9x", **changes: Any) -> Run:
    values: dict[str, Any] = {
        "phase": Phase.DONE,
        "due_at": None,
        "attempt": 2,
        "outcome": Outcome.FAILED,
        "exit_code": 0,
        "error": "exit code 3: \N{SNOWMAN} \N{PARTY POPPER}",
        "cancel_requested_at": NOON + timedelta(microseconds=1),
        "nudged_at": NOON + timedelta(days=9000),
        "started_at": NOON,
        "ended_at": NOON + timedelta(hours=1),
        "artifacts_complete": False,
        "possibly_billing": True,
        "notes": {"offsets": {"log": 2**53}, "text": "nul \x00 and \udc80"},
    }
    return a_run(run_id, **{**values, **changes})


def an_attempt(run_id: str = "r-7k2m9x", number: int = 1, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "run_id": run_id,
        "number": number,
        "machine": f"gpujob-{run_id}-{number}",
        "provider": "local",
        "offer": {"usd_per_hour": "0.25"},
        "created_at": NOON,
    }
    return Attempt(**{**values, **changes})


def a_finished_attempt(run_id: str = "r-7k2m9x", number: int = 1) -> Attempt:
    return an_attempt(
        run_id,
        number,
        instance_id="i-1",
        host_id="host-9",
        usd_per_hour=Decimal("0.123456789012345678"),
        meters=[{"name": "compute"}],
        billing_from=NOON,
        running_from=NOON + timedelta(seconds=1),
        started_at=NOON + timedelta(seconds=2),
        exited_at=NOON + timedelta(seconds=3),
        running_until=NOON + timedelta(seconds=4),
        terminate_asked_at=NOON + timedelta(seconds=4),
        gone_at=NOON + timedelta(seconds=5),
        outcome=AttemptOutcome.HOST_LOST,
        error="gone",
        exit={"reason": "exited"},
        facts={"gpus": []},
        tries=[{"offer": "o-1", "why": "gone"}],
        notes={"seen": True},
    )


def an_event(run_id: str = "r-7k2m9x", text: str = "looking at offers", **changes: Any) -> Event:
    values: dict[str, Any] = {"run_id": run_id, "attempt": 1, "at": NOON, "phase": Phase.QUOTE, "kind": "phase"}
    return Event(**{**values, "text": text, **changes})


def a_charge(run_id: str = "r-7k2m9x", amount: str = "0.10", **changes: Any) -> ChargeRow:
    values: dict[str, Any] = {
        "run_id": run_id,
        "attempt": 1,
        "provider": "local",
        "meter": "compute",
        "quantity": Decimal("0.4"),
        "unit": "hour",
        "rate_usd": Decimal("0.25"),
        "amount_usd": Decimal(amount),
        "source": "the inventory",
        "kind": ChargeKind.ESTIMATE,
        "start": NOON,
        "end": NOON + timedelta(hours=1),
        "at": NOON + timedelta(hours=1),
    }
    return ChargeRow(**{**values, **changes})
