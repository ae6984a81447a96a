"""What comes of the times of a schedule, by a clock that is moved by hand: runs, or what is told instead of one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import making, schedules, submission
from orchestrator.home import Home
from orchestrator.records import FiringKind, Missed, Outcome, Overlap, Phase, Run
from orchestrator.store.errors import StoreBusy
from orchestrator.store.rows import FiringRow, ScheduleRow
from orchestrator.store.store import Store
from orchestrator.world import World
from tests.fakes.clock import FakeClock
from tests.orchestrator.store.examples import a_charge

YAML = "name: mnist\nimage: none\nrun: python train.py\nplace: {providers: [local]}\n"


class Office:
    """A home with one job, a store, and a controller that looks at the schedules when it is told to."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.start = self.clock()
        self.home = Home(root / "home")
        self.home.root.mkdir()
        self.store = Store.open(self.home.database_url({}), clock=self.clock)
        self.world = World(store=self.store, home=self.home, env={}, clock=self.clock)
        self.file = root / "job" / "train.yaml"
        self.file.parent.mkdir()
        self.file.write_text(YAML)

    def add(self, cron: str = "0 * * * *", *, frozen: bool = False, **changes: Any) -> ScheduleRow:
        values: dict[str, Any] = {"id": "s-1", "name": "nightly", "host": "laptop", "file": str(self.file)}
        values |= {"overrides": {}, "tz": "UTC", "added_at": self.clock(), "planned_at": None, "due_at": None}
        row = schedules.planned(ScheduleRow(**{**values, "cron": cron, **changes}), self.clock())
        subject = making.look(self.file, home=self.home, env={}, overrides={})
        row = making.keep(row, subject, home=self.home, env={}, frozen=frozen)
        self.store.timetable.add(row)
        return row

    def at(self, minutes: float, *, look: bool = True) -> int:
        """So many minutes after the first planned time, which is on the hour."""
        hour = self.start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        self.clock.advance((hour + timedelta(minutes=minutes) - self.clock()).total_seconds())
        return schedules.fire_due(self.world) if look else 0

    @property
    def row(self) -> ScheduleRow:
        [row] = self.store.timetable.schedules()
        return row

    @property
    def runs(self) -> list[Run]:
        return self.store.runs()[::-1]

    @property
    def firings(self) -> list[FiringRow]:
        return self.store.timetable.firings("s-1", limit=100)[::-1]

    @property
    def kinds(self) -> list[str]:
        return [firing.kind.value for firing in self.firings]

    def end(self, run_id: str, usd: str | None = None) -> None:
        self.store.nudge(run_id)
        for lease in self.store.claim("c", limit=9, lease_seconds=30):
            if lease.run.id != run_id:
                self.store.postpone([(lease, 0)])
                continue
            now = self.clock()
            over = replace(lease.run, phase=Phase.DONE, outcome=Outcome.SUCCEEDED, ended_at=now)
            charges = [a_charge(run_id, usd, start=now, end=now)] if usd else []
            self.store.save(lease, over, charges=charges, due_in=None)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.home.run("").root.glob("*"))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    assert opened.folders() == sorted(run.id for run in opened.runs), "nothing of a run that was not made stays"
    opened.store.close()


def planned_minutes(office: Office) -> list[int]:
    first = office.start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return [round((firing.planned_at - first).total_seconds() / 60) for firing in office.firings]


def test_a_time_that_has_come_makes_one_run_that_says_for_which(office: Office) -> None:
    office.add(overrides={"env.EPOCHS": "3"})
    assert office.at(-1) == 0 and office.runs == []
    assert office.at(0) == 1
    [run] = office.runs
    at = office.firings[0].planned_at
    assert run.notes["schedule"] == {"id": "s-1", "name": "nightly", "planned_at": at.isoformat()}
    assert run.spec["env"] == {"EPOCHS": "3"} and run.phase is Phase.QUOTE and office.store.next_due() == 0
    assert office.home.run(run.id).bundle.stat().st_size > 0
    assert "by schedule nightly" in office.store.events(run.id)[0].text
    assert (office.kinds, office.firings[0].run_id, planned_minutes(office)) == (["fired"], run.id, [0])
    assert office.at(1) == 0, "not twice"
    office.end(run.id)
    office.at(60)
    assert planned_minutes(office) == [0, 60] and len(office.runs) == 2


def test_the_job_is_taken_as_it_is_then(office: Office) -> None:
    office.add()
    office.file.write_text(YAML.replace("mnist", "later"))
    (office.file.parent / "train.py").write_text("print()\n")
    office.at(0)
    assert office.runs[0].name == "later" and office.runs[0].notes["bundle_files"] == 2


def test_a_frozen_job_is_taken_as_it_was(office: Office) -> None:
    office.add(frozen=True)
    before = office.home.schedule("s-1").bundle.read_bytes()
    office.file.unlink()
    office.at(0)
    [run] = office.runs
    folder = office.home.run(run.id)
    assert (run.name, folder.spec.read_text(), folder.bundle.read_bytes()) == ("mnist", YAML, before)
    assert len(run.notes["bundle_digest"]) == 64


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.unlink(), "there is no .*train.yaml any more"),
        (lambda file: file.write_text("name: x\nrun: true\nimages: y\n"), r"train.yaml:3:1: images: unknown key"),
        (lambda file: file.write_text("run: 'true'\nsecrets: [HF_TOKEN]\n"), "HF_TOKEN not set"),
        (lambda file: (file.parent / "away").symlink_to("/etc/passwd"), "away is a link to /etc/passwd"),
    ],
)
def test_a_job_that_is_missing_or_wrong_is_told_and_tried_again_the_next_time(
    office: Office, spoil: Any, words: str
) -> None:
    office.add()
    spoil(office.file)
    office.at(0)
    assert office.runs == [] and office.kinds == ["failed"]
    assert re.search(words, office.firings[0].text)
    (office.file.parent / "away").unlink(missing_ok=True)
    office.file.write_text(YAML)
    office.at(60)
    assert office.kinds == ["failed", "fired"]


def test_a_bug_is_told_and_no_crash(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add()

    def buggy(*_: Any, **__: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(submission, "prepare", buggy)
    office.at(0)
    assert office.kinds == ["failed"] and "a bug in gpujob: KeyError" in office.firings[0].text


def test_one_schedule_that_cannot_be_reckoned_does_not_stop_the_others(office: Office) -> None:
    first = office.add()
    office.store.timetable.add(replace(first, id="s-0", name="broken", cron="61 * * * *"))
    office.home.schedule("s-0").root.mkdir()
    office.at(0)
    assert len(office.runs) == 1


@pytest.mark.parametrize(
    ("missed", "kinds", "minutes"), [("skip", ["skipped"], [300]), ("once", ["skipped", "fired"], [0, 300])]
)
def test_times_at_which_the_computer_was_off(office: Office, missed: str, kinds: list[str], minutes: list[int]) -> None:
    """Five hours off: nothing, or one run for all of them; never all of them."""
    office.add(missed=Missed(missed))
    office.at(311)
    assert (office.kinds, planned_minutes(office)) == (kinds, minutes)
    assert "no controller was there" in office.firings[0].text
    assert office.at(312) == 0 and len(office.runs) == kinds.count("fired")
    for run in office.runs:
        office.end(run.id)
    office.at(360)
    assert office.kinds == [*kinds, "fired"]


def test_a_controller_that_is_back_within_minutes_fires_the_last_time(office: Office) -> None:
    office.add("* * * * *")
    office.at(-55, look=False)
    office.at(-51)
    assert office.kinds == ["skipped", "fired"] and len(office.runs) == 1


def test_a_long_pause_of_a_schedule_by_the_minute_takes_no_time(office: Office) -> None:
    office.add("* * * * *", missed=Missed.ONCE)
    office.at(60 * 24 * 900)
    assert office.kinds == ["skipped", "fired"]


def test_overlap_skip(office: Office) -> None:
    office.add()
    office.at(0)
    office.at(60)
    assert office.kinds == ["fired", "skipped"]
    assert office.firings[1].text == f"{office.runs[0].id} still went on"


def test_overlap_queue_lets_one_wait(office: Office) -> None:
    office.add(overlap=Overlap.QUEUE)
    for minutes in (0, 60, 120, 180):
        office.at(minutes)
    assert office.kinds == ["fired", "waiting", "skipped", "skipped"] and len(office.runs) == 1
    assert not office.runs[0].cancel_requested_at
    office.end(office.runs[0].id)
    office.at(181)
    assert office.kinds == ["fired", "fired", "skipped", "skipped"] and len(office.runs) == 2
    assert office.runs[1].notes["schedule"]["planned_at"] == office.firings[1].planned_at.isoformat()
    assert office.row.waiting_at is None


def test_overlap_replace_cancels_and_waits_for_the_end(office: Office) -> None:
    office.add(overlap=Overlap.REPLACE)
    office.at(0)
    office.at(60)
    [old] = office.runs
    assert old.cancel_requested_at is not None and office.kinds == ["fired", "waiting"]
    office.at(61)
    assert len(office.runs) == 1, "its end is waited for"
    office.at(120)
    assert office.kinds == ["fired", "skipped", "waiting"], "the newest waits"
    office.end(old.id)
    office.at(121)
    assert office.kinds == ["fired", "skipped", "fired"] and len(office.runs) == 2


def test_a_cancel_that_a_dying_controller_did_not_ask_for_is_asked_for_by_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.add(overlap=Overlap.REPLACE)
    office.at(0)
    with monkeypatch.context() as dying:
        dying.setattr(office.store, "request_cancel", lambda _: (_ for _ in ()).throw(StoreBusy("gone")))
        with pytest.raises(StoreBusy):
            office.at(60)
    assert office.runs[0].cancel_requested_at is None
    office.at(61)
    assert office.runs[0].cancel_requested_at is not None


def test_a_time_that_comes_while_the_one_that_waited_is_let_go_waits_in_its_turn(office: Office) -> None:
    office.add(overlap=Overlap.QUEUE)
    office.at(0)
    office.at(60)
    office.end(office.runs[0].id)
    office.at(120)
    office.at(120)
    assert office.kinds == ["fired", "fired", "waiting"]


def test_a_budget_that_is_used_up_skips_until_the_month_is_over(office: Office) -> None:
    """The clock begins on 2026-11-21."""
    office.add("0 0 * * *", monthly_usd=Decimal("1.00"))
    midnight = datetime.fromisoformat("2026-11-22T00:00:00+00:00")

    def day(number: int) -> None:
        office.clock.advance((midnight + timedelta(days=number) - office.clock()).total_seconds())
        schedules.fire_due(office.world)

    day(0)
    office.end(office.runs[0].id, "0.60")
    day(1)
    office.end(office.runs[1].id, "0.55")
    for number in range(2, 10):
        day(number)
    assert office.kinds == ["fired"] * 2 + ["skipped"] * 7 + ["fired"]
    assert office.firings[2].text == "its $1.00 for 2026-11 are used up: $1.15 is spent"
    assert f"{office.firings[-1].planned_at:%Y-%m-%d}" == "2026-12-01"


def test_what_waits_is_skipped_when_the_run_before_it_used_the_budget_up(office: Office) -> None:
    office.add(overlap=Overlap.QUEUE, monthly_usd=Decimal("1.00"))
    office.at(0)
    office.at(60)
    office.end(office.runs[0].id, "1.00")
    office.at(61)
    assert office.kinds == ["fired", "skipped"] and "used up" in office.firings[1].text


def test_the_delay_is_kept_and_is_no_lateness(office: Office) -> None:
    row = office.add(jitter_seconds=3000)
    assert row.due_at is not None and row.planned_at is not None
    delay = (row.due_at - row.planned_at).total_seconds() / 60
    assert 6 < delay < 50, "this one is longer than a time may be late"
    assert office.at(delay - 0.1) == 0
    office.at(delay)
    assert (office.kinds, planned_minutes(office)) == (["fired"], [0])


def test_a_time_whose_delay_is_not_over_is_not_fired_with_those_that_were_missed(office: Office) -> None:
    row = office.add(jitter_seconds=3500, missed=Missed.ONCE)
    assert row.planned_at is not None
    delay = next(
        d for d in (schedules.due(row, row.planned_at + timedelta(hours=n)) for n in range(3, 9)) if d.minute > 5
    )
    hour = (delay.replace(minute=0) - row.planned_at).total_seconds() // 3600
    office.at(hour * 60 + 1)
    assert planned_minutes(office) == [0, (hour - 1) * 60], "the hour's own time has its delay before it"
    office.end(office.runs[0].id)
    office.at(hour * 60 + delay.minute + 1)
    assert planned_minutes(office) == [0, (hour - 1) * 60, hour * 60]


def test_what_a_run_cost_last_month_is_not_counted(office: Office) -> None:
    office.add("0 0 * * *", monthly_usd=Decimal("1.00"), overlap=Overlap.QUEUE)
    office.at(60 * 11)
    [run] = office.runs
    november = office.clock()
    office.clock.advance(60 * 60 * 24 * 12)
    store = office.store
    [lease] = store.claim("c", limit=1, lease_seconds=30)
    over = replace(lease.run, phase=Phase.DONE, ended_at=office.clock())
    charges = [a_charge(run.id, "5.00", start=november), a_charge(run.id, "0.25", start=office.clock())]
    store.save(lease, over, charges=charges, due_in=None)
    assert schedules.spent(store, "s-1", office.clock()) == Decimal("0.25")
    assert schedules.spent(store, "s-1", november) == Decimal("5.25")


def test_a_paused_schedule_does_nothing_and_forgets_what_waited(office: Office) -> None:
    office.add(overlap=Overlap.QUEUE)
    office.at(0)
    office.at(60)
    office.store.timetable.pause("s-1")
    office.end(office.runs[0].id)
    assert office.at(300) == 0
    assert [(f.kind, f.text) for f in office.firings[1:]] == [(FiringKind.SKIPPED, "paused while it waited")]
    again = schedules.planned(office.row, office.clock())
    office.store.timetable.resume("s-1", planned_at=again.planned_at, due_at=again.due_at)
    office.at(360)
    assert planned_minutes(office) == [0, 60, 360], "what passed while it was paused was not missed"


def test_a_schedule_of_another_home_is_left_to_it(office: Office) -> None:
    office.add()
    elsewhere = Home(office.home.root / "elsewhere")
    office.at(0, look=False)
    assert schedules.fire_due(replace(office.world, home=elsewhere)) == 0
    assert schedules.fire_due(office.world) == 1


def test_a_run_by_hand_is_marked_and_changes_no_time(office: Office) -> None:
    row = office.add()
    made = schedules.fire_by_hand(row, store=office.store, home=office.home, env={}, say=print)
    assert office.store.run(made.id).notes["schedule"]["planned_at"] == office.clock().isoformat()
    assert office.row == row and office.firings[0].text == "by hand"
    office.at(0)
    assert office.kinds == ["fired", "skipped"], "it counts as the last run"


def test_who_lost_the_turn_makes_no_run(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was paused while the job was packed."""
    office.add()
    really = submission.pack

    def slow(*arguments: Any, **named: Any) -> Any:
        office.store.timetable.pause("s-1")
        return really(*arguments, **named)

    monkeypatch.setattr(submission, "pack", slow)
    office.at(0)
    assert office.runs == [] and office.firings == []


def test_a_store_that_does_not_answer_delays_a_time(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add()
    with monkeypatch.context() as busy:
        busy.setattr(office.store.timetable, "settle", lambda *_, **__: (_ for _ in ()).throw(StoreBusy("held")))
        with pytest.raises(StoreBusy):
            office.at(0)
    assert office.at(0.5) == 0, "the turn is still taken"
    assert office.at(1.1) == 1 and office.kinds == ["fired"]


def test_the_watch_goes_on_after_trouble_and_ends_when_told(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add()
    office.at(0, look=False)
    over, due, looks = threading.Event(), office.store.timetable.due, []
    monkeypatch.setattr(schedules, "LOOK_SECONDS", 0.0)

    def look() -> list[str]:
        looks.append(1)
        if len(looks) == 1:
            raise StoreBusy("held")
        if len(looks) == 3:
            over.set()
        return due()

    monkeypatch.setattr(office.store.timetable, "due", look)
    schedules.watch(office.world, over)
    assert len(looks) == 3 and office.kinds == ["fired"]
