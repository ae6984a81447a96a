"""Schedules in the store, on both databases: one turn at a time, and a run and its schedule's move, both or neither."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import schedules
from orchestrator.home import Home
from orchestrator.records import FiringKind, Missed, Overlap, Phase
from orchestrator.store.engine import Write
from orchestrator.store.errors import LeaseLost, StoreConflict
from orchestrator.store.rows import FiringRow, ScheduleRow
from orchestrator.store.store import Store
from orchestrator.world import World
from tests.orchestrator.store.conftest import SetClock
from tests.orchestrator.store.examples import NOON, a_run, an_event

HOUR = timedelta(hours=1)
YAML = "name: mnist\nimage: none\nrun: 'true'\nplace: {providers: [local]}\n"


def a_schedule(schedule_id: str = "s-1", **changes: Any) -> ScheduleRow:
    values: dict[str, Any] = {"id": schedule_id, "name": f"nightly-{schedule_id}", "host": "laptop", "file": "/x.yaml"}
    values |= {"overrides": {"env.A": "1"}, "cron": "0 2 * * *", "tz": "Europe/Berlin", "added_at": NOON}
    return ScheduleRow(**{**values, "planned_at": NOON, "due_at": NOON, **changes})


def fired(run_id: str, **changes: Any) -> FiringRow:
    values: dict[str, Any] = {"schedule_id": "s-1", "planned_at": NOON, "at": NOON, "kind": FiringKind.FIRED}
    return FiringRow(**{**values, "run_id": run_id, **changes})


def test_a_schedule_comes_back_as_it_was_added(store: Store) -> None:
    full = a_schedule(
        frozen={"spec": {"name": "x"}},
        any_size=True,
        missed=Missed.ONCE,
        overlap=Overlap.REPLACE,
        jitter_seconds=600,
        monthly_usd=Decimal("20.5"),
        paused_at=NOON,
        waiting_at=NOON,
        webhook="https://hooks.example.org/${KEY}",
        command=["notify-send", "x"],
        apprise="slack://x",
    )
    store.timetable.add(full)
    store.timetable.add(a_schedule("s-0", planned_at=None, due_at=None))
    assert store.timetable.schedules() == [a_schedule("s-0", planned_at=None, due_at=None), full]
    with pytest.raises(StoreConflict):
        store.timetable.add(a_schedule("s-2", name=full.name))


def new_run(store: Store, run_id: str = "r-1") -> Write:
    return store.to_write([(a_run(run_id), [an_event(run_id)])])


def test_a_turn_is_one_controllers_until_it_has_settled(store: Store, clock: SetClock) -> None:
    store.timetable.add(a_schedule())
    assert store.timetable.due() == ["s-1"]
    turn = store.timetable.claim("s-1", lease_seconds=30)
    assert turn is not None and turn.schedule == a_schedule()
    assert store.timetable.due() == [] and store.timetable.claim("s-1", lease_seconds=30) is None
    clock.advance(20)
    store.timetable.renew(turn, lease_seconds=30)
    clock.advance(20)
    assert store.timetable.claim("s-1", lease_seconds=30) is None
    moved = replace(turn.schedule, planned_at=NOON + HOUR, due_at=NOON + HOUR)
    store.timetable.settle(turn, moved, became=[fired("r-1")], write=new_run(store))
    assert store.timetable.schedules() == [moved] and store.timetable.due() == []
    assert store.run("r-1").phase is Phase.QUOTE and store.next_due() == 0 and len(store.events("r-1")) == 1
    clock.advance(3600)
    assert store.timetable.due() == ["s-1"]


@pytest.mark.parametrize("lost_by", ["lease", "pause", "remove"])
def test_who_has_lost_the_turn_writes_nothing(store: Store, clock: SetClock, lost_by: str) -> None:
    store.timetable.add(a_schedule())
    turn = store.timetable.claim("s-1", lease_seconds=30)
    assert turn is not None
    if lost_by == "lease":
        clock.advance(31)
        assert store.timetable.claim("s-1", lease_seconds=30) is not None
    elif lost_by == "pause":
        store.timetable.pause("s-1")
    else:
        store.timetable.remove("s-1")
    store.timetable.renew(turn, lease_seconds=600)
    with pytest.raises(LeaseLost):
        store.timetable.settle(turn, a_schedule(planned_at=None), became=[fired("r-1")], write=new_run(store))
    assert store.runs() == [] and store.timetable.firings("s-1", limit=9) == []


def test_a_run_that_cannot_be_written_moves_no_schedule(store: Store) -> None:
    store.add_run(a_run("r-1"))
    store.timetable.add(a_schedule())
    turn = store.timetable.claim("s-1", lease_seconds=30)
    assert turn is not None
    with pytest.raises(StoreConflict):
        store.timetable.settle(turn, a_schedule(planned_at=None), became=[fired("r-1")], write=new_run(store))
    assert store.timetable.schedules() == [a_schedule()] and store.timetable.firings("s-1", limit=9) == []


def test_the_runs_of_a_schedule(store: Store) -> None:
    store.timetable.add(a_schedule())
    store.timetable.add(a_schedule("s-2"))
    for number, schedule_id in enumerate(["s-1", "s-1", "s-2", "s-1"]):
        firing = fired(f"r-{number}", schedule_id=schedule_id, planned_at=NOON + number * HOUR)
        store.timetable.fire_by_hand(firing, new_run(store, f"r-{number}"))
    for lease in store.claim("c", limit=9, lease_seconds=30):
        if lease.run.id in ("r-0", "r-1"):
            ended = NOON - HOUR if lease.run.id == "r-0" else NOON
            store.save(lease, replace(lease.run, phase=Phase.DONE, ended_at=ended), due_in=None)
    assert store.timetable.going("s-1") == ["r-3"]
    assert store.timetable.runs_since("s-1", NOON) == ["r-3", "r-1"]
    assert [firing.run_id for firing in store.timetable.firings("s-1", limit=2)] == ["r-3", "r-1"]
    store.timetable.remove("s-1")
    assert [row.id for row in store.timetable.schedules()] == ["s-2"] and len(store.runs()) == 4
    with pytest.raises(StoreConflict):
        store.timetable.fire_by_hand(fired("r-9"), new_run(store, "r-9"))
    assert len(store.runs()) == 4


def test_what_is_to_be_told_waits_for_its_runs_and_is_one_tellers_at_a_time(store: Store, clock: SetClock) -> None:
    store.timetable.add(a_schedule())
    firing = fired("r-1", tell_at=NOON)
    store.timetable.fire_by_hand(firing, new_run(store))
    assert store.timetable.to_tell() == []
    [lease] = store.claim("c", limit=1, lease_seconds=30)
    store.save(lease, replace(lease.run, phase=Phase.DONE, ended_at=NOON), due_in=None)
    assert store.timetable.to_tell() == [firing]
    claimed = store.timetable.claim_telling(firing, 60)
    assert claimed is not None and claimed.tries == 1 and store.timetable.to_tell() == []
    assert store.timetable.claim_telling(firing, 60) is None
    clock.advance(61)
    again = store.timetable.claim_telling(firing, 60)
    assert again is not None and again.tries == 2
    clock.advance(61)
    assert store.timetable.to_tell() == [], "the next try is later"
    clock.advance(60)
    assert len(store.timetable.to_tell()) == 1
    store.timetable.told(again)
    clock.advance(10**6)
    assert store.timetable.to_tell() == []


@pytest.mark.process
def test_threads_never_share_a_turn(url: str) -> None:
    store = Store.open(url)
    for number in range(30):
        store.timetable.add(a_schedule(f"s-{number:02}"))

    def claim(_: int) -> list[str]:
        return [one for one in store.timetable.due() if store.timetable.claim(one, lease_seconds=60)]

    with ThreadPoolExecutor(8) as threads:
        claimed = Counter(schedule_id for own in threads.map(claim, range(8)) for schedule_id in own)
    assert claimed == Counter(f"s-{number:02}" for number in range(30))
    store.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.root.mkdir()
    (tmp_path / "train.yaml").write_text(YAML)
    return made


@pytest.fixture
def fill(url: str, home: Home) -> Callable[[int], Store]:
    """A store with so many schedules of one home, each of which is due for one time, by the database's own clock."""

    def make(count: int) -> Store:
        store = Store.open(url)
        at = store.now() - timedelta(seconds=60)
        for number in range(count):
            row = a_schedule(f"s-{number}", file=str(home.root.parent / "train.yaml"), cron="0 0 29 2 *")
            store.timetable.add(replace(row, planned_at=at, due_at=at, overrides={}))
            home.schedule(row.id).root.mkdir(parents=True)
        return store

    return make


@pytest.mark.process
def test_of_several_threads_exactly_one_fires_each_time(home: Home, fill: Callable[[int], Store]) -> None:
    store = fill(6)
    worlds = [World(store=store, home=home, env={}, clock=store.now) for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(schedules.fire_due, worlds))
    assert_each_fired_once(store, home, 6)


@pytest.mark.process
def test_of_several_processes_exactly_one_fires_each_time_also_when_one_dies(
    url: str, home: Home, fill: Callable[[int], Store]
) -> None:
    store = fill(8)
    victim, *others = [_process(url, home, "hang"), *(_process(url, home) for _ in range(3))]
    assert [_line(process) for process in (victim, *others)] == ["ready"] * 4
    _go(victim)
    assert _line(victim) == "holding"
    victim.kill()
    victim.communicate()
    [half_made] = home.run("").root.iterdir()
    half_made.rmdir()  # what a killed process leaves, empty
    for other in others:
        _go(other)
    for other in others:
        _, said = other.communicate(timeout=60)
        assert other.returncode == 0, said
    assert_each_fired_once(store, home, 8)


def assert_each_fired_once(store: Store, home: Home, count: int) -> None:
    runs = store.runs()
    assert Counter(run.notes["schedule"]["id"] for run in runs) == Counter(f"s-{number}" for number in range(count))
    assert sorted(path.name for path in home.run("").root.iterdir()) == sorted(run.id for run in runs)
    for row in store.timetable.schedules():
        [firing] = store.timetable.firings(row.id, limit=9)
        assert firing.kind is FiringKind.FIRED and row.planned_at is not None and row.planned_at > store.now()
    store.close()


def _process(url: str, home: Home, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.orchestrator.store.firing", url, str(home.root), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
