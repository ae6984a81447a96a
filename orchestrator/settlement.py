"""The clouds' own bills: asked for until they are final, hours or days after a run; differences are booked and told.

A visit is one question about one attempt's machine. Two controllers may ask at once: only one of them books. Knows no
phase; what a machine's figures come to is the ledger's arithmetic.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from orchestrator import ledger, rates
from orchestrator.records import Attempt, ChargeRow, Event, Run
from orchestrator.reports.html import write_report
from orchestrator.rounds import surviving
from orchestrator.world import World
from providers.base import Charge, Instance, InstanceStatus, Provider

LOOK_SECONDS = 30.0
ASK_AGAIN = timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(days=7)  # of a cloud that never says: the estimate stands then
AT_ONCE = 50  # attempts in one round
# Differences above either are told. Below a tenth of a cent clouds round.
_CENT, _PERCENT, _ROUNDING = Decimal("0.01"), Decimal("0.01"), Decimal("0.001")

log = logging.getLogger("gpujob.settlement")


@dataclass(frozen=True)
class Settled:
    """What a bill comes to: the rows to book, and when to ask again (None: it is final, or nobody will ever say)."""

    rows: list[ChargeRow]
    ask_at: datetime | None
    word: str | None = None  # a difference that a person should know of


def settle(
    attempt: Attempt, charges: list[Charge], booked: list[ChargeRow], now: datetime, *, wait: timedelta
) -> Settled:
    """Lay the cloud's figures beside what is booked for the attempt. `wait`: until a bill is final, usually."""
    since = attempt.gone_at or attempt.created_at
    given_up = now - since > GIVEN_UP_AFTER
    rows = ledger.settlement_rows(attempt, charges, booked, now, provisional=given_up)
    done = given_up or is_final(charges, booked)
    return Settled(rows, None if done else now + max(ASK_AGAIN, wait / 2), _word(attempt, rows, booked))


def is_final(charges: Sequence[Charge], booked: Iterable[ChargeRow]) -> bool:
    """Whether the cloud has had its last word on every meter that something is booked for."""
    expected = {row.meter for row in booked if row.amount_usd}
    said = {charge.meter for charge in charges}
    return bool(charges) and all(charge.final for charge in charges) and expected <= said


def machine_of(run: Run, attempt: Attempt) -> Instance:
    """The machine as we last knew it: bills are asked for when it is gone."""
    return Instance(
        id=attempt.instance_id or attempt.machine,
        name=attempt.notes.get("cloud_name", attempt.machine),
        provider=attempt.provider,
        owner=run.owner,
        run_id=run.id,
        attempt=attempt.number,
        status=InstanceStatus.TERMINATING,
        host_id=attempt.host_id,
        created_at=attempt.billing_from or attempt.created_at,
        usd_per_hour=attempt.usd_per_hour,
        meters=ledger.meters_from_json(attempt.meters),
    )


@dataclass
class Bookkeeper:
    """One controller's questions about bills that are due."""

    world: World

    def watch(self, stop: threading.Event) -> None:
        """Ask for what is due, on a period, until told to stop."""
        while not stop.wait(LOOK_SECONDS):
            self.settle_due()

    def settle_due(self) -> int:
        """One round. Returns how many bills were asked for; what fails is asked again later."""
        nothing: Sequence[tuple[Run, Attempt]] = ()
        due = surviving("bills", lambda: self.world.store.due_bills(AT_ONCE), otherwise=nothing, log=log)
        return sum(self._settled(run, attempt) for run, attempt in due)

    def _settled(self, run: Run, attempt: Attempt) -> bool:
        def settled() -> bool:
            self._settle(run, attempt)
            return True

        return surviving(f"{run.id}: the bill of {attempt.machine}", settled, otherwise=False, log=log)

    def _settle(self, run: Run, attempt: Attempt) -> None:
        now = self.world.clock()
        booked = [row for row in self.world.store.charges(run_id=run.id) if row.attempt == attempt.number]
        late: list[ChargeRow] = []
        wait = timedelta()
        try:
            provider = self.world.provider_of(attempt)
            late = _learnt_late(provider, attempt, booked, now)
            wait = timedelta(seconds=provider.traits.bill_seconds)
            charges = list(provider.charges(machine_of(run, attempt), attempt.created_at))
        except Exception as error:  # also a bug of the provider: the estimate stands meanwhile
            log.warning("%s: %s did not say what it billed: %s", run.id, attempt.provider, error)
            charges = []
        found = settle(attempt, charges, [*booked, *late], now, wait=wait)
        events = [_event(run, attempt, now, found)] if found.word else []
        seen, attempt = attempt.settle_at, replace(attempt, settle_at=found.ask_at)
        if self.world.store.book_bill(run, attempt, seen, [*late, *found.rows], events) and (late or found.rows):
            self._draw_again(run, now)

    def _draw_again(self, run: Run, now: datetime) -> None:
        try:
            write_report(self.world.store, self.world.home, run.id, now=now)
        except Exception as error:  # its files may be on another computer, or gone
            log.info("%s: the report was not drawn again: %s", run.id, error)


def _learnt_late(provider: Provider, attempt: Attempt, booked: list[ChargeRow], now: datetime) -> list[ChargeRow]:
    """What the estimate lacks where the cloud did not say its rates when the machine ended. Not beside a bill."""
    if ledger.is_settled(booked) or not attempt.notes.get("rates_unknown") or not rates.may_move(attempt):
        return []
    return ledger.estimate_rows(replace(attempt, meters=rates.newest(provider, attempt)), now, booked)


def _word(attempt: Attempt, rows: list[ChargeRow], booked: list[ChargeRow]) -> str | None:
    """Both sides, when they are further apart than rounding."""
    difference = ledger.total(rows)
    mine = ledger.total(booked)
    theirs = mine + difference
    far = abs(difference) > _CENT or (abs(difference) > _ROUNDING and abs(difference) > _PERCENT * abs(theirs))
    if not far:
        return None
    meters = ", ".join(f"{row.meter} {ledger.usd(row.amount_usd)}" for row in rows if row.amount_usd)
    return (
        f"{attempt.provider} billed {ledger.usd(theirs)} for {attempt.machine}, {ledger.usd(mine)} were booked. "
        f"The difference is booked: {meters}, by {', '.join(dict.fromkeys(row.source for row in rows))}"
    )


def _event(run: Run, attempt: Attempt, now: datetime, found: Settled) -> Event:
    details = {"rows": [{"meter": row.meter, "usd": ledger.plain(row.amount_usd)} for row in found.rows]}
    return Event(
        run_id=run.id,
        attempt=attempt.number,
        at=now,
        phase=run.phase,
        kind="warning",
        text=found.word or "",
        details=details,
    )
