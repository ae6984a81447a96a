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
    """The lines in the order in which their meters first ran."""
    lines: dict[tuple[str, int, str, str, str], BillLine] = {}
    for charge in charges:
        key = (charge.run_id, charge.attempt, charge.provider, charge.meter, charge.unit)
        line = lines.setdefault(key, BillLine(*key, rate=charge.rate_usd))
        line.quantity += charge.quantity
        if charge.kind is ChargeKind.ESTIMATE:
            line.estimate += charge.amount_usd
            line.rate = charge.rate_usd
        else:
            line.settlement = (line.settlement or Decimal(0)) + charge.amount_usd
        if charge.source and charge.source not in line.sources:
            line.sources = (*line.sources, charge.source)
    return list(lines.values())


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
