"""Pods: what RunPod keeps of each, and what a client can do to them. Knows no wire; what time brings is in life.py.

There is no idempotency and no unique name: two orders are two pods.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from providers.rehearsal.bill import Bill
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.fate import Fate, take_fate
from providers.rehearsal.faults import Fault, Faults
from providers.rehearsal.runpod import orders, prices
from providers.rehearsal.runpod.account import Account
from providers.rehearsal.runpod.market import Host, Market
from providers.rehearsal.runpod.orders import MOST_ENV, BrokenRule, NoCapacity, NoFunds, NotFound, NotNow, Order

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_STALE = timedelta(seconds=20)  # how long GraphQL still shows the runtime of a stopped pod


class Status(StrEnum):
    """REST v2 also documents PROVISIONING and STARTING; a measured pod was RUNNING from its creation."""

    RUNNING = "RUNNING"
    EXITED = "EXITED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"


class Plan(StrEnum):
    """What will happen to a pod by itself."""

    BOOT = "boot"  # the image is there: the container starts
    FAIL = "fail"
    TAKE = "take"  # RunPod takes it away
    STOP = "stop"  # stopAfter
    TERMINATE = "terminate"  # terminateAfter
    END = "end"  # a terminate that was acknowledged takes effect


@dataclass(kw_only=True)
class Pod:
    """One pod. `ssh` is where its port 22 is reached, once its machine has one."""

    id: str
    order: Order
    host: Host
    usd_per_hour: Decimal
    created_at: datetime
    started_at: datetime
    last_change: str
    status: Status = Status.RUNNING
    starts: int = 1
    plans: dict[Plan, datetime] = field(default_factory=dict)
    gpu: str | None = None  # what is really in the machine
    is_made: bool = False  # its machine was asked for
    fate: Fate = field(default_factory=Fate)  # of its host
    up_since: datetime | None = None
    ssh: tuple[str, int] | None = None
    invented_port: int = 0  # for machines on paper, which have none
    stale_until: datetime | None = None
    hidden_until: datetime | None = None
    ended_at: datetime | None = None
    locked: bool = False
    key: str = ""

    @property
    def machine(self) -> str:
        """The name of its machine: a new one for every start, since a stop wipes the container's disk."""
        return self.id if self.starts == 1 else f"{self.id}-{self.starts}"

    @property
    def count(self) -> int:
        return self.order.gpu_count if self.order.gpu else self.order.vcpus

    @property
    def actions(self) -> tuple[str, ...]:
        if self.status is Status.RUNNING:
            return ("stop", "restart", "terminate")
        return ("start", "terminate")

    def due(self, now: datetime) -> tuple[Plan, datetime] | None:
        """The first plan whose time has come, taken from the list."""
        first = min(self.plans.items(), key=lambda plan: plan[1], default=None)
        if first is None or first[1] > now:
            return None
        del self.plans[first[0]]
        return first


@dataclass(kw_only=True)
class Pods:
    """All pods of the account."""

    clock: SimulatedClock
    bill: Bill
    faults: Faults
    market: Market
    account: Account
    dice: random.Random
    boot_seconds: float = 0.0
    telemetry_gaps: float = 0.0
    all: dict[str, Pod] = field(default_factory=dict)
    leaving: list[str] = field(default_factory=list)  # machines to be removed; life.py does it

    def create(self, order: Order) -> Pod:
        """Raises Refused. The reply may be lost on its way: only the name can find the pod then."""
        _check_env(order.env)
        if order.registry is not None and order.registry not in self.account.registries:
            raise BrokenRule("container registry credential not found")
        self._refuse_as_told()
        order = self._with_network_volume(order)
        host = self.market.place(order)
        now = self.clock()
        price = self.market.price(host, order.gpu_count if order.gpu else order.vcpus)
        if self.balance() < price:
            host.free += order.gpu_count if order.gpu else order.vcpus
            raise NoFunds
        pod = Pod(
            id=self._new_id(), order=self._with_keys(order), host=host, usd_per_hour=price, created_at=now,
            started_at=now, last_change=f"Rented by User: {js_date(now)}", gpu=order.gpu,
        )  # fmt: skip
        pod.key = self.account.pod_key(pod.id, self.dice)
        self.all[pod.id] = pod
        self._plan(pod, now)
        self._meters(pod, now)
        return pod

    def get(self, id: str) -> Pod:
        pod = self.all.get(id)
        if pod is None or pod.status is Status.TERMINATED:
            raise NotFound("pod not found")
        return pod

    def living(self) -> Iterator[Pod]:
        return (pod for pod in self.all.values() if pod.status is not Status.TERMINATED)

    def listed(self) -> list[Pod]:
        """What a list shows: new pods may be missing for a while."""
        now = self.clock()
        return [pod for pod in self.living() if pod.hidden_until is None or pod.hidden_until <= now]

    def seen(self, pod: Pod) -> Pod:
        """As an answer shows it: when the host is asked in vain for two seconds, a pod that is up has no runtime."""
        return replace(pod, ssh=None) if self.dice.random() < self.telemetry_gaps else pod

    def stop(self, pod: Pod, *, at: datetime | None = None, by: str = "user", status: Status = Status.EXITED) -> None:
        """The GPUs go, the volume disk stays and costs twice as much."""
        if pod.status is not Status.RUNNING:
            raise NotNow(f"pod cannot be stopped: it is {pod.status}")
        if pod.locked and by == "user":
            raise NotNow("pod is locked")
        when = at or self.clock()
        self._leave(pod)
        pod.host.free += pod.count
        pod.status, pod.stale_until = status, when + _STALE
        pod.last_change = f"Exited by {by}: {js_date(when)}"
        for plan in (Plan.BOOT, Plan.FAIL, Plan.TAKE, Plan.STOP):
            pod.plans.pop(plan, None)
        self._meters(pod, when)

    def start(self, pod: Pod) -> None:
        """On its own host only: when the GPUs there are rented to somebody else, it stays stopped."""
        if pod.status is Status.RUNNING:
            raise NotNow("pod is already running")
        if pod.host.free < pod.count:
            raise NoCapacity(orders.HOST_TAKEN)
        if self.balance() < pod.usd_per_hour:
            raise NoFunds
        pod.host.free -= pod.count
        pod.status = Status.RUNNING
        self._begin_again(pod, "Resumed by user")
        self._meters(pod, pod.started_at)

    def restart(self, pod: Pod) -> None:
        """Its container is made anew; the bill goes on, the ports change."""
        if pod.status is not Status.RUNNING:
            raise NotNow(f"pod cannot be restarted: it is {pod.status}")
        self._leave(pod)
        self._begin_again(pod, "Restarted by user")

    def change(self, pod: Pod, wishes: Mapping[str, Any], *, locked: bool | None = None) -> None:
        """Other settings; what the container is made of makes it start again."""
        _check_env(wishes.get("env", {}))
        before, after = pod.order, replace(pod.order, **wishes)
        pod.order = after
        pod.locked = pod.locked if locked is None else locked
        same = replace(before, name=after.name, global_networking=after.global_networking) == after
        if same:
            return
        self.bill.close(pod.id, "disk", "stopped_disk")
        self._meters(pod, self.clock())
        if pod.status is Status.RUNNING:
            self.restart(pod)

    def terminate(self, pod: Pod) -> None:
        """Acknowledged at once; whether it happens is another matter (a pod ran 10 h after its 204)."""
        if Plan.END in pod.plans:
            return
        fault = self.faults.take("terminate", "terminate_ignored", "terminate_acknowledged")
        if fault is None:
            self.end(pod, self.clock(), by="user")
        elif fault.kind == "terminate_acknowledged":
            pod.plans[Plan.END] = self.clock() + timedelta(seconds=fault.seconds)

    def end(self, pod: Pod, at: datetime, *, by: str) -> None:
        """No pod, no data, no cost."""
        if pod.status is Status.RUNNING:
            self._leave(pod)
            pod.host.free += pod.count
        pod.status, pod.ended_at = Status.TERMINATED, at
        pod.last_change = f"Terminated by {by}: {js_date(at)}"
        pod.plans.clear()
        self.account.forget_pod(pod.id)
        self.bill.close(pod.id, at=at)

    def balance(self) -> Decimal:
        return self.account.credit - self.bill.total()

    def usd_per_hour(self) -> Decimal:
        """What the account spends now."""
        running = (line for line in self.bill.lines() if line.end is None)
        return sum((line.rate.usd_per_unit * line.rate.units_per_hour for line in running), Decimal(0))

    def _refuse_as_told(self) -> None:
        fault = self.faults.take("create", "no_capacity", "offer_gone", "no_funds")
        if fault is None:
            return
        raise NoFunds if fault.kind == "no_funds" else NoCapacity

    def _with_network_volume(self, order: Order) -> Order:
        """A network volume pins its pod to its data centre."""
        if order.network_volume is None:
            return order
        volume = self.account.volumes.get(order.network_volume)
        if volume is None:
            raise NotFound("network volume not found")
        if order.cloud == "COMMUNITY":
            raise BrokenRule("network volumes are available in Secure Cloud only")
        place = str(volume["dataCenter"])
        if order.data_centers and place not in order.data_centers:
            raise NoCapacity
        return replace(order, data_centers=(place,), cloud="SECURE")

    def _with_keys(self, order: Order) -> Order:
        """Without registered keys `startSsh` does nothing; a PUBLIC_KEY of the client's own stays."""
        added = {}
        if order.start_ssh and self.account.ssh_keys:
            added["PUBLIC_KEY"] = "\n".join(self.account.ssh_keys)
        if order.start_jupyter:
            added["JUPYTER_PASSWORD"] = f"{self.dice.getrandbits(64):016x}"
        return replace(order, env={**added, **order.env})

    def _plan(self, pod: Pod, now: datetime) -> None:
        """What will become of a new pod, by the faults that strike it."""
        boot = self.faults.take("create", "slow_boot", "stuck_boot", "failed_boot")
        self._plan_boot(pod, now, boot)
        pod.fate = take_fate(self.faults, now)
        if (taken := self.faults.take("create", "preempt")) is not None:
            pod.plans[Plan.TAKE] = now + timedelta(seconds=taken.seconds)
        if (lag := self.faults.take("list", "list_lag")) is not None:
            pod.hidden_until = now + timedelta(seconds=lag.seconds)
        gpus = self.faults.take("create", "no_gpu", "wrong_gpu") if pod.gpu is not None else None
        if gpus is not None:
            others = (gpu for gpu in self.market.gpus if gpu != pod.gpu)
            pod.gpu = None if gpus.kind == "no_gpu" else next(others)
        for plan, when in ((Plan.STOP, pod.order.stop_after), (Plan.TERMINATE, pod.order.terminate_after)):
            if when is not None:
                pod.plans[plan] = when

    def _plan_boot(self, pod: Pod, now: datetime, fault: Fault | None) -> None:
        pod.invented_port = self.dice.randint(10_000, 60_000)
        later = timedelta(seconds=fault.seconds) if fault is not None else timedelta()
        if fault is not None and fault.kind == "failed_boot":
            pod.plans[Plan.FAIL] = now + later
        elif fault is None or fault.kind == "slow_boot":
            pod.plans[Plan.BOOT] = now + later + timedelta(seconds=self.boot_seconds)

    def _begin_again(self, pod: Pod, words: str) -> None:
        now = self.clock()
        pod.starts += 1
        pod.started_at, pod.stale_until, pod.ssh = now, None, None
        pod.last_change = f"{words}: {js_date(now)}"
        self._plan_boot(pod, now, None)

    def _leave(self, pod: Pod) -> None:
        """Its machine goes, with the container's disk."""
        if pod.is_made:
            self.leaving.append(pod.machine)
        pod.is_made, pod.up_since, pod.fate = False, None, Fate()

    def _meters(self, pod: Pod, at: datetime) -> None:
        """The meters that run in the pod's state, and no others."""
        meters = prices.running(pod.order, pod.usd_per_hour) if pod.status is Status.RUNNING else ()
        meters = meters or prices.stopped(pod.order)
        wanted = {rate.meter for rate in meters}
        over = {line.rate.meter for line in self.bill.lines(pod.id) if line.end is None} - wanted
        if over:
            self.bill.close(pod.id, *over, at=at)
        for rate in meters:
            self.bill.open(pod.id, rate, at=at)

    def _new_id(self) -> str:
        return "".join(self.dice.choices(_LETTERS, k=14))


def _check_env(env: Mapping[str, str]) -> None:
    if len(env) > MOST_ENV:
        raise BrokenRule(f"a pod can have at most {MOST_ENV} environment variables")


def js_date(when: datetime) -> str:
    """As JavaScript writes it: `Fri Aug 07 2026 07:51:24 GMT+0000 (Coordinated Universal Time)`."""
    return when.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)")
