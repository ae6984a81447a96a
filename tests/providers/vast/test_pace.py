"""How fast the API may be asked."""

from __future__ import annotations

import pytest

from providers.vast.pace import CREATE, DESTROY, LIST, SEARCH, SHOW, SSH, USER, Pace, usual_wait
from tests.fakes.clock import FakeClock

DOCUMENTED = {CREATE: 4.5, DESTROY: 3.0, SHOW: 2.0, LIST: 1.0, SSH: 1.0}


@pytest.mark.parametrize(("call", "seconds"), DOCUMENTED.items())
def test_the_documented_distance_is_kept_between_two_calls(call: str, seconds: float) -> None:
    clock, pace = FakeClock(), Pace()
    assert pace.reserve(call, clock(), 0) == 0
    clock.advance(seconds - 0.1)
    assert 0.1 <= pace.reserve(call, clock(), 0) < 0.5, "a request must not arrive before its turn"
    clock.advance(0.5)
    assert pace.reserve(call, clock(), 0) == 0


def test_endpoints_do_not_wait_for_each_other() -> None:
    clock, pace = FakeClock(), Pace()
    assert [pace.reserve(call, clock(), 0) for call in (*DOCUMENTED, SEARCH, USER)] == [0] * 7


def test_those_who_wait_get_turns_one_after_the_other() -> None:
    clock, pace = FakeClock(), Pace()
    waits = [pace.reserve(LIST, clock(), 10) for _ in range(3)]
    assert waits == [0, pytest.approx(1.2), pytest.approx(2.4)]


def test_who_does_not_want_to_wait_takes_no_turn() -> None:
    clock, pace = FakeClock(), Pace()
    pace.reserve(CREATE, clock(), 0)
    assert pace.reserve(CREATE, clock(), 1.5) == pace.reserve(CREATE, clock(), 1.5) == pytest.approx(4.7)


def test_ten_searches_a_minute() -> None:
    clock, pace = FakeClock(), Pace()
    for _ in range(10):
        assert pace.reserve(SEARCH, clock(), 0) == 0
        clock.advance(1)
    assert pace.reserve(SEARCH, clock(), 0) == pytest.approx(50.2)
    clock.advance(51)
    assert pace.reserve(SEARCH, clock(), 0) == 0


def test_after_a_refusal_nothing_is_sent_for_as_long_as_the_cloud_said() -> None:
    clock, pace = FakeClock(), Pace()
    pace.refused(CREATE, 30, clock())
    pace.refused(CREATE, 5, clock())
    assert pace.reserve(CREATE, clock(), 0) == 30
    assert pace.reserve(LIST, clock(), 0) == 0


def test_who_was_too_early_with_a_create_waits_for_the_penalty() -> None:
    assert usual_wait(CREATE) == 12
    assert usual_wait(DESTROY) == 3
    assert usual_wait(USER) > 0
