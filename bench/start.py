"""How long the command line takes to answer, beside a bare `import click`. Target: help 0.15 s, ps 0.40 s of CPU."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from bench.measure import GPUJOB, clean_environment, cpu, in_turn, table, wall
from orchestrator.home import Home
from orchestrator.records import Attempt, AttemptOutcome, ChargeKind, ChargeRow, Outcome, Phase, Run
from orchestrator.store.store import Store

RUNS = 1000
TARGETS = {"gpujob --version": 0.15, "gpujob --help": 0.15, "gpujob ps": 0.40, "gpujob ps --all": 0.40}


def report() -> str:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        fill(home, RUNS)
        commands = {
            "python -c 'import click'": [sys.executable, "-c", "import click"],
            **{name: [GPUJOB, *name.split()[1:]] for name in TARGETS},
        }
        samples = in_turn(commands, env=clean_environment(home.root))
    bare = cpu(samples["python -c 'import click'"])
    rows = [
        [
            f"`{name}`",
            f"{cpu(taken):.3f}",
            f"{wall(taken):.3f}",
            f"{cpu(taken) / bare:.1f}",
            f"{TARGETS[name]:.2f}" if name in TARGETS else "",
        ]
        for name, taken in samples.items()
    ]
    columns = ["command", "CPU s", "wall s", "times `import click`", "CPU s at most"]
    return table(f"Start, with {RUNS:,} finished runs in the store (medians of 11)", columns, rows)


def fill(home: Home, count: int) -> None:
    """Finished runs, as a year of use leaves them: one attempt and two lines of the ledger each."""
    home.root.mkdir(parents=True, exist_ok=True)
    store = Store.open(home.database_url({}))
    began = datetime.now(UTC) - timedelta(days=365)
    for number in range(count):
        add_finished_run(store, f"r-{number:06d}", began + timedelta(hours=8 * number))
    store.close()


def add_finished_run(store: Store, run_id: str, at: datetime) -> None:
    ended = at + timedelta(minutes=9)
    run = Run(
        id=run_id, name="mnist", owner="bench", project="default", spec={"name": "mnist", "run": "python train.py"},
        created_at=at, phase=Phase.SETTLE, phase_since=ended, due_at=at, attempt=1,
    )  # fmt: skip
    attempt = Attempt(
        run_id=run_id, number=1, machine=f"gpujob-{run_id}-1", provider="local",
        offer={"provider": "local", "gpu": None, "gpu_count": 0, "usd_per_hour": "0.36"}, created_at=at,
        instance_id=run_id, started_at=at, exited_at=ended, gone_at=ended, outcome=AttemptOutcome.SUCCEEDED,
    )  # fmt: skip
    charges = [
        ChargeRow(
            run_id=run_id,
            attempt=1,
            provider="local",
            meter=meter,
            quantity=Decimal("0.15"),
            unit="hour",
            rate_usd=Decimal("0.36"),
            amount_usd=Decimal("0.054"),
            source="config.toml",
            kind=ChargeKind.ESTIMATE,
            start=at,
            end=ended,
            at=ended,
        )
        for meter in ("compute", "disk")
    ]
    store.add_run(run)
    [lease] = store.claim("bench", limit=1, lease_seconds=60)
    run.phase, run.outcome, run.exit_code, run.ended_at = Phase.DONE, Outcome.SUCCEEDED, 0, ended
    store.save(lease, run, attempts=[attempt], charges=charges, due_in=None)


if __name__ == "__main__":
    print(report())
