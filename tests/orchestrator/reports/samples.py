"""Runs to show: records and files as the orchestrator leaves them, of any size and with any names."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from jobs.machine import FileEntry
from orchestrator.home import RunFolder
from orchestrator.records import Attempt, AttemptOutcome, ChargeKind, ChargeRow, Event, Outcome, Phase, Run
from orchestrator.reports.html import render

START = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
SPEC = {
    "name": "mnist",
    "image": "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime",
    "setup": "pip install -r requirements.txt",
    "run": "python train.py --epochs 30 --out outputs",
    "env": {"EPOCHS": "30", "SEED": "7"},
    "secrets": ["HF_TOKEN"],
    "resources": {"gpu": [{"name": "RTX4090", "count": 1, "memory": None}], "disk": 40_000_000_000, "cpus": None},
    "limits": {"max_price_per_hour": None, "max_cost": "5", "max_duration": 7200},
}
SECONDS = {
    Phase.QUOTE: 1.4,
    Phase.PROVISION: 2.2,
    Phase.BOOT: 64.0,
    Phase.PROBE: 1.9,
    Phase.SHIP: 3.3,
    Phase.START: 1.1,
    Phase.WATCH: 900.0,
    Phase.COLLECT: 8.0,
    Phase.TEARDOWN: 12.0,
    Phase.SETTLE: 0.6,
}


def run(**changes: Any) -> Run:
    made = Run(
        id="r-7k2m9x",
        name="mnist",
        owner="ada",
        project="digits",
        spec=dict(SPEC),
        created_at=START,
        phase=Phase.DONE,
        phase_since=START,
        due_at=None,
        attempt=1,
        outcome=Outcome.SUCCEEDED,
        exit_code=0,
        started_at=START + timedelta(seconds=74),
        ended_at=START + timedelta(seconds=994.5),
        artifacts_complete=True,
    )
    return replace(made, **changes)


def attempt(number: int = 1, **changes: Any) -> Attempt:
    gpu = {"name": "NVIDIA GeForce RTX 4090", "memory_mb": 24564, "driver": "570.86.15", "uuid": "GPU-1"}
    made = Attempt(
        run_id="r-7k2m9x",
        number=number,
        machine=f"gpujob-r-7k2m9x-{number}-1",
        provider="vast",
        offer={"offer_id": "11", "gpu": "RTX4090", "gpu_count": 1, "vcpus": 16.0, "region": "SE", "source": "vast API"},
        created_at=START,
        instance_id=f"1903377{number}",
        usd_per_hour=Decimal("0.3412"),
        outcome=AttemptOutcome.SUCCEEDED,
        exit={"reason": "exited", "exit_code": 0, "run_seconds": 880.2},
        facts={
            "gpus": [gpu],
            "cuda": "12.8",
            "cpus": 16,
            "memory_bytes": 64e9,
            "os": "Ubuntu 22.04",
            "python": "3.10.12",
        },
    )
    return replace(made, **changes)


def event(at: float, phase: Phase, kind: str, text: str, number: int = 1) -> Event:
    moment = START + timedelta(seconds=at)
    return Event(run_id="r-7k2m9x", attempt=number, at=moment, phase=phase, kind=kind, text=text)


def phases(number: int = 1, *, at: float = 0.0, watch: float = 900.0) -> list[Event]:
    """One attempt's way through all phases; the quote still carries the attempt before."""
    found = []
    for phase, seconds in (SECONDS | {Phase.WATCH: watch}).items():
        found.append(event(at, phase, "phase", phase.value, number - 1 if phase is Phase.QUOTE else number))
        at += seconds
    return found


def charge(meter: str = "compute", usd: str = "0.0943", number: int = 1, **changes: Any) -> ChargeRow:
    made = ChargeRow(
        run_id="r-7k2m9x",
        attempt=number,
        provider="vast",
        meter=meter,
        quantity=Decimal("0.2763"),
        unit="hour",
        rate_usd=Decimal("0.3412"),
        amount_usd=Decimal(usd),
        source="offer 11, frozen at rent time",
        kind=ChargeKind.ESTIMATE,
        start=START,
        end=START + timedelta(seconds=994),
        at=START + timedelta(seconds=994),
    )
    return replace(made, **changes)


def file(path: str = "outputs/model.pt", size: int = 4_720_133) -> FileEntry:
    return FileEntry(path, size, 0, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")


@dataclass
class Story:
    """All that a report is made from; `page` renders it."""

    root: Path
    run: Run = field(default_factory=run)
    attempts: list[Attempt] = field(default_factory=lambda: [attempt()])
    events: list[Event] = field(default_factory=phases)
    charges: list[ChargeRow] = field(default_factory=lambda: [charge()])
    artifacts: list[FileEntry] = field(default_factory=lambda: [file()])

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.root)

    def page(self, *, after: float = 1000.0) -> str:
        return render(
            self.run,
            self.attempts,
            self.events,
            self.charges,
            folder=self.folder,
            artifacts=self.artifacts,
            now=START + timedelta(seconds=after),
        )

    def measured(
        self, name: str, values: list[float], *, number: int = 1, first: int = 1, stepped: bool = True
    ) -> Story:
        self.root.mkdir(parents=True, exist_ok=True)
        with self.folder.metrics.open("a") as lines:
            for step, value in enumerate(values, first):
                row = {"time": START.timestamp() + step, "step": step if stepped else None, "name": name}
                lines.write(json.dumps({**row, "value": value, "attempt": number, "source": "json"}) + "\n")
        return self

    def logged(self, content: bytes, *, number: int = 1) -> Story:
        log = self.folder.attempt(number).log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(content)
        return self

    def sampled(self, *, number: int = 1, gpus: int = 1, start: float = 70.0, count: int = 180) -> Story:
        telemetry = self.folder.attempt(number).telemetry
        telemetry.parent.mkdir(parents=True, exist_ok=True)
        rows = (_sample(START.timestamp() + start + 5 * n, n, gpus) for n in range(count))
        telemetry.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self


def _sample(time: float, n: int, gpus: int) -> dict[str, Any]:
    busy = 0.0 if n < 4 else 1.0
    return {
        "time": time,
        "cpu_percent": 22 + 9 * math.sin(n / 7) + 50 * (1 - busy),
        "memory_used_bytes": 5.1e9 + 2e9 * busy + 2e7 * n,
        "memory_total_bytes": 64e9,
        "disk_free_bytes": 3e10,
        "load1": 2.0,
        "network_rx_bytes": 8e7 * min(n, 6) + 1e5 * n,
        "network_tx_bytes": 2e5 * n,
        "gpus": [
            {
                "index": index,
                "utilization": busy * (93 - 4 * index + 5 * math.sin(n / 3 + index)),
                "memory_used_mb": 400 + busy * 9800,
                "memory_total_mb": 24564,
                "power_watts": 25 + busy * (318 + 22 * math.sin(n / 4 + index)),
                "temperature_c": 38 + busy * min(26, n / 3),
            }
            for index in range(gpus)
        ],
    }
