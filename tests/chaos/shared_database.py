"""Several controllers on one PostgreSQL, one of them killed with -9 every few seconds, and clouds that lose answers.

`python -m tests.chaos.shared_database --runs 500`. Every run is judged as a round is, and by the clouds' request logs
no machine was asked for twice. Needs PostgreSQL's server programs; knows nothing of rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from bench.measure import where_and_when
from orchestrator.records import Run
from orchestrator.store.store import Store
from providers.rehearsal.faults import Fault
from tests.chaos.clouds import Clouds
from tests.chaos.facts import Facts, MachineFact
from tests.chaos.judging import Problem, judge
from tests.chaos.plans import CLOUDS, Job, Plan
from tests.chaos.rounds import files_below, inherited, put_job
from tests.chaos.starter import Starter, import_everything, is_alive
from tests.support.postgres import running_postgres

CONTROLLERS = 3
AT_ONCE = 18  # runs that are under way: each has a machine, and that is a process here
KILL_EVERY = (3.0, 7.0)  # seconds
_LOOK_SECONDS = 0.2
_SHARE = {"aws": 3, "runpod": 4, "vast": 1}  # Vast.ai takes a create every 4.5 seconds


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What it came to. Money in US dollars."""

    runs: int  # that were submitted and are over: a run under which the reaper books what it ended is none of them
    kills: int
    machines: int
    seconds: float
    billed: Decimal
    booked: Decimal
    faults: Counter[str]
    problems: tuple[str, ...]


@dataclass
class Crowd:
    """Runs, and the controllers that share them. `seed` decides where a run goes, and who is killed when."""

    runs: int
    seed: int
    folder: Path
    starter: Starter
    clouds: Clouds
    database: str
    kills: int = 0
    _pids: list[int] = field(default_factory=list)
    _plans: dict[str, Plan] = field(default_factory=dict)

    def run(self) -> Outcome:
        began = time.monotonic()
        dice = random.Random(f"crowd {self.seed}")
        self.home.mkdir(parents=True)
        self.clouds.begin({name: _faults(self.runs) for name in CLOUDS}, lambda _: None)
        store = Store.open(self.database)
        try:
            self._pids = [self._start() for _ in range(CONTROLLERS)]
            while len(store.controllers()) < CONTROLLERS:
                time.sleep(_LOOK_SECONDS)
            self._work(store, dice, deadline=time.monotonic() + 200 + 3.0 * self.runs)
            problems = [*self._problems(store)]
            if problems:
                self._write_down(store, problems)
            return self._outcome(store, problems, time.monotonic() - began)
        finally:
            for pid in self._pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            store.close()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        own = {"GPUJOB_HOME": str(self.home), "GPUJOB_OWNER": "crowd", "GPUJOB_DATABASE_URL": self.database}
        ways = {name: value for cloud in CLOUDS for name, value in self.clouds.environment(cloud).items()}
        return {**inherited(), **ways, **own}

    def _start(self) -> int:
        return self.starter.controller(self.environment, self.home / "controller.log", until_idle=False)

    def _work(self, store: Store, dice: random.Random, deadline: float) -> None:
        """Submit them little by little, and kill a controller now and then, until all are over."""
        next_kill = time.monotonic() + dice.uniform(*KILL_EVERY)
        while time.monotonic() < deadline:
            active = len(store.runs(active=True))
            if len(self._plans) < self.runs and active < AT_ONCE:
                self._submit(dice)
            elif not active and len(self._plans) == self.runs:
                return
            else:
                time.sleep(_LOOK_SECONDS)
            if time.monotonic() > next_kill:
                self._kill_one(dice)
                next_kill = time.monotonic() + dice.uniform(*KILL_EVERY)

    def _kill_one(self, dice: random.Random) -> None:
        which = dice.randrange(CONTROLLERS)
        os.kill(self._pids[which], signal.SIGKILL)
        while is_alive(self._pids[which]):
            time.sleep(0.001)
        self.kills += 1
        self._pids[which] = self._start()

    def _submit(self, dice: random.Random) -> None:
        number = len(self._plans) + 1
        [cloud] = dice.choices(list(_SHARE), list(_SHARE.values()))
        plan = Plan(
            seed=number,
            cloud=cloud,
            spot=False,
            job=Job(seed=number, lines=5, seconds=round(dice.uniform(0.1, 2.0), 1), files=(100,)),
            faults=(),
            strikes=(),
            cancel=None,
            expected=frozenset(),
            deadline_seconds=0.0,
        )
        file = put_job(plan, self.folder / f"job-{number}")
        command = self.starter.command(["submit", str(file), "--detach", "--json"], self.environment, self.folder)
        if command.wait() != 0:
            raise RuntimeError(command.err)
        self._plans[str(json.loads(command.out)["id"])] = plan

    def _problems(self, store: Store) -> Iterator[str]:
        over = [run.id for run in store.runs() if run.is_over]
        wait_code = self.starter.command(["wait", *over], self.environment, self.folder).wait(120)
        reap = self.starter.command(["reap", "--yes", "--json"], self.environment, self.folder)
        if (reap_code := reap.wait(300)) != 0:
            yield f"gpujob reap ended with {reap_code}: {reap.err}"
        self.clouds.await_ends()
        made = self.clouds.made()
        for run in store.runs():
            if run.id not in self._plans:
                # What is left of an order that a kill cut short is no machine, and costs nothing.
                if any(machine.name == run.name.removeprefix("stray-") for machine in made):
                    yield f"{run.name}: only the reaper ended it"
                continue
            for problem in judge(self._plans[run.id], self._facts(store, run, made, wait_code)):
                yield _told(run, problem)
        yield from (f"leak: {text}" for text in self.clouds.leftovers())
        for name, count in self._creates().items():
            if count > 1:
                yield f"double: {count} creates of {name} were accepted"

    def _facts(self, store: Store, run: Run, made: Sequence[MachineFact], wait_code: int | None) -> Facts:
        folder = self.home / "runs" / run.id
        charges = [
            {"run_id": row.run_id, "attempt": row.attempt, "amount_usd": row.amount_usd}
            for row in store.charges(run_id=run.id)
        ]
        return Facts(
            run=run,
            attempts=store.attempts(run.id),
            machines=[machine for machine in made if machine.name.startswith(f"gpujob-{run.id}-")],
            charges=charges,
            logs={int(path.parent.name): path.read_bytes() for path in folder.glob("attempts/*/log")},
            artifacts=files_below(folder / "artifacts"),
            wait_code=wait_code,
            errors=[event.text for event in store.events(run.id) if event.kind == "error"],
        )

    def _write_down(self, store: Store, problems: Sequence[str]) -> None:
        """For whoever looks for the cause: all that the runs and the clouds have to say, in the order of time."""
        said = [
            f"{event.at:%H:%M:%S.%f} {event.run_id} {event.phase} {event.kind}: {event.text}"
            for run in store.runs()
            for event in store.events(run.id)
        ]
        said += [
            f"{asked.at:%H:%M:%S.%f} {asked.machine} {name}: {asked.call} {asked.status} {asked.told} {asked.fault}"
            for name, cloud in self.clouds.clouds.items()
            for asked in cloud.requests
            if asked.call != "offers"
        ]
        text = "\n".join([*problems, "", *map(str, self.clouds.made()), "", *sorted(said)])
        (self.folder / "diagnosis.txt").write_text(text)

    def _creates(self) -> Counter[str]:
        """Accepted ones, by the name that was asked for."""
        return Counter(
            asked.machine
            for cloud in self.clouds.clouds.values()
            for asked in cloud.requests
            if asked.call == "create" and asked.machine and 200 <= asked.status < 300
        )

    def _outcome(self, store: Store, problems: Sequence[str], seconds: float) -> Outcome:
        made = self.clouds.made()
        return Outcome(
            runs=sum(run.is_over for run in store.runs() if run.id in self._plans),
            kills=self.kills,
            machines=len(made),
            seconds=seconds,
            billed=sum((machine.usd for machine in made), Decimal(0)),
            booked=sum((row.amount_usd for row in store.charges()), Decimal(0)),
            faults=Counter(fault.kind for fault in self.clouds.struck()),
            problems=tuple(problems),
        )


@contextmanager
def a_crowd(runs: int, seed: int, folder: Path) -> Iterator[Crowd]:
    """Everything that it needs. To be opened in a process without threads: it forks."""
    folder.mkdir(parents=True, exist_ok=True)
    import_everything()
    starter = Starter()
    with running_postgres(folder) as url:
        clouds = Clouds(CLOUDS)
        try:
            yield Crowd(runs=runs, seed=seed, folder=folder, starter=starter, clouds=clouds, database=url)
        finally:
            clouds.close()
            starter.close()


def _faults(runs: int) -> list[Fault]:
    """At each cloud every eighth create or so makes a machine and does not say so; now and then an end is none."""
    found = []
    for number in range(max(1, runs // 24)):
        found += [
            Fault(kind="lost_reply", on="create", skip=3 + 8 * number),
            Fault(kind="error_after", on="create", skip=7 + 8 * number),
            Fault(kind="terminate_ignored", skip=5 + 12 * number),
            Fault(kind="error", on="terminate", skip=9 + 12 * number),
        ]
    return found


def _told(run: Run, problem: Problem) -> str:
    return f"{run.id}: {problem.kind}: {problem.text}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.shared_database", description=__doc__)
    parser.add_argument("--runs", type=int, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for what was seen")
    wanted = parser.parse_args(argv)
    folder = wanted.keep or Path(tempfile.mkdtemp(prefix="gpujob-crowd-"))
    with a_crowd(wanted.runs, wanted.seed, folder.resolve()) as crowd:
        found = crowd.run()
    faults = ", ".join(f"{count} {kind}" for kind, count in found.faults.most_common())
    print(
        f"{found.runs} runs by {CONTROLLERS} controllers on one PostgreSQL in {found.seconds:.0f} s, {found.kills} "
        f"killed; {found.machines} machines; {faults}; the clouds' bills ${found.billed:.4f}, the ledger "
        f"${found.booked:.4f}; {len(found.problems)} problems\n{where_and_when()}"
    )
    print("\n".join(found.problems))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
