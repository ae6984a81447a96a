"""One visit of one run by one worker: what a phase function is given, and what it gives back.

Owns no decision: the phases make them. Knows how a visit's notes, events and charges are gathered until they are saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from jobs.machine import Machine
from jobs.spec import Spec
from orchestrator import ledger
from orchestrator.home import AttemptFolder, RunFolder
from orchestrator.records import Attempt, AttemptOutcome, ChargeRow, Event, Json, Phase, Run
from orchestrator.store.store import Lease
from orchestrator.world import World, access_from_json
from providers.base import Instance, InstanceStatus, Provider

LONGEST_STEP = 60.0  # seconds; of what lies between two looks, no more is taken for waiting
_RUNS_NO_MORE = (
    InstanceStatus.STOPPED,
    InstanceStatus.TERMINATING,
    InstanceStatus.FAILED,
    InstanceStatus.PREEMPTED,
)
LONGEST_TEXT = 4000  # of an event
NOTED_EVERY = 10.0  # seconds; noted less often than looked, as each note is a write


@dataclass(frozen=True)
class Next:
    """Where a run goes after a visit, and in how many seconds it is looked at again."""

    phase: Phase
    delay: float = 0.0


@dataclass
class Visit:
    """The run, its current attempt, and what this visit has to say about them."""

    run: Run
    attempt: Attempt | None
    world: World
    lease: Lease
    specs: dict[str, Spec]  # by run, as they were read by earlier visits
    events: list[Event] = field(default_factory=list)
    charges: list[ChargeRow] = field(default_factory=list)
    changed: bool = False

    @property
    def now(self) -> datetime:
        return self.world.clock()

    @property
    def spec(self) -> Spec:
        """Read when a phase needs it: a row that another version wrote must not keep its machine from being ended."""
        if self.run.id not in self.specs:
            self.specs[self.run.id] = Spec.from_json(self.run.spec)
        return self.specs[self.run.id]

    @property
    def image(self) -> str | None:
        """What the job runs in: the image that it names, or the one that was built for it."""
        return self.run.notes.get("image") or self.spec.image

    @property
    def folder(self) -> RunFolder:
        return self.world.home.run(self.run.id)

    @property
    def current(self) -> Attempt:
        assert self.attempt is not None, f"run {self.run.id} has no attempt in phase {self.run.phase}"
        return self.attempt

    @property
    def attempt_folder(self) -> AttemptFolder:
        return self.folder.attempt(self.current.number)

    @property
    def provider(self) -> Provider:
        return self.world.provider_of(self.current)

    @property
    def waited(self) -> timedelta:
        """How long the run has been in this phase."""
        return self.now - self.run.phase_since

    def spent(self, *, in_seconds: float = 0) -> Decimal:
        """What the run will have cost by then: its settled attempts, and what the current one has run up."""
        before = Decimal(str(self.run.notes.get("spent_before", "0")))
        running = [self.attempt] if self.attempt is not None and self.attempt.gone_at is None else []
        return before + ledger.projected((), running, self.now, horizon_seconds=in_seconds)

    def stay(self, delay: float) -> Next:
        return Next(self.run.phase, delay)

    def commit(self, *, due_in: float | None = 0.0, release: bool = False) -> None:
        """Write what there is to say so far, in one transaction. Raises LeaseLost: then nothing was written."""
        self.lease = self.world.store.save(
            self.lease,
            self.run,
            attempts=[self.attempt] if self.attempt else [],
            events=self.events,
            charges=self.charges,
            due_in=due_in,
            release=release,
        )
        self.events, self.charges, self.changed = [], [], False

    def note(self, kind: str, text: str, **details: object) -> None:
        """Tell a person and a program what happened; a text that a machine made long is cut."""
        self.changed = True
        self.events.append(
            Event(
                run_id=self.run.id,
                attempt=self.run.attempt,
                at=self.now,
                phase=self.run.phase,
                kind=kind,
                text=text[:LONGEST_TEXT],
                details=details,
            )
        )

    def remember(self, **notes: object) -> None:
        """Keep something for the attempt's next visit."""
        self.current.notes.update(notes)
        self.changed = True

    def fetched(self, count: int) -> None:
        """Add up what the run has brought home, in bytes: the next run of this job is taken to bring back as much."""
        if count:
            self.run.notes["fetched_bytes"] = self.run.notes.get("fetched_bytes", 0) + count
            self.changed = True

    def since(self, what: str) -> timedelta:
        """For how long we have seen that it is so; the first call begins to count.

        Time in which nobody looked counts for little: after a night's sleep a machine is not given up at the first
        look that fails.
        """
        waits: Json = self._notes.setdefault("waits", {})
        seconds, looked_at = waits.get(what, (0.0, None))
        step = (self.now - datetime.fromisoformat(looked_at)).total_seconds() if looked_at else 0.0
        waited = float(seconds) + min(step, LONGEST_STEP)
        if looked_at is None or step >= NOTED_EVERY:
            waits[what] = (waited, self.now.isoformat())
            self.changed = True
        return timedelta(seconds=waited)

    def clear(self, what: str) -> None:
        """It is not so any more."""
        if self._notes.get("waits", {}).pop(what, None) is not None:
            self.changed = True

    def _note_whether_it_runs(self, status: InstanceStatus) -> None:
        """Some meters stop when the machine does: when its cloud says so, not when it was asked to end."""
        attempt = self.current
        known = (attempt.running_from, attempt.running_until)
        if status is InstanceStatus.RUNNING:
            began = self.now if self.run.phase is Phase.BOOT else attempt.billing_from  # nobody looked: the worst case
            attempt.running_from, attempt.running_until = attempt.running_from or began, None
        elif status in _RUNS_NO_MORE and attempt.running_from is not None:
            attempt.running_until = attempt.running_until or self.now
        self.changed = self.changed or known != (attempt.running_from, attempt.running_until)

    @property
    def _notes(self) -> Json:
        return self.run.notes if self.attempt is None else self.attempt.notes

    def instance(self) -> Instance:
        """The machine as its cloud describes it now. Raises NotFound and the other ProviderErrors."""
        assert self.current.instance_id is not None, "only a machine that was accepted has an id"
        found = self.provider.get(self.current.instance_id)
        self._note_whether_it_runs(found.status)
        return found

    def machine(self) -> Machine:
        """The agent on this attempt's machine, over a connection that is kept warm."""
        access = self.current.notes.get("access")
        assert access is not None, "a machine is spoken to only after it has booted"
        return self.world.machine(self.current.machine, access_from_json(access), self.folder)

    def close_attempt(self, outcome: AttemptOutcome, error: str | None = None) -> None:
        """Say how this attempt ended; the first word counts."""
        if self.current.outcome is not None:
            return
        self.current.outcome = outcome
        self.current.error = error
        text = f"attempt {self.current.number} {outcome.value.replace('_', ' ')}"
        self.note("attempt", f"{text}: {error}" if error else text, outcome=outcome.value)
