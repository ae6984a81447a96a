"""The computer's clock is set, by hand or by the network: no job ends, nothing is billed and no deadline passes by it.

Where else it is tested: due rows of the store in store/test_leases.py (a clock that goes back strands no run), the
agent's deadline in tests/jobs/agent/test_agent_twins.py (a jump of the wall clock neither kills nor spares).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from orchestrator import world
from orchestrator.home import Home
from orchestrator.records import Outcome, Phase
from orchestrator.store.store import Store
from tests.fakes.fake_machine import Script
from tests.orchestrator.living import Living

DAY = timedelta(days=1)


class Wall:
    """The computer's clock, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta(0)
        wall, really = self, time.time

        class Shown(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + wall.ahead

        monkeypatch.setattr(world, "datetime", Shown)
        monkeypatch.setattr(time, "time", lambda: really() + wall.ahead.total_seconds())


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_the_clock_of_a_controller_is_not_moved(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    wall = Wall(monkeypatch)
    clock = world.steady_clock()
    before = clock()
    wall.ahead = jump
    assert timedelta(0) <= clock() - before < timedelta(minutes=1)
    started_after = world.steady_clock()
    assert abs(started_after() - (before + jump)) < timedelta(minutes=1), "the test does set the clock"


def test_it_starts_at_the_time_that_it_is() -> None:
    assert abs(world.steady_clock()() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_job_lives_through_a_jump_of_the_stores_clock_and_costs_the_same(tmp_path: Path, jump: timedelta) -> None:
    """SQLite goes by the computer's clock, so due times and leases jump; the run goes on by the controller's own."""
    living = Living(tmp_path, script=Script(seconds=120))
    ahead = [timedelta(0)]
    living.store.close()
    living.store = Store.open(Home(tmp_path).database_url({}), clock=lambda: living.clock() + ahead[0])
    living.controller = living.new_controller()
    living.submit(limits={"max_duration": "10m", "max_cost": "1"})
    living.until(Phase.WATCH)
    living.seconds(10)
    ahead[0] = jump
    run = living.until_done(limit=300)
    assert (run.outcome, living.outcomes()) == (Outcome.SUCCEEDED, ["succeeded"])
    assert round(living.store.spent(["r-1"])["r-1"], 10) == round(living.cloud.billed(), 10) > 0
    living.store.close()
