"""Workers, leases and a store that does not always answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import controller as controllers
from orchestrator import world
from orchestrator.store.errors import StoreBusy
from tests.orchestrator.bad_days import TWO
from tests.orchestrator.living import Living


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def test_a_run_claimed_while_a_worker_still_holds_it_is_given_back_soon(living: Living) -> None:
    living.submit()
    [lease] = living.controller._claim(1)
    living.store.save(lease, lease.run, due_in=0.0)  # the worker has saved, and is about to let go
    assert living.controller._claim(1) == []
    living.controller._let_go(lease)
    living.controller._postpone_unchanged()
    living.clock.advance(2)
    assert len(living.controller._claim(1)) == 1
    living.controller = living.new_controller()
    living.clock.advance(30)
    living.until_done()


def test_a_controller_lives_on_when_its_store_does_not_answer(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllers, "STORE_PAUSE_SECONDS", 0.0)
    really, failures = living.store.claim, iter([StoreBusy("held"), StoreBusy("held")])

    def claim(*arguments: Any, **named: Any) -> Any:
        if (failure := next(failures, None)) is not None:
            raise failure
        return really(*arguments, **named)

    living.store.claim = claim  # type: ignore[method-assign]
    before = threading.active_count()
    living.controller.serve(threading.Event(), idle_seconds=0.0)
    assert next(failures, None) is None
    assert threading.active_count() == before, "nothing of it lives on"


def test_time_that_this_computer_slept_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = world.steady_clock()
    before = clock()
    really = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: really(which) + 8 * 3600)
    assert clock() - before >= timedelta(hours=8)
