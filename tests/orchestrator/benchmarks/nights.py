"""Nights of a suite, written by hand through the real store: sweeps, their runs, what they measured and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestrator.benchmarks import keeping, results, series
from orchestrator.records import Attempt, AttemptOutcome, ChargeKind, ChargeRow, Event, Json, Outcome, Phase, Run
from orchestrator.store.rows import CellRow, ResultRow, SweepRow
from orchestrator.store.store import Store

START = datetime(2026, 10, 22, 2, 0, tzinfo=UTC)
MEASURE: Json = {"samples_per_second": {"better": "higher", "unit": "samples/s", "work": "samples"}}
DIGEST = "sha256:" + "0123456789abcdef" * 4


@dataclass(frozen=True)
class Bed:
    """A machine that is measured."""

    target: str
    provider: str
    gpu: str | None
    usd_per_hour: str
    machine: str = ""
    is_simulated: bool = False
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of a night: what it measured, and how it came to that."""

    bed: Bed
    values: dict[str, float] = field(default_factory=dict)
    task: str = "mnist"
    measure: Json = field(default_factory=lambda: MEASURE)
    outcome: Outcome | None = Outcome.SUCCEEDED
    error: str | None = None
    lost: AttemptOutcome | None = None  # how a first attempt ended
    silent: Sequence[str] = ()  # clouds that did not answer
    testbed: Json = field(default_factory=dict)


RTX4090 = Bed("clouds", "vast", "RTX4090", "0.36")
L4 = Bed("clouds", "aws", "L4", "0.80", machine="g6.xlarge", is_simulated=True)


class Nights:
    """One store; `night` writes the next sweep."""

    def __init__(self, root: Path, suite: str = "nightly") -> None:
        self.suite = suite
        self.at = START
        self.store = Store.open(f"sqlite:///{root / 'bench.db'}", clock=lambda: self.at)
        self.count = 0

    def night(self, *jobs: Job, commit: str | None = "1a2b3c4d5e6f") -> str:
        """All its jobs are over after ten minutes; then a day passes. Returns the sweep's id."""
        self.count += 1
        sweep_id = f"b-{self.count:04d}"
        sweep = SweepRow(
            id=sweep_id, suite=self.suite, file="/s.yaml", host="laptop", created_at=self.at, commit=commit
        )
        runs = [self._run(sweep, number, job) for number, job in enumerate(jobs)]
        for run, job in zip(runs, jobs, strict=True):
            self._write(run, job)
        cells = [
            self._cell(sweep_id, number, run, job) for number, (run, job) in enumerate(zip(runs, jobs, strict=True))
        ]
        self.store.benchmarks.write(self.store.benchmarks.to_write(sweep, cells))
        self.store.benchmarks.add_results(
            row for run, job in zip(runs, jobs, strict=True) for row in self._results(sweep, run, job)
        )
        self.at += timedelta(days=1)
        return sweep_id

    def notice(self) -> list[str]:
        """Every change, as keeping notes them night after night; in words."""
        known = series.of(self.store.benchmarks.results(suite=self.suite))
        told = []
        for one in known.values():
            for change in series.changes(one, self.at):
                self.store.benchmarks.add_change(change)
                told.append(keeping.words(one.newest, change))
        return told

    def _run(self, sweep: SweepRow, number: int, job: Job) -> Run:
        place = {"id": sweep.id, "suite": self.suite, "task": job.task, "target": job.bed.target}
        over = job.outcome is not None
        attempts = 0 if job.outcome is Outcome.NO_CAPACITY else 2 if job.lost else 1
        return Run(
            id=f"r-{self.count:04d}-{number}",
            name=f"{self.suite}.{job.task}",
            owner="ada",
            project="digits",
            spec={"name": "mnist"},
            created_at=self.at,
            phase=Phase.DONE if over else Phase.WATCH,
            phase_since=self.at,
            due_at=self.at,
            attempt=attempts,
            outcome=job.outcome,
            error=job.error,
            ended_at=self.at + timedelta(minutes=10) if over else None,
            notes={"sweep": {**place, "measure": job.measure, "commit": sweep.commit, "warmup": 1, "repeats": 3}},
        )

    def _write(self, run: Run, job: Job) -> None:
        attempts = [self._attempt(run, number, job) for number in range(1, run.attempt + 1)]
        events = [
            Event(
                run_id=run.id,
                attempt=0,
                at=self.at + timedelta(seconds=10 * number),
                phase=Phase.QUOTE,
                kind="offer",
                text=f"{cloud}: timed out",
                details={"provider": cloud, "unanswered": True},
            )
            for number, cloud in enumerate(job.silent)
        ]
        self.store.add_run(run, events)
        [lease] = self.store.claim("test", limit=1, lease_seconds=60)
        charges = [self._charge(attempt) for attempt in attempts]
        due_in = None if run.is_over else 9e9
        self.store.save(lease, run, attempts=attempts, charges=charges, due_in=due_in)

    def _attempt(self, run: Run, number: int, job: Job) -> Attempt:
        bed, is_lost = job.bed, job.lost is not None and number == 1
        gone = self.at + timedelta(minutes=4 if is_lost else 10)
        last = AttemptOutcome(run.outcome.value) if run.outcome else None
        return Attempt(
            run_id=run.id,
            number=number,
            machine=f"gpujob-{run.id}-{number}-1",
            provider=bed.provider,
            offer={"gpu": bed.gpu, "gpu_count": bed.count, "region": "SE", "machine_type": bed.machine, "vcpus": 8},
            created_at=self.at,
            usd_per_hour=Decimal(bed.usd_per_hour),
            billing_from=self.at,
            gone_at=gone if run.is_over or is_lost else None,
            outcome=job.lost if is_lost else last,
        )

    def _charge(self, attempt: Attempt) -> ChargeRow:
        end = attempt.gone_at or self.at
        hours = Decimal((end - self.at).total_seconds()) / 3600
        return ChargeRow(
            run_id=attempt.run_id,
            attempt=attempt.number,
            provider=attempt.provider,
            meter="compute",
            quantity=hours,
            unit="hour",
            rate_usd=attempt.usd_per_hour,
            amount_usd=hours * attempt.usd_per_hour,
            source="frozen rate",
            kind=ChargeKind.ESTIMATE,
            start=self.at,
            end=end,
            at=end,
        )

    def _cell(self, sweep_id: str, number: int, run: Run, job: Job) -> CellRow:
        bed = job.bed
        return CellRow(
            sweep_id=sweep_id,
            number=number,
            run_id=run.id,
            task=job.task,
            target=bed.target,
            gpu=bed.gpu or "cpu",
            provider=bed.provider,
        )

    def _results(self, sweep: SweepRow, run: Run, job: Job) -> list[ResultRow]:
        beside: Json = {"wall_seconds": {"better": "lower", "unit": "s", "work": None}}
        beside["usd_per_hour"] = {"better": "lower", "unit": "$/h", "work": None}
        known = {**beside, **job.measure}
        testbed = {"driver": "570.86", "image_digest": DIGEST, "commit": sweep.commit, **job.testbed}
        return [
            result(
                run_id=run.id,
                metric=metric,
                sweep_id=sweep.id,
                suite=self.suite,
                task=job.task,
                at=self.at + timedelta(minutes=9),
                is_main=metric == results.main_metric(job.measure),
                repeats=[value * 0.99, value, value * 1.01],
                value=value,
                testbed=testbed,
                bed=job.bed,
                **known[metric],
            )
            for metric, value in job.values.items()
        ]


def result(*, bed: Bed = RTX4090, **changes: Any) -> ResultRow:
    """One result of 1,200 samples a second, unless told otherwise."""
    values: dict[str, Any] = {
        "run_id": "r-0001-0",
        "metric": "samples_per_second",
        "sweep_id": "b-0001",
        "suite": "nightly",
        "task": "mnist",
        "target": bed.target,
        "provider": bed.provider,
        "machine": bed.machine,
        "gpu": bed.gpu,
        "gpu_count": bed.count if bed.gpu else 0,
        "is_simulated": bed.is_simulated,
        "unit": "samples/s",
        "better": "higher",
        "work": "samples",
        "is_main": True,
        "repeats": [1190.0, 1200.0, 1215.0],
        "value": 1200.0,
        "usd_per_hour": Decimal(bed.usd_per_hour),
        "at": START + timedelta(minutes=9),
        "testbed": {"driver": "570.86", "commit": "1a2b3c4d5e6f", "spot": False},
    }
    return ResultRow(**{**values, **changes})
