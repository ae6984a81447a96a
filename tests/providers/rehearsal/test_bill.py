"""The bill that a simulated cloud keeps, by the second and to the cent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.rehearsal.bill import Bill, Line, Rate

BEGAN = datetime(2026, 11, 21, 12, tzinfo=UTC)
COMPUTE = Rate(meter="compute", unit="hour", usd_per_unit=Decimal("3.60"))
ROUNDING = Decimal(10) ** -9
DISK = Rate(meter="disk", unit="GB-month", usd_per_unit=Decimal("0.10"), units_per_hour=Decimal(40) / 720)


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def seconds_of(line: Line, clock: Clock) -> Decimal:
    return round(line.quantity(clock()) * 3600, 9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bill(clock: Clock) -> Bill:
    return Bill(clock)


def test_a_meter_counts_while_it_runs_and_then_no_more(bill: Bill, clock: Clock) -> None:
    bill.open("m", COMPUTE)
    clock.pass_by(1000)
    assert bill.total("m") == Decimal(1) and bill.running() == {"m"}
    bill.close("m")
    clock.pass_by(1000)
    assert bill.total("m") == Decimal(1) and bill.running() == set()


def test_a_begun_second_is_a_second(bill: Bill, clock: Clock) -> None:
    bill.open("m", COMPUTE)
    clock.pass_by(10.000001)
    bill.close("m")
    [line] = bill.lines("m")
    assert seconds_of(line, clock) == 11


@pytest.mark.parametrize(
    ("seconds", "granularity", "minimum", "billed"),
    [(1, 1, 60, 60), (61, 1, 60, 61), (1, 300, 0, 300), (301, 300, 0, 600), (0, 1, 0, 0), (0, 1, 60, 60)],
)
def test_granularity_and_minimum(
    bill: Bill, clock: Clock, seconds: int, granularity: int, minimum: int, billed: int
) -> None:
    rate = Rate(
        meter="compute", unit="hour", usd_per_unit=Decimal(1), granularity_seconds=granularity, minimum_seconds=minimum
    )
    bill.open("m", rate)
    clock.pass_by(seconds)
    bill.close("m")
    assert seconds_of(bill.lines("m")[0], clock) == billed


def test_units_per_hour_make_a_month_of_hours(bill: Bill, clock: Clock) -> None:
    bill.open("m", DISK)
    clock.pass_by(720 * 3600)
    assert round(bill.total("m"), 10) == Decimal("4.00")


def test_a_meter_that_runs_is_not_opened_twice_but_opens_again_after_its_end(bill: Bill, clock: Clock) -> None:
    bill.open("m", COMPUTE)
    bill.open("m", COMPUTE)
    clock.pass_by(10)
    bill.close("m")
    clock.pass_by(100)
    bill.open("m", COMPUTE)
    clock.pass_by(5)
    assert [seconds_of(line, clock) for line in bill.lines("m")] == [10, 5]


def test_only_the_named_meters_of_the_named_machine_end(bill: Bill, clock: Clock) -> None:
    for machine in ("a", "b"):
        bill.open(machine, COMPUTE)
        bill.open(machine, DISK)
    bill.close("a", "compute")
    running = [(line.machine, line.rate.meter) for line in bill.lines() if line.end is None]
    assert running == [("a", "disk"), ("b", "compute"), ("b", "disk")]
    bill.close("b", "no-such-meter")
    assert bill.running() == {"a", "b"}


def test_what_time_brought_about_has_its_own_time(bill: Bill, clock: Clock) -> None:
    clock.pass_by(100)
    bill.open("m", COMPUTE, BEGAN + timedelta(seconds=40))
    bill.close("m", at=BEGAN + timedelta(seconds=50))
    assert seconds_of(bill.lines("m")[0], clock) == 10
    bill.open("m", COMPUTE)
    bill.close("m", at=BEGAN)
    assert bill.lines("m")[1].quantity(clock()) == 0, "an end before the start is the start"


def test_what_is_counted_does_not_grow(bill: Bill, clock: Clock) -> None:
    traffic = Rate(meter="traffic_out", unit="GB", usd_per_unit=Decimal("0.09"))
    bill.count("m", traffic, Decimal("2.5"), BEGAN, BEGAN)
    clock.pass_by(3600)
    assert bill.total() == Decimal("0.225") and bill.running() == set()


def test_forgiven_time_costs_nothing_and_the_rest_stays(bill: Bill, clock: Clock) -> None:
    bill.open("m", COMPUTE)
    bill.open("m", DISK)
    clock.pass_by(3600)
    disk = bill.total("m") - Decimal("3.60")
    bill.forgive("m", "compute")
    assert abs(bill.total("m") - disk) < ROUNDING < disk
    assert bill.running() == {"m"}, "the disk goes on"
