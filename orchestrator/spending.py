"""What runs have cost by now: what is booked, and what has accrued since on a machine that is still there.

Reads the store, books nothing: the controller does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from orchestrator import ledger
from orchestrator.records import Attempt, ChargeRow, Run
from orchestrator.store.store import Store


def charges(store: Store, run: Run, attempts: Sequence[Attempt]) -> list[ChargeRow]:
    """The run's lines of the ledger; of a run that goes on, with a line for what is not booked yet."""
    booked = store.charges(run_id=run.id)
    if run.is_over or not attempts:
        return booked
    return [*booked, *ledger.estimate_rows(attempts[-1], store.now(), booked)]


def spent(store: Store, runs: Sequence[Run], attempts: Mapping[str, Sequence[Attempt]]) -> dict[str, Decimal]:
    """Dollars for each run."""
    sums = store.spent([run.id for run in runs])
    going = {run.id: charges(store, run, attempts[run.id]) for run in runs if not run.is_over}
    return {**sums, **{run_id: ledger.total(rows) for run_id, rows in going.items()}}
