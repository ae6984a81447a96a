"""A cloud in memory, on an injected clock, that keeps its own bill and misbehaves as it is told.

    cloud = MemoryProvider(clock, offers=[offer("small", usd_per_hour="0.30")])
    cloud.faults.creates += [NoCapacity("none left"), Made(Ambiguous("the reply was lost"))]
    cloud.faults.boots += [Boot(seconds=40), Boot(stuck=True)]
    cloud.faults.terminates += ["ignored", Throttled("slow down", after=5)]
    cloud.faults.outages += [Outage(60, 120)]

Faults are data, used up in order; what no fault is said about goes well. Afterwards `alive()` and `billed()` tell what
the cloud knows, whatever anybody else believes. A call costs microseconds: a thousand runs may use one cloud.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from providers.base import (
    Access,
    Charge,
    Check,
    Instance,
    InstanceStatus,
    LaunchRequest,
    LocalAccess,
    Meter,
    Now,
    Offer,
    OfferQuery,
    Offers,
    Rate,
    Runs,
    Traits,
)
from providers.errors import NotFound, OfferGone, ProviderError, Rejected, Unreachable

CALLS = ("account", "check", "offers", "create", "get", "find", "list", "terminate", "charges", "rates")


@dataclass(frozen=True)
class Boot:
    """How one machine comes up. Without `vanishes` a preempted machine stays, and bills, until it is terminated."""

    seconds: float = 0.0
    stuck: bool = False
    failed: str = ""  # the cloud's words when it gives up after `seconds`
    preempt_after: float | None = None  # seconds from its create
    vanishes: bool = False


@dataclass(frozen=True)
class Made:
    """The machine is made, and then this is raised: a lost reply."""

    error: ProviderError


@dataclass(frozen=True)
class Outage:
    """These calls raise Unreachable from `start` to `end`, in seconds since the cloud was made."""

    start: float
    end: float
    calls: tuple[str, ...] = CALLS


@dataclass
class Faults:
    """What goes wrong next. None in a list: this one goes well."""

    creates: deque[ProviderError | Made | None] = field(default_factory=deque)
    boots: deque[Boot | None] = field(default_factory=deque)
    terminates: deque[ProviderError | Literal["ignored"] | None] = field(default_factory=deque)
    outages: list[Outage] = field(default_factory=list)
    list_lag_seconds: float = 0.0  # younger machines are not in `list` or `find` yet
    unusable: str | None = None


@dataclass(slots=True)
class _Machine:
    request: LaunchRequest
    offer: Offer
    id: str
    created_at: datetime
    boot: Boot
    account: str
    gone_at: datetime | None = None


def offer(offer_id: str = "small", *, usd_per_hour: str = "0.36", gpu: str | None = None, **facts: object) -> Offer:
    """An offer of a machine big enough for anything a test asks for."""
    usual: dict[str, object] = {
        "provider": "memory",
        "region": "here",
        "gpu_count": 1 if gpu else 0,
        "gpu_memory_gb": 24.0 if gpu else None,
        "vcpus": 16.0,
        "memory_gb": 64.0,
        "disk_gb": 1000.0,
        "spot": False,
        "host_id": f"host-{offer_id}",
        "fetched_at": datetime(2026, 11, 21, tzinfo=UTC),
        "source": "a cloud in memory",
    }
    return Offer(offer_id=offer_id, gpu=gpu, usd_per_hour=Decimal(usd_per_hour), **{**usual, **facts})  # type: ignore[arg-type]


def _local(name: str) -> Access:
    return LocalAccess(directory=f"/machines/{name}", env={"GPUJOB_MACHINE": name})


class MemoryProvider:
    """Implements Provider."""

    def __init__(
        self,
        clock: Now,
        *,
        name: str = "memory",
        offers: Sequence[Offer] = (),
        traits: Traits | None = None,
        terminate_seconds: float = 0.0,
        access: Callable[[str], Access] = _local,
    ) -> None:
        self.name = name
        self.traits = traits or Traits(is_container=False)
        self.rentable = list(offers) or [offer(provider=name)]
        self.faults = Faults()
        self.meter_runs = Runs.EXISTS
        self.prices: list[Rate] = []  # of a rate that moves; `billed` knows nothing of them
        self.asked_as = "one"  # the account of the key that is used now: only what it has made is shown to it
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._started_at = clock()
        self._terminate_seconds = terminate_seconds
        self._access = access
        self._machines: dict[str, _Machine] = {}
        self._lock = threading.Lock()

    def unusable(self) -> str | None:
        return self.faults.unusable

    def account(self) -> str:
        self._called("account")
        return self.asked_as

    def check(self) -> Check:
        try:
            self._called("check")
        except ProviderError as error:
            return Check(problems=(str(error),))
        return Check(problems=(self.faults.unusable,) if self.faults.unusable else ())

    def offers(self, query: OfferQuery) -> Offers:
        self._called("offers")
        return Offers(self.rentable).fitting(query)

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        self._called("create")
        with self._lock:
            fault = self.faults.creates.popleft() if self.faults.creates else None
            if isinstance(fault, ProviderError):
                raise self._own(fault)
            machine = self._make(offer, request)
        if fault is not None:
            raise self._own(fault.error)
        return self._described(machine)

    def get(self, instance_id: str) -> Instance:
        self._called("get")
        machine = self._shown(instance_id.removeprefix("i-"))
        if machine is None or self._is_gone(machine):
            raise NotFound(f"there is no machine {instance_id}", provider=self.name)
        return self._described(machine)

    def find(self, name: str, offer: Offer) -> Instance | None:
        self._called("find")
        machine = self._shown(name)
        if machine is None or self._is_gone(machine) or not self._is_listed(machine):
            return None
        return self._described(machine)

    def list(self, owner: str) -> Sequence[Instance]:
        self._called("list")
        shown = [machine for machine in [*self._machines.values()] if machine.account == self.asked_as]
        mine = [one for one in shown if one.request.owner == owner]
        return [self._described(one) for one in mine if self._is_listed(one) and not self._is_gone(one)]

    def terminate(self, instance_id: str) -> None:
        self._called("terminate")
        with self._lock:
            fault = self.faults.terminates.popleft() if self.faults.terminates else None
            if isinstance(fault, ProviderError):
                raise self._own(fault)
            machine = self._shown(instance_id.removeprefix("i-"))
            if machine is not None and machine.gone_at is None and fault is None:
                machine.gone_at = self._clock() + timedelta(seconds=self._terminate_seconds)

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        self._called("charges")
        machine = self._shown(instance.name)
        if machine is None or self._end(machine) < since:
            return ()
        hours = Decimal(self._seconds(machine)) / 3600
        charge = Charge(
            meter="compute",
            quantity=hours,
            unit="hour",
            usd_per_unit=machine.offer.usd_per_hour,
            usd=self._usd(machine),
            start=machine.created_at,
            end=self._end(machine),
            source=f"the bill of {self.name}",
            final=self._is_gone(machine),
        )
        return (charge,)

    def rates(self, offer: Offer, since: datetime) -> Mapping[str, Sequence[Rate]]:
        self._called("rates")
        return {"compute": [rate for rate in self.prices if rate.since <= self._clock()]} if self.prices else {}

    def alive(self) -> tuple[str, ...]:
        """Names of the machines that exist, and bill, now."""
        return tuple(name for name, machine in self._machines.items() if not self._is_gone(machine))

    def made(self) -> tuple[str, ...]:
        """Names of all machines that were ever made, in order."""
        return tuple(self._machines)

    def is_up(self, name: str) -> bool:
        """Whether a machine runs, so that somebody could talk to it."""
        machine = self._machines.get(name)
        return machine is not None and not self._is_gone(machine) and self._status(machine) is InstanceStatus.RUNNING

    def billed(self, name: str | None = None) -> Decimal:
        """What this cloud has billed so far, for one machine or for all."""
        return sum((self._usd(machine) for key, machine in self._machines.items() if name in (None, key)), Decimal(0))

    def preempt(self, name: str, *, vanishes: bool = False) -> None:
        """Take a machine away now."""
        machine = self._machines[name]
        after = (self._clock() - machine.created_at).total_seconds()
        machine.boot = Boot(seconds=machine.boot.seconds, preempt_after=after, vanishes=vanishes)

    def _shown(self, name: str) -> _Machine | None:
        """A machine of another account is for this one as if it never was."""
        machine = self._machines.get(name)
        return machine if machine is not None and machine.account == self.asked_as else None

    def _make(self, offer: Offer, request: LaunchRequest) -> _Machine:
        machine = self._machines.get(request.name)
        if machine is None:
            if offer.offer_id not in [one.offer_id for one in self.rentable]:
                raise OfferGone(f"{offer.offer_id} is not offered any more", provider=self.name)
            boot = (self.faults.boots.popleft() if self.faults.boots else None) or Boot()
            machine = _Machine(request, offer, f"i-{request.name}", self._clock(), boot, self.asked_as)
            self._machines[request.name] = machine
        elif self._is_gone(machine):
            raise Rejected(f"the name {request.name} was used before", provider=self.name)
        return machine

    def _described(self, machine: _Machine) -> Instance:
        status = self._status(machine)
        request, rented = machine.request, machine.offer
        return Instance(
            id=machine.id,
            name=request.name,
            provider=self.name,
            owner=request.owner,
            run_id=request.run_id,
            attempt=request.attempt,
            status=status,
            detail=machine.boot.failed if status is InstanceStatus.FAILED else "",
            access=self._access(request.name) if status is InstanceStatus.RUNNING else None,
            region=rented.region,
            host_id=rented.host_id,
            created_at=machine.created_at,
            deadline=request.deadline,
            usd_per_hour=rented.usd_per_hour,
            meters=(
                Meter(
                    name="compute",
                    unit="hour",
                    usd_per_unit=rented.usd_per_hour,
                    runs=self.meter_runs,
                    source="offer",
                    moves=rented.most_usd_per_hour is not None,
                ),
            ),
        )

    def _status(self, machine: _Machine) -> InstanceStatus:
        age = (self._clock() - machine.created_at).total_seconds()
        boot = machine.boot
        if machine.gone_at is not None:
            return InstanceStatus.TERMINATING
        if boot.preempt_after is not None and age >= boot.preempt_after:
            return InstanceStatus.PREEMPTED
        if boot.stuck or age < boot.seconds:
            return InstanceStatus.BOOTING
        return InstanceStatus.FAILED if boot.failed else InstanceStatus.RUNNING

    def _is_gone(self, machine: _Machine) -> bool:
        gone_at = self._gone_at(machine)
        return gone_at is not None and self._clock() >= gone_at

    def _gone_at(self, machine: _Machine) -> datetime | None:
        boot = machine.boot
        if not boot.vanishes or boot.preempt_after is None:
            return machine.gone_at
        taken = machine.created_at + timedelta(seconds=boot.preempt_after)
        return min(taken, machine.gone_at or taken)

    def _is_listed(self, machine: _Machine) -> bool:
        return machine.created_at <= self._clock() - timedelta(seconds=self.faults.list_lag_seconds)

    def _end(self, machine: _Machine) -> datetime:
        return min(self._clock(), self._gone_at(machine) or self._clock())

    def _seconds(self, machine: _Machine) -> int:
        return math.ceil((self._end(machine) - machine.created_at).total_seconds())

    def _usd(self, machine: _Machine) -> Decimal:
        return machine.offer.usd_per_hour * self._seconds(machine) / 3600

    def _called(self, call: str) -> None:
        self.calls[call] += 1
        age = (self._clock() - self._started_at).total_seconds()
        if any(outage.start <= age < outage.end and call in outage.calls for outage in self.faults.outages):
            raise Unreachable(f"{self.name} does not answer", provider=self.name)

    def _own(self, error: ProviderError) -> ProviderError:
        error.provider = self.name
        return error
