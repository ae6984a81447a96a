"""The director's entrance of a simulated cloud: a person or a test directs it, and reads what it alone knows.

    GET  /_rehearsal/bill       the cloud's own bill, line by line
    GET  /_rehearsal/bills      what each machine has cost, all that were ever made, and what outlived its machine
    GET  /_rehearsal/machines   all machines that were ever made
    GET  /_rehearsal/alive      those that exist and cost something now
    GET  /_rehearsal/requests   what was asked, oldest first, and what became of it
    POST /_rehearsal/faults     a list of faults (faults.py), added to those that wait; GET shows these
    GET  /_rehearsal/struck     the faults that were used, oldest first
    POST /_rehearsal/clock      {"advance": seconds}
    POST /_rehearsal/preempt    {"machine": id, "notice": seconds}
    POST /_rehearsal/prices     {"factor": 1.4, "in": seconds}: spot prices are so many times the usual from then on

Knows no cloud by name and nothing of the wire around it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from werkzeug.wrappers import Request, Response

from providers.rehearsal.bill import Line
from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.faults import Fault

PREFIX = "/_rehearsal/"


def answer(cloud: SimulatedCloud, request: Request) -> Response:
    found = _ENTRANCES.get((request.method, request.path.removeprefix(PREFIX)))
    if found is None:
        return Response("no such entrance\n", status=404)
    try:
        with cloud.lock:
            cloud.tick()
            said = found(cloud, request.get_json() if request.method == "POST" else None)
            cloud.tick()
    except (KeyError, TypeError, ValueError) as error:
        return Response(f"{type(error).__name__}: {error}\n", status=400)
    return Response(json.dumps(said, default=_plain), mimetype="application/json")


def bill_document(cloud: SimulatedCloud) -> list[dict[str, Any]]:
    """The cloud's own bill as JSON: one row per line, amounts as decimal strings."""
    now = cloud.clock()
    return [
        {
            "machine": line.machine,
            "meter": line.rate.meter,
            "start": line.start.isoformat(),
            "end": line.end.isoformat() if line.end else None,
            "quantity": str(line.quantity(now)),
            "unit": line.rate.unit,
            "usd_per_unit": str(line.rate.usd_per_unit),
            "usd": str(line.usd(now)),
        }
        for line in cloud.bill.lines()
    ]


def _bills(cloud: SimulatedCloud) -> list[dict[str, Any]]:
    """Machines oldest first, also those that cost nothing; then what is on the bill under another id (volumes)."""
    lines: dict[str, list[Line]] = {}
    for line in cloud.bill.lines():
        lines.setdefault(line.machine, []).append(line)
    machines = [(each.id, each.name, each.alive) for each in cloud.everything()]
    known = {id for id, _, _ in machines}
    others = [(id, "", any(line.end is None for line in mine)) for id, mine in lines.items() if id not in known]
    return [
        {"id": id, "name": name, "alive": alive, **_sums(lines.get(id, []), cloud.clock())}
        for id, name, alive in (*machines, *others)
    ]


def _sums(lines: list[Line], now: datetime) -> Mapping[str, Any]:
    meters: dict[str, Decimal] = {}
    for line in lines:
        meters[line.rate.meter] = meters.get(line.rate.meter, Decimal(0)) + line.usd(now)
    total = sum(meters.values(), Decimal(0))
    return {"usd": str(total), "meters": {meter: str(usd) for meter, usd in meters.items()}}


def _add_faults(cloud: SimulatedCloud, rows: Any) -> None:
    cloud.faults.add(*[Fault.from_json(row) for row in rows])


def _move_prices(cloud: SimulatedCloud, body: Any) -> None:
    factor = Decimal(str(body["factor"]))
    if not Decimal("0.01") <= factor <= 100:
        raise ValueError(f"factor is from 0.01 to 100, not {factor}")
    cloud.move_prices(factor, seconds=float(body.get("in", 0)))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


_ENTRANCES: Mapping[tuple[str, str], Callable[[SimulatedCloud, Any], Any]] = {
    ("GET", "bill"): lambda cloud, _: bill_document(cloud),
    ("GET", "bills"): lambda cloud, _: _bills(cloud),
    ("GET", "machines"): lambda cloud, _: [asdict(machine) for machine in cloud.everything()],
    ("GET", "alive"): lambda cloud, _: [asdict(machine) for machine in cloud.everything() if machine.alive],
    ("GET", "requests"): lambda cloud, _: [
        {**asdict(asked), "reply_lost": asked.reply_lost} for asked in cloud.requests
    ],
    ("GET", "faults"): lambda cloud, _: [fault.to_json() for fault in cloud.faults.waiting()],
    ("GET", "struck"): lambda cloud, _: [fault.to_json() for fault in cloud.faults.struck],
    ("POST", "faults"): _add_faults,
    ("POST", "clock"): lambda cloud, body: cloud.clock.advance(float(body["advance"])),
    ("POST", "prices"): _move_prices,
    ("POST", "preempt"): lambda cloud, body: cloud.preempt(
        body["machine"], notice_seconds=float(body.get("notice", 0))
    ),
}
