"""What the clouds hold and no run claims: found by its owner, and given a run of its own that ends it and pays for it.

The clouds are asked before the store is read: a machine's name is in the store before the machine is made, so a name
that is only in the list is nobody's. Decides what is whose. Ending it, looking until its cloud says "not found", and
booking what it cost are the phases' work, as for every other machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain, count, repeat

from orchestrator import ledger, unclear
from orchestrator.clouds import ask_all
from orchestrator.records import Attempt, AttemptOutcome, Event, Json, Outcome, Phase, Run
from orchestrator.rounds import surviving
from orchestrator.same_account import ACCOUNT, account_of
from orchestrator.store.errors import StoreConflict, StoreError
from orchestrator.store.store import Store
from orchestrator.submission import new_run_id
from orchestrator.world import World
from providers.base import Instance, InstanceStatus, Provider
from providers.errors import NotFound, ProviderError, Throttled

LIST_SECONDS = 60.0  # for one cloud, with all its regions
TURNS, LONGEST_TURN = 4, 10.0  # how often, and for how many seconds at most, a busy cloud is waited for
FIRST_PAUSES = (60.0, 180.0)  # seconds from one look to the next: what went wrong did so a moment ago
PAUSE = 600.0
UNCLEAR_PAUSE = 20.0  # while a create that nobody answered may still bring a machine
LIST_AGE = timedelta(minutes=1)  # a list may be so old, from another look of the same process
NEWBORN = timedelta(minutes=1)  # what another computer has just ordered is left alone
OVERDUE = timedelta(minutes=10)  # past its own deadline, a machine's switch has failed

_NOT_UP = (InstanceStatus.PENDING, InstanceStatus.BOOTING)

MADE_FOR = "made_for"  # in the notes of a run that a reaper made: whose machine it ends

log = logging.getLogger("gpujob.reaper")


class Verdict(StrEnum):
    """Whose a machine is."""

    CLAIMED = "claimed"  # a run that goes on looks after it
    NEWBORN = "newborn"  # just made, for a run that this store does not know
    UNKNOWN_RUN = "unknown_run"  # made for a run that this store does not know: another computer's, or a lost store's
    STRAY = "stray"  # its run is over, or has gone on without it


@dataclass(frozen=True, kw_only=True)
class Found:
    """A machine, or what is left of one, that a cloud showed; `why` is for a person."""

    instance: Instance
    verdict: Verdict
    why: str
    run: Run | None = None  # the one that claims it, or that it was made for, where the store knows it
    booked: bool = False  # an attempt of that run has paid for it

    @property
    def is_being_ended(self) -> bool:
        """Whether what claims it is a run that a reaper made."""
        return self.verdict is Verdict.CLAIMED and self.run is not None and MADE_FOR in self.run.notes


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the clouds hold of an owner's, and the clouds that did not say."""

    found: Sequence[Found]
    unheard: Mapping[str, ProviderError]


def look(world: World, owner: str, names: Sequence[str] = ()) -> Look:
    """Ask all clouds that can be used (or those of these names), all at once, then the store."""
    if not owner:
        raise ValueError("an owner is needed: without one, everybody's machines would be listed")
    began = world.clock()
    opened, unheard = _opened(world, names or world.provider_names())
    answers = ask_all(opened, lambda provider: _listed(provider, owner), seconds=LIST_SECONDS)
    listed: list[Instance] = []
    for name, answer in answers.items():
        if isinstance(answer, ProviderError):
            unheard[name] = answer
        else:
            listed += answer
    claims = _Claims.read(world.store, {instance.run_id for instance in listed}, ended_after=began - LIST_AGE)
    ids = {(instance.provider, instance.id) for instance in listed}
    now = world.clock()
    return Look(found=[_judge(instance, claims, ids, now) for instance in listed], unheard=unheard)


def adopt(world: World, found: Found) -> Run | None:
    """A run of its own for the machine, in whose teardown it is. None when it is gone, or another one was faster.

    Raises ProviderError when its cloud cannot be asked, and StoreError.
    """
    provider = world.provider(found.instance.provider)
    account = account_of(provider)
    try:
        instance = provider.get(found.instance.id)
    except NotFound:
        return None  # the list was late
    run_id = new_run_id(world.store, world.home)
    run, attempt = _rows(run_id, found, instance, account, world.store.now())
    at, what = run.created_at, f"{instance.name} ({instance.id})"
    events = [_event(run, at, f"{instance.provider} holds {what}: {found.why}. It is ended")]
    if found.run is not None:
        events.append(_event(found.run, at, f"{what} was left at {instance.provider}: run {run_id} ends it"))
    try:
        world.store.add_run(run, events, attempts=[attempt])
    except StoreError as error:
        world.home.run(run_id).root.rmdir()
        if not isinstance(error, StoreConflict):
            raise
        provider.terminate(instance.id)  # one that was ended before, and is there again: that run has paid for it
        return None
    return run


@dataclass
class Reaper:
    """One controller's looks. What may be another computer's is only ended when it is past its own deadline."""

    world: World
    owner: str
    clouds: Sequence[str] = ()  # all, when none are named
    _told: set[str] = field(default_factory=set)

    def watch(self, stop: threading.Event) -> None:
        """Look now, often at first, then on a period, until told to stop."""
        for pause in chain(FIRST_PAUSES, repeat(PAUSE)):
            self.look_once()
            ends = time.monotonic() + pause
            while (left := ends - time.monotonic()) > 0:
                if stop.wait(min(left, UNCLEAR_PAUSE)):
                    return
                if self._something_may_appear():
                    self.look_once()

    def look_once(self) -> int:
        """One look, and a run for everything that no run claims. Returns how many; what fails is looked at again."""
        return surviving("looking for machines that no run claims", self._look, otherwise=0, log=log)

    def _look(self) -> int:
        seen = look(self.world, self.owner, self.clouds)
        for name, silence in seen.unheard.items():
            log.warning("%s did not say what it holds: %s", name, silence)
        return sum(self._take(found) for found in seen.found if self._is_ours_to_end(found))

    def _something_may_appear(self) -> bool:
        def names() -> bool:
            return bool(unclear.names(self.world.store))

        return surviving("looking for creates that nobody answered", names, otherwise=False, log=log)

    def _is_ours_to_end(self, found: Found) -> bool:
        if found.verdict is not Verdict.UNKNOWN_RUN:
            return found.verdict is Verdict.STRAY
        deadline = found.instance.deadline
        if deadline is not None and self.world.clock() - deadline > OVERDUE:
            return True
        if found.instance.name not in self._told:
            self._told.add(found.instance.name)
            log.warning("%s holds %s: %s", found.instance.provider, found.instance.name, found.why)
        return False

    def _take(self, found: Found) -> bool:
        run = surviving(found.instance.name, lambda: self._adopted(found), otherwise=None, log=log)
        if run is not None:
            log.warning("%s: %s is ended: %s", run.id, found.instance.name, found.why)
        return run is not None

    def _adopted(self, found: Found) -> Run | None:
        try:
            return adopt(self.world, found)
        except ProviderError as error:
            log.warning("%s is looked at again: %s", found.instance.name, error)
            return None


@dataclass(frozen=True)
class _Claims:
    """What the runs of the store hold, by the machine's name and by its id."""

    runs: Mapping[str, Run]
    names: Mapping[tuple[str, str], tuple[Run, Attempt]]
    ids: Mapping[tuple[str, str], tuple[Run, Attempt]]
    paid: frozenset[tuple[str, str]]  # ids that an attempt had

    @classmethod
    def read(cls, store: Store, run_ids: Iterable[str], *, ended_after: datetime) -> _Claims:
        """A machine that its run has ended since is that run's too: the list may be from before."""
        runs = {run.id: run for run in store.runs(active=True)}
        runs |= {run.id: run for run in store.some_runs(sorted(set(run_ids) - set(runs)))}
        attempts = store.attempts_of(list(runs))
        held = [
            (run, attempt) for run in runs.values() for attempt in attempts[run.id] if _holds(run, attempt, ended_after)
        ]
        return cls(
            runs,
            {(attempt.provider, attempt.machine): (run, attempt) for run, attempt in held},
            {(attempt.provider, attempt.instance_id or ""): (run, attempt) for run, attempt in held},
            frozenset((one.provider, one.instance_id or "") for rows in attempts.values() for one in rows),
        )


def _holds(run: Run, attempt: Attempt, ended_after: datetime) -> bool:
    if attempt.gone_at is not None:
        return attempt.gone_at > ended_after
    return not run.is_over and attempt.number == run.attempt


def _opened(world: World, names: Iterable[str]) -> tuple[list[Provider], dict[str, ProviderError]]:
    opened: list[Provider] = []
    unheard: dict[str, ProviderError] = {}
    for name in names:
        try:
            opened.append(world.provider(name))
        except Exception as error:  # its bug, or its configuration's, must not hide the other clouds
            unheard[name] = ProviderError(f"{type(error).__name__}: {error}", provider=name)
    return opened, unheard


def _listed(provider: Provider, owner: str) -> Sequence[Instance]:
    """Nothing where we never could have made anything. A cloud that is asked too often is asked again in its turn."""
    if provider.unusable() is not None:
        return ()
    for turn in count(1):
        try:
            return [instance for instance in provider.list(owner) if instance.owner == owner]
        except Throttled as error:
            if turn == TURNS:
                raise
            time.sleep(min(error.after, LONGEST_TURN))
    raise AssertionError("unreachable")


def _judge(instance: Instance, claims: _Claims, listed: set[tuple[str, str]], now: datetime) -> Found:
    by_id, by_name = (instance.provider, instance.id), (instance.provider, instance.name)
    if (claim := claims.ids.get(by_id)) is not None:
        return _claimed(instance, claim[0])
    if (claim := claims.names.get(by_name)) is not None and (claim[1].provider, claim[1].instance_id) not in listed:
        # It was just made, or is what is left of the machine. A second one of the name is shown beside the first.
        return _claimed(instance, claim[0])
    run = claims.runs.get(instance.run_id)
    if run is None and now - instance.created_at < NEWBORN:
        return _found(instance, Verdict.NEWBORN, f"just made for run {instance.run_id}, which is not in this store")
    if run is None:
        return _found(instance, Verdict.UNKNOWN_RUN, f"run {instance.run_id} is not in this store")
    why = f"run {run.id} is over" if run.is_over else f"run {run.id} has gone on without it"
    return Found(instance=instance, verdict=Verdict.STRAY, why=why, run=run, booked=by_id in claims.paid)


def _claimed(instance: Instance, run: Run) -> Found:
    return Found(instance=instance, verdict=Verdict.CLAIMED, why=f"run {run.id} looks after it", run=run)


def _found(instance: Instance, verdict: Verdict, why: str) -> Found:
    return Found(instance=instance, verdict=verdict, why=why)


def _rows(run_id: str, found: Found, instance: Instance, account: str, now: datetime) -> tuple[Run, Attempt]:
    """A run whose only attempt is about to be torn down. What was paid for once is not booked again."""
    name, verdict = f"stray-{instance.name}", {"outcome": Outcome.REAPED.value, "error": None}
    run = Run(
        id=run_id,
        name=name,
        owner=instance.owner,
        project=found.run.project if found.run else "default",
        spec=found.run.spec if found.run else _nothing_to_run(name),
        created_at=now,
        phase=Phase.TEARDOWN,
        phase_since=now,
        due_at=now,
        attempt=1,
        notes={"verdict": verdict, MADE_FOR: {"run": instance.run_id, "attempt": instance.attempt}},
    )
    attempt = Attempt(
        run_id=run_id,
        number=1,
        machine=f"{instance.name}@{instance.id}",  # the name itself is that of the attempt which it was made for
        provider=instance.provider,
        offer={"offer_id": "", "provider": instance.provider, "region": instance.region},
        created_at=instance.created_at,
        instance_id=instance.id,
        host_id=instance.host_id,
        usd_per_hour=instance.usd_per_hour or ledger.hourly(instance.meters),
        meters=[] if found.booked else ledger.meters_to_json(instance.meters),
        billing_from=None if found.booked or not instance.meters else instance.created_at,
        running_from=None if instance.status in _NOT_UP or not instance.meters else instance.created_at,
        outcome=AttemptOutcome.REAPED,
        error=found.why,
        notes={
            "cloud_name": instance.name,
            "asked_at": (found.run or instance).created_at.isoformat(),
            "paid_by_its_run": found.booked,
            ACCOUNT: account,
        },
    )
    return run, attempt


def _nothing_to_run(name: str) -> Json:
    from jobs.spec import Spec

    return Spec.model_validate({"name": name, "run": "true"}).to_json()


def _event(run: Run, at: datetime, text: str) -> Event:
    return Event(run_id=run.id, attempt=run.attempt, at=at, phase=run.phase, kind="warning", text=text)
