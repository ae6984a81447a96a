"""REST v2's billing history of pods: the bill cut into time buckets, one record per pod and bucket.

How fresh it is on the real RunPod is not documented: here it can be told to lag. Amounts are JSON doubles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.rehearsal.bill import Line
from providers.rehearsal.runpod.catalog import Malformed
from providers.rehearsal.runpod.life import usd_until
from providers.rehearsal.runpod.orders import BrokenRule
from providers.rehearsal.runpod.pods import Pod, Pods
from providers.rehearsal.runpod.shapes import number

_SIZES = ("hour", "day", "week", "month", "year")
_AMOUNTS = ("totalAmount", "gpuAmount", "cpuAmount", "diskAmount")
_MONTH_DAYS = 31

Bucket = tuple[datetime, datetime]
Row = tuple[Bucket, str, dict[str, Decimal]]


def pod_records(pods: Pods, query: Mapping[str, str], *, lag: timedelta) -> dict[str, Any]:
    """`lag` is how much younger than now nothing is shown."""
    size = query.get("bucketSize", "day")
    if size not in _SIZES:
        raise Malformed(f"bucketSize: value must be one of {', '.join(map(repr, _SIZES))}")
    now = pods.clock()
    start, end = _window(query, size, now)
    known_until = now - lag
    wanted = [pod for pod in pods.all.values() if query.get("podId") in (None, pod.id)]
    buckets = list(_buckets(start, end, size))
    rows = sorted(
        (row for pod in wanted for row in _rows(pod, pods.bill.lines(pod.id), buckets, known_until)),
        key=lambda row: row[0],
    )
    totals = {name: sum((amounts[name] for *_, amounts in rows), Decimal(0)) for name in _AMOUNTS}
    return {
        "records": [
            {"startTime": _when(first), "endTime": _when(last), "podId": id, **_doubles(amounts)}
            for (first, last), id, amounts in rows
        ],
        "metadata": {
            "query": {
                "startTime": _when(start),
                "endTime": _when(end),
                "bucketSize": size,
                "podId": query.get("podId"),
            },
            "recordCount": len(rows),
            "uniquePodCount": len({id for _, id, _ in rows}),
            "totals": _doubles(totals),
        },
    }


def _rows(pod: Pod, lines: list[Line], buckets: list[Bucket], known_until: datetime) -> Iterator[Row]:
    """One row for every bucket in which the pod cost something."""
    over = pod.ended_at or known_until
    for start, end in buckets:
        if start > over or end < pod.created_at:
            continue
        amounts = _amounts(pod, lines, start, min(end, known_until))
        if amounts["totalAmount"]:
            yield (start, end), pod.id, amounts


def _amounts(pod: Pod, lines: list[Line], start: datetime, end: datetime) -> dict[str, Decimal]:
    amounts = dict.fromkeys(_AMOUNTS, Decimal(0))
    for line in lines:
        usd = usd_until(line, end) - usd_until(line, start) if end > start else Decimal(0)
        compute = "gpuAmount" if pod.order.gpu else "cpuAmount"
        amounts[compute if line.rate.meter == "compute" else "diskAmount"] += usd
        amounts["totalAmount"] += usd
    return amounts


def _window(query: Mapping[str, str], size: str, now: datetime) -> tuple[datetime, datetime]:
    """Snapped outwards to whole buckets."""
    if "lastN" in query:
        if "startTime" in query or "endTime" in query:
            raise BrokenRule("lastN and startTime/endTime are mutually exclusive")
        if not query["lastN"].isdigit() or int(query["lastN"]) < 1:
            raise Malformed("lastN: want a positive integer")
        start = end = _floor(now, size)
        for _ in range(int(query["lastN"]) - 1):
            start = _floor(start - timedelta(seconds=1), size)
        return start, _after(end, size)
    start = _floor(_time(query, "startTime") or now - timedelta(days=30), size)
    last = _time(query, "endTime") or now
    end = _floor(last, size)
    return start, end if end == last else _after(end, size)


def _buckets(start: datetime, end: datetime, size: str) -> Iterator[Bucket]:
    while start < end:
        after = _after(start, size)
        yield start, after
        start = after


def _floor(at: datetime, size: str) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return {
        "hour": hour,
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "year": day.replace(month=1, day=1),
    }[size]


def _after(bucket: datetime, size: str) -> datetime:
    days = {"hour": 0, "day": 1, "week": 7, "month": _MONTH_DAYS, "year": 366}[size]
    return _floor(bucket + (timedelta(days=days) if days else timedelta(hours=1)), size)


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        at = datetime.fromisoformat(query[name])
    except ValueError as error:
        raise Malformed(f"{name}: not an RFC 3339 time") from error
    if at.tzinfo is None:
        raise Malformed(f"{name}: not an RFC 3339 time")
    return at.astimezone(UTC)


def _doubles(amounts: Mapping[str, Decimal]) -> dict[str, float]:
    return {name: number(usd) for name, usd in amounts.items()}


def _when(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
