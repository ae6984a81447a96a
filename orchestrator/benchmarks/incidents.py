"""What went wrong in sweeps: jobs that did not succeed, machines that were lost under them, clouds that kept silent.

Each is said once, with the sweep it belongs to. Reads records; asks the store for events and charges only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator import ledger
from orchestrator.benchmarks import results as kept
from orchestrator.benchmarks.series import cell_words
from orchestrator.records import Attempt, AttemptOutcome, Event, Outcome, Run
from orchestrator.reports import words
from orchestrator.store.rows import CellRow, ResultRow
from orchestrator.store.store import Store
from orchestrator.together import Together

# A run's own end: a lost machine is another attempt's, if there is one.
_LOST = (
    AttemptOutcome.PREEMPTED,
    AttemptOutcome.HOST_LOST,
    AttemptOutcome.BAD_HOST,
    AttemptOutcome.NEVER_BOOTED,
)
_KINDS: Mapping[Outcome, str] = {
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.LOST: "failed",
    Outcome.ERROR: "failed",
    Outcome.REAPED: "failed",
    Outcome.NO_CAPACITY: "nothing to rent",
    Outcome.REFUSED: "refused",
    Outcome.CANCELLED: "cancelled",
    Outcome.STOPPED_BY_BUDGET: "stopped by budget",
}


@dataclass(frozen=True, kw_only=True)
class Incident:
    """`kind`: failed, timed out, nothing to rent, refused, cancelled, stopped by budget, not measured, preempted, host
    lost, bad host, never booted, or unanswered. `run_id` is one of them where several runs had the same trouble.
    """

    at: datetime
    sweep_id: str
    run_id: str
    kind: str
    text: str


def of(
    store: Store,
    cells: Sequence[CellRow],
    its: Together,
    results: Iterable[ResultRow],
) -> list[Incident]:
    """Of all these cells' runs, the newest first."""
    measured: dict[str, list[ResultRow]] = defaultdict(list)
    for row in results:
        measured[row.run_id].append(row)
    found: list[Incident] = []
    for cell in cells:
        run = its.by_id[cell.run_id]
        found += _of_machines(store, cell, its.attempts[run.id])
        if run.is_over and (incident := _of_end(cell, run, measured[run.id])) is not None:
            found.append(incident)
    found += _unanswered({cell.run_id: cell for cell in cells}, store.events_of(list(its.by_id), "offer"))
    return sorted(found, key=lambda one: (one.at, one.run_id), reverse=True)


def _of_machines(store: Store, cell: CellRow, attempts: Sequence[Attempt]) -> Iterator[Incident]:
    lost = [(attempt, attempt.outcome) for attempt in attempts if attempt.outcome in _LOST]
    charges = store.charges(run_id=cell.run_id) if lost else []
    for attempt, outcome in lost:
        usd = ledger.total(charge for charge in charges if charge.attempt == attempt.number)
        after = attempt.number < attempts[-1].number
        where = f"{words.place(attempt)} {words.hardware(attempt.offer)}"
        yield Incident(
            at=_ended(attempt),
            sweep_id=cell.sweep_id,
            run_id=cell.run_id,
            kind=words.outcome(outcome),
            text=f"{cell_words(cell)}: attempt {attempt.number} on {where}, "
            f"{_lasted(attempt)}{words.money(usd)}{f'; attempt {attempt.number + 1} followed' if after else ''}",
        )


def _lasted(attempt: Attempt) -> str:
    if attempt.billing_from is None:
        return ""
    return f"{words.duration((_ended(attempt) - attempt.billing_from).total_seconds())}, "


def _ended(attempt: Attempt) -> datetime:
    return attempt.running_until or attempt.gone_at or attempt.created_at


def _of_end(cell: CellRow, run: Run, measured: Sequence[ResultRow]) -> Incident | None:
    text = run.error or ""
    kind = _KINDS.get(run.outcome) if run.outcome is not None else None
    if kind is None:
        shortfalls = kept.shortfalls(run, measured)
        if not shortfalls:
            return None
        kind, text = "not measured", f"the job succeeded, but {', '.join(shortfalls)}"
    at = run.ended_at or run.phase_since
    said = f"{cell_words(cell)}: {text}" if text else cell_words(cell)
    return Incident(at=at, sweep_id=cell.sweep_id, run_id=run.id, kind=kind, text=said)


def _unanswered(cells: Mapping[str, CellRow], events: Iterable[Event]) -> Iterator[Incident]:
    """One for each cloud and sweep, however often it was asked."""
    grouped: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.details.get("unanswered"):
            grouped[cells[event.run_id].sweep_id, str(event.details.get("provider", ""))].append(event)
    for (sweep_id, _), silent in grouped.items():
        first = min(silent, key=lambda event: event.at)
        jobs = words.plural(len({event.run_id for event in silent}), "job")
        times = f"{words.plural(len(silent), 'time')} to {jobs}"
        yield Incident(
            at=first.at, sweep_id=sweep_id, run_id=first.run_id, kind="unanswered", text=f"{first.text} ({times})"
        )
