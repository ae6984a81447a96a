"""What a person reads in a terminal or a pipe: tables of runs, charges, artifacts, events; a run's summary.

Every function returns a string. `terminal` says that it goes to one: then there is colour, and columns that can give
way fit `width`. Whatever a machine or a user named is made harmless first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from orchestrator import ledger, outlook
from orchestrator.records import Attempt, AttemptOutcome, ChargeRow, Event, Outcome, Run
from orchestrator.reports import words
from orchestrator.reports.bill import bill, total
from orchestrator.reports.table import Cell, Column, Table, Tone, painted
from orchestrator.reports.words import one_line

_MOST_METRICS = 10
_MOST_ATTEMPTS = 5
_MOST_NAMES = 4
_TONES: Mapping[str, Tone] = {
    Outcome.SUCCEEDED: "good",
    Outcome.FAILED: "bad",
    Outcome.LOST: "bad",
    Outcome.ERROR: "bad",
    Outcome.REAPED: "warn",
    Outcome.CANCELLED: "dim",
    Outcome.TIMED_OUT: "warn",
    Outcome.STOPPED_BY_BUDGET: "warn",
    Outcome.NO_CAPACITY: "warn",
    Outcome.REFUSED: "warn",
}


class ArtifactLine(Protocol):
    """A file that came back."""

    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str | None: ...


def runs_table(
    runs: Sequence[Run],
    attempts: Mapping[str, Sequence[Attempt]],
    costs: Mapping[str, Decimal],
    *,
    now: datetime,
    terminal: bool = False,
    width: int | None = None,
) -> str:
    """One line per run in the order given; its newest attempt says where it runs."""
    columns = (
        Column("RUN"),
        Column("NAME", wraps=True),
        Column("STATUS"),
        Column("WHERE", wraps=True),
        Column("GPU"),
        Column("TOOK", right=True),
        Column("COST", right=True),
        Column("SUBMITTED"),
    )
    rows = []
    for run in runs:
        newest = attempts[run.id][-1] if attempts.get(run.id) else None
        rows.append(
            (
                run.id,
                one_line(run.name),
                status(run),
                one_line(words.provider(newest)) if newest else "-",
                one_line(words.hardware(newest.offer)) if newest else "-",
                words.duration(((run.ended_at or now) - run.created_at).total_seconds()),
                words.money(costs.get(run.id, Decimal(0))),
                Cell(words.ago(run.created_at, now), "dim"),
            )
        )
    return Table(columns, rows).text(terminal=terminal, width=width)


def status(run: Run) -> Cell:
    """Outcome or phase, with the warning that must not be missed."""
    if run.possibly_billing:
        return Cell(f"{words.state(run)}, possibly still billing", "bad")
    if run.outcome is not None:
        return Cell(words.state(run), _TONES[run.outcome])
    return Cell(words.state(run), "busy")


def status_of_all(runs: Sequence[Run]) -> Cell:
    """The same of runs that belong together."""
    state = words.state_of_all(runs)
    if any(run.possibly_billing for run in runs):
        return Cell(f"{state}, possibly still billing", "bad")
    if not all(run.is_over for run in runs):
        return Cell(state, "busy")
    return Cell(state, "good" if all(run.outcome is Outcome.SUCCEEDED for run in runs) else "bad")


def run_summary(
    run: Run,
    attempts: Sequence[Attempt],
    charges: Sequence[ChargeRow],
    metrics: Mapping[str, float],
    artifacts: Sequence[ArtifactLine],
    *,
    now: datetime,
    terminal: bool = False,
) -> str:
    """What came of a run, on one screen."""
    took = words.duration(((run.ended_at or now) - run.created_at).total_seconds())
    cost = words.money(total(charges))
    heading = f"{painted(Cell(one_line(run.name), 'strong'), terminal=terminal)}  {run.id}"
    lines = [f"{heading}  {painted(status(run), terminal=terminal)} in {took} for {cost}", ""]
    facts = [
        *_warnings(run),
        *_schedule(run),
        *_places(attempts),
        *_expected(run, attempts, charges, now),
        *_reported(metrics),
        *_files(artifacts, complete=run.artifacts_complete),
        *_meters(charges),
    ]
    for label, cell in facts:
        lines.append(f"  {painted(Cell(f'{label:<10}', 'dim'), terminal=terminal)} {painted(cell, terminal=terminal)}")
    return "\n".join(line.rstrip() for line in lines).rstrip()


def charges_table(charges: Iterable[ChargeRow], *, terminal: bool = False, width: int | None = None) -> str:
    """One line per run, attempt, provider and meter, and the total."""
    columns = (
        Column("RUN"),
        Column("TRY", right=True),
        Column("WHERE"),
        Column("METER"),
        Column("QUANTITY", right=True),
        Column("UNIT"),
        Column("RATE", right=True),
        Column("ESTIMATE", right=True),
        Column("SETTLED", right=True),
        Column("TOTAL", right=True),
        Column("SOURCE", wraps=True),
    )
    lines = bill(charges)
    rows: list[Sequence[Cell | str]] = [
        (
            line.run_id,
            str(line.attempt),
            one_line(line.provider),
            one_line(line.meter),
            words.quantity(line.quantity),
            one_line(line.unit),
            words.rate(line.rate, one_line(line.unit)),
            words.exact(line.estimate),
            "-" if line.settlement is None else words.exact(line.settlement),
            words.exact(line.total),
            one_line(", ".join(line.sources)),
        )
        for line in lines
    ]
    whole = Cell(words.exact(sum((line.total for line in lines), Decimal(0))), "strong")
    rows.append((Cell("total", "strong"), *[""] * 8, whole, ""))
    return Table(columns, rows).text(terminal=terminal, width=width)


def artifacts_table(artifacts: Sequence[ArtifactLine], *, terminal: bool = False, width: int | None = None) -> str:
    """One line per file, and their sum."""
    columns = (Column("PATH", wraps=True), Column("SIZE", right=True), Column("SHA256"))
    rows: list[Sequence[Cell | str]] = [
        (one_line(file.path), words.size(file.bytes), Cell(file.sha256 or "-", "dim")) for file in artifacts
    ]
    rows.append((Cell(words.plural(len(artifacts), "file"), "strong"), words.size(sum(f.bytes for f in artifacts)), ""))
    return Table(columns, rows).text(terminal=terminal, width=width)


def events_table(events: Sequence[Event], *, terminal: bool = False, width: int | None = None) -> str:
    """One line per event, oldest first."""
    columns = (Column("WHEN"), Column("TRY", right=True), Column("PHASE"), Column("KIND"), Column("WHAT", wraps=True))
    tones: Mapping[str, Tone] = {"warning": "warn", "error": "bad", "budget": "warn"}
    rows = [
        (
            Cell(words.moment(event.at), "dim"),
            str(event.attempt or "-"),
            event.phase.value,
            event.kind,
            Cell(one_line(event.text), tones.get(event.kind, "")),
        )
        for event in events
    ]
    return Table(columns, rows).text(terminal=terminal, width=width)


Fact = tuple[str, Cell]


def _warnings(run: Run) -> Iterator[Fact]:
    if run.possibly_billing:
        yield "BILLING", Cell("a machine of this run may still exist and cost money: its cloud cannot be asked", "bad")
    if run.error:
        yield "error", Cell(one_line(run.error), "bad")
    if run.exit_code:
        yield "exit code", Cell(str(run.exit_code), "bad")


def _schedule(run: Run) -> Iterator[Fact]:
    if mark := run.notes.get("schedule"):
        planned_at = datetime.fromisoformat(mark["planned_at"])
        yield "schedule", Cell(f"{one_line(mark['name'])}, for {words.moment(planned_at)}")


def _places(attempts: Sequence[Attempt]) -> Iterator[Fact]:
    if len(attempts) > _MOST_ATTEMPTS:
        yield "attempts", Cell(f"{len(attempts)}; the last {_MOST_ATTEMPTS}:", "dim")
    for attempt in attempts[-_MOST_ATTEMPTS:]:
        label = "ran on" if len(attempts) == 1 else f"attempt {attempt.number}"
        where = f"{words.place(attempt)}, {words.hardware(attempt.offer)}, {words.rate(ledger.usd_per_hour(attempt))}"
        ended = attempt.outcome not in (None, AttemptOutcome.SUCCEEDED)
        outcome = f": {words.outcome(attempt.outcome)}" if attempt.outcome and ended else ""
        why = f" ({attempt.error})" if attempt.error and ended and len(attempts) > 1 else ""
        yield label, Cell(one_line(where + outcome + why))
        if (image := attempt.notes.get("without_image")) is not None:
            yield "WARNING", Cell(one_line(f"ran as a process, not in {image}, which could not be used there"), "warn")


def _expected(run: Run, attempts: Sequence[Attempt], charges: Sequence[ChargeRow], now: datetime) -> Iterator[Fact]:
    """Of a run that goes on."""
    seen = None if run.is_over or not attempts else outlook.of(attempts[-1], total(charges), now)
    if seen is not None:
        yield "Expected", Cell(f"{words.outlook(seen, now)} ({one_line(seen.rests_on)})")


def _reported(metrics: Mapping[str, float]) -> Iterator[Fact]:
    if not metrics:
        return
    shown = [f"{one_line(name)} {words.number(value)}" for name, value in list(metrics.items())[:_MOST_METRICS]]
    more = f"   and {len(metrics) - _MOST_METRICS} more" if len(metrics) > _MOST_METRICS else ""
    yield "metrics", Cell("   ".join(shown) + more)


def _files(artifacts: Sequence[ArtifactLine], *, complete: bool | None) -> Iterator[Fact]:
    missing = complete is False
    if not artifacts and not missing:
        return
    names = [one_line(file.path) for file in artifacts[:_MOST_NAMES]]
    more = f", and {len(artifacts) - _MOST_NAMES:,} more" if len(artifacts) > _MOST_NAMES else ""
    count = f"{words.plural(len(artifacts), 'file')}, {words.size(sum(file.bytes for file in artifacts))}"
    listed = f": {', '.join(names)}{more}" if names else ""
    yield "artifacts", Cell(f"{'INCOMPLETE: ' if missing else ''}{count}{listed}", "warn" if missing else "")


def _meters(charges: Sequence[ChargeRow]) -> Iterator[Fact]:
    by_meter: dict[str, Decimal] = {}
    for charge in charges:
        by_meter[charge.meter] = by_meter.get(charge.meter, Decimal(0)) + charge.amount_usd
    if by_meter:
        yield "cost", Cell(", ".join(f"{one_line(meter)} {words.money(usd)}" for meter, usd in by_meter.items()))
