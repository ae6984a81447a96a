"""Money: what the meters of an attempt have run up, what is booked, what the cloud says, and when a budget is reached.

Pure functions on records. Amounts are Decimal US dollars, kept to 12 decimal places and rounded to cents only for
display. The ledger is append-only: rows are differences, so that their sum is right at every moment without changing
one. Knows no store, no clock and no cloud by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any, Literal, Protocol, TypeVar, overload

from orchestrator.records import Attempt, ChargeKind, ChargeRow, Json
from providers.base import Charge, Meter, Rate, Runs

K = TypeVar("K")

# A machine that has not come up half an hour after it was asked for is given up by the boot phase long before.
BOOT_SECONDS = 30 * 60
# Shipping, setup before the job and collecting after it; a slow line with a large artifact needs that long.
AROUND_JOB_SECONDS = 30 * 60

_ZERO = Decimal(0)
_PLACES = Decimal("1E-12")
_SECONDS_PER_HOUR = Decimal(3600)
_MICROSECOND = timedelta(microseconds=1)
_ROOMY = Context(prec=60, rounding=ROUND_HALF_EVEN)


class Limits(Protocol):
    """What a spec says about the most a run may take."""

    @property
    def max_cost(self) -> Decimal: ...
    @property
    def max_duration(self) -> timedelta: ...


@dataclass(frozen=True, kw_only=True)
class MeterReading:
    """What one meter has counted over an interval at one rate, by the cloud's rules for rounding time."""

    meter: Meter
    rate: Rate
    start: datetime
    end: datetime
    quantity: Decimal
    usd: Decimal


def accrued(attempt: Attempt, now: datetime) -> tuple[MeterReading, ...]:
    """Every meter of the attempt that has begun, read at `now`: once, or once for each of its rates, oldest first.

    Names of meters are unique within an attempt. A time that is rounded up, or is less than the least that is billed,
    is so as a whole: what that adds is in the last of the meter's readings.
    """
    meters = meters_from_json(attempt.meters)
    return tuple(reading for meter in meters for reading in _readings(meter, attempt, now))


def estimate_rows(attempt: Attempt, now: datetime, previous: Sequence[ChargeRow]) -> list[ChargeRow]:
    """The rows that bring this attempt's estimates to what has accrued by now; none where they are there already.

    One for every rate that a meter has had. `previous` holds what is booked, of this attempt or of the whole run. A row
    may be negative: when a meter turns out to have ended before it was last read, or to have had another rate by then,
    or the clock went back.
    """
    booked = [row for row in _of(attempt, previous) if row.kind is ChargeKind.ESTIMATE]
    readings = accrued(attempt, now)
    found = _grouped(booked, lambda row: _reading_of(row, readings))
    rows = _taken_back(found.pop(None, []), readings, now)
    for reading in readings:
        mine = found.get(reading, [])
        quantity, amount = reading.quantity - _quantity(mine), reading.usd - total(mine)
        if quantity or amount:
            since = max((row.end for row in mine), default=reading.start)
            rows.append(
                ChargeRow(
                    run_id=attempt.run_id,
                    attempt=attempt.number,
                    provider=attempt.provider,
                    meter=reading.meter.name,
                    quantity=quantity,
                    unit=reading.meter.unit,
                    rate_usd=reading.rate.usd_per_unit,
                    amount_usd=amount,
                    source=reading.rate.source,
                    kind=ChargeKind.ESTIMATE,
                    start=min(since, reading.end),
                    end=max(since, reading.end),
                    at=now,
                )
            )
    return rows


def settlement_rows(
    attempt: Attempt,
    charges: Sequence[Charge],
    previous: Sequence[ChargeRow],
    now: datetime,
    *,
    provisional: bool = False,
) -> list[ChargeRow]:
    """The rows that bring this attempt to the cloud's own figures, meter by meter, with the cloud as the source.

    A meter is settled when all its charges are final, or with `provisional` when we wait no longer. One that agrees
    gets a row of zero, so that it is known to be settled. Twice the same figures book nothing more; figures that
    change later book another difference. A meter that the cloud does not mention keeps its estimate.
    """
    booked = _of(attempt, previous)
    rows = []
    for meter, figures in _grouped(charges, lambda charge: charge.meter).items():
        if not provisional and not all(charge.final for charge in figures):
            continue
        mine = [row for row in booked if row.meter == meter]
        row = _settlement(attempt, figures, mine, now)
        if row.amount_usd or not is_settled(mine):
            rows.append(row)
    return rows


def is_settled(previous: Sequence[ChargeRow]) -> bool:
    """Whether the cloud's own figure is among these rows."""
    return any(row.kind is ChargeKind.SETTLEMENT for row in previous)


def total(rows: Iterable[ChargeRow]) -> Decimal:
    return _sum(row.amount_usd for row in rows)


@overload
def by(rows: Iterable[ChargeRow], key: Literal["run", "attempt", "meter", "provider"]) -> dict[str, Decimal]: ...
@overload
def by(rows: Iterable[ChargeRow], key: Callable[[ChargeRow], K]) -> dict[K, Decimal]: ...
def by(rows: Iterable[ChargeRow], key: str | Callable[[ChargeRow], Any]) -> dict[Any, Decimal]:
    """Sums by run, attempt ("r-7k2m9x/1"), meter or provider, or by any other key of a row."""
    groups = _grouped(rows, _KEYS[key] if isinstance(key, str) else key)
    return {value: total(group) for value, group in groups.items()}


def projected(
    rows: Iterable[ChargeRow], attempts: Iterable[Attempt], now: datetime, *, horizon_seconds: float = 0
) -> Decimal:
    """What a run will have cost `horizon_seconds` from now if its machines stay as they are; with 0, what it costs now.

    `rows` are the run's, `attempts` all of its. What has accrued but is not booked yet is counted.
    """
    then = now + timedelta(seconds=horizon_seconds)
    settled = (row.amount_usd for row in rows if row.kind is ChargeKind.SETTLEMENT)
    running = (reading.usd for attempt in attempts for reading in accrued(attempt, then))
    return _sum(settled) + _sum(running)


def hourly(meters: Iterable[Meter]) -> Decimal:
    """What an hour with all these meters running costs."""
    return _sum(meter.usd_per_hour for meter in meters)


def seconds_until(max_cost: Decimal, *, spent: Decimal, usd_per_hour: Decimal) -> float:
    """How long until `spent` has grown to `max_cost`: 0 when it has, infinite when nothing is charged. Rounded down."""
    if spent >= max_cost:
        return 0.0
    if usd_per_hour <= 0:
        return float("inf")
    with localcontext(_ROOMY):
        seconds = (max_cost - spent) * _SECONDS_PER_HOUR / usd_per_hour
        return float(seconds.quantize(Decimal("0.001"), rounding=ROUND_DOWN)) if seconds < 10**12 else float("inf")


def deadline_seconds(limits: Limits, *, usd_per_hour: Decimal, spent: Decimal) -> float:
    """How long a machine may exist, counted from its creation: it ends itself then, also when we are gone.

    The job's longest time with what surrounds it, or the moment when the run's budget is used up, whichever is first.
    """
    budget = seconds_until(limits.max_cost, spent=spent, usd_per_hour=usd_per_hour)
    return min(_longest(limits).total_seconds(), budget)


def worst_case(limits: Limits, *, usd_per_hour: Decimal, attempts: int = 1) -> Decimal:
    """The most that a run can cost when every attempt lasts to its deadline: never more than `max_cost`."""
    with localcontext(_ROOMY):
        return min(limits.max_cost, _round(longest_hours(limits) * usd_per_hour * attempts))


def longest_hours(limits: Limits) -> Decimal:
    """How long a machine may exist as far as time goes: the job's longest time with what surrounds it."""
    return _seconds(_longest(limits)) / _SECONDS_PER_HOUR


def usd(amount: Decimal) -> str:
    """For a person: cents from one dollar on, hundredths of a cent below; "<$0.0001" for less than that."""
    sign = "-" if amount < 0 else ""
    size = abs(amount)
    fine = size.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
    if size and not fine:
        return f"{sign}<$0.0001"
    if not size or fine >= 1:
        return f"{sign}${size.quantize(Decimal('0.01'), rounding=ROUND_HALF_UP):,f}"
    return f"{sign}${fine:f}"


def plain(amount: Decimal) -> str:
    """For a program: all its digits, no exponent, no trailing zeros."""
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def meters_to_json(meters: Iterable[Meter]) -> list[Json]:
    return [
        {
            "name": meter.name,
            "unit": meter.unit,
            "usd_per_unit": plain(meter.usd_per_unit),
            "units_per_hour": plain(meter.units_per_hour),
            "runs": meter.runs.value,
            "granularity_seconds": meter.granularity_seconds,
            "minimum_seconds": meter.minimum_seconds,
            "source": meter.source,
            **({"moves": True} if meter.moves else {}),
            **({"changes": [_rate_to_json(rate) for rate in meter.changes]} if meter.changes else {}),
        }
        for meter in meters
    ]


def meters_from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Meter, ...]:
    return tuple(
        Meter(
            name=row["name"],
            unit=row["unit"],
            usd_per_unit=Decimal(row["usd_per_unit"]),
            units_per_hour=Decimal(row["units_per_hour"]),
            runs=Runs(row["runs"]),
            granularity_seconds=row["granularity_seconds"],
            minimum_seconds=row["minimum_seconds"],
            source=row["source"],
            moves=row.get("moves", False),
            changes=tuple(_rate_from_json(change) for change in row.get("changes", ())),
        )
        for row in rows
    )


def usd_per_hour(attempt: Attempt) -> Decimal:
    """What an hour of the attempt's machine costs now, as its cloud says it: at the newest rate of what moves."""
    if not any(row.get("changes") for row in attempt.meters):
        return attempt.usd_per_hour
    meters = meters_from_json(attempt.meters)
    return attempt.usd_per_hour + hourly(meters) - hourly(replace(meter, changes=()) for meter in meters)


_KEYS: Mapping[str, Callable[[ChargeRow], str]] = {
    "run": lambda row: row.run_id,
    "attempt": lambda row: f"{row.run_id}/{row.attempt}",
    "meter": lambda row: row.meter,
    "provider": lambda row: row.provider,
}


def _rate_to_json(rate: Rate) -> Json:
    return {"since": rate.since.isoformat(), "usd_per_unit": plain(rate.usd_per_unit), "source": rate.source}


def _rate_from_json(row: Mapping[str, Any]) -> Rate:
    since, usd = datetime.fromisoformat(row["since"]), Decimal(row["usd_per_unit"])
    return Rate(since=since, usd_per_unit=usd, source=row["source"])


def _readings(meter: Meter, attempt: Attempt, now: datetime) -> list[MeterReading]:
    if meter.runs is Runs.EXISTS:
        start, ends = attempt.billing_from, [attempt.gone_at]
    else:
        start, ends = attempt.running_from, [attempt.running_until, attempt.gone_at]
    if start is None:
        return []
    end = max(start, min((end for end in ends if end is not None), default=now))
    rates = _rates_within(meter, start, end)
    found: list[MeterReading] = []
    quantity = usd = _ZERO
    with localcontext(_ROOMY):
        for rate, until in zip(rates, [*(rate.since for rate in rates[1:]), end], strict=True):
            seconds = _billed_seconds(meter, end - start) if rate is rates[-1] else _seconds(until - start)
            before, usd_before = quantity, usd
            quantity = seconds * meter.units_per_hour / _SECONDS_PER_HOUR
            usd += (quantity - before) * rate.usd_per_unit
            # Differences of rounded sums, so that what is read adds up to the rounded sum of all.
            counted, cost = _round(quantity) - _round(before), _round(usd) - _round(usd_before)
            found.append(MeterReading(meter=meter, rate=rate, start=rate.since, end=until, quantity=counted, usd=cost))
    return found


def _rates_within(meter: Meter, start: datetime, end: datetime) -> list[Rate]:
    """What the meter costs from `start` to `end`: the first from the start on, each other than the one before it."""
    rates = [Rate(since=start, usd_per_unit=meter.usd_per_unit, source=meter.source)]
    for rate in meter.changes:
        if rate.since <= start:
            rates = [replace(rate, since=start)]
        elif rate.since < end and rate.usd_per_unit != rates[-1].usd_per_unit:
            rates.append(rate)
    return rates


def _reading_of(row: ChargeRow, readings: Sequence[MeterReading]) -> MeterReading | None:
    """What a row was booked for: the last reading of its rate that had begun by then, else the first of its rate."""
    same = [one for one in readings if (one.meter.name, one.rate.usd_per_unit) == (row.meter, row.rate_usd)]
    begun = [one for one in same if one.start <= row.start]
    return begun[-1] if begun else next(iter(same), None)


def _taken_back(rows: Sequence[ChargeRow], readings: Sequence[MeterReading], now: datetime) -> list[ChargeRow]:
    """What undoes rows at a rate that their meter turns out never to have had."""
    names = {reading.meter.name for reading in readings}
    undone = []
    for mine in _grouped(rows, lambda row: (row.meter, row.rate_usd)).values():
        quantity, amount = _quantity(mine), total(mine)
        if mine[0].meter in names and (quantity or amount):
            start, end = min(row.start for row in mine), max(row.end for row in mine)
            undone.append(
                replace(mine[-1], quantity=-quantity, amount_usd=-amount, start=start, end=end, at=now, id=None)
            )
    return undone


def _seconds(lasted: timedelta) -> Decimal:
    return Decimal(lasted // _MICROSECOND) / 1_000_000


def _billed_seconds(meter: Meter, lasted: timedelta) -> Decimal:
    steps = -(-lasted // timedelta(seconds=meter.granularity_seconds))
    return Decimal(max(steps * meter.granularity_seconds, meter.minimum_seconds))


def _settlement(attempt: Attempt, figures: Sequence[Charge], booked: Sequence[ChargeRow], now: datetime) -> ChargeRow:
    newest = figures[-1]
    quantity = _round(_sum(charge.quantity for charge in figures))
    amount = _round(_sum(charge.usd for charge in figures))
    return ChargeRow(
        run_id=attempt.run_id,
        attempt=attempt.number,
        provider=attempt.provider,
        meter=newest.meter,
        quantity=quantity - _quantity(row for row in booked if row.unit == newest.unit),
        unit=newest.unit,
        rate_usd=newest.usd_per_unit,
        amount_usd=amount - total(booked),
        source=", ".join(dict.fromkeys(charge.source for charge in figures)),
        kind=ChargeKind.SETTLEMENT,
        start=min(charge.start for charge in figures),
        end=max(charge.end for charge in figures),
        at=now,
    )


def _longest(limits: Limits) -> timedelta:
    return limits.max_duration + timedelta(seconds=BOOT_SECONDS + AROUND_JOB_SECONDS)


def _of(attempt: Attempt, rows: Iterable[ChargeRow]) -> list[ChargeRow]:
    return [row for row in rows if (row.run_id, row.attempt) == (attempt.run_id, attempt.number)]


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _quantity(rows: Iterable[ChargeRow]) -> Decimal:
    return _sum(row.quantity for row in rows)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(_ROOMY):
        return sum(amounts, _ZERO)


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(_PLACES)
