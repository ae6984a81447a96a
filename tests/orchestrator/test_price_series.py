"""Curves of what was heard: the lowest of all regions, silences as gaps, figures that count time and not rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from orchestrator.price_history import Heard, Kind
from orchestrator.price_series import Series, paid, series
from orchestrator.records import Attempt
from tests.fakes.clock import START
from tests.orchestrator.scene import OFFER


def heard(minutes: float, usd: str | None, region: str = "here", *, spot: bool = False, **facts: bool) -> Heard:
    return Heard(
        provider="vast",
        is_simulated=facts.get("simulated", False),
        kind=Kind(region, "L4", 1, spot),
        at=at(minutes),
        usd_per_hour=None if usd is None else Decimal(usd),
    )


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def told(one: Series) -> list[tuple[float, str | None]]:
    return [
        ((step.at - START) / timedelta(minutes=1), None if step.usd_per_hour is None else str(step.usd_per_hour))
        for step in one.steps
    ]


def test_the_lowest_of_all_regions_at_each_time() -> None:
    rows = [heard(0, "0.30"), heard(0, "0.40", "there"), heard(10, "0.20", "there"), heard(20, "0.50", "there")]
    [one] = series(rows)
    assert told(one) == [(0, "0.30"), (10, "0.20"), (20, "0.30")]


def test_a_region_that_says_nothing_any_more_does_not_count_for_ever() -> None:
    [one] = series(
        [heard(0, "0.10"), heard(0, "0.40", "there"), heard(60, "0.40", "there"), heard(130, "0.40", "there")]
    )
    assert told(one) == [(0, "0.10"), (60, "0.10"), (130, "0.40")]


def test_nothing_left_is_a_gap() -> None:
    [one] = series([heard(0, "0.30"), heard(30, None), heard(50, "0.35")])
    assert told(one) == [(0, "0.30"), (30, None), (50, "0.35")]
    assert [len(piece) for piece in one.pieces()] == [1, 1]


def test_a_long_silence_is_a_gap_and_a_daily_look_is_a_line() -> None:
    day = 24 * 60
    [one] = series([heard(minutes, "0.30") for minutes in (0, day, 2 * day, 4 * day)])
    assert [len(piece) for piece in one.pieces()] == [3, 1]


def test_spot_others_and_simulated_ones_are_curves_of_their_own() -> None:
    rows = [heard(0, "0.30"), heard(0, "0.20", spot=True), heard(0, "0.01", simulated=True)]
    assert [(one.spot, one.is_simulated, one.least) for one in series(rows)] == [
        (True, False, Decimal("0.20")),
        (False, False, Decimal("0.30")),
        (False, True, Decimal("0.01")),
    ]
    assert series([]) == [] == series([heard(0, None)])


def test_figures_count_time_and_not_rows() -> None:
    flicker = [heard(minutes, "0.90" if minutes % 2 else "0.80") for minutes in range(10)]
    [one] = series([*flicker, *(heard(10 + 60 * hour, "0.30") for hour in range(3))])
    assert (one.least, one.most) == (Decimal("0.30"), Decimal("0.90"))
    assert one.median(at(180)) == Decimal("0.30")
    assert one.median(at(10**6)) == Decimal("0.30"), "a silence counts for an hour"


def test_now_is_what_was_heard_lately() -> None:
    [one] = series([heard(0, "0.30")])
    assert one.now(at(119)) == Decimal("0.30") and one.now(at(121)) is None
    [gone] = series([heard(0, "0.30"), heard(5, None)])
    assert gone.now(at(6)) is None


def attempt(number: int, *, began: bool = True, **offer: object) -> Attempt:
    return Attempt(
        run_id="r-1",
        number=number,
        machine=f"m-{number}",
        provider="vast",
        offer={**OFFER, **offer},
        created_at=START,
        usd_per_hour=Decimal("0.36"),
        billing_from=at(-number) if began else None,
    )


def test_what_runs_paid_is_of_the_same_machines_only() -> None:
    attempts = [
        attempt(1, spot=True, region="US"),
        attempt(2, source="simulated: a seed"),
        attempt(3, gpu="L4"),
        attempt(4, gpu_count=2),
        attempt(5, began=False),
    ]
    found = paid(attempts, "RTX4090", 1)
    assert [(one.attempt, one.spot, one.is_simulated, one.region) for one in found] == [
        (2, False, True, ""),
        (1, True, False, "US"),
    ]
    assert {one.usd_per_hour for one in found} == {Decimal("0.36")}
