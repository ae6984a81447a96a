"""What the unit of a result means: a time, a speed, a piece of work; how much of it costs what. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from orchestrator import costs
from orchestrator.store.rows import ResultRow

_SECONDS_IN = {
    **{"us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "sec": 1.0, "seconds": 1.0},
    **{"min": 60.0, "minutes": 60.0, "h": 3600.0, "hours": 3600.0},
}
_AMOUNTS = {1: "", 1000: "1,000 ", 10**6: "million ", 10**9: "billion "}
_LEAST_USD = Decimal("0.001")


def seconds(row: ResultRow) -> float | None:
    """The result as seconds that something took; None where it is no time."""
    factor = _SECONDS_IN.get(row.unit.strip().casefold()) if row.better == "lower" else None
    return None if factor is None else row.value * factor


def is_speed(row: ResultRow) -> bool:
    """Whether a worse one is a slower one: a time, or a rate per second."""
    return row.work is not None or seconds(row) is not None or row.unit.endswith("/s")


def is_rate(row: ResultRow) -> bool:
    """Whether it says how much work is done in a second."""
    return row.work is not None and row.better == "higher"


def usd(usd_per_hour: Decimal, seconds: float) -> Decimal:
    """What so much time costs."""
    return usd_per_hour * Decimal(repr(seconds)) / 3600


def usd_per_work(usd_per_hour: Decimal, per_second: float) -> Decimal | None:
    """What one unit of work costs; None where nothing of it is done."""
    return costs.per(usd(usd_per_hour, 1), per_second)


def seconds_each(row: ResultRow) -> float | None:
    """Of one unit of the result's work, or of the task where the result is a time; None where it is neither."""
    if is_rate(row):
        return 1 / row.value if row.value > 0 else None
    return seconds(row)


def usd_each(row: ResultRow) -> Decimal | None:
    """What that time costs on the result's machine."""
    if is_rate(row):
        return usd_per_work(row.usd_per_hour, row.value)
    told = seconds(row)
    return None if told is None else usd(row.usd_per_hour, told)


def amount(usd: Iterable[Decimal], seconds: Iterable[float]) -> int:
    """Of how many units of work one can imagine the price, or else the time; what one unit costs and takes is given.

    What is free is left out, as one's own computers are.
    """
    least = min((one for one in usd if one), default=None)
    if least is None:
        least = _LEAST_USD * Decimal(repr(min(seconds)))
    return next((amount for amount in _AMOUNTS if least * amount >= _LEAST_USD), max(_AMOUNTS))


def amount_words(amount: int, work: str) -> str:
    """Such as "million samples", or "sample" of one."""
    single = work.removesuffix("s")
    return f"{_AMOUNTS[amount]}{single}s" if amount > 1 else single
