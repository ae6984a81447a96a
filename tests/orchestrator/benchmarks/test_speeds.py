"""GPUs beside each other, and what a unit of work costs on each: by what was measured on real ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.benchmarks import speeds
from orchestrator.store.rows import ResultRow

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def a_result(gpu: str | None, task: str, value: float, **changes: Any) -> ResultRow:
    plain: dict[str, Any] = {
        "run_id": f"r-{gpu}-{task}", "metric": "rate", "sweep_id": "b-1", "suite": "night", "task": task,
        "target": "gpu", "provider": "vast", "machine": "", "gpu": gpu, "gpu_count": 1 if gpu else 0,
        "is_simulated": False, "unit": "1/s", "better": "higher", "work": "images", "is_main": True,
        "repeats": [value], "value": value, "usd_per_hour": Decimal(1), "at": NOON, "testbed": {},
    }  # fmt: skip
    return ResultRow(**{**plain, **changes})


TWO = [
    a_result("A", "mnist", 100), a_result("B", "mnist", 200),
    a_result("A", "gpt", 10, better="lower", work=None), a_result("B", "gpt", 1.25, better="lower", work=None),
]  # fmt: skip


def test_speeds_are_over_the_tasks_that_all_have_done() -> None:
    speed = speeds.relative([*TWO, a_result("A", "resnet", 5)])
    a, b = speed("A", 1), speed("B", 1)
    assert a is not None and b is not None
    assert b / a == pytest.approx(4), "twice at one task, eight times at the other"
    assert speed("C", 1) is None and speed("A", 2) is None


def test_one_bad_night_is_not_the_speed_of_a_gpu() -> None:
    nights = [a_result("A", "mnist", value, at=NOON + timedelta(days=day)) for day, value in enumerate([100, 100, 7])]
    speed = speeds.relative([*nights, a_result("B", "mnist", 200)])
    assert (speed("B", 1) or 0) / (speed("A", 1) or 1) == pytest.approx(2)


@pytest.mark.parametrize("rows", [[], TWO[:1], [a_result("A", "x", 1), a_result("B", "y", 2)]])
def test_without_a_task_in_common_nothing_is_known(rows: list[ResultRow]) -> None:
    assert speeds.relative(rows)("A", 1) is None


def test_what_was_simulated_says_nothing() -> None:
    rows = [a_result("A", "mnist", 100), a_result("B", "mnist", 900, is_simulated=True)]
    assert speeds.relative(rows)("B", 1) is None
    assert speeds.rates(rows, "images").keys() == {("A", 1)}


def test_the_price_of_a_unit_of_work() -> None:
    rows = [*TWO, a_result("B", "resnet", 250), a_result("B", "words", 9000, work="tokens")]
    found = speeds.rates(rows, "images")
    assert (found["B", 1].task, found["B", 1].per_second) == ("resnet", 250), "the task that it is fastest at"
    assert found["A", 1].usd_per_work(Decimal("0.36")) == Decimal("0.000001")
    assert speeds.works(rows) == ["images", "tokens"]
