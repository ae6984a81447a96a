"""How fast RunPod is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from providers.runpod.pace import Pace, retry_seconds
from tests.fakes.clock import START


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_without_a_word_of_its_own_the_documented_limit_holds() -> None:
    pace = Pace()
    for second in range(50):
        assert pace.wait(START + at(second / 10), reading=True) == 0
        pace.sent(START + at(second / 10))
    assert pace.wait(START + at(5), reading=True) == pytest.approx(55)
    assert pace.wait(START + at(5), reading=False) == 0, "renting and ending go on"
    assert pace.wait(START + at(60), reading=True) == 0


def test_what_the_answers_say_counts_more() -> None:
    pace = Pace()
    for _ in range(55):
        pace.sent(START)
    pace.heard({"RateLimit": '"minute";r=545;t=12, "hour";r=2800;t=1812'}, START)
    assert pace.wait(START, reading=True) == 0
    pace.heard({"RateLimit": '"minute";r=5;t=12, "hour";r=2800;t=1812'}, START)
    assert pace.wait(START + at(2), reading=True) == pytest.approx(10)
    assert pace.wait(START + at(2), reading=False) == 0, "the last calls of a window are for renting and ending"
    assert pace.wait(START + at(12), reading=True) == 0


def test_after_a_429_nothing_is_sent_until_its_time_has_come() -> None:
    pace = Pace()
    assert pace.refused("12", START) == 12
    for reading in (True, False):
        assert pace.wait(START + at(4), reading=reading) == pytest.approx(8)
        assert pace.wait(START + at(12), reading=reading) == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("12", 12), ("0", 1), ("1.5", 1.5), (None, 5), ("", 5), ("Sat, 21 Nov 2026 12:00:00 GMT", 5), ("1e9", 86400)],
)
def test_retry_after(header: str | None, seconds: float) -> None:
    assert retry_seconds(header) == seconds


def test_a_clock_that_goes_back_does_not_stop_everything() -> None:
    pace = Pace()
    for _ in range(60):
        pace.sent(START + timedelta(days=1))
    assert pace.wait(START, reading=True) == 0
