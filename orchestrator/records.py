"""What the store keeps about a run: plain records and the words of their states. No logic, no SQL, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class Phase(StrEnum):
    """Where an attempt is. A run passes through them in this order, once per attempt."""

    QUOTE = "quote"
    PROVISION = "provision"
    BOOT = "boot"
    PROBE = "probe"
    SHIP = "ship"
    START = "start"
    WATCH = "watch"
    COLLECT = "collect"
    TEARDOWN = "teardown"
    SETTLE = "settle"
    DONE = "done"


class Outcome(StrEnum):
    """How a run ended. One word for a person and for a program."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the job's own failure: its exit code, its setup, its image
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"  # limits.max_duration
    STOPPED_BY_BUDGET = "stopped_by_budget"  # limits.max_cost
    NO_CAPACITY = "no_capacity"  # nothing that fits could be rented
    REFUSED = "refused"  # credentials, funds or quota
    LOST = "lost"  # every attempt ended with its machine, not with the job
    ERROR = "error"  # ours: a bug or this computer
    REAPED = "reaped"  # no job: a machine that no run claimed, ended


class AttemptOutcome(StrEnum):
    """How an attempt ended. The first five end the run; the others may be tried again."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    STOPPED_BY_BUDGET = "stopped_by_budget"
    PREEMPTED = "preempted"
    HOST_LOST = "host_lost"  # the machine or its agent died under the job
    BAD_HOST = "bad_host"  # not what was sold; never got the job
    NEVER_BOOTED = "never_booted"
    NO_CAPACITY = "no_capacity"
    REFUSED = "refused"
    ERROR = "error"
    REAPED = "reaped"


@dataclass(kw_only=True)
class Run:
    """One submitted job. `spec` is the validated train.yaml as JSON; it holds names of secrets, never values."""

    id: str
    name: str
    owner: str
    project: str
    spec: Json
    created_at: datetime
    phase: Phase = Phase.QUOTE
    phase_since: datetime
    due_at: datetime | None  # None: nothing left to do
    attempt: int = 0  # number of the current attempt; 0 before the first
    outcome: Outcome | None = None
    exit_code: int | None = None  # the job's own
    error: str | None = None
    cancel_requested_at: datetime | None = None
    nudged_at: datetime | None = None  # somebody wants it looked at now
    started_at: datetime | None = None  # the job's first start
    ended_at: datetime | None = None
    artifacts_complete: bool | None = None  # None: not collected (yet)
    possibly_billing: bool = False  # a machine of ours may exist and its cloud cannot be asked
    notes: Json = field(default_factory=dict)  # what a phase must remember for its next visit
    lease_owner: str | None = None
    lease_until: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.phase is Phase.DONE


@dataclass(kw_only=True)
class Attempt:
    """One try to run the job on one machine. `machine` is committed before the cloud is asked to make it."""

    run_id: str
    number: int
    machine: str  # the unique name that the cloud gets as tag or label
    provider: str
    offer: Json  # as it was when chosen
    created_at: datetime
    instance_id: str | None = None
    host_id: str = ""
    usd_per_hour: Decimal = Decimal(0)  # from the cloud's own answer when it was rented
    meters: list[Json] = field(default_factory=list)  # providers.base.Meter as JSON; rates come to it where they move
    billing_from: datetime | None = None  # when the cloud accepted the create
    running_from: datetime | None = None
    started_at: datetime | None = None  # the job's start on the machine
    exited_at: datetime | None = None
    running_until: datetime | None = None  # when its cloud was first seen to say that it runs no more
    terminate_asked_at: datetime | None = None
    gone_at: datetime | None = None  # the cloud's own "not found"
    settle_at: datetime | None = None  # when its cloud is asked (again) what it billed; None: not any more
    outcome: AttemptOutcome | None = None
    error: str | None = None
    exit: Json | None = None  # the agent's exit record
    facts: Json | None = None  # what the probe found
    tries: list[Json] = field(default_factory=list)  # offers tried and why each was left
    notes: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a run, for a person to read and a program to count."""

    run_id: str
    attempt: int
    at: datetime
    phase: Phase
    kind: str  # phase, offer, machine, agent, cancel, retry, budget, warning, error
    text: str
    details: Json = field(default_factory=dict)
    id: int | None = None


class Missed(StrEnum):
    """What happens to the times of a schedule that passed while no controller was there."""

    SKIP = "skip"
    ONCE = "once"  # one run for all of them


class Overlap(StrEnum):
    """What happens to a time of a schedule while its last run goes on."""

    SKIP = "skip"
    QUEUE = "queue"  # at most one waits
    REPLACE = "replace"  # the run is cancelled, and its end waited for


class FiringKind(StrEnum):
    """What became of one time of a schedule."""

    FIRED = "fired"
    WAITING = "waiting"
    SKIPPED = "skipped"
    FAILED = "failed"  # no run could be made of the job


class ChargeKind(StrEnum):
    ESTIMATE = "estimate"  # accrued by us from the rates that the cloud has named
    SETTLEMENT = "settlement"  # the difference to the cloud's own figure


@dataclass(frozen=True, kw_only=True)
class ChargeRow:
    """A line of the ledger. Append-only: what was written is never changed, a correction is another line."""

    run_id: str
    attempt: int
    provider: str
    meter: str
    quantity: Decimal
    unit: str
    rate_usd: Decimal
    amount_usd: Decimal
    source: str
    kind: ChargeKind
    start: datetime
    end: datetime
    at: datetime
    id: int | None = None
