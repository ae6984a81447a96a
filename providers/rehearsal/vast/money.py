"""The cloud's own bill as `charges` and `invoices` show it. Reads the bill; knows no contract's state.

vast-ai/docs, show_charges.yaml (2026-11): one row per contract with its parts, every amount rounded to a tenth of a
cent, so that a short run may show 0.0. What was destroyed stays in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from providers.rehearsal.bill import Bill, Line
from providers.rehearsal.vast.account import TopUp
from providers.rehearsal.vast.contracts import Contract

_SHOWN = Decimal("0.001")
_TYPES = {"compute": "gpu", "disk": "disk", "traffic_in": "bwd", "traffic_out": "bwu"}


def charge_rows(
    contracts: Iterable[Contract], bill: Bill, since: datetime, until: datetime, now: datetime
) -> list[dict[str, Any]]:
    """A row for every contract with charges in that time, oldest first."""
    rows = []
    for contract in contracts:
        lines = [line for line in bill.lines(str(contract.id)) if line.start <= until and (line.end or now) >= since]
        if lines:
            rows.append(_contract_row(contract, lines, now))
    return rows


def invoice_rows(top_ups: Sequence[TopUp], since: datetime, until: datetime) -> list[dict[str, Any]]:
    """What was paid in: negative amounts."""
    return [
        {
            "id": paid.id,
            "start": int(paid.at.timestamp()),
            "end": int(paid.at.timestamp()),
            "type": "credit",
            "source": "stripe",
            "description": "Credit purchase",
            "amount": -float(paid.usd),
            "metadata": {"invoice_id": paid.id, "service": "stripe_payments"},
            "items": [],
        }
        for paid in top_ups
        if since <= paid.at <= until
    ]


def _contract_row(contract: Contract, lines: Sequence[Line], now: datetime) -> dict[str, Any]:
    items = [
        _item(name, mine, now)
        for meter, name in _TYPES.items()
        if (mine := [line for line in lines if line.rate.meter == meter])
    ]
    days = ((contract.ended_at or now) - contract.created_at).days + 1
    return {
        "start": int(contract.created_at.timestamp()),
        "end": int((contract.ended_at or now).timestamp()),
        "type": "instance",
        "source": f"instance-{contract.id}",
        "description": f"Instance {contract.id} Charges - {days} day{'' if days == 1 else 's'}",
        "amount": _shown(sum((line.usd(now) for line in lines), Decimal(0))),
        "metadata": {"label": contract.label} if contract.label else {},
        "items": items,
    }


def _item(name: str, lines: Sequence[Line], now: datetime) -> dict[str, Any]:
    return {
        "start": int(min(line.start for line in lines).timestamp()),
        "end": int(max(line.end or now for line in lines).timestamp()),
        "type": name,
        "source": None,
        "description": _words(lines, now),
        "amount": _shown(sum((line.usd(now) for line in lines), Decimal(0))),
        "metadata": {},
        "items": [],
    }


def _words(lines: Sequence[Line], now: datetime) -> str:
    """ "96.000 hours at $0.389/hour" """
    quantity = sum((line.quantity(now) for line in lines), Decimal(0))
    rate = lines[-1].rate
    unit = {"hour": ("hours", "hour"), "GB-month": ("GB-months", "GB/month")}.get(rate.unit, (rate.unit, rate.unit))
    return f"{quantity:.3f} {unit[0]} at ${rate.usd_per_unit:.3f}/{unit[1]}"


def _shown(usd: Decimal) -> float:
    return float(usd.quantize(_SHOWN))


def moment(seconds: Any) -> datetime:
    """A time of the wire: seconds since 1970. Raises ValueError, TypeError."""
    return datetime.fromtimestamp(float(seconds), UTC)
