"""What a kind of machine costs from night to night: one series, however many tasks run there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orchestrator.benchmarks import series
from orchestrator.benchmarks.results import USD_PER_HOUR
from orchestrator.store.rows import ResultRow

BEGAN = datetime(2026, 3, 10, 1, tzinfo=UTC)


def result(night: int, task: str, metric: str, value: float) -> ResultRow:
    """Of two tasks in each night, a minute after each other."""
    return ResultRow(
        run_id=f"r-{night}-{task}",
        metric=metric,
        sweep_id=f"b-{night}",
        suite="nightly",
        task=task,
        target="rtx3090",
        provider="vast",
        machine="",
        gpu="RTX3090",
        gpu_count=1,
        is_simulated=False,
        unit="",
        better="lower",
        work=None,
        is_main=metric != USD_PER_HOUR,
        repeats=[value],
        value=value,
        usd_per_hour=Decimal("0.11"),
        at=BEGAN + timedelta(days=night, minutes=task == "infer"),
        testbed={},
    )


def month(metric: str) -> list[ResultRow]:
    """A figure that goes up on the 21st night; of the other task it is a little higher."""
    return [
        result(night, task, metric, (0.11 if night < 21 else 0.154) + more)
        for night in range(1, 31)
        for task, more in (("train", 0.0), ("infer", 0.01))
    ]


def test_a_price_that_jumps_is_told_once_and_not_for_every_task() -> None:
    [(name, one)] = series.of(month(USD_PER_HOUR)).items()
    assert name == "nightly/rtx3090/usd_per_hour/vast//RTX3090:1"
    assert one.name == "usd_per_hour on vast RTX3090"
    assert one.values == [0.11] * 20 + [0.154] * 10, "one for each night, of the job that was over first"
    [change] = series.changes(one, BEGAN)
    assert (change.run_id, change.noticed_by) == ("r-21-train", "r-23-train")


def test_what_tasks_measure_is_never_thrown_together() -> None:
    found = series.of(month("seconds"))
    assert list(found) == [
        "nightly/train/rtx3090/seconds/vast//RTX3090:1",
        "nightly/infer/rtx3090/seconds/vast//RTX3090:1",
    ]
    assert [one.name for one in found.values()] == ["train seconds on vast RTX3090", "infer seconds on vast RTX3090"]
    assert [len(one.rows) for one in found.values()] == [30, 30]
