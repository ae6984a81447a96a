"""A run in a world of fakes: real phases, real controller, real SQLite store, a cloud in memory and a clock by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.spec import Spec
from orchestrator.controller import Controller
from orchestrator.home import Home
from orchestrator.records import Attempt, Event, Phase, Run
from orchestrator.store.store import Store
from orchestrator.world import World
from tests.fakes.clock import FakeClock
from tests.fakes.fake_machine import FakeMachines, Script
from tests.fakes.memory_provider import MemoryProvider


class Living:
    """One home with a cloud called `memory`. `seconds(n)` lets time pass in small steps, a controller working."""

    def __init__(self, root: Path, *, script: Script | None = None, **cloud: Any) -> None:
        self.clock = FakeClock()
        self.cloud = MemoryProvider(self.clock, **cloud)
        self.machines = FakeMachines(self.clock, self.cloud, script)
        self.home = Home(root)
        self.store = Store.open(self.home.database_url({}), clock=self.clock)
        self.controller = self.new_controller()

    def new_controller(self) -> Controller:
        world = World(store=self.store, home=self.home, env={}, clock=self.clock, connect=self.machines.connect)
        return Controller(world.use(self.cloud), id=f"c{id(world)}")

    def submit(self, run_id: str = "r-1", *, project: str = "default", **spec: Any) -> str:
        whole = {"name": "job", "run": "true", "place": {"providers": ["memory"]}, **spec}
        now = self.clock()
        folder = self.home.run(run_id)
        folder.root.mkdir(parents=True)
        folder.bundle.write_bytes(b"")
        self.store.add_run(
            Run(
                id=run_id,
                name="job",
                owner="me",
                project=project,
                spec=Spec.model_validate(whole).to_json(),
                created_at=now,
                phase_since=now,
                due_at=now,
                notes={"bundle_digest": "0"},
            )
        )
        return run_id

    def seconds(self, count: float, *, step: float = 1.0) -> None:
        for _ in range(int(count / step)):
            while self.controller.tick():
                pass
            self.clock.advance(step)

    def until_done(self, run_id: str = "r-1", *, limit: float = 3600) -> Run:
        for _ in range(int(limit)):
            self.seconds(1)
            if self.run(run_id).is_over:
                return self.run(run_id)
        raise AssertionError(f"not over after {limit} s: {self.run(run_id)}, {self.words(run_id)}")

    def until(self, phase: Phase, run_id: str = "r-1") -> Run:
        for _ in range(3600):
            if self.run(run_id).phase is phase:
                return self.run(run_id)
            if not self.controller.tick():
                self.clock.advance(1)
        raise AssertionError(f"never in {phase}: {self.words(run_id)}")

    def run(self, run_id: str = "r-1") -> Run:
        return self.store.run(run_id)

    def attempts(self, run_id: str = "r-1") -> list[Attempt]:
        return self.store.attempts(run_id)

    def outcomes(self, run_id: str = "r-1") -> list[str]:
        return [str(attempt.outcome) for attempt in self.attempts(run_id)]

    def events(self, run_id: str = "r-1") -> list[Event]:
        return self.store.events(run_id)

    def words(self, run_id: str = "r-1") -> list[str]:
        return [event.text for event in self.events(run_id)]
