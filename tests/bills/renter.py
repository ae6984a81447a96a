"""A controller that rents at a simulated cloud with the real provider, on a clock that only moves when it is told.

Machines are on paper and their jobs are scripts, so that a run of hours takes less than a second. What is real: phases,
store, provider, wire, and both sides of the bill.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from jobs.spec import Spec
from orchestrator.controller import Controller
from orchestrator.home import Home
from orchestrator.reaper import Reaper
from orchestrator.records import Phase, Run
from orchestrator.settlement import Bookkeeper
from orchestrator.store.store import Store
from orchestrator.world import World
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.faults import Fault
from providers.rehearsal.web import Served
from tests.bills import accounts
from tests.fakes.fake_machine import FakeMachine, Script

OWNER = "ada"
STEPS = {Phase.WATCH: 30.0}  # seconds from one look to the next; elsewhere two
LONGEST = 2000  # steps of one run
SETTLING_DAYS = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: how long its job takes, how it ends, and what its cloud does to it."""

    seconds: float
    exit_code: int = 0
    spot: bool = False
    faults: tuple[Fault, ...] = ()
    cancel_after: float | None = None
    moves: tuple[tuple[float, Decimal], ...] = ()  # in so many seconds the market's prices are so many times the usual
    away: tuple[float, float] = (math.inf, 0.0)  # after so many seconds nobody looks for so many


class Renter:
    """One account at one cloud."""

    def __init__(self, cloud: Any, folder: Path) -> None:
        self.cloud, self.clock = cloud, cloud.clock
        self.home = Home(folder)
        self.store = Store.open(self.home.database_url({}), clock=self.clock)
        self.script = Script()
        self._machines: dict[str, FakeMachine] = {}
        self.world = World(store=self.store, home=self.home, env={}, clock=self.clock, connect=self._connect)
        self.world.use(accounts.open_provider(cloud, folder))
        self.controller = Controller(self.world, "bills", lease_seconds=10**6)

    def rent(self, number: int, case: Case) -> Run:
        """One run from its submission to its end."""
        self.script = Script(seconds=case.seconds, exit_code=case.exit_code, facts=accounts.facts(self.cloud.name))
        self.cloud.faults.clear()
        self.cloud.faults.add(*case.faults)
        for seconds, factor in case.moves:
            self.cloud.move_prices(factor, seconds=seconds)
        run_id, began = self._submit(number, case), self.clock()
        away_at, away_for = case.away
        for _ in range(LONGEST):
            while self.controller.tick():
                pass
            run = self.store.run(run_id)
            if run.is_over:
                return run
            age = (self.clock() - began).total_seconds()
            if case.cancel_after is not None and age > case.cancel_after:
                self.store.request_cancel(run_id)
            if age > away_at:
                self.clock.advance(away_for)
                away_at = math.inf
            self.clock.advance(STEPS.get(run.phase, 2.0))
        raise AssertionError(f"run {run_id} does not end: {[event.text for event in self.store.events(run_id)]}")

    def settle(self) -> None:
        """Days in which the bills become final; whatever is left is reaped meanwhile."""
        reaper, bookkeeper = Reaper(self.world, OWNER, [self.cloud.name]), Bookkeeper(self.world)
        self.cloud.faults.clear()
        for _ in range(SETTLING_DAYS * 24):
            self.clock.advance(3600)
            reaper.look_once()
            for _ in range(20):
                while self.controller.tick():
                    pass
                self.clock.advance(5)
            while bookkeeper.settle_due():
                pass

    def _submit(self, number: int, case: Case) -> str:
        run_id = f"r-{number:06d}"
        spec = {
            "name": "job",
            "run": "true",
            "image": "python:3.12",
            "resources": {"gpu": accounts.GPUS[self.cloud.name], "disk": "40GB"},
            "place": {"providers": [self.cloud.name], "spot": "only" if case.spot else "never"},
            "limits": {"max_price_per_hour": "5", "max_cost": "100"},
            "retry": {"attempts": 3},
        }
        now, folder = self.clock(), self.home.run(run_id)
        folder.root.mkdir(parents=True)
        folder.bundle.write_bytes(b"")
        self.store.add_run(
            Run(
                id=run_id,
                name="job",
                owner=OWNER,
                project="bills",
                spec=Spec.model_validate(spec).to_json(),
                created_at=now,
                phase_since=now,
                due_at=now,
                notes={"bundle_digest": "0"},
            )
        )
        return run_id

    def _connect(self, name: str, access: object, folder: object) -> Any:
        if name not in self._machines:
            self._machines[name] = FakeMachine(self.clock, self.script, is_up=lambda: accounts.is_up(self.cloud, name))
        return self._machines[name]


@contextmanager
def renting(name: str, folder: Path) -> Iterator[Renter]:
    cloud = accounts.open_cloud(name, SimulatedClock(speed=0.0))
    with Served(cloud):
        renter = Renter(cloud, folder)
        yield renter
        renter.store.close()


def drawn(dice: random.Random, name: str) -> Case:
    """A case by the dice."""
    spot = name in ("aws", "vast") and dice.random() < 0.5
    seconds = dice.choice((1.0, 45.0, 600.0, 3600.0 * dice.uniform(0.5, 3.0)))
    faults: list[Fault] = []
    chance = dice.random()
    if spot and chance < 0.5:
        faults.append(Fault(kind="preempt", seconds=round(dice.uniform(30, 5000)), notice=dice.choice((0.0, 120.0))))
    elif chance < 0.6:
        faults.append(Fault(kind=dice.choice(("terminate_ignored", "terminate_acknowledged")), seconds=40.0))
    elif chance < 0.7:
        faults.append(Fault(kind="failed_boot", seconds=round(dice.uniform(5, 60))))
    elif chance < 0.8:
        faults.append(Fault(kind="slow_boot", seconds=round(dice.uniform(20, 200))))
    elif chance < 0.9:
        faults.append(Fault(kind=dice.choice(("lost_reply", "error_after")), on="create"))
    else:
        faults.append(Fault(kind="host_dies", seconds=round(dice.uniform(60, 400))))
    return Case(
        seconds=seconds,
        exit_code=dice.choice((0, 0, 0, 1)),
        spot=spot,
        faults=tuple(faults) if dice.random() < 0.7 else (),
        cancel_after=dice.uniform(1, 2000) if dice.random() < 0.15 else None,
        moves=market_moves(dice) if spot and name == "aws" else (),
    )


def market_moves(dice: random.Random, *, most: int = 3) -> tuple[tuple[float, Decimal], ...]:
    """Prices that change within the next hours."""
    moments = sorted(dice.uniform(1, 4 * 3600) for _ in range(dice.randint(0, most)))
    return tuple((seconds, Decimal(dice.choice(("0.6", "0.9", "1.2", "1.4")))) for seconds in moments)
