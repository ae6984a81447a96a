"""The simulated clouds' clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from providers.rehearsal.clock import SimulatedClock


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds on the computer's own monotonic clock; a test moves it."""
    now = [100.0]
    monkeypatch.setattr("providers.rehearsal.clock.time.monotonic", lambda: now[0])
    return now


def test_it_begins_now_in_utc(passed: list[float]) -> None:
    simulated = SimulatedClock()
    assert simulated().utcoffset() == timedelta(0)
    assert abs(simulated() - datetime.now(UTC)) < timedelta(seconds=5)


def test_it_runs_as_fast_as_it_is_told(passed: list[float]) -> None:
    simulated = SimulatedClock(speed=60)
    began = simulated()
    passed[0] += 2
    assert simulated() - began == timedelta(minutes=2)


def test_it_is_pushed_forward_and_never_back(passed: list[float]) -> None:
    simulated = SimulatedClock()
    began = simulated()
    simulated.advance(3600)
    simulated.advance(0.5)
    assert simulated() - began == timedelta(seconds=3600.5)
    with pytest.raises(ValueError, match="forward"):
        simulated.advance(-1)
    assert simulated() - began == timedelta(seconds=3600.5)


def test_it_may_start_at_another_time(passed: list[float]) -> None:
    simulated = SimulatedClock(speed=0, start=datetime(2026, 3, 9, 18, tzinfo=UTC))
    passed[0] += 5
    simulated.advance(60)
    assert simulated() == datetime(2026, 3, 9, 18, 1, tzinfo=UTC)
