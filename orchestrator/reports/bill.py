"""From the ledger's lines to a bill that a person can check: one line per attempt, meter and rate. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.costs import Use
from orchestrator.records import ChargeKind, ChargeRow
from orchestrator.reports import words

_ZERO = Decimal(0)


@dataclass
class BillLine:
    """What one meter of one attempt came to. `settlement` is what the cloud's own figure added to our estimate."""

    run_id: str
    attempt: int
    provider: str
    meter: str
    unit: str
    rate: Decimal
    quantity: Decimal = Decimal(0)
    estimate: Decimal = Decimal(0)
    settlement: Decimal | None = None  # None: the cloud has not said anything
    sources: tuple[str, ...] = ()

    @property
    def total(self) -> Decimal:
        return self.estimate + (self.settlement or Decimal(0))


def bill(charges: Iterable[ChargeRow]) -> list[BillLine]:
    """The lines in the order in which their meters first ran, those of one meter together.

    What the cloud's own figure adds is on the last line of its meter: clouds do not divide it by rates. A rate whose
    estimate was taken back whole has no line.
    """
    meters: dict[tuple[str, int, str, str, str], dict[Decimal | None, BillLine]] = {}
    for charge in charges:
        key = (charge.run_id, charge.attempt, charge.provider, charge.meter, charge.unit)
        is_estimate = charge.kind is ChargeKind.ESTIMATE
        lines = meters.setdefault(key, {})
        line = lines.setdefault(charge.rate_usd if is_estimate else None, BillLine(*key, rate=charge.rate_usd))
        line.quantity += charge.quantity
        if is_estimate:
            line.estimate += charge.amount_usd
        else:
            line.settlement = (line.settlement or _ZERO) + charge.amount_usd
        if charge.source and charge.source not in line.sources:
            line.sources = (*line.sources, charge.source)
    return [line for lines in meters.values() for line in _of_meter(lines)]


def _of_meter(lines: dict[Decimal | None, BillLine]) -> list[BillLine]:
    """The lines of one meter's rates, with what was settled."""
    settled = lines.pop(None, None)
    by_rate = list(lines.values())
    shown = [line for line in by_rate if line.quantity or line.estimate] or by_rate[-1:]
    if settled is None or not shown:
        return [settled] if settled else shown
    last = shown[-1]
    last.quantity += settled.quantity
    last.settlement = settled.settlement
    last.sources = tuple(dict.fromkeys((*last.sources, *settled.sources)))
    return shown


def total(charges: Iterable[ChargeRow]) -> Decimal:
    return sum((charge.amount_usd for charge in charges), Decimal(0))


def for_nothing(uses: Mapping[str, Decimal]) -> str:
    """What of the sums by use was no work, in a line for a person; "" where nothing cost anything."""
    if not any(uses.values()):
        return ""
    parts = {
        "boot": uses.get(Use.BOOT, _ZERO) + uses.get(Use.SETUP, _ZERO),
        "failed attempts": uses.get(Use.LOST, _ZERO),
        "after the job": uses.get(Use.AFTER, _ZERO),
        "machines of no run": uses.get(Use.REAPED, _ZERO),
    }
    said = [f"{name} {words.money(usd)}" for name, usd in parts.items() if usd or name != "machines of no run"]
    return f"of it for nothing: {words.money(sum(parts.values(), _ZERO))} ({', '.join(said)})"
