"""A home with a nightly suite, a controller, and accounts at three simulated clouds, on a clock that is moved by hand.

What is real: the command that adds the schedule, its times, the suite, git, phases, store, providers, wire, and both
sides of the bills. Machines are on paper and their jobs are scripts. What befalls a month is its Plan; what is to come
of it is the test's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator import placement, schedules
from orchestrator.cli import main
from orchestrator.cli.session import Session
from orchestrator.controller import Controller
from orchestrator.home import Home, RunFolder
from orchestrator.reaper import Reaper
from orchestrator.records import Phase, Run
from orchestrator.settlement import Bookkeeper
from orchestrator.store import store as stores
from orchestrator.store.rows import ChangeRow, FiringRow, ScheduleRow
from orchestrator.store.store import Store
from orchestrator.world import World
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.faults import Fault
from providers.rehearsal.web import Served
from tests.bills import accounts
from tests.fakes.fake_machine import FakeMachine
from tests.month.measured import SUITE, Measurement, script

OWNER = "ada"
NIGHTS = 30
FIRST_EVENING = datetime(2026, 3, 9, 22, tzinfo=UTC)  # of the night to the 10th; on the 29th the clock goes forward
CRON, ZONE = "0 2 * * *", "Europe/Berlin"
SETTLING_DAYS = 4

_LOOK = 2.0  # seconds from one look to the next
_LOOK_AT_JOBS = 30.0  # while nothing is done but to wait for jobs
_QUIET = 3600.0  # at most, while there is nothing to do
_BUSY = 600.0  # real seconds that a quote may take: a computer with much to do is no silent cloud
_WAITING = (Phase.WATCH, Phase.QUOTE)
_RENTED = {"aws": "t4", "runpod": "rtx4090", "vast": "rtx3090"}  # the suite's targets
_WHO = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What befalls a month, and in which of its nights; the first one is 1."""

    seed: str
    preemption: int = 9  # of the first machine at Vast.ai
    outage: int = 12  # of RunPod, all night
    regression: int = 17  # of one task on one kind of machine, by a new commit
    task: str = "train"
    target: str = "t4"
    speed: float = 0.88  # of what it was
    price_jump: int = 21  # of Vast.ai's GPU
    dearer: Decimal = Decimal("1.4")
    noticed_within: int = 4  # nights, the first of the new level included
    put_off_by: int = 0  # nights by which the noise may move the place of a step


class Month:
    """One month of an account at each cloud. `live` once, then look."""

    def __init__(self, plan: Plan, folder: Path, clouds: dict[str, Any], clock: SimulatedClock) -> None:
        self.plan, self.clouds, self.clock = plan, clouds, clock
        self.home = Home(folder / "home")
        self.suite = folder / "nightly" / "suite.yaml"
        self.store = Store.open(self.home.database_url({}), clock=clock)
        self.commits: list[str] = []
        self.known: dict[int, Sequence[ChangeRow]] = {}  # the changes that are known on the morning after each night
        self.gates: dict[int, int] = {}  # what `gpujob bench gate` says of each night: its exit code
        self._env = {key: value for cloud in clouds.values() for key, value in cloud.environment().items()}
        self._env |= {"GPUJOB_OWNER": OWNER}
        self._world = World(store=self.store, home=self.home, env=self._env, clock=clock, connect=self._connect)
        self._world.use(*(accounts.open_provider(cloud, self.home.root) for cloud in clouds.values()))
        self._controller = Controller(self._world, "month", lease_seconds=10**6)
        self._reaper = Reaper(self._world, OWNER, list(clouds))
        self._bookkeeper = Bookkeeper(self._world)
        self._machines: dict[str, FakeMachine] = {}

    def live(self) -> None:
        """The schedule is added, its nights go by, it is paused, and the bills become final."""
        self._commit(SUITE, "Measure every night")
        assert self._gpujob("schedule", "add", str(self.suite), "--cron", CRON, "--tz", ZONE) == 0
        for night in range(1, NIGHTS + 1):
            evening = FIRST_EVENING + timedelta(days=night - 1)
            self._until(evening)
            self._befall(night)
            self._until(evening + timedelta(hours=12))
            self._look_in_the_morning(night)
            self._reaper.look_once()
        assert self._gpujob("schedule", "pause", "nightly") == 0
        self._until(self.clock() + timedelta(days=SETTLING_DAYS))

    @property
    def schedule(self) -> ScheduleRow:
        [row] = self.store.timetable.schedules()
        return row

    @property
    def firings(self) -> list[FiringRow]:
        """The oldest first."""
        return self.store.timetable.firings(self.schedule.id, limit=1000)[::-1]

    def runs(self, night: int, provider: str = "") -> list[Run]:
        """Of a night, in the order of their cells; of one cloud only when it is named."""
        cells = self.store.benchmarks.cells(self.firings[night - 1].sweep_id or "")
        return [self.store.run(cell.run_id) for cell in cells if provider in ("", cell.provider)]

    def night_of(self, run_id: str) -> int:
        planned_at = datetime.fromisoformat(self.store.run(run_id).notes["schedule"]["planned_at"])
        return (planned_at - FIRST_EVENING).days + 1

    def words(self, run: Run) -> list[str]:
        return [event.text for event in self.store.events(run.id)]

    def _look_in_the_morning(self, night: int) -> None:
        """What is asked after every night."""
        self.known[night] = self.store.benchmarks.changes("nightly")
        self.gates[night] = self._gpujob("bench", "gate", "nightly")

    def _befall(self, night: int) -> None:
        plan = self.plan
        if night == plan.preemption:
            self.clouds["vast"].faults.add(Fault(kind="preempt", seconds=200.0))
        if night == plan.outage:
            self.clouds["runpod"].faults.add(Fault(kind="outage", seconds=10 * 3600.0))
        if night == plan.regression:
            self._commit(f"{SUITE}env: {{FUSED: '0'}}\n", "Do without the fused kernels")
        if night == plan.price_jump:
            for host in _market_of_one_price(self.clouds["vast"]):
                host.min_bid_per_gpu *= plan.dearer

    def _until(self, moment: datetime) -> None:
        """What a controller does in that time: schedules, runs, bills, and a look at what the clouds hold."""
        while (now := self.clock()) < moment:
            schedules.fire_due(self._world)
            while self._controller.tick():
                pass
            active = self.store.runs(active=True)
            if active:
                pause = _LOOK_AT_JOBS if all(run.phase in _WAITING for run in active) else _LOOK
            else:
                while self._bookkeeper.settle_due():
                    pass
                due_at = self.schedule.due_at or moment
                pause = min(_QUIET, max(0.0, (due_at - now).total_seconds()))
            self.clock.advance(min(pause, (moment - now).total_seconds()))

    def _commit(self, suite: str, message: str) -> None:
        folder = self.suite.parent
        if not folder.exists():
            folder.mkdir(parents=True)
            _git(folder, "init", "-q")
        self.suite.write_text(suite)
        _git(folder, "add", ".")
        _git(folder, "commit", "-q", "-m", message)
        self.commits.append(_git(folder, "rev-parse", "--short=12", "HEAD"))

    def _gpujob(self, *arguments: str) -> int:
        """As a person types it; the command opens the store by itself, and its time is the month's."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stores, "_utc_now", self.clock)
            return main(arguments, session=Session(self.home, self._env, ensure_running=lambda *_: None))

    def _connect(self, name: str, access: object, folder: RunFolder) -> Any:
        if name not in self._machines:
            self._machines[name] = self._machine(name, self.store.run(folder.root.name))
        return self._machines[name]

    def _machine(self, name: str, run: Run) -> FakeMachine:
        place, plan, night = run.notes["sweep"], self.plan, self.night_of(run.id)
        what = Measurement(plan.seed, night, place["task"], place["target"])
        is_slow = night >= plan.regression and (what.task, what.target) == (plan.task, plan.target)
        cloud = next(cloud for cloud in self.clouds.values() if _RENTED[cloud.name] == what.target)
        job = script(
            what,
            began=self.clock().timestamp(),
            speed=plan.speed if is_slow else 1.0,
            facts={**accounts.facts(cloud.name), "cpu_model": "EPYC"},
        )
        return FakeMachine(self.clock, job, is_up=lambda: accounts.is_up(cloud, name))


@contextmanager
def a_month(plan: Plan, folder: Path) -> Iterator[Month]:
    """Not lived yet."""
    clock = SimulatedClock(speed=0.0, start=FIRST_EVENING - timedelta(hours=4))
    clouds = {name: accounts.open_cloud(name, clock) for name in _RENTED}
    for host in _market_of_one_price(clouds["vast"]):
        host.end += timedelta(days=400)
        host.min_bid_per_gpu, host.storage_usd_per_month = Decimal("0.11"), Decimal("0.15")
    with ExitStack() as served, pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "quote", partial(placement.quote, seconds=_BUSY))
        for cloud in clouds.values():
            served.enter_context(Served(cloud))
        month = Month(plan, folder, clouds, clock)
        served.callback(month.store.close)
        yield month


def _market_of_one_price(vast: Any) -> list[Any]:
    """The hosts with the suite's GPU: they all ask the same, or the price would change with each that is taken."""
    return [host for host in vast.vast.market.hosts.values() if host.kind.name == "RTX 3090"]


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", "-C", str(folder), *_WHO, *arguments], text=True).strip()
