"""The times of a schedule, above all on the days on which the clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"  # 2026: 29 March and 25 October, 8 March and 1 November
CRONS = ("30 2 * * *", "*/15 * * * *", "0 */2 * * *", "0,30 1-3 * * *", "0 2 * * 1-5", "15 1 29 2 *", "*/20 2 * * *")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def of_day(expression: str, tz: str, day: str) -> list[str]:
    """The times from noon to noon, in UTC."""
    start = utc(f"{day}T12:00")
    found = takewhile(lambda moment: moment < start + timedelta(days=1), cron.times(expression, tz, start))
    return [f"{moment:%H:%M}" for moment in found]


@pytest.mark.parametrize(
    ("expression", "tz", "day", "expected"),
    [
        ("0 2 * * *", BERLIN, "2026-07-01", ["00:00"]),
        # The clock goes from 02:00 to 03:00: what had a fixed time comes at the end of the gap, once.
        ("30 2 * * *", BERLIN, "2026-03-28", ["01:00"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07", ["07:00"]),
        ("0,30 2 * * *", BERLIN, "2026-03-28", ["01:00"]),
        ("0 2,3 * * *", NEW_YORK, "2026-03-07", ["07:00"]),
        ("30 1 * * *", BERLIN, "2026-03-28", ["00:30"]),
        # With a star the hours go by, and there is none that is called 2.
        ("*/30 2 * * *", BERLIN, "2026-03-28", []),
        ("*/30 1-3 * * *", BERLIN, "2026-03-28", ["00:00", "00:30", "01:00", "01:30"]),
        # The clock goes from 03:00 back to 02:00 (in New York from 02:00 to 01:00): once, the first time.
        ("30 2 * * *", BERLIN, "2026-10-24", ["00:30"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31", ["05:30"]),
        ("0 3 * * *", BERLIN, "2026-10-24", ["02:00"]),
        # With a star both.
        ("*/30 2 * * *", BERLIN, "2026-10-24", ["00:00", "00:30", "01:00", "01:30"]),
        ("30 * 1 11 *", NEW_YORK, "2026-11-01", [f"{hour:02}:30" for hour in (*range(12, 24), *range(5))]),
    ],
)
def test_days_on_which_the_clock_is_changed(expression: str, tz: str, day: str, expected: list[str]) -> None:
    assert of_day(expression, tz, day) == expected


def test_an_hourly_schedule_has_a_time_in_every_hour_of_the_long_day_and_of_the_short_one() -> None:
    for day in ("2026-10-24", "2026-03-28"):
        assert len(of_day("5 * * * *", BERLIN, day)) == 24


def test_the_time_that_comes_twice_is_not_found_again_from_between_the_two() -> None:
    between = utc("2026-10-25T01:10")  # 02:10 for the second time
    assert cron.next_time("30 2 * * *", BERLIN, between) == utc("2026-10-26T01:30")


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.sampled_from(CRONS),
    st.sampled_from([BERLIN, NEW_YORK, "UTC", "Australia/Lord_Howe"]),
    st.integers(0, 60 * 24 * 365),
)
def test_times_do_not_depend_on_where_one_begins_to_look(expression: str, tz: str, minutes: int) -> None:
    """Controllers that look at different moments agree."""
    moment = utc("2026-01-01T00:00") + timedelta(minutes=minutes)
    earlier = moment - timedelta(hours=30)
    expected = [at for at in islice(cron.times(expression, tz, earlier), 200) if at > moment][:3]
    assert list(islice(cron.times(expression, tz, moment), len(expected))) == expected


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.sampled_from(CRONS), st.sampled_from([BERLIN, NEW_YORK]), st.integers(0, 400), st.integers(0, 60 * 24 * 400))
def test_the_newest_time_is_the_last_one_of_all(expression: str, tz: str, day: int, minutes: int) -> None:
    first = cron.next_time(expression, tz, utc("2026-01-01T00:00") + timedelta(days=day))
    assert first is not None
    until = first + timedelta(minutes=minutes % (60 * 24 * 3) if expression.startswith("*") else minutes)
    passed = [first, *takewhile(lambda at: at <= until, cron.times(expression, tz, first))]
    assert cron.newest(expression, tz, first, until) == passed[-1]


def test_the_newest_time_is_found_however_long_ago_it_was() -> None:
    first = cron.next_time("0 9 1 1,6 *", BERLIN, utc("2025-12-01T00:00"))
    assert first is not None
    assert cron.newest("0 9 1 1,6 *", BERLIN, first, utc("2026-12-24T00:00")) == utc("2026-06-01T07:00")


def test_a_year_of_minutes_is_not_counted_out() -> None:
    first = utc("2026-01-01T00:00")
    newest = cron.newest("* * * * *", BERLIN, first, first + timedelta(days=3650, seconds=30))
    assert newest == first + timedelta(days=3650)


def test_a_delay_is_the_same_for_everybody_and_another_one_each_time() -> None:
    days = [utc("2026-01-01T02:00") + timedelta(days=day) for day in range(200)]
    delays = [cron.jitter("s-1", day, 600) for day in days]
    assert delays == [cron.jitter("s-1", day.astimezone(cron.zone(BERLIN)), 600) for day in days]
    assert all(timedelta(0) <= delay < timedelta(minutes=10) for delay in delays)
    assert len(set(delays)) > 150 and max(delays) > timedelta(minutes=9) and min(delays) < timedelta(minutes=1)
    assert delays != [cron.jitter("s-2", day, 600) for day in days]
    assert cron.jitter("s-1", days[0], 0) == timedelta(0)


@pytest.mark.parametrize(
    "expression", ["", "0 2 * *", "0 0 2 * * *", "60 2 * * *", "0 2 30 2 *", "a b c d e", "@daily"]
)
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"0 2 \* \* \*"):
        next(cron.times(expression, "UTC", utc("2026-01-01T00:00")))


@pytest.mark.parametrize("name", ["Europe/Berln", "CEST+1", "", "/etc/passwd", "../UTC"])
def test_an_unknown_time_zone_is_named_with_what_comes_near(name: str) -> None:
    with pytest.raises(ValueError, match=r"Europe/Berlin|did you mean"):
        cron.zone(name)


def test_the_shortest_step() -> None:
    assert cron.shortest_step("0 2,3 * * *", "UTC", utc("2026-01-01T00:00")) == timedelta(hours=1)
