"""What all simulated clouds have in common: a clock, a bill, faults, machines, a request log, and a WSGI application.

A cloud's own folder owns its wire format and its rules. Nothing waits: what time brings about happens in `tick`, which
is called before every request and a few times a second.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

from providers.rehearsal.bill import Bill
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.faults import Fault, Faults
from providers.rehearsal.machines.base import Machines

_REQUESTS_KEPT = 100_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that a cloud got, and what became of it."""

    at: datetime
    call: str
    method: str
    path: str
    what: str = ""  # in the cloud's own word: an action, a mutation
    machine: str = ""  # the name of the machine that it is about, the id of one that never was, "" for none
    fault: str = ""  # the kind of the fault that struck it on the wire
    status: int = 0  # of the cloud's own answer; 0: the cloud never saw it
    told: int = 0  # what the client got; 0: the connection dropped

    @property
    def reply_lost(self) -> bool:
        """The cloud has answered, and a fault ate the answer."""
        return self.status not in (0, self.told)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as the cloud's owner sees it, whatever its API tells a client."""

    id: str
    name: str  # what the client called it: label, pod name, tag
    status: str  # the cloud's own word
    alive: bool  # it exists and costs something
    created_at: datetime
    ended_at: datetime | None = None
    ssh: tuple[str, int] | None = None


class SimulatedCloud(Protocol):
    """One cloud. The names of the calls are those of faults.CALLS."""

    name: str  # aws, runpod, vast
    clock: SimulatedClock
    bill: Bill
    faults: Faults
    machines: Machines
    requests: deque[Asked]
    latency_seconds: float  # real time that every answer takes
    url: str  # where it listens; set by whoever serves it, before the first request
    lock: threading.RLock  # held while a request is handled and while `tick` runs

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The cloud's API, without the faults on the wire."""
        ...

    def call_of(self, environ: WSGIEnvironment) -> str:
        """Which of faults.CALLS a request is. May read the body, and puts it back.

        Another word stands for what a machine asks its host (instance metadata): no call of the API, free of faults.
        """
        ...

    def about(self, environ: WSGIEnvironment) -> tuple[str, str]:
        """`what` and `machine` of Asked, before the request is answered. May read the body, and puts it back."""
        ...

    def is_done(self, status: int, body: bytes) -> bool:
        """Whether this answer of the cloud's own says that it did what it was asked for."""
        ...

    def refusal(self, fault: Fault, environ: WSGIEnvironment) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a throttled or failed answer, in this cloud's own form."""
        ...

    def tick(self) -> None:
        """Let happen what the clock says is due: boots, preemptions, ends, faults on machines."""
        ...

    def everything(self) -> Sequence[Machine]:
        """All machines that were ever made, oldest first."""
        ...

    def preempt(self, machine_id: str, *, notice_seconds: float = 0.0) -> None:
        """Take a spot machine away, as the cloud does. Raises KeyError; ValueError when it is not a spot machine."""
        ...

    def move_prices(self, factor: Decimal, *, seconds: float = 0.0) -> None:
        """So many seconds from now, what is paid by the market's price costs `factor` times what is usual.

        Raises ValueError where every machine costs what it cost when it was rented.
        """
        ...

    def environment(self) -> dict[str, str]:
        """The variables by which gpujob, the SDK and the cloud's command line reach it, throw-away key included."""
        ...

    def environment_of_another(self) -> dict[str, str]:
        """The same with the key of another account, which has no machines and can pay for none."""
        ...


class Commons:
    """The plain parts of a SimulatedCloud."""

    name = ""

    def __init__(
        self, machines: Machines, *, clock: SimulatedClock | None = None, latency_seconds: float = 0.0
    ) -> None:
        self.clock = clock or SimulatedClock()
        self.bill = Bill(self.clock)
        self.faults = Faults()
        self.machines = machines
        self.requests: deque[Asked] = deque(maxlen=_REQUESTS_KEPT)
        self.latency_seconds = latency_seconds
        self.url = ""
        self.lock = threading.RLock()

    def about(self, environ: WSGIEnvironment) -> tuple[str, str]:  # noqa: ARG002
        return "", ""

    def is_done(self, status: int, body: bytes) -> bool:  # noqa: ARG002
        return status < 400

    def move_prices(self, factor: Decimal, *, seconds: float = 0.0) -> None:  # noqa: ARG002
        raise ValueError(f"at {self.name} no price of a machine moves")

    @property
    def machine_url(self) -> str:
        """Where this cloud's own machines reach its API."""
        return self.machines.reach(int(self.url.rpartition(":")[2]))


def body_of(environ: WSGIEnvironment) -> bytes:
    """The request's body, put back for whoever comes next; nothing is taken of one whose length is not said."""
    if not (length := environ.get("CONTENT_LENGTH")):
        return b""
    body: bytes = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = io.BytesIO(body)
    return body
