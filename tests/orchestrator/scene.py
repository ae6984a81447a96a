"""A home with runs in it, filled by hand through the real store: what the command line and the API look at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestrator.home import Home
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
from orchestrator.store.store import Store

START = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
OFFER = {"offer_id": "vast-1", "provider": "vast", "gpu": "RTX4090", "gpu_count": 1, "vcpus": 8, "usd_per_hour": "0.36"}


class Scene:
    """One home, one store, and a clock that stands still until told otherwise."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root / "home")
        self.home.root.mkdir()
        self.now = START + timedelta(hours=1)
        self.controllers_wanted = 0

    def store(self) -> Store:
        return Store.open(self.home.database_url({}), clock=lambda: self.now)

    def want_controller(self, home: Home, env: Mapping[str, str]) -> None:
        assert home == self.home
        self.controllers_wanted += 1

    def run(self, run_id: str = "r-7k2m9x", **changes: Any) -> Run:
        """A run that succeeded in its first attempt, for 60 cents, unless told otherwise.

        `of_attempts` changes attempts by number; `charges` are more of the first one, each as changes of a usual one.
        """
        values: dict[str, Any] = {
            "name": "mnist",
            "owner": "ada-laptop",
            "project": "digits",
            "spec": {"name": "mnist", "labels": {"team": "a"}},
            "phase": Phase.DONE,
            "outcome": Outcome.SUCCEEDED,
            "exit_code": 0,
            "attempt": 1,
            "created_at": START,
            "phase_since": START + timedelta(minutes=10),
            "started_at": START + timedelta(minutes=1),
            "ended_at": START + timedelta(minutes=10),
            "artifacts_complete": True,
            "due_at": START,
        }
        notes = changes.pop("notes_of_attempt", {})
        of_attempts, more = changes.pop("of_attempts", {}), changes.pop("charges", [])
        run = Run(id=run_id, **{**values, **changes})
        attempts = [self.attempt(run, number, notes) for number in range(1, run.attempt + 1)]
        attempts = [replace(attempt, **of_attempts.get(attempt.number, {})) for attempt in attempts]
        charges = [self.charge(run, attempt.number) for attempt in attempts]
        charges += [self.charge(run, 1, **one) for one in more]
        self._write(run, attempts, charges)
        return run

    def active(self, run_id: str = "r-active", **changes: Any) -> Run:
        """A run whose job is at work."""
        going: dict[str, Any] = {"phase": Phase.WATCH, "outcome": None, "exit_code": None, "ended_at": None}
        return self.run(run_id, **{**going, "artifacts_complete": None, **changes})

    def attempt(self, run: Run, number: int, notes: dict[str, Any] | None = None) -> Attempt:
        last = number == run.attempt
        over = run.is_over or not last
        return Attempt(
            run_id=run.id,
            number=number,
            machine=f"gpujob-{run.id}-{number}-1",
            provider="vast",
            offer=dict(OFFER),
            created_at=run.created_at,
            instance_id=f"i-{number}",
            usd_per_hour=Decimal("0.36"),
            started_at=run.started_at,
            gone_at=run.ended_at if over else None,
            outcome=_ended(run) if last and over else AttemptOutcome.PREEMPTED if over else None,
            notes=notes or {},
        )

    def charge(self, run: Run, attempt: int, **changes: Any) -> ChargeRow:
        values: dict[str, Any] = {
            "provider": "vast",
            "meter": "compute",
            "quantity": Decimal("1.6666666667"),
            "unit": "hour",
            "rate_usd": Decimal("0.36"),
            "amount_usd": Decimal("0.6"),
            "source": "frozen rate",
            "kind": ChargeKind.ESTIMATE,
            "start": run.created_at,
            "end": run.created_at + timedelta(minutes=100),
            "at": run.created_at + timedelta(minutes=100),
        }
        return ChargeRow(run_id=run.id, attempt=attempt, **{**values, **changes})

    def log(self, run_id: str, attempt: int, content: bytes) -> None:
        path = self.home.run(run_id).attempt(attempt).log
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            log.write(content)

    def measured(self, run_id: str, name: str, values: Sequence[float]) -> None:
        path = self.home.run(run_id).metrics
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as metrics:
            for step, value in enumerate(values):
                point = {"time": 1.0 + step, "step": step, "name": name, "value": value, "attempt": 1, "source": "json"}
                metrics.write(json.dumps(point) + "\n")

    def bring_back(self, run_id: str, files: Mapping[str, bytes]) -> None:
        folder = self.home.run(run_id)
        entries = []
        for name, content in files.items():
            path = folder.artifacts / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            entries.append({"path": name, "bytes": len(content), "sha256": sha256(content)})
        folder.manifest.write_text(json.dumps({"files": entries}))

    def move(self, run: Run, **changes: Any) -> Run:
        """What a controller would do: change the run, tell what happened, write its attempt."""
        store = self.store()
        try:
            store.nudge(run.id)
            [lease] = store.claim("scene", limit=1, lease_seconds=60)
            for name, value in changes.items():
                setattr(lease.run, name, value)
            happened = Event(
                run_id=run.id,
                attempt=lease.run.attempt,
                at=self.now,
                phase=lease.run.phase,
                kind="phase",
                text=lease.run.phase.value,
            )
            attempts = [self.attempt(lease.run, lease.run.attempt)] if lease.run.attempt else []
            over = lease.run.is_over
            store.save(lease, lease.run, attempts=attempts, events=[happened], due_in=None if over else 3600)
            return lease.run
        finally:
            store.close()

    def _write(self, run: Run, attempts: Sequence[Attempt], charges: Sequence[ChargeRow]) -> None:
        store = self.store()
        store.add_run(run)
        [lease] = store.claim("scene", limit=1, lease_seconds=60)
        store.save(lease, run, attempts=attempts, charges=charges, due_in=None if run.is_over else 3600)
        store.close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _ended(run: Run) -> AttemptOutcome:
    words = {outcome.value for outcome in AttemptOutcome}
    return AttemptOutcome(run.outcome.value) if run.outcome and run.outcome.value in words else AttemptOutcome.ERROR
