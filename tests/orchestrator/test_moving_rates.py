"""A rate that moves while a machine runs: what is booked, when its cloud is asked, what it may cost at most."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator import ledger
from orchestrator.budgets import month_starts
from orchestrator.records import Attempt, ChargeRow, Outcome, Phase
from orchestrator.settlement import Bookkeeper
from orchestrator.store.rows import BudgetRow
from providers.base import Meter, Rate, Runs
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import Outage, offer
from tests.orchestrator.living import Living
from tests.orchestrator.test_ledger import COMPUTE, HOUR, at, attempt

SPOT = replace(COMPUTE, moves=True, source="at launch")


def rate(seconds: float, usd: str | Decimal) -> Rate:
    return Rate(since=at(seconds), usd_per_unit=Decimal(usd), source="history")


def moved(*rates: Rate, meter: Meter = SPOT, **times: Any) -> Attempt:
    return attempt(replace(meter, changes=rates), **{"running_from": 0, **times})


def figures(rows: Sequence[ChargeRow]) -> list[tuple[float, float, str, str]]:
    """(from and to in hours after noon, rate, amount) of every row."""
    return [
        (
            (row.start - at(0)) / timedelta(hours=1),
            (row.end - at(0)) / timedelta(hours=1),
            ledger.plain(row.rate_usd),
            ledger.plain(row.amount_usd),
        )
        for row in rows
    ]


def test_every_rate_is_an_interval_of_its_own() -> None:
    machine = moved(rate(HOUR, "0.5"), rate(2 * HOUR, "0.5"), rate(3 * HOUR, "0.36"))
    rows = ledger.estimate_rows(machine, at(4 * HOUR), [])
    assert figures(rows) == [(0, 1, "0.36", "0.36"), (1, 3, "0.5", "1"), (3, 4, "0.36", "0.36")]
    assert [row.source for row in rows] == ["at launch", "history", "history"]
    assert figures(ledger.estimate_rows(machine, at(5 * HOUR), rows)) == [(4, 5, "0.36", "0.36")]


def test_what_was_booked_at_a_rate_that_was_over_is_taken_back() -> None:
    """Nobody looked for hours, and the estimate had gone on at the last rate that was known."""
    rows = ledger.estimate_rows(moved(), at(2.5 * HOUR), [])
    learnt = moved(rate(HOUR, "0.5"), rate(2 * HOUR, "0.36"))
    late = ledger.estimate_rows(learnt, at(3 * HOUR), rows)
    assert figures(late) == [(1, 2.5, "0.36", "-0.54"), (1, 2, "0.5", "0.5"), (2, 3, "0.36", "0.36")]
    assert ledger.total([*rows, *late]) == Decimal("1.22")
    assert ledger.estimate_rows(learnt, at(3 * HOUR), [*rows, *late]) == []


def test_a_first_rate_that_was_never_so_is_taken_back_whole() -> None:
    rows = ledger.estimate_rows(moved(), at(HOUR), [])
    late = ledger.estimate_rows(moved(rate(0, "0.4")), at(HOUR), rows)
    assert figures(late) == [(0, 1, "0.36", "-0.36"), (0, 1, "0.4", "0.4")]
    assert ledger.estimate_rows(moved(rate(0, "0.4")), at(HOUR), [*rows, *late]) == []


def test_a_change_after_the_end_of_a_meter_is_none() -> None:
    ended = moved(rate(2 * HOUR, "9"), running_until=HOUR)
    assert figures(ledger.estimate_rows(ended, at(5 * HOUR), [])) == [(0, 1, "0.36", "0.36")]


@pytest.mark.parametrize(
    ("rule", "lasted", "expected"),
    [
        ({"granularity_seconds": HOUR}, 1.25, [0.5, 1.5]),  # what rounding adds is at the rate of then
        ({"minimum_seconds": 2 * HOUR}, 1.25, [0.5, 1.5]),
        ({"minimum_seconds": 2 * HOUR}, 0.25, [2.0]),  # the change never came
        ({"granularity_seconds": HOUR}, 0.5, [1.0]),
    ],
)
def test_what_is_billed_beyond_the_time_is_at_the_last_rate(
    rule: dict[str, int], lasted: float, expected: list[float]
) -> None:
    machine = moved(rate(HOUR / 2, "0.5"), meter=replace(SPOT, **rule))  # type: ignore[arg-type]
    assert [float(part.quantity) for part in ledger.accrued(machine, at(lasted * HOUR))] == expected


def test_the_projection_goes_on_at_the_newest_rate() -> None:
    machine = moved(rate(HOUR, "0.72"))
    assert ledger.projected([], [machine], at(HOUR)) == Decimal("0.36")
    assert ledger.projected([], [machine], at(HOUR), horizon_seconds=HOUR) == Decimal("1.08")
    assert ledger.hourly(ledger.meters_from_json(machine.meters)) == Decimal("0.72")
    machine.usd_per_hour = Decimal("0.40")  # as the cloud says it: with something else in it
    assert ledger.usd_per_hour(machine) == Decimal("0.76")


def test_meters_that_moved_survive_the_store_and_old_ones_are_read() -> None:
    meters = (replace(SPOT, changes=(rate(HOUR, "0.5"), rate(HOUR + 0.25, "0.123456789"))), COMPUTE)
    written = ledger.meters_to_json(meters)
    assert ledger.meters_from_json(written) == meters
    assert "moves" not in written[1] and "changes" not in written[1]  # as every row of an older version


def a_meter(dice: random.Random) -> Meter:
    return Meter(
        name="compute",
        unit="hour",
        usd_per_unit=Decimal(dice.randrange(1, 10**7)) / 7 / 10**6,
        units_per_hour=Decimal(dice.randrange(1, 1000)) / 720,
        runs=Runs.RUNNING,
        granularity_seconds=dice.choice([1, 60, HOUR]),
        minimum_seconds=dice.choice([1, 60, HOUR]),
        moves=True,
    )


@pytest.mark.parametrize("seed", range(25))
def test_rounding_is_of_the_whole_time_however_often_the_rate_changes(seed: int) -> None:
    dice = random.Random(seed)
    meter, lasted = a_meter(dice), dice.uniform(0, 5 * HOUR)
    moments = sorted(dice.uniform(0, 1.2 * lasted) for _ in range(dice.randrange(8)))
    [whole] = ledger.accrued(moved(meter=meter), at(lasted))
    usd = [Decimal(dice.randrange(1, 10**6)) / 10**6 for _ in moments]
    parts = ledger.accrued(moved(*map(rate, moments, usd), meter=meter), at(lasted))
    assert sum(part.quantity for part in parts) == whole.quantity
    assert [one.end for one in parts[:-1]] == [other.start for other in parts[1:]]
    rates = [part.rate.usd_per_unit for part in parts]
    cost, rounding = sum(part.usd for part in parts), Decimal("1e-11")
    assert min(rates) * whole.quantity - rounding <= cost <= max(rates) * whole.quantity + rounding
    # A rate that differs by nothing that is ever billed: many intervals, and the sum of one meter to the last digit.
    hardly = [meter.usd_per_unit + Decimal(number % 2) * Decimal("1e-20") for number in range(1, len(moments) + 1)]
    same = ledger.accrued(moved(*map(rate, moments, hardly), meter=meter), at(lasted))
    assert sum(part.usd for part in same) == whole.usd
    assert len(same) == 1 + sum(moment < lasted for moment in moments)


@pytest.mark.parametrize("seed", range(25))
def test_however_late_rates_are_learnt_the_rows_add_up_to_them(seed: int) -> None:
    dice = random.Random(seed)
    meter, end = a_meter(dice), dice.uniform(HOUR, 8 * HOUR)
    truth = [rate(hour * HOUR, dice.choice(["0.2", "0.3", "0.4"])) for hour in range(dice.randrange(1, 8))]
    rows: list[ChargeRow] = []
    machine = moved(meter=meter)
    for seconds in sorted(dice.uniform(0, end) for _ in range(10)):
        if dice.random() < 0.4:
            machine = moved(*(each for each in truth if each.since <= at(seconds)), meter=meter)
        rows += ledger.estimate_rows(machine, at(seconds), rows)
        assert ledger.total(rows) == sum(reading.usd for reading in ledger.accrued(machine, at(seconds)))
    machine = replace(moved(*truth, meter=meter), running_until=at(end - dice.uniform(0, 100)))
    rows += ledger.estimate_rows(machine, at(end), rows)
    readings = ledger.accrued(machine, at(end))
    for usd in {row.rate_usd for row in rows}:
        here = [reading for reading in readings if reading.rate.usd_per_unit == usd]
        assert sum(row.quantity for row in rows if row.rate_usd == usd) == sum(one.quantity for one in here)
    assert ledger.total(rows) == sum(reading.usd for reading in readings)
    assert all(row.start <= row.end for row in rows)
    assert ledger.estimate_rows(machine, at(end), rows) == []


MARKET = offer("spot", usd_per_hour="0.36", spot=True, most_usd_per_hour=Decimal("3.6"))
ENDLESS = Script(seconds=math.inf)
PLENTY = {"max_cost": "10", "max_duration": "100h"}


def living_at(root: Path, script: Script = ENDLESS) -> Living:
    living = Living(root, offers=[MARKET], script=script)
    living.cloud.meter_runs = Runs.RUNNING
    return living


def asks(living: Living, *prices: tuple[float, str]) -> None:
    """The cloud's rates, from so many seconds after now on."""
    now = living.clock()
    living.cloud.prices = [
        Rate(since=now + timedelta(seconds=after), usd_per_unit=Decimal(usd), source="market") for after, usd in prices
    ]


def submit(living: Living, **limits: str) -> None:
    living.submit(place={"providers": ["memory"], "spot": "allow"}, limits={**PLENTY, **limits})


def test_a_run_books_and_tells_what_its_cloud_asks_by_now(tmp_path: Path) -> None:
    living = living_at(tmp_path, Script(seconds=3 * HOUR))
    submit(living)
    asks(living, (0, "0.36"), (HOUR, "0.72"), (2 * HOUR, "0.18"))
    living.until(Phase.WATCH)
    living.seconds(3.2 * HOUR, step=20)
    assert living.run().outcome is Outcome.SUCCEEDED
    told = [event.text for event in living.events() if event.kind == "machine" and "asks" in event.text]
    assert told == [
        "memory asks $0.72/h for the machine, $0.36/h before",
        "memory asks $0.18/h for the machine, $0.72/h before",
    ]
    rows = [row for row in living.store.charges() if row.kind.value == "estimate"]
    hours = {usd: sum(row.quantity for row in rows if row.rate_usd == Decimal(usd)) for usd in ("0.36", "0.72", "0.18")}
    assert [round(float(each), 1) for each in hours.values()] == [1.0, 1.0, 1.0]
    assert living.cloud.calls["rates"] <= 3 * 6 + 3, "asked every ten minutes, and at the end"
    [newest] = living.attempts()
    assert (newest.usd_per_hour, ledger.usd_per_hour(newest)) == (Decimal("0.36"), Decimal("0.18"))


def test_hours_in_which_nobody_looked_are_booked_at_their_rates(tmp_path: Path) -> None:
    living = living_at(tmp_path, Script(seconds=60))
    submit(living)
    asks(living, (0, "0.36"), (HOUR, "0.72"), (2 * HOUR, "0.18"))
    living.until(Phase.WATCH)
    living.clock.advance(4 * HOUR)
    living.until_done()
    rows = [row for row in living.store.charges() if row.kind.value == "estimate"]
    assert [round(float(row.quantity), 2) for row in rows] == pytest.approx([1, 1, 2], abs=0.02)
    assert all(one.end == other.start for one, other in pairwise(rows))


def test_a_rate_that_rises_ends_a_run_before_its_budget_is_passed(tmp_path: Path) -> None:
    living = living_at(tmp_path)
    submit(living, max_cost="1.08")
    asks(living, (0, "0.36"), (HOUR, "0.36"), (HOUR + 1, "1.44"))
    living.until_done(limit=3 * HOUR)
    assert living.run().outcome is Outcome.STOPPED_BY_BUDGET
    estimate = sum(row.amount_usd for row in living.store.charges() if row.kind.value == "estimate")
    assert Decimal("1.0") < estimate <= Decimal("1.08")


@pytest.mark.parametrize(
    ("limits", "most", "hours"),
    [
        ({"max_duration": "1h"}, "3.6", 2),  # with an hour around the job: there is money for all of it
        ({"max_duration": "3h"}, "2.5", 4),  # at so much the money lasts for all of it
        ({"max_duration": "3h", "max_price_per_hour": "1.8"}, "1.8", 4),
        ({"max_duration": "100h"}, "0.45", 10 / 0.45),  # room for a quarter more, and an earlier end for it
        ({"max_duration": "100h", "max_price_per_hour": "0.4"}, "0.4", 25),
    ],
)
def test_a_machine_whose_rate_moves_ends_itself_within_the_budget_at_the_worst(
    tmp_path: Path, limits: dict[str, str], most: str, hours: float
) -> None:
    living = living_at(tmp_path)
    submit(living, **limits)
    living.until(Phase.WATCH)
    [made] = living.cloud._machines.values()
    assert made.request.max_usd_per_hour == Decimal(most), "the cloud enforces what the deadline counts on"
    lives = (made.request.deadline - made.created_at).total_seconds()
    assert lives / HOUR == pytest.approx(hours, abs=0.01) and lives / HOUR * float(most) <= 10.001


def test_what_is_set_aside_of_a_budget_is_enough_at_the_worst_rate(tmp_path: Path) -> None:
    living = living_at(tmp_path)
    now = living.clock()
    living.store.accounts.set_budget(
        BudgetRow(project="", monthly_usd=Decimal(4), soft_usd=None, set_at=now), month_starts(now)
    )
    submit(living, max_duration="1h")
    living.until(Phase.WATCH)
    [made] = living.cloud._machines.values()
    lives = (made.request.deadline - made.created_at).total_seconds() / HOUR
    assert made.request.max_usd_per_hour == Decimal("3.6")
    assert lives * 3.6 <= 4.001


def test_a_rate_above_the_cap_is_a_warning(tmp_path: Path) -> None:
    living = living_at(tmp_path)
    submit(living, max_price_per_hour="0.5")
    asks(living, (0, "0.36"), (60, "0.6"))
    living.until(Phase.WATCH)
    living.seconds(900, step=5)
    [warning] = [event.text for event in living.events() if event.kind == "warning"]
    assert warning.startswith("memory asks $0.60/h for the machine, $0.36/h before: above limits.max_price_per_hour")


def test_rates_that_the_cloud_did_not_say_at_the_end_are_booked_when_it_does(tmp_path: Path) -> None:
    living = living_at(tmp_path, Script(seconds=2 * HOUR))
    submit(living)
    asks(living, (0, "0.36"), (HOUR, "0.72"))
    living.cloud.faults.outages.append(Outage(60, 4 * HOUR, ("rates", "charges")))
    living.until(Phase.WATCH)
    living.seconds(2.2 * HOUR, step=20)
    assert living.run().outcome is Outcome.SUCCEEDED
    assert len([word for word in living.words() if "does not say what the machine costs" in word]) == 1
    booked = ledger.total(living.store.charges())
    assert booked == pytest.approx(Decimal("0.72"), abs=Decimal("0.02")), "at the last rate that was known"
    living.clock.advance(3 * HOUR)
    living.cloud.charges = lambda instance, since: ()  # type: ignore[method-assign]
    bookkeeper = Bookkeeper(living.controller.world)
    for _ in range(2):
        assert bookkeeper.settle_due() == 1
        assert ledger.total(living.store.charges()) == pytest.approx(Decimal("1.08"), abs=Decimal("0.02"))
        living.clock.advance(3 * HOUR)
