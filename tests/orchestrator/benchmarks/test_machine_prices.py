"""What a kind of machine costs from night to night: one series, however many tasks run there, and told once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.benchmarks import keeping, series
from orchestrator.home import Home
from orchestrator.records import Run
from orchestrator.store.store import Store
from tests.orchestrator.store.examples import a_run, an_attempt

BEGAN = datetime(2026, 3, 10, 1, tzinfo=UTC)
JUMP = 21  # the first night in which all is dearer
TASKS = {"train": Decimal("0.00"), "infer": Decimal("0.01")}  # the second one gets the second cheapest machine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(Home(tmp_path).database_url({}), clock=lambda: BEGAN)
    yield opened
    opened.close()


def month(store: Store, tmp_path: Path) -> list[str]:
    """Thirty nights of two tasks, a minute after each other; what is said of them."""
    said: list[str] = []
    for night in range(1, 31):
        for minute, (task, more) in enumerate(TASKS.items()):
            run = one_run(night, task)
            store.add_run(run)
            price = (Decimal("0.11") if night < JUMP else Decimal("0.154")) + more
            offer = {"gpu": "RTX3090", "gpu_count": 1, "region": "SE"}
            attempt = an_attempt(run.id, provider="vast", offer=offer, usd_per_hour=price)
            at = BEGAN + timedelta(days=night, minutes=minute)
            said += keeping.keep(store, run, attempt, Home(tmp_path).run(run.id), False, at)
    return said


def one_run(night: int, task: str) -> Run:
    place = {"id": f"b-{night}", "suite": "nightly", "task": task, "target": "rtx3090"}
    notes = {"sweep": {**place, "warmup": 1, "repeats": 1, "measure": {}, "commit": None}, "bundle_digest": "0"}
    return a_run(f"r-{night}-{task}", notes=notes)


def test_a_price_that_jumps_is_told_once_and_not_for_every_task(store: Store, tmp_path: Path) -> None:
    said = [text for text in month(store, tmp_path) if "usd_per_hour" in text]
    assert said == ["usd_per_hour on vast RTX3090: 0.11 -> 0.154 $/h (+40.0 %, worse) since r-21-train"]
    [change] = store.benchmarks.changes("nightly")
    assert change.series == "nightly/rtx3090/usd_per_hour/vast//RTX3090:1"
    assert (change.run_id, change.noticed_by) == ("r-21-train", "r-23-train")
    [one] = series.of(store.benchmarks.results()).values()
    assert one.values == [0.11] * 20 + [0.154] * 10, "one for each night, of the job that was over first"


def test_what_each_task_paid_is_kept_all_the_same(store: Store, tmp_path: Path) -> None:
    month(store, tmp_path)
    kept = store.benchmarks.results(task="infer", metric="usd_per_hour")
    assert [row.value for row in kept] == [0.12] * 20 + [0.164] * 10
    assert store.benchmarks.results(metric="wall_seconds") == []
