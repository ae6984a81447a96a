"""The simulated RunPod as a WSGI application: REST v2, GraphQL, what is left of v1, and the edge in front of them.

Rules and state are in market, account, pods and life; the two APIs in rest and graphql.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.wrappers import Request, Response

from providers.rehearsal.bill import Bill
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.cloud import Commons, Machine, body_of
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.base import Machines
from providers.rehearsal.runpod.account import ACCOUNT_KEY, OTHER_KEY, Account, Key
from providers.rehearsal.runpod.graphql import GraphQl, about_query, call_of_query
from providers.rehearsal.runpod.life import Life
from providers.rehearsal.runpod.limits import Limits
from providers.rehearsal.runpod.market import Market
from providers.rehearsal.runpod.pods import Pod, Pods, Status
from providers.rehearsal.runpod.rest import Rest, problem_response

_EDGE_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center></body></html>\n"
_FROM_THE_EDGE = (502, 503, 504)
_CALLS = (
    ("POST", "/v2/pods", "create"),
    ("GET", "/v2/pods", "list"),
    ("GET", "/v2/pods/[^/]+", "get"),
    ("DELETE", "/v2/pods/[^/]+", "terminate"),
    ("GET", "/v2/catalog/.*", "offers"),
    ("GET", "/v2/billing/.*", "charges"),
)


class RunpodCloud(Commons):
    """Implements SimulatedCloud.

    boot_seconds    how long an image takes to arrive, on the simulated clock
    rate_limits     refuse requests beyond 60 a minute, 3,000 an hour, 50,000 a day (REST v2)
    billing_lag     how many seconds the billing history is behind
    telemetry_gaps  how likely an answer lacks the runtime and the address of a pod that is up

    `account` and `market` can be changed at any time: credit, keys, prices, stock.
    """

    name = "runpod"

    def __init__(
        self,
        machines: Machines,
        *,
        clock: SimulatedClock | None = None,
        latency_seconds: float = 0.0,
        seed: int = 0,
        boot_seconds: float = 0.0,
        rate_limits: bool = False,
        billing_lag: float = 0.0,
        telemetry_gaps: float = 0.0,
    ) -> None:
        super().__init__(machines, clock=clock, latency_seconds=latency_seconds)
        self.market = Market(seed)
        self.account = Account()
        self.pods = Pods(
            clock=self.clock, bill=self.bill, faults=self.faults, market=self.market, account=self.account,
            dice=random.Random(f"pods {seed}"), boot_seconds=boot_seconds,
            telemetry_gaps=telemetry_gaps,
        )  # fmt: skip
        self._life = Life(self.pods, machines)
        self._rate_limits, self._lag = rate_limits, timedelta(seconds=billing_lag)
        self._apis = self._apis_of(self.pods)
        other = Account(id="user_somebody_else", credit=Decimal(0), keys={OTHER_KEY: Key()})
        self._apis_of_another = self._apis_of(
            replace(self.pods, account=other, bill=Bill(self.clock), all={}, leaving=[])
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self.lock:
            response = self._answer(Request(environ))
            self._life.sweep()
        return response(environ, start_response)

    def call_of(self, environ: WSGIEnvironment) -> str:
        method, path = str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"])
        if path == "/graphql":
            return call_of_query(body_of(environ))
        if method == "POST" and re.fullmatch("/v2/pods/[^/]+/action", path):
            return "terminate" if b'"terminate"' in body_of(environ) else "other"
        found = (call for verb, pattern, call in _CALLS if verb == method and re.fullmatch(pattern, path))
        return next(found, "other")

    def about(self, environ: WSGIEnvironment) -> tuple[str, str]:
        path = str(environ["PATH_INFO"])
        if path == "/graphql":
            what, pod = about_query(body_of(environ))
        elif (match := re.match("/v2/pods/([^/]+)", path)) is not None:
            what, pod = "", match[1]
        else:
            what, pod = "", _name_in(body_of(environ)) if path == "/v2/pods" else ""
        known = self.pods.all.get(pod)
        return what, known.order.name if known is not None else pod

    def is_done(self, status: int, body: bytes) -> bool:
        """GraphQL refuses with status 200."""
        return status < 400 and not body.startswith(b'{"errors"')

    def refusal(self, fault: Fault, environ: WSGIEnvironment) -> tuple[int, dict[str, str], bytes]:
        """REST speaks in problems, GraphQL's refusals are no JSON; what fails before RunPod is a page of the edge."""
        throttled = fault.kind == "throttled"
        status = fault.status or (429 if throttled else 500)
        headers = {"Retry-After": str(max(1, round(fault.seconds)))} if throttled and fault.seconds else {}
        if status in _FROM_THE_EDGE:
            return status, {**headers, "Content-Type": "text/html"}, _EDGE_PAGE % (status, status)
        if str(environ["PATH_INFO"]).startswith("/v2/"):
            detail = "rate limit exceeded for the minute window" if throttled else "internal server error"
            problem = problem_response(status, detail)
            return status, {**headers, "Content-Type": str(problem.content_type)}, problem.get_data()
        text = b"Too Many Requests\n" if throttled else b"Internal Server Error\n"
        return status, {**headers, "Content-Type": "text/plain"}, text

    def tick(self) -> None:
        self._life.tick(self.machine_url if self.url else "")

    def everything(self) -> Sequence[Machine]:
        with self.lock:
            return [_machine(pod) for pod in self.pods.all.values()]

    def preempt(self, machine_id: str, *, notice_seconds: float = 0.0) -> None:
        """RunPod no longer rents out spot pods (gone from its docs on 2026-05-06), so there is none to take."""
        raise ValueError(f"{self.pods.all[machine_id].id} is not a spot pod, and is not taken in {notice_seconds:g} s")

    def environment(self) -> dict[str, str]:
        return {"RUNPOD_API_BASE_URL": self.url, "RUNPOD_API_KEY": ACCOUNT_KEY}

    def environment_of_another(self) -> dict[str, str]:
        return {**self.environment(), "RUNPOD_API_KEY": OTHER_KEY}

    def _apis_of(self, pods: Pods) -> tuple[Rest, GraphQl]:
        limits = Limits() if self._rate_limits else None
        return Rest(pods, limits=limits, billing_lag=self._lag), GraphQl(pods)

    def _answer(self, request: Request) -> Response:
        if request.headers.get("User-Agent", "").startswith("Python-urllib"):
            # Cloudflare's refusal of a browser signature, met on api.runpod.io.
            return Response("error code: 1010", status=403, content_type="text/plain; charset=UTF-8")
        is_another = request.headers.get("Authorization", "").endswith(OTHER_KEY)
        rest, graphql = self._apis_of_another if is_another else self._apis
        if request.path == "/graphql":
            return graphql.answer(request)
        if request.path.startswith("/v2/"):
            return rest.answer(request)
        if request.path.startswith("/v1"):
            # docs.runpod.io/release-notes: REST v1 "will be retired on November 15, 2026".
            gone = {"error": "REST API v1 has been retired", "status": 410}
            return Response(json.dumps(gone), status=410, content_type="application/json")
        return Response("404 page not found\n", status=404, content_type="text/plain")


def _machine(pod: Pod) -> Machine:
    alive = pod.status is not Status.TERMINATED
    return Machine(
        id=pod.id,
        name=pod.order.name,
        status=pod.status.value,
        alive=alive,
        created_at=pod.created_at,
        ended_at=pod.ended_at,
        ssh=pod.ssh if alive else None,
    )


def _name_in(body: bytes) -> str:
    """What a create calls its pod; "" when it is no create that could be read."""
    try:
        return str(json.loads(body)["name"])
    except (ValueError, TypeError, KeyError):
        return ""
