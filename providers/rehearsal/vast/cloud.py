"""The simulated Vast.ai as a SimulatedCloud: what is asked of it, refused on the wire, and seen by its owner."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from wsgiref.types import StartResponse, WSGIEnvironment

from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.cloud import Commons, Machine, body_of
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.base import Machines
from providers.rehearsal.vast.account import API_KEY, OTHER_KEY
from providers.rehearsal.vast.api import Api
from providers.rehearsal.vast.contracts import Contract
from providers.rehearsal.vast.limits import Limits
from providers.rehearsal.vast.service import Vast

_CALLS = (
    ("POST", r"/api/v0/bundles/?", "offers"),
    ("PUT", r"/api/v0/search/asks/?", "offers"),
    ("PUT", r"/api/v0/asks/\d+/?", "create"),
    ("GET", r"/api/v0/instances/\d+/?", "get"),
    ("GET", r"/api/v[01]/instances/?", "list"),
    ("DELETE", r"/api/v0/instances/(\d+/?)?", "terminate"),
    ("GET", r"/api/v0/charges/?|/api/v1/invoices/?", "charges"),
)
_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"
_GATEWAY = {403: "403 Forbidden", 502: "502 Bad Gateway", 503: "503 Service Unavailable", 504: "504 Gateway Time-out"}


class VastCloud(Commons):
    """Vast.ai on loopback. The market is made from `seed`.

    An instance is reached directly, at `public_ipaddr` and the HostPort of 22/tcp, which is the machine's own port on
    this computer. The SSH proxy (`ssh_host`, `ssh_port`) refuses unless there is a `proxy`: then it is the same port.
    `rate_limits` are the documented ones, on the simulated clock.
    """

    name = "vast"

    def __init__(
        self, machines: Machines, *, clock: SimulatedClock | None = None, latency_seconds: float = 0.0,
        seed: int = 0, hosts: int = 180, credit: Decimal = Decimal(100), rate_limits: bool = True,
        proxy: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(machines, clock=clock, latency_seconds=latency_seconds)
        limits = Limits(on=rate_limits)
        self.vast = Vast(
            machines, self.bill, self.faults, self.clock, seed=seed, hosts=hosts, credit=credit, limits=limits
        )
        self._api = Api(self.vast, proxy=proxy)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self._api.url = self.url
        self.vast.machine_url = self.machine_url if self.url else ""
        return self._api(environ, start_response)

    def call_of(self, environ: WSGIEnvironment) -> str:
        method, path = str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"])
        for wanted, pattern, call in _CALLS:
            if method == wanted and re.fullmatch(pattern, path):
                return call
        return "other"

    def about(self, environ: WSGIEnvironment) -> tuple[str, str]:
        path = str(environ["PATH_INFO"])
        try:
            body = json.loads(body_of(environ) or b"{}")
        except ValueError:
            body = {}
        said = body if isinstance(body, dict) else {}
        if re.fullmatch(r"/api/v0/asks/\d+/?", path):
            return "", str(said.get("label") or "")
        if (match := re.match(r"/api/v0/instances/(?:[a-z_]+/)?(\d+)", path)) is not None:
            return "", self._name_of(match[1])
        return "", ",".join(self._name_of(each) for each in said.get("ids") or said.get("instance_ids") or ())

    def refusal(self, fault: Fault, environ: WSGIEnvironment) -> tuple[int, dict[str, str], bytes]:  # noqa: ARG002
        """Throttled: plain text. From the gateway (and a burst's 403): HTML. From the server itself: JSON."""
        throttled = fault.kind == "throttled"
        status = fault.status or (429 if throttled else 500)
        headers = {"Retry-After": f"{fault.seconds:g}"} if throttled and fault.seconds else {}
        if status in _GATEWAY:
            return status, {**headers, "Content-Type": "text/html"}, _HTML.format(_GATEWAY[status]).encode()
        if throttled:
            return status, {**headers, "Content-Type": "text/plain; charset=utf-8"}, b"API requests too frequent"
        body = {"success": False, "error": "server_error", "msg": "Something went wrong on the server"}
        return status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def tick(self) -> None:
        self.vast.tick()

    def everything(self) -> Sequence[Machine]:
        with self.lock:
            return [_machine(contract) for contract in self.vast.contracts.all.values()]

    def preempt(self, machine_id: str, *, notice_seconds: float = 0.0) -> None:  # noqa: ARG002
        """Somebody bids more. Vast.ai gives no notice, whatever is asked for."""
        with self.lock:
            contract = self._contract(machine_id)
            if not contract.is_bid:
                raise ValueError(f"{machine_id} is on demand")
            self.vast.contracts.take_away(contract)

    def relent(self, machine_id: str) -> None:
        """Whoever had bid more goes away: the instance resumes by itself."""
        with self.lock:
            self.vast.contracts.relent(self._contract(machine_id))

    def lose_contact(self, machine_id: str) -> None:
        """Its host goes offline, and the cloud notices."""
        with self.lock:
            self.vast.contracts.lose_contact(self._contract(machine_id), self.clock())

    def misread(self, machine_id: str, reads: int = 1) -> None:
        """So many times it will be shown as `exited` although it runs: such reads are seen on the real cloud."""
        with self.lock:
            self._contract(machine_id).misreads = reads

    def traffic(self, machine_id: str, gb_down: float | Decimal = 0, gb_up: float | Decimal = 0) -> None:
        """So much went over its network."""
        with self.lock:
            self.vast.traffic(self._contract(machine_id), Decimal(str(gb_down)), Decimal(str(gb_up)))

    def occupy(self, machine_id: int) -> None:
        """Somebody else rents all that is free on this host (the `machine_id` of an offer)."""
        with self.lock:
            host = self.vast.market.hosts[machine_id]
            self.vast.market.take(host, host.free)

    def vacate(self, machine_id: int, gpus: int) -> None:
        """Somebody else gives that many GPUs of a host back."""
        with self.lock:
            self.vast.market.give_back(self.vast.market.hosts[machine_id], gpus)

    def environment(self) -> dict[str, str]:
        return {"VAST_URL": self.url, "VAST_API_KEY": API_KEY}

    def environment_of_another(self) -> dict[str, str]:
        return {**self.environment(), "VAST_API_KEY": OTHER_KEY}

    def _contract(self, machine_id: str) -> Contract:
        if (contract := self.vast.contracts.find(int(machine_id))) is None:
            raise KeyError(machine_id)
        return contract

    def _name_of(self, machine_id: object) -> str:
        """Its label; the id itself where there never was such an instance."""
        known = self.vast.contracts.all.get(int(str(machine_id))) if str(machine_id).isdigit() else None
        return str(machine_id) if known is None else known.label or ""


def _machine(contract: Contract) -> Machine:
    return Machine(
        id=str(contract.id),
        name=contract.label or "",
        status="destroyed" if contract.ended_at else contract.actual or "provisioning",
        alive=contract.alive,
        created_at=contract.created_at,
        ended_at=contract.ended_at,
        ssh=contract.machine.ssh if contract.alive and contract.machine else None,
    )
