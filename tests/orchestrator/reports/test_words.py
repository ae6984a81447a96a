"""What a person reads is short, exact enough for money, and cannot command a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.records import Outcome, Phase
from orchestrator.reports import words
from tests.orchestrator.reports.samples import START, attempt, run


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        ("0", "$0.00"),
        ("0.00001", "<$0.0001"),
        ("0.0004", "$0.0004"),
        ("0.0123", "$0.01"),
        ("12.345", "$12.34"),
        ("1234567.891", "$1,234,567.89"),
        ("-0.002", "-$0.0020"),
        ("-3", "-$3.00"),
    ],
)
def test_money(usd: str, said: str) -> None:
    assert words.money(Decimal(usd)) == said


def test_rates_keep_what_they_have() -> None:
    assert words.rate(Decimal("0.3")) == "$0.30/h"
    assert words.rate(Decimal("0.341666"), "GB") == "$0.341666/GB"
    assert words.rate(Decimal(0)) == "$0.00/h"
    assert words.exact(Decimal("-0.1")) == "-$0.1000"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
        (3599.7, "1h 00m"),
        (7620, "2h 07m"),
        (273600, "3d 04h"),
        (-1, "0 s"),
        (float("nan"), "0 s"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "just now"), (-5, "just now"), (59, "59 s ago"), (60, "1m ago"), (7199, "1h ago"), (90000, "1d ago")],
)
def test_ago(seconds: float, said: str) -> None:
    assert words.ago(START, START + timedelta(seconds=seconds)) == said


def test_a_moment_is_in_utc_wherever_it_was_taken() -> None:
    assert words.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-02 01:04:05 UTC"
    assert words.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02 03:04:05 UTC"


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_600, "1.0 MB"), (123_456_789, "123 MB"), (2.5e18, "2500.0 PB")],
)
def test_size(count: float, said: str) -> None:
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3.0, "3"),
        (1234567, "1,234,567"),
        (0.98412345, "0.9841"),
        (1e-9, "1e-09"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
    ],
)
def test_number(value: float, said: str) -> None:
    assert words.number(value) == said


def test_state() -> None:
    assert words.state(run()) == "succeeded"
    assert words.state(run(outcome=Outcome.STOPPED_BY_BUDGET)) == "stopped by budget"
    assert words.state(run(phase=Phase.WATCH, outcome=None)) == "watch"
    assert words.state(run(phase=Phase.WATCH, outcome=None, cancel_requested_at=START)) == "watch (cancelling)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "vast"),
        ({"offer": {"source": "simulated Vast"}}, "vast (simulated)"),
        ({"offer": {"gpu": "Simulated RTX4090"}}, "vast (simulated)"),
        ({"facts": {"gpus": [{"name": "NVIDIA RTX 4090 (simulated)"}]}}, "vast (simulated)"),
        ({"provider": "simulated-vast"}, "simulated-vast"),
        ({"facts": {"gpus": "odd"}}, "vast"),
        ({"facts": None, "offer": {}}, "vast"),
    ],
)
def test_a_simulated_cloud_never_passes_for_a_real_one(changes: dict[str, Any], said: str) -> None:
    assert words.provider(attempt(**changes)) == said


def test_hardware_and_what_was_asked_for() -> None:
    assert words.hardware({"gpu": "H100", "gpu_count": 8}) == "8x H100"
    assert words.hardware({"gpu_count": 0, "vcpus": 1.0}) == "1 CPU"
    assert words.hardware({}) == "CPU"
    choices = [{"name": "RTX4090", "count": 2}, {"name": None, "count": 1, "memory": 24_000_000_000}]
    asked = {"gpu": choices, "cpus": 4.0, "memory": None, "disk": 20_000_000_000}
    assert words.resources(asked) == "2x RTX4090 or 1x any GPU with 24.0 GB, at least 4 CPUs, 20.0 GB disk"
    assert words.resources({}) == "no GPU"
    given = {"max_cost": "10", "max_duration": 86400, "max_price_per_hour": "0.8"}
    assert words.limits(given) == "$10.00 in all, 1d 00h, $0.80/h"


def test_one_line_is_harmless() -> None:
    assert words.one_line("\x1b[31ma\x1b[0m\nb\x07\x9b\u202ec\ud800 ") == "a b   c"
