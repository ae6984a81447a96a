"""What the bill says: every rule of a meter, and that the rows always add up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator import ledger
from orchestrator.records import Attempt, ChargeKind, ChargeRow
from providers.base import Charge, Meter, Runs

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = 3600

COMPUTE = Meter(name="compute", unit="hour", usd_per_unit=Decimal("0.36"), runs=Runs.RUNNING, source="the offer")
# 40 GB for a month of 720 hours at $0.10 per GB-month.
DISK = Meter(name="disk", unit="GB-month", usd_per_unit=Decimal("0.1"), units_per_hour=Decimal(40) / 720)


@dataclass(frozen=True)
class Limits:
    max_cost: Decimal = Decimal(10)
    max_duration: timedelta = timedelta(hours=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def attempt(*meters: Meter, number: int = 1, **times: Any) -> Attempt:
    """An attempt with these meters; `billing_from=0` and the like are seconds after noon."""
    moments: dict[str, Any] = {name: at(seconds) for name, seconds in times.items()}
    return Attempt(
        run_id="r-1",
        number=number,
        machine=f"m-{number}",
        provider="vast",
        offer={},
        created_at=NOON,
        meters=ledger.meters_to_json(meters),
        **moments,
    )


def charge(
    usd: str, *, meter: str = "compute", final: bool = True, quantity: str = "1", source: str = "bill"
) -> Charge:
    return Charge(
        meter=meter,
        quantity=Decimal(quantity),
        unit="hour",
        usd_per_unit=Decimal("0.36"),
        usd=Decimal(usd),
        start=NOON,
        end=at(HOUR),
        source=source,
        final=final,
    )


def amounts(rows: Sequence[ChargeRow]) -> dict[str, Decimal]:
    return ledger.by(rows, "meter")


def test_meters_survive_the_store() -> None:
    meters = (COMPUTE, DISK, replace(COMPUTE, granularity_seconds=60, minimum_seconds=600))
    assert ledger.meters_from_json(ledger.meters_to_json(meters)) == meters


@pytest.mark.parametrize(
    ("meter", "seconds", "expected"),
    [
        ({}, 0, "0"),
        ({}, HOUR, "0.36"),
        ({}, 1, "0.0001"),
        ({}, 0.000001, "0.0001"),  # a second that has begun
        ({"granularity_seconds": 60}, 61, "0.012"),
        ({"granularity_seconds": HOUR}, 1, "0.36"),
        ({"granularity_seconds": HOUR}, HOUR, "0.36"),
        ({"granularity_seconds": HOUR}, HOUR + 1, "0.72"),
        ({"minimum_seconds": 60}, 0, "0.006"),
        ({"minimum_seconds": 60}, 59, "0.006"),
        ({"minimum_seconds": 60}, 61, "0.0061"),
        ({"usd_per_unit": Decimal(0)}, HOUR, "0"),
        ({"usd_per_unit": Decimal(1), "units_per_hour": Decimal(1)}, 1, "0.000277777778"),
    ],
)
def test_time_is_billed_by_the_meters_rules(meter: dict[str, Any], seconds: float, expected: str) -> None:
    (reading,) = ledger.accrued(attempt(replace(COMPUTE, **meter), running_from=0), at(seconds))
    assert reading.usd == Decimal(expected)


def test_a_month_of_disk_costs_what_a_month_costs() -> None:
    (reading,) = ledger.accrued(attempt(DISK, billing_from=0), at(720 * HOUR))
    assert (reading.quantity, reading.usd) == (Decimal(40), Decimal(4))


@pytest.mark.parametrize(
    ("times", "disk", "compute"),
    [
        ({}, None, None),
        ({"billing_from": 0}, (0, 1000), None),  # accepted, not up yet: only what exists is billed
        ({"billing_from": 0, "running_from": 100}, (0, 1000), (100, 1000)),
        ({"billing_from": 0, "running_from": 100, "running_until": 500}, (0, 1000), (100, 500)),
        ({"billing_from": 0, "running_from": 100, "running_until": 500, "gone_at": 600}, (0, 600), (100, 500)),
        ({"billing_from": 0, "running_from": 100, "gone_at": 600}, (0, 600), (100, 600)),  # preempted
        ({"billing_from": 0, "gone_at": 600}, (0, 600), None),  # never booted
        ({"billing_from": 2000, "running_from": 2000}, (2000, 2000), (2000, 2000)),  # the clock went back
    ],
)
def test_when_meters_run(
    times: dict[str, Any], disk: tuple[float, float] | None, compute: tuple[float, float] | None
) -> None:
    readings = ledger.accrued(attempt(DISK, COMPUTE, **times), at(1000))
    spans = {reading.meter.name: (reading.start, reading.end) for reading in readings}
    expected = {"disk": disk, "compute": compute}
    assert spans == {name: (at(span[0]), at(span[1])) for name, span in expected.items() if span}


def test_an_estimate_books_what_came_since_the_last_one() -> None:
    running = attempt(COMPUTE, billing_from=0, running_from=0)
    (first,) = ledger.estimate_rows(running, at(HOUR), [])
    assert (first.start, first.end, first.at) == (NOON, at(HOUR), at(HOUR))
    assert (first.quantity, first.unit, first.rate_usd) == (Decimal(1), "hour", Decimal("0.36"))
    assert (first.amount_usd, first.kind, first.source) == (Decimal("0.36"), ChargeKind.ESTIMATE, "the offer")
    assert ledger.estimate_rows(running, at(HOUR), [first]) == []
    (second,) = ledger.estimate_rows(running, at(HOUR + 100), [first])
    assert (second.start, second.end, second.amount_usd) == (at(HOUR), at(HOUR + 100), Decimal("0.01"))


def test_free_machines_have_hours_too() -> None:
    free = attempt(replace(COMPUTE, usd_per_unit=Decimal(0)), running_from=0)
    (row,) = ledger.estimate_rows(free, at(1800), [])
    assert (row.quantity, row.amount_usd) == (Decimal("0.5"), Decimal(0))


def test_a_meter_that_ended_earlier_than_it_was_read_is_corrected() -> None:
    running = attempt(COMPUTE, running_from=0)
    rows = ledger.estimate_rows(running, at(HOUR), [])
    ended = replace(running, running_until=at(HOUR - 100))
    (correction,) = ledger.estimate_rows(ended, at(HOUR + 60), rows)
    assert correction.amount_usd == Decimal("-0.01")
    assert (correction.start, correction.end) == (at(HOUR - 100), at(HOUR))


def test_another_attempts_rows_do_not_count() -> None:
    first, second = attempt(COMPUTE, running_from=0), attempt(COMPUTE, number=2, running_from=HOUR)
    rows = ledger.estimate_rows(first, at(HOUR), [])
    assert amounts(ledger.estimate_rows(second, at(2 * HOUR), rows)) == {"compute": Decimal("0.36")}


@pytest.mark.parametrize("seed", range(25))
def test_rows_always_add_up_to_what_accrued(seed: int) -> None:
    """Random meters, polled at random moments, with a clock that sometimes goes back and an end learnt late."""
    dice = random.Random(seed)
    machine = attempt(*(_random_meter(dice, name) for name in ("compute", "disk", "address")), billing_from=0)
    rows: list[ChargeRow] = []
    seconds = 0.0
    for _ in range(30):
        seconds = max(0.0, seconds + dice.uniform(-50, 900))
        if dice.random() < 0.2 and machine.running_from is None:
            machine = replace(machine, running_from=at(seconds))
        if dice.random() < 0.1 and machine.running_until is None:
            machine = replace(machine, running_until=at(seconds - dice.uniform(0, 100)))
        if dice.random() < 0.1 and machine.running_until is not None:
            machine = replace(machine, gone_at=at(seconds - dice.uniform(0, 100)))
        rows += ledger.estimate_rows(machine, at(seconds), rows)
        readings = {reading.meter.name: reading for reading in ledger.accrued(machine, at(seconds))}
        assert amounts(rows) == {name: reading.usd for name, reading in readings.items()}
        assert ledger.projected(rows, [machine], at(seconds)) == ledger.total(rows)
        assert all(row.start <= row.end for row in rows)
        assert ledger.estimate_rows(machine, at(seconds), rows) == []


def _random_meter(dice: random.Random, name: str) -> Meter:
    return Meter(
        name=name,
        unit="hour",
        usd_per_unit=Decimal(dice.randrange(1, 10**7)) / 7 / 10**6,
        units_per_hour=Decimal(dice.randrange(1, 1000)) / 720,
        runs=dice.choice(list(Runs)),
        granularity_seconds=dice.choice([1, 60, HOUR]),
        minimum_seconds=dice.choice([1, 60, HOUR]),
    )


def test_settlement_books_the_difference_to_the_clouds_figure() -> None:
    machine = attempt(COMPUTE, running_from=0, gone_at=HOUR)
    rows = ledger.estimate_rows(machine, at(HOUR), [])
    assert not ledger.is_settled(rows)
    (row,) = ledger.settlement_rows(machine, [charge("0.20"), charge("0.21", source="credits")], rows, at(2 * HOUR))
    assert (row.amount_usd, row.quantity, row.kind) == (Decimal("0.05"), Decimal(1), ChargeKind.SETTLEMENT)
    assert row.source == "bill, credits"
    assert ledger.is_settled([*rows, row])
    assert ledger.total([*rows, row]) == Decimal("0.41")


def test_a_figure_that_agrees_is_settled_with_a_zero() -> None:
    machine = attempt(COMPUTE, running_from=0, gone_at=HOUR)
    rows = ledger.estimate_rows(machine, at(HOUR), [])
    (row,) = ledger.settlement_rows(machine, [charge("0.36")], rows, at(2 * HOUR))
    assert (row.amount_usd, row.quantity) == (Decimal(0), Decimal(0))
    assert ledger.is_settled([row])


def test_settling_twice_books_once_and_a_changed_figure_again() -> None:
    machine = attempt(COMPUTE, running_from=0, gone_at=HOUR)
    rows = ledger.estimate_rows(machine, at(HOUR), [])
    for usd, expected in [("0.333333333333333333", 1), ("0.333333333333333333", 0), ("0.40", 1), ("0.40", 0)]:
        new = ledger.settlement_rows(machine, [charge(usd)], rows, at(2 * HOUR))
        rows += new
        assert len(new) == expected
        assert ledger.estimate_rows(machine, at(3 * HOUR), rows) == []
    assert ledger.total(rows) == Decimal("0.40")


def test_a_figure_that_may_change_waits_unless_we_wait_no_longer() -> None:
    machine = attempt(COMPUTE, running_from=0, gone_at=HOUR)
    charges = [charge("0.30"), charge("0.05", final=False)]
    assert ledger.settlement_rows(machine, charges, [], at(HOUR)) == []
    (row,) = ledger.settlement_rows(machine, charges, [], at(HOUR), provisional=True)
    assert row.amount_usd == Decimal("0.35")


def test_what_the_cloud_does_not_mention_stays_as_estimated() -> None:
    machine = attempt(COMPUTE, DISK, billing_from=0, running_from=0, gone_at=720 * HOUR)
    rows = ledger.estimate_rows(machine, at(720 * HOUR), [])
    rows += ledger.settlement_rows(machine, [charge("1"), charge("2", meter="traffic_out")], rows, at(720 * HOUR))
    assert amounts(rows) == {"compute": 1, "disk": 4, "traffic_out": 2}
    assert ledger.settlement_rows(machine, [], rows, at(720 * HOUR)) == []


def test_sums_by_key() -> None:
    rows = ledger.estimate_rows(attempt(COMPUTE, DISK, billing_from=0, running_from=0), at(HOUR), [])
    rows += ledger.estimate_rows(attempt(COMPUTE, number=2, running_from=0), at(HOUR), [])
    disk = Decimal("0.005555555556")
    assert ledger.total(rows) == Decimal("0.72") + disk
    assert ledger.by(rows, "run") == {"r-1": Decimal("0.72") + disk}
    assert ledger.by(rows, "attempt") == {"r-1/1": Decimal("0.36") + disk, "r-1/2": Decimal("0.36")}
    assert ledger.by(rows, "provider") == {"vast": Decimal("0.72") + disk}
    assert ledger.by(rows, lambda row: row.start.date()) == {NOON.date(): Decimal("0.72") + disk}
    assert ledger.total([]) == 0


def test_the_projection_counts_what_is_settled_running_and_to_come() -> None:
    first = attempt(COMPUTE, running_from=0, gone_at=HOUR)
    rows = ledger.estimate_rows(first, at(HOUR), [])
    rows += ledger.settlement_rows(first, [charge("0.30")], rows, at(HOUR))
    second = attempt(COMPUTE, number=2, running_from=HOUR)
    attempts = [first, second]
    assert ledger.projected(rows, attempts, at(HOUR)) == Decimal("0.30")
    assert ledger.projected(rows, attempts, at(2 * HOUR)) == Decimal("0.66")
    assert ledger.projected(rows, attempts, at(2 * HOUR), horizon_seconds=100) == Decimal("0.67")
    assert ledger.projected([], [], NOON, horizon_seconds=HOUR) == 0


@pytest.mark.parametrize(
    ("max_cost", "spent", "rate", "expected"),
    [
        ("5", "0", "1", 5 * HOUR),
        ("5", "4", "0.5", 2 * HOUR),
        ("1", "0", "3", 1200),
        ("0.01", "0", "7", 5.142),  # rounded down
        ("5", "5", "1", 0),
        ("5", "6", "0", 0),
        ("0", "0", "0", 0),
        ("5", "0", "0", float("inf")),
        ("1e9", "0", "1e-30", float("inf")),
    ],
)
def test_when_a_budget_is_reached(max_cost: str, spent: str, rate: str, expected: float) -> None:
    found = ledger.seconds_until(Decimal(max_cost), spent=Decimal(spent), usd_per_hour=Decimal(rate))
    assert found == expected


@pytest.mark.parametrize(
    ("limits", "rate", "spent", "expected"),
    [
        (Limits(), "0", "0", 2 * HOUR),  # free: time only
        (Limits(), "1", "0", 2 * HOUR),
        (Limits(max_cost=Decimal(1)), "1", "0", HOUR),
        (Limits(max_cost=Decimal(1)), "1", "0.75", 900),
        (Limits(max_cost=Decimal(1)), "1", "1", 0),
        (Limits(max_duration=timedelta(minutes=5)), "1", "0", 3900),
    ],
)
def test_a_machines_own_deadline(limits: Limits, rate: str, spent: str, expected: float) -> None:
    assert ledger.deadline_seconds(limits, usd_per_hour=Decimal(rate), spent=Decimal(spent)) == expected


@pytest.mark.parametrize("rate", ["0.01", "0.36", "7", "98.32"])
def test_a_machine_that_lives_to_its_deadline_stays_within_the_budget(rate: str) -> None:
    meter = replace(COMPUTE, usd_per_unit=Decimal(rate), runs=Runs.EXISTS)
    limits = Limits(max_cost=Decimal(2), max_duration=timedelta(hours=24))
    seconds = ledger.deadline_seconds(limits, usd_per_hour=ledger.hourly([meter]), spent=Decimal(0))
    (reading,) = ledger.accrued(attempt(meter, billing_from=0, gone_at=seconds), at(seconds))
    one_second = Decimal(rate) / HOUR
    assert reading.usd <= limits.max_cost + one_second


def test_the_worst_case() -> None:
    assert ledger.worst_case(Limits(), usd_per_hour=Decimal("0.5")) == 1
    assert ledger.worst_case(Limits(), usd_per_hour=Decimal("0.5"), attempts=4) == 4
    assert ledger.worst_case(Limits(), usd_per_hour=Decimal(98)) == 10
    assert ledger.worst_case(Limits(), usd_per_hour=Decimal(0)) == 0
    assert ledger.hourly([COMPUTE, replace(DISK, units_per_hour=Decimal(1))]) == Decimal("0.46")


@pytest.mark.parametrize(
    ("amount", "shown", "written"),
    [
        ("0", "$0.00", "0"),
        ("-0.00", "$0.00", "0"),
        ("0.0123", "$0.0123", "0.0123"),
        ("0.5", "$0.5000", "0.5"),
        ("0.00005", "$0.0001", "0.00005"),
        ("0.000000000001", "<$0.0001", "0.000000000001"),
        ("-0.00001", "-<$0.0001", "-0.00001"),
        ("0.99995", "$1.00", "0.99995"),
        ("1.005", "$1.01", "1.005"),
        ("1234.50", "$1,234.50", "1234.5"),
        ("-2.5", "-$2.50", "-2.5"),
        ("1E+3", "$1,000.00", "1000"),
        ("1E-10", "<$0.0001", "0.0000000001"),
    ],
)
def test_money_as_it_is_shown_and_written(amount: str, shown: str, written: str) -> None:
    assert (ledger.usd(Decimal(amount)), ledger.plain(Decimal(amount))) == (shown, written)
