"""Schedules: what comes of a time that has come, and the run that is made of the job as it is then.

`decide` is pure; `fire_due` is what a controller does every few seconds, beside its runs. A schedule belongs to the
home in which it was added: its folder is there. Advances no run; of cron only `cron.py` knows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from jobs.bundle import BundleError
from jobs.problems import SpecError
from orchestrator import cron, ledger, making, schedule_notices, spending
from orchestrator.budgets import month_starts
from orchestrator.home import Home
from orchestrator.making import Made
from orchestrator.records import FiringKind, Missed, Overlap
from orchestrator.reports.words import money
from orchestrator.secrets import SecretMissing, SecretsFileOpen
from orchestrator.store.accounts import month_of
from orchestrator.store.engine import Write
from orchestrator.store.errors import LeaseLost, StoreBroken, StoreError, StoreTooNew
from orchestrator.store.rows import FiringRow, ScheduleRow
from orchestrator.store.store import Store
from orchestrator.store.timetable import Turn
from orchestrator.submission import SubmissionError
from orchestrator.world import World

LOOK_SECONDS = 2.0  # between two looks whether a time has come
OVERDUE_SECONDS = 10.0  # a time that nobody has looked at for so long waits for a controller
LEASE_SECONDS = 60.0
MISSED_SECONDS = 300.0  # a time that is later than this was missed
WAIT_SECONDS = 5.0  # between two looks whether the run that is waited for is over

# The job is at fault, or this computer: the next time may be a better one.
_NOT_NOW = (SpecError, SubmissionError, SecretMissing, SecretsFileOpen, BundleError, OSError)

log = logging.getLogger("gpujob.controller")


@dataclass(frozen=True)
class Decision:
    """What is to be done now: a time to fire, and the schedule as it is then."""

    moved: ScheduleRow
    fires: datetime | None = None
    became: tuple[FiringRow, ...] = ()


def planned(schedule: ScheduleRow, after: datetime) -> ScheduleRow:
    """With its next time after a moment."""
    at = cron.next_time(schedule.cron, schedule.tz, after)
    return replace(schedule, planned_at=at, due_at=None if at is None else due(schedule, at))


def due(schedule: ScheduleRow, planned_at: datetime) -> datetime:
    """When a time is fired: a little later, by the schedule's jitter."""
    return planned_at + cron.jitter(schedule.id, planned_at, schedule.jitter_seconds)


def is_overdue(schedule: ScheduleRow, now: datetime) -> bool:
    """Whether a controller, if there were one, would have looked at its next time by now."""
    if schedule.planned_at is None or schedule.paused_at is not None:
        return False
    return now - due(schedule, schedule.planned_at) > timedelta(seconds=OVERDUE_SECONDS)


def coming(schedule: ScheduleRow, after: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Its next times, each with when it is fired."""
    return ((at, due(schedule, at)) for at in cron.times(schedule.cron, schedule.tz, after))


def used_up(schedule: ScheduleRow, spent: Decimal, now: datetime) -> str | None:
    """Why its budget has nothing left."""
    if schedule.monthly_usd is None or spent < schedule.monthly_usd:
        return None
    return f"its {money(schedule.monthly_usd)} for {month_of(now)} are used up: {money(spent)} is spent"


def decide(schedule: ScheduleRow, now: datetime, *, going: str | None, no_money: str | None) -> Decision:
    """What comes of a schedule that is due. `going` is its run that is not over; `no_money` why it may have none.

    What waits comes first, by itself: the times that have come meanwhile are looked at again right after.
    """
    if schedule.waiting_at is not None and going is None:
        freed = _looked_at(replace(schedule, waiting_at=None), now)
        if no_money:
            return Decision(freed, became=(_skipped(schedule, schedule.waiting_at, now, no_money),))
        return Decision(freed, fires=schedule.waiting_at)
    at = _newest_due(schedule, now)
    if at is None or schedule.planned_at is None:
        return Decision(_looked_at(schedule, now))
    moved = _looked_at(planned(schedule, at), now)
    since = f", like all since {_utc(schedule.planned_at)}" if at != schedule.planned_at else ""
    if schedule.missed is Missed.SKIP and now - due(schedule, at) > timedelta(seconds=MISSED_SECONDS):
        return Decision(moved, became=(_skipped(schedule, at, now, f"missed{since}: no controller was there"),))
    missed = (_missed_before(schedule, at, now),) if since else ()
    if no_money:
        return Decision(moved, became=(*missed, _skipped(schedule, at, now, no_money)))
    if going is None:
        return Decision(moved, fires=at, became=missed)
    return _overlapping(schedule, moved, at, now, going, missed)


def fire_due(world: World) -> int:
    """Look at every schedule of this home that is due. Returns how many had their turn."""
    turns = 0
    for schedule_id in world.store.timetable.due():
        if not world.home.schedule(schedule_id).root.exists():
            continue  # another home's: it has the file
        turn = world.store.timetable.claim(schedule_id, lease_seconds=LEASE_SECONDS)
        if turn is None:
            continue
        turns += 1
        try:
            with _kept(world.store, turn):
                _take(world, turn)
        except LeaseLost as error:
            log.warning("%s", error)
        except StoreError:
            raise
        except Exception:
            log.exception("schedule %s: tried again when the lease has run out", turn.schedule.name)
    return turns


def watch(world: World, over: threading.Event) -> None:
    """Fire what is due, and tell what is over, until `over` is set."""
    while not over.is_set():
        try:
            fire_due(world)
            schedule_notices.deliver_beside(world)
        except (StoreBroken, StoreTooNew):
            log.exception("no schedule is looked at any more")
            return
        except StoreError as error:
            log.warning("schedules: trying again: %s", error)
        over.wait(LOOK_SECONDS)


def fire_by_hand(
    schedule: ScheduleRow, *, store: Store, home: Home, env: Mapping[str, str], say: Callable[[str], None]
) -> Made:
    """A run or a sweep now, because a person wants it, whatever the schedule says. Raises what `submission` raises."""
    now = store.now()
    fired = _became(schedule, now, now, FiringKind.FIRED, "by hand")

    def add(made: Made, write: Write) -> None:
        store.timetable.fire_by_hand(_marked(fired, made), write)

    return making.make(schedule, now, store=store, home=home, env=env, add=add, say=say)


def spent(store: Store, schedule_id: str, now: datetime) -> Decimal:
    """Dollars of its runs in this month, UTC: what is booked, and what has accrued."""
    start = month_starts(now)
    runs = store.some_runs(store.timetable.runs_since(schedule_id, start))
    attempts = store.attempts_of([run.id for run in runs])
    charges = (charge for run in runs for charge in spending.charges(store, run, attempts[run.id]))
    return ledger.total(charge for charge in charges if charge.start >= start)


def _overlapping(
    schedule: ScheduleRow, moved: ScheduleRow, at: datetime, now: datetime, going: str, missed: tuple[FiringRow, ...]
) -> Decision:
    """A time has come while its last run goes on."""
    if schedule.overlap is Overlap.SKIP:
        return Decision(moved, became=(*missed, _skipped(schedule, at, now, f"{going} still went on")))
    waiting = schedule.waiting_at
    if waiting is not None and schedule.overlap is Overlap.QUEUE:
        text = f"{going} still went on, and {_utc(waiting)} waited already"
        return Decision(moved, became=(*missed, _skipped(schedule, at, now, text)))
    if waiting is not None:
        missed = (*missed, _skipped(schedule, waiting, now, f"{_utc(at)} came before {going} was over"))
    waits = _became(schedule, at, now, FiringKind.WAITING, f"for the end of {going}")
    return Decision(_looked_at(replace(moved, waiting_at=at), now), became=(*missed, waits))


def _looked_at(schedule: ScheduleRow, now: datetime) -> ScheduleRow:
    """Due again for its next time, and soon while something waits."""
    times = [due(schedule, schedule.planned_at)] if schedule.planned_at else []
    if schedule.waiting_at is not None:
        times.append(now + timedelta(seconds=WAIT_SECONDS))
    return replace(schedule, due_at=min(times, default=None))


def _newest_due(schedule: ScheduleRow, now: datetime) -> datetime | None:
    """The last of the times that have come: all before it were missed."""
    first = schedule.planned_at
    if first is None or due(schedule, first) > now:
        return None
    at = cron.newest(schedule.cron, schedule.tz, first, now)
    if at > first and due(schedule, at) > now:  # only the last one can still be delayed: a step is longer than that
        at = cron.newest(schedule.cron, schedule.tz, first, at - timedelta(microseconds=1))
    return at


def _missed_before(schedule: ScheduleRow, at: datetime, now: datetime) -> FiringRow:
    assert schedule.planned_at is not None
    text = f"missed, like all before {_utc(at)}: no controller was there"
    return _skipped(schedule, schedule.planned_at, now, text)


def _skipped(schedule: ScheduleRow, at: datetime, now: datetime, why: str) -> FiringRow:
    return _became(schedule, at, now, FiringKind.SKIPPED, why)


def _became(schedule: ScheduleRow, at: datetime, now: datetime, kind: FiringKind, text: str) -> FiringRow:
    is_told = schedule.names_somebody and kind in (FiringKind.FIRED, FiringKind.FAILED)
    return FiringRow(
        schedule_id=schedule.id, planned_at=at, at=now, kind=kind, text=text, tell_at=now if is_told else None
    )


def _take(world: World, turn: Turn) -> None:
    """One turn: decide, make the run, and move the schedule on with it."""
    schedule, store, now = turn.schedule, world.store, world.store.now()
    going = next(iter(store.timetable.going(schedule.id)), None)
    no_money = used_up(schedule, spent(store, schedule.id, now), now) if schedule.monthly_usd is not None else None
    decision = decide(schedule, now, going=going, no_money=no_money)
    if decision.fires is not None:
        _fire(world, turn, decision, decision.fires, now)
    else:
        store.timetable.settle(turn, decision.moved, became=decision.became)
    for became in decision.became:
        log.info("schedule %s: %s %s: %s", schedule.name, _utc(became.planned_at), became.kind, became.text)
    if going and decision.moved.waiting_at is not None and schedule.overlap is Overlap.REPLACE:
        store.request_cancel(going)  # at every look, so that a controller that dies here has forgotten nothing


def _fire(world: World, turn: Turn, decision: Decision, at: datetime, now: datetime) -> None:
    schedule, timetable = turn.schedule, world.store.timetable

    fired = _became(schedule, at, now, FiringKind.FIRED, "")

    def add(made: Made, write: Write) -> None:
        timetable.settle(turn, decision.moved, became=(*decision.became, _marked(fired, made)), write=write)

    try:
        made = making.make(schedule, at, store=world.store, home=world.home, env=world.env, add=add)
    except StoreError:
        raise  # nothing was written: it is still due
    except Exception as error:
        expected = isinstance(error, _NOT_NOW)
        if not expected:
            log.exception("schedule %s", schedule.name)
        text = str(error) if expected else f"a bug in gpujob: {type(error).__name__}: {error}"
        failed = _became(schedule, at, now, FiringKind.FAILED, text)
        timetable.settle(turn, decision.moved, became=(*decision.became, failed))
        log.warning("schedule %s: %s was not fired: %s", schedule.name, _utc(at), text)
    else:
        log.info("schedule %s: %s is %s", schedule.name, _utc(at), made.id)


def _marked(firing: FiringRow, made: Made) -> FiringRow:
    return replace(firing, run_id=made.run_id, sweep_id=made.sweep_id)


@contextmanager
def _kept(store: Store, turn: Turn) -> Iterator[None]:
    """Keep the turn while the job is packed, which takes as long as its files are large; a dead process keeps none."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_SECONDS / 4):
            try:
                store.timetable.renew(turn, lease_seconds=LEASE_SECONDS)
            except StoreError as error:
                log.warning("a schedule's lease could not be renewed: %s", error)

    keeper = threading.Thread(target=renew, name="schedule", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
