"""How long sums of a large ledger take. Target: `gpujob cost --by month` over 100,000 charges at most 0.5 s of CPU
more than the same command over none."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from bench.measure import GPUJOB, clean_environment, cpu, in_turn, table, wall
from orchestrator.home import Home
from orchestrator.records import Attempt, AttemptOutcome, ChargeKind, ChargeRow, Outcome, Phase, Run
from orchestrator.store.store import Store

CHARGES, PER_RUN = 100_000, 100
COMMANDS = ("--by month", "--by project --by month", "--by use", "--focus -")
ROUNDS = 3


def report() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Home(Path(folder) / "empty"), Home(Path(folder) / "full")
        fill(empty, 0)
        fill(full, CHARGES)
        for words in COMMANDS:
            command = {"": [GPUJOB, "cost", *words.split()]}
            none = in_turn(command, env=clean_environment(empty.root), rounds=ROUNDS)[""]
            many = in_turn(command, env=clean_environment(full.root), rounds=ROUNDS)[""]
            figures = (cpu(none), cpu(many), cpu(many) - cpu(none), wall(many) - wall(none))
            rows.append([f"`gpujob cost {words}`", *(f"{figure:.2f}" for figure in figures)])
    columns = ["command", "CPU s over none", "CPU s", "CPU s more", "wall s more"]
    return table(f"Cost, over {CHARGES:,} charges of {CHARGES // PER_RUN:,} runs (medians of {ROUNDS})", columns, rows)


def fill(home: Home, count: int) -> None:
    """Runs of a day each, spread over two years, whose estimate was booked every quarter of an hour."""
    home.root.mkdir(parents=True, exist_ok=True)
    store = Store.open(home.database_url({}))
    runs = count // PER_RUN
    began = datetime.now(UTC) - timedelta(days=730)
    for number in range(runs):
        _add(store, f"r-{number:06d}", began + timedelta(days=730 * number / runs))
    store.close()


def _add(store: Store, run_id: str, at: datetime) -> None:
    quarter = timedelta(minutes=15)
    ended = at + PER_RUN * quarter
    run = Run(
        id=run_id, name="mnist", owner="bench", project=f"p{run_id[-1]}", spec={"name": "mnist", "run": "true"},
        created_at=at, phase=Phase.SETTLE, phase_since=ended, due_at=at, attempt=1,
    )  # fmt: skip
    attempt = Attempt(
        run_id=run_id, number=1, machine=f"gpujob-{run_id}-1", provider="vast",
        offer={"provider": "vast", "gpu": "RTX4090", "gpu_count": 1, "usd_per_hour": "0.36"}, created_at=at,
        billing_from=at, running_from=at + quarter, started_at=at + 2 * quarter, exited_at=ended - quarter,
        gone_at=ended, instance_id=run_id, outcome=AttemptOutcome.SUCCEEDED,
    )  # fmt: skip
    charges = [
        ChargeRow(
            run_id=run_id, attempt=1, provider="vast", meter="compute", quantity=Decimal("0.25"), unit="hour",
            rate_usd=Decimal("0.36"), amount_usd=Decimal("0.09"), source="offer", kind=ChargeKind.ESTIMATE,
            start=at + number * quarter, end=at + (number + 1) * quarter, at=at + (number + 1) * quarter,
        )
        for number in range(PER_RUN)
    ]  # fmt: skip
    store.add_run(run)
    [lease] = store.claim("bench", limit=1, lease_seconds=60)
    run.phase, run.outcome, run.exit_code, run.ended_at = Phase.DONE, Outcome.SUCCEEDED, 0, ended
    store.save(lease, run, attempts=[attempt], charges=charges, due_in=None)


if __name__ == "__main__":
    print(report())
