"""Who is told in the morning, in what words: once for each time of a schedule, when all its runs are over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import making, notices, schedule_notices, schedules
from orchestrator.benchmarks import revision
from orchestrator.home import Home
from orchestrator.notices import Notice
from orchestrator.records import Outcome, Overlap, Phase
from orchestrator.store.rows import ChangeRow, ResultRow, ScheduleRow, Told
from orchestrator.store.store import Store
from orchestrator.world import World
from tests.fakes.clock import FakeClock
from tests.orchestrator.store.examples import a_charge

JOB = "name: mnist\nimage: none\nrun: python train.py\nplace: {providers: [local]}\n"
SUITE = """\
name: night
image: none
tasks:
  one: {run: ./one, measure: {rate: {better: higher, unit: 1/s, work: sample}}}
  two: {run: ./two, measure: {rate: {better: higher, unit: 1/s, work: sample}}}
targets: {cpu: {gpus: [cpu], providers: [local]}}
"""
HOOK = "https://hooks.example.org/${HOOK_KEY}"


class Morning:
    """A home with one schedule, and somebody who is told."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.home = Home(root / "home")
        self.home.root.mkdir()
        self.store = Store.open(self.home.database_url({}), clock=self.clock)
        self.world = World(store=self.store, home=self.home, env={"HOOK_KEY": "hunter2"}, clock=self.clock)
        self.file = root / "job" / "job.yaml"
        self.file.parent.mkdir()
        self.told: list[Notice] = []

    def add(self, text: str, **changes: Any) -> ScheduleRow:
        self.file.write_text(text)
        row = ScheduleRow(
            **{
                **{"id": "s-1", "name": "night", "host": "laptop", "file": str(self.file), "overrides": {}},
                **{"cron": "0 * * * *", "tz": "UTC", "added_at": self.clock(), "planned_at": None, "due_at": None},
                **{"webhook": HOOK, **changes},
            }
        )
        row = schedules.planned(row, self.clock())
        subject = making.look(self.file, home=self.home, env={}, overrides={})
        self.store.timetable.add(making.keep(row, subject, home=self.home, env={}, frozen=False))
        return row

    def fire(self) -> None:
        [row] = self.store.timetable.schedules()
        assert row.planned_at is not None
        self.clock.advance((row.planned_at - self.clock()).total_seconds())
        assert schedules.fire_due(self.world) == 1

    def end(self, run_id: str, **changes: Any) -> None:
        """A run is over, for 25 cents."""
        self.store.nudge(run_id)
        for lease in self.store.claim("c", limit=9, lease_seconds=30):
            if lease.run.id != run_id:
                self.store.postpone([(lease, 0)])
                continue
            over = {"phase": Phase.DONE, "outcome": Outcome.SUCCEEDED, "ended_at": self.clock(), **changes}
            self.store.save(lease, replace(lease.run, **over), charges=[a_charge(run_id, "0.25")], due_in=None)

    def result(self, run_id: str, sweep_id: str, task: str, metric: str = "rate", rented_for: str = "0") -> None:
        row = ResultRow(
            run_id=run_id, metric=metric, sweep_id=sweep_id, suite="night", task=task, target="cpu", provider="local",
            machine="box", gpu=None, gpu_count=0, is_simulated=False, unit="1/s", better="higher", work="sample",
            is_main=True, repeats=[100.0, 100.0, 100.0], value=100.0, usd_per_hour=Decimal(rented_for), at=self.clock(),
            testbed={},
        )  # fmt: skip
        self.store.benchmarks.add_results([row])

    def sweep(self) -> tuple[str, list[str]]:
        [firing, *_] = self.store.timetable.firings("s-1", limit=1)
        assert firing.sweep_id is not None
        return firing.sweep_id, [cell.run_id for cell in self.store.benchmarks.cells(firing.sweep_id)]

    def deliver(self, world: World | None = None) -> list[Notice]:
        """What is told now."""
        before = len(self.told)
        schedule_notices.deliver_due(world or self.world, self.take)
        return self.told[before:]

    def take(self, to: Told, notice: Notice, _world: World) -> None:
        assert to.webhook == HOOK
        self.told.append(notice)


@pytest.fixture
def morning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Morning]:
    monkeypatch.setattr(revision, "of", lambda _: None)
    made = Morning(tmp_path)
    yield made
    made.store.close()


def test_a_good_night_is_one_line_and_told_once_when_the_last_run_is_over(morning: Morning) -> None:
    morning.add(SUITE)
    morning.fire()
    sweep, (one, two) = morning.sweep()
    for run_id, task in ((one, "one"), (two, "two")):
        assert morning.deliver() == [], "not before the last one"
        morning.result(run_id, sweep, task)
        morning.end(run_id)
    [notice] = morning.deliver()
    assert notice.text == f"night {sweep}: 2 runs, all succeeded, nothing changed, $0.50"
    assert (notice.kind, notice.facts["is_fine"], notice.facts["cost_usd"]) == ("success", True, "0.5")
    morning.clock.advance(10**6)
    assert morning.deliver() == []


def test_what_was_rented_says_what_to_rent(morning: Morning) -> None:
    morning.add(SUITE)
    morning.fire()
    sweep, (one, two) = morning.sweep()
    morning.result(one, sweep, "one", rented_for="0.36")
    morning.result(two, sweep, "two")
    morning.end(one)
    morning.end(two)
    [notice] = morning.deliver()
    [_, rent] = notice.text.splitlines()
    assert rent == "one: the cheapest is local box CPU, $0.001000 and 10 s per 1,000 samples; no other was measured."
    assert notice.facts["rent"] == [rent]


def test_a_bad_night_says_what_failed_what_is_missing_and_what_changed(morning: Morning) -> None:
    morning.add(SUITE, name="lab")
    morning.fire()
    sweep, (one, two) = morning.sweep()
    morning.result(one, sweep, "one")
    change = ChangeRow(
        run_id=one, metric="rate", suite="night", series="k", noticed_by=one, noticed_at=morning.clock(),
        before=120.0, after=100.0, p_value=0.001, is_worse=True, differs={},
    )  # fmt: skip
    morning.store.benchmarks.add_change(change)
    morning.end(one)
    morning.end(two, outcome=Outcome.NO_CAPACITY, error="no offer\x1b[2J fits\nthe spec")
    [notice] = morning.deliver()
    head, changed, missing = notice.text.splitlines()
    assert head == (
        f"night {sweep} (schedule lab): 1 of 2 runs did not succeed, results of 1 run are missing, 1 change, $0.50"
    )
    assert changed == f"one rate on local box CPU: 120 -> 100 1/s (-16.7 %, worse) since {one}"
    assert missing == "missing: two on cpu (cpu, local): no capacity: no offer fits the spec"
    assert notice.kind == "failure" and (notice.facts["runs"], notice.facts["did_not_succeed"]) == (2, 1)
    assert notice.facts["changes"] == [changed] and len(notice.facts["missing"]) == 1
    assert (notice.facts["schedule"], notice.facts["sweep_id"], notice.facts["is_fine"]) == ("lab", sweep, False)


def test_many_changes_are_counted(morning: Morning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_notices, "MOST_LINES", 1)
    morning.add(SUITE)
    morning.fire()
    _, runs = morning.sweep()
    for run_id in runs:
        morning.end(run_id)
    [notice] = morning.deliver()
    assert notice.text.splitlines()[1:] == ["missing: one on cpu (cpu, local): rate was not reported", "and 1 more"]


@pytest.mark.parametrize(
    ("changes", "words", "kind"),
    [
        ({}, "succeeded, $0.25", "success"),
        ({"outcome": Outcome.FAILED, "error": "exit code 3"}, "failed, $0.25: exit code 3", "failure"),
        ({"phase": Phase.TEARDOWN, "possibly_billing": True}, "succeeded, $0.25, possibly still billing", "failure"),
    ],
)
def test_a_job_says_how_it_ended(morning: Morning, changes: dict[str, Any], words: str, kind: str) -> None:
    morning.add(JOB)
    morning.fire()
    [run] = morning.store.runs()
    morning.end(run.id, **changes)
    [notice] = morning.deliver()
    assert (notice.text, notice.kind, notice.facts["run_id"]) == (f"night {run.id}: {words}", kind, run.id)


def test_a_time_for_which_no_run_could_be_made_is_told(morning: Morning) -> None:
    row = morning.add(JOB)
    morning.file.unlink()
    morning.fire()
    [notice] = morning.deliver()
    assert row.planned_at is not None and f"{row.planned_at:%Y-%m-%d %H:%M} UTC: there is no " in notice.text
    assert notice.kind == "failure" and notice.facts["runs"] == 0


def test_a_time_that_waited_is_told_when_its_own_run_is_over_and_a_skipped_one_never(morning: Morning) -> None:
    morning.add(JOB, overlap=Overlap.QUEUE)
    morning.fire()
    [first] = morning.store.runs()
    for _ in range(2):
        morning.fire()
    morning.end(first.id)
    assert [notice.facts["run_id"] for notice in morning.deliver()] == [first.id]
    morning.clock.advance(10)
    schedules.fire_due(morning.world)
    [second] = [run for run in morning.store.runs() if run.id != first.id]
    assert morning.deliver() == []
    morning.end(second.id)
    assert [notice.facts["run_id"] for notice in morning.deliver()] == [second.id]


def test_nobody_is_told_where_nobody_is_named(morning: Morning) -> None:
    morning.add(JOB, webhook=None)
    morning.fire()
    morning.end(morning.store.runs()[0].id)
    assert morning.store.timetable.to_tell() == []


def test_of_two_controllers_one_tells_and_when_it_dies_the_other_does(morning: Morning) -> None:
    morning.add(JOB)
    morning.fire()
    morning.end(morning.store.runs()[0].id)
    [seen_by_one] = morning.store.timetable.to_tell()
    [seen_by_two] = morning.store.timetable.to_tell()
    assert morning.store.timetable.claim_telling(seen_by_one, notices.AGAIN_SECONDS) is not None
    assert morning.store.timetable.claim_telling(seen_by_two, notices.AGAIN_SECONDS) is None
    assert morning.deliver() == [], "it is at it"
    morning.clock.advance(notices.AGAIN_SECONDS)
    assert len(morning.deliver()) == 1, "it has died"
    morning.clock.advance(10**6)
    assert morning.deliver() == []


def test_a_schedule_of_another_home_is_told_there(morning: Morning) -> None:
    morning.add(JOB)
    morning.fire()
    morning.end(morning.store.runs()[0].id)
    assert morning.deliver(replace(morning.world, home=Home(morning.home.root / "elsewhere"))) == []
    assert len(morning.deliver()) == 1


@pytest.mark.parametrize(
    ("error", "words"), [(notices.NotDelivered("it answers 503"), "503"), (KeyError("x"), "a bug")]
)
def test_it_is_tried_again_until_it_is_given_up_and_the_log_has_no_secret(
    morning: Morning, caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    morning.add(JOB)
    morning.fire()
    morning.end(morning.store.runs()[0].id)
    tries = 0

    def send(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise error

    with caplog.at_level(logging.INFO):
        for _ in range(notices.MOST_TRIES + 5):
            schedule_notices.deliver_due(morning.world, send)
            morning.clock.advance(10**5)
    assert tries == notices.MOST_TRIES and morning.store.timetable.to_tell() == []
    assert words in caplog.text and "hunter2" not in caplog.text and "hooks.example" not in caplog.text


def test_what_is_removed_tells_nobody(morning: Morning) -> None:
    morning.add(JOB)
    morning.fire()
    morning.end(morning.store.runs()[0].id)
    morning.store.timetable.remove("s-1")
    assert morning.deliver() == []


def test_the_watch_tells_beside_the_times_that_it_fires(morning: Morning, monkeypatch: pytest.MonkeyPatch) -> None:
    morning.add(JOB)
    morning.fire()
    morning.end(morning.store.runs()[0].id)
    over = threading.Event()
    sent: list[tuple[str, bytes]] = []
    monkeypatch.setattr(notices, "_post", lambda url, content: sent.append((url, content)))
    monkeypatch.setattr(schedules, "fire_due", lambda _: over.set())  # one look
    schedules.watch(morning.world, over)
    for thread in threading.enumerate():
        if thread.name == "notices":
            thread.join(10)
    [(url, content)] = sent
    assert url == "https://hooks.example.org/hunter2" and b'"text": "gpujob: night r-' in content
    assert morning.store.timetable.to_tell() == []
