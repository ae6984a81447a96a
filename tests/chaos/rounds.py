"""One round: a home of its own, a job that is submitted, strikes as planned, and what is known at the end of it.

What follows from the seed: the plan (plans.py) and every byte of the job. What does not: which offer a busy market has,
how far a process was when it is killed some time after a phase or the submission, and the ids. A kill right after a
cloud's call is exact. So a seed that failed fails again mostly, and its folder keeps what was seen the first time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestrator import background
from orchestrator.home import Home
from orchestrator.records import Run
from orchestrator.store.store import Store
from tests.chaos import job
from tests.chaos.clouds import Clouds
from tests.chaos.facts import Facts
from tests.chaos.judging import Problem, difference, excess_explained, judge
from tests.chaos.plans import Plan
from tests.chaos.starter import Starter
from tests.chaos.strikes import Serving, Strikes

LOOK_SECONDS = 0.05
REAP_SECONDS = 150.0
GPUS = {"aws": "T4", "runpod": "RTX4090", "vast": "RTX3090"}

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
_FAILED = re.compile(r"Traceback \(most recent call last\)|could not be saved| ERROR ")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a round came to, small enough for a table. Money in US dollars."""

    seed: int
    cloud: str
    seconds: float = 0.0
    outcome: str = "nothing"
    strikes: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    machines: int = 0
    strays: int = 0
    billed: Decimal = Decimal(0)
    booked: Decimal = Decimal(0)
    late: Decimal = Decimal(0)  # of what was booked too much, what late sight of an end explains
    problems: tuple[Problem, ...] = ()
    plan: str = ""


@dataclass
class Round:
    """`is_blind`: with the controller of the negative control."""

    plan: Plan
    clouds: Clouds
    starter: Starter
    folder: Path
    is_blind: bool = False
    _said: list[str] = field(default_factory=list)

    def run(self) -> Result:
        """Raises nothing that a round may meet; what cannot be done is a problem of kind `unfinished`."""
        began = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        serving = Serving(self._start_controller)
        strikes = Strikes(self.plan.strikes, serving, self.clouds.machines)
        self.clouds.begin({self.plan.cloud: self.plan.faults}, strikes.on_call)
        try:
            self._be_served(serving)
            run_id = self._submit()
            strikes.begin()
            store = Store.open(f"sqlite:///{self.home / 'store.db'}")
            try:
                run = self._follow(store, run_id, serving, strikes)
                facts = self._facts(store, run, serving)
            finally:
                store.close()
                serving.kill()
        finally:
            strikes.join()
            self.clouds.calm()
        problems = judge(self.plan, facts)
        if problems:
            self._write_down(facts, problems, strikes)
        return self._result(facts, problems, strikes, time.monotonic() - began)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        own = {"GPUJOB_HOME": str(self.home), "GPUJOB_OWNER": "chaos", **self.clouds.environment(self.plan.cloud)}
        return {**inherited(), **own}

    def _be_served(self, serving: Serving) -> None:
        """Until a controller of ours holds the home's lock: a command would start one that nobody here could kill."""
        serving.keep()
        while not background.is_running(Home(self.home)):
            time.sleep(LOOK_SECONDS)
            serving.keep()

    def _start_controller(self) -> int:
        return self.starter.controller(self.environment, self.home / "controller.log", is_blind=self.is_blind)

    def _command(self, *words: str, seconds: float = 60.0) -> tuple[int, str]:
        command = self.starter.command(words, self.environment, self.folder)
        try:
            code = command.wait(seconds)
        except TimeoutError as error:
            self._said.append(str(error))
            return -1, ""
        if code != 0:
            self._said.append(f"gpujob {' '.join(words)}: {code}: {command.err.strip()}")
        return code, command.out

    def _submit(self) -> str:
        file = put_job(self.plan, self.folder / "job")
        code, out = self._command("submit", str(file), "--detach", "--json")
        if code != 0:
            raise RuntimeError(f"seed {self.plan.seed}: {self._said[-1]}")
        return str(json.loads(out)["id"])

    def _follow(self, store: Store, run_id: str, serving: Serving, strikes: Strikes) -> Run:
        """Until the run is over or its time is up."""
        deadline = time.monotonic() + self.plan.deadline_seconds
        cancel = self.plan.cancel
        while not (run := store.run(run_id)).is_over and time.monotonic() < deadline:
            strikes.look(run.phase.value)
            serving.keep()
            if cancel is not None and strikes.is_due(cancel):
                store.request_cancel(run_id)
                cancel = None
            time.sleep(LOOK_SECONDS)
        return run

    def _facts(self, store: Store, run: Run, serving: Serving) -> Facts:
        wait_code, reap_code = None, None
        alive: list[str] = []
        if run.is_over:
            wait_code, _ = self._command("wait", run.id)
            alive = [machine.name for machine in self.clouds.made() if machine.alive]
            reap_code = None if self.is_blind else self._reap(store, serving)
        self.clouds.await_ends()
        _, costs = self._command("cost", "--json")
        others = [store.run(other.id) for other in store.runs() if other.id != run.id]
        return Facts(
            run=run,
            attempts=store.attempts(run.id),
            strays=others,
            stray_attempts=[one for other in others for one in store.attempts(other.id)],
            machines=self.clouds.made(),
            alive_before_reaping=alive,
            leftovers=self.clouds.leftovers(),
            charges=json.loads(costs or "[]"),
            logs={int(path.parent.name): path.read_bytes() for path in self._run_folder(run).glob("attempts/*/log")},
            artifacts=files_below(self._run_folder(run) / "artifacts"),
            wait_code=wait_code,
            reap_code=reap_code,
            struck=self.clouds.struck(),
            errors=[*self._errors(store, run)],
        )

    def _reap(self, store: Store, serving: Serving) -> int:
        """By a cloud that may still have a bad day first; when it could not be asked, by one that is well.

        What the controller has found by itself a moment before is claimed for the command: its end is waited for, too.
        """
        self.clouds.await_lists()
        until = time.monotonic() + REAP_SECONDS
        self._be_served(serving)
        code, _ = self._command("reap", "--yes", "--json", seconds=REAP_SECONDS)
        if code != 0:
            self.clouds.calm()
            self._be_served(serving)
            code, _ = self._command("reap", "--yes", "--json", seconds=REAP_SECONDS)
        while store.runs(active=True) and time.monotonic() < until:
            serving.keep()
            time.sleep(LOOK_SECONDS)
        return code

    def _errors(self, store: Store, run: Run) -> list[str]:
        told = [f"{event.phase}: {event.text}" for event in store.events(run.id) if event.kind == "error"]
        log = (self.home / "controller.log").read_text(errors="replace")
        if not told and (found := _FAILED.search(log)):
            told.append(f"controller.log: {log[max(0, found.start() - 200) : found.start() + 1500]}")
        return told + [said for said in self._said if "Traceback" in said or "internal error" in said]

    def _run_folder(self, run: Run) -> Path:
        return self.home / "runs" / run.id

    def _result(self, facts: Facts, problems: list[Problem], strikes: Strikes, seconds: float) -> Result:
        late = [min(difference(facts, one), excess_explained(facts, one)) for one in facts.machines]
        return Result(
            seed=self.plan.seed,
            cloud=self.plan.cloud,
            seconds=seconds,
            outcome=facts.run.outcome.value if facts.run.outcome else f"in {facts.run.phase.value}",
            strikes=dict(strikes.done),
            faults=dict(Counter(fault.kind for fault in facts.struck)),
            machines=len(facts.machines),
            strays=len(facts.strays),
            billed=sum((one.usd for one in facts.machines), Decimal(0)),
            booked=sum((Decimal(row["amount_usd"]) for row in facts.charges), Decimal(0)),
            late=sum((amount for amount in late if amount > 0), Decimal(0)),
            problems=tuple(problems),
            plan=str(self.plan),
        )

    def _write_down(self, facts: Facts, problems: list[Problem], strikes: Strikes) -> None:
        """For whoever looks for the cause."""
        store = Store.open(f"sqlite:///{self.home / 'store.db'}")
        events = [event for run in (facts.run, *facts.strays) for event in store.events(run.id)]
        store.close()
        parts: dict[str, list[Any]] = {
            str(self.plan): [],
            "problems": [f"{problem.kind}: {problem.text}" for problem in problems],
            "strikes": strikes.told,
            "events": [
                f"{one.at:%H:%M:%S.%f} {one.run_id} {one.attempt} {one.phase} {one.kind}: {one.text}" for one in events
            ],
            "machines": list(facts.machines),
            "attempts": [*facts.attempts, *facts.stray_attempts],
            "bills": self.clouds.bill(),
            "ledger": list(facts.charges),
            "struck": list(facts.struck),
            "requests": self.clouds.requests(),
            "commands": self._said,
            "controller.log": [(self.home / "controller.log").read_text(errors="replace")[-20_000:]],
        }
        text = "\n".join("\n".join([f"## {title}", *map(str, lines), ""]) for title, lines in parts.items())
        (self.folder / "diagnosis.txt").write_text(text, errors="surrogateescape")


def put_job(plan: Plan, folder: Path) -> Path:
    """The job's folder; returns its train.yaml."""
    folder.mkdir()
    shutil.copy(job.__file__, folder / "job.py")
    file = folder / "train.yaml"
    file.write_text(json.dumps(spec(plan)))
    return file


def spec(plan: Plan) -> dict[str, Any]:
    """The round's train.yaml."""
    wanted = {
        name: getattr(plan.job, name) for name in ("seed", "lines", "seconds", "files", "exit_code", "checkpointed")
    }
    return {
        "name": f"chaos-{plan.seed}",
        "image": "none",
        "run": f"exec python3 job.py '{json.dumps(wanted)}'",
        "resources": {"gpu": GPUS[plan.cloud], "disk": "10GB"},
        "place": {"providers": [plan.cloud], "spot": "only" if plan.spot else "never"},
        "limits": {"max_price_per_hour": "5", "max_cost": "5"},
        "retry": {"attempts": 6},
        **({"artifacts": ["out/**"]} if plan.job.files else {}),
        **({"checkpoint": {"path": "checkpoints", "every": "1s"}} if plan.job.checkpointed else {}),
    }


def inherited() -> dict[str, str]:
    """What a process gets of this one's environment: no key, no proxy, no configuration of a cloud."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def files_below(folder: Path) -> dict[str, bytes]:
    """Their content by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
