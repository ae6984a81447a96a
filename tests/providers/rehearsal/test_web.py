"""A simulated cloud as its clients see it on the wire, and as its director directs it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from http.client import HTTPException
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from werkzeug.wrappers import Request, Response

from providers.rehearsal.bill import Rate
from providers.rehearsal.cloud import Commons, Machine, body_of
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.web import Served

pytestmark = pytest.mark.process

CALLS = {"/make": "create", "/show": "get", "/metadata": "metadata"}


class Counter(Commons):
    """A cloud whose POST /make makes one more, unless it is full, and whose GET /show tells how many there are."""

    name = "counter"

    def __init__(self) -> None:
        super().__init__(PaperMachines())
        self.made = self.ticks = 0
        self.began = self.clock()
        self.preempted: list[tuple[str, float]] = []
        self.broken = self.full = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.method == "POST":
            assert request.get_data() == b"one please"
            if self.full:
                return Response("full", status=409)(environ, start_response)
            self.made += 1
        return Response(f"{self.made}")(environ, start_response)

    def call_of(self, environ: WSGIEnvironment) -> str:
        return CALLS.get(environ["PATH_INFO"], "other")

    def about(self, environ: WSGIEnvironment) -> tuple[str, str]:
        assert body_of(environ) == body_of(environ), "it is put back"
        return environ["PATH_INFO"].upper(), f"after {self.made}"

    def refusal(self, fault: Fault, environ: WSGIEnvironment) -> tuple[int, dict[str, str], bytes]:
        status = fault.status or (429 if fault.kind == "throttled" else 500)
        return status, {"Retry-After": f"{fault.seconds:g}"} if fault.seconds else {}, fault.kind.encode()

    def tick(self) -> None:
        self.ticks += 1
        if self.broken:
            raise RuntimeError("tick")

    def everything(self) -> Sequence[Machine]:
        return [
            Machine(id="m", name="n", status="up", alive=True, created_at=self.began, ssh=("127.0.0.1", 22)),
            Machine(id="d", name="o", status="gone", alive=False, created_at=self.began, ended_at=self.began),
        ]

    def preempt(self, machine_id: str, *, notice_seconds: float = 0.0) -> None:
        if machine_id != "m":
            raise KeyError(machine_id)
        self.preempted.append((machine_id, notice_seconds))

    def environment_of_another(self) -> dict[str, str]:
        return self.environment()

    def environment(self) -> dict[str, str]:
        return {"COUNTER_URL": self.url, "COUNTER_KEY": "rehearsal-counter"}


@pytest.fixture
def cloud() -> Iterator[Counter]:
    counter = Counter()
    with Served(counter):
        yield counter


def ask(cloud: Counter, method: str, path: str, body: Any = None) -> tuple[int, str, dict[str, str]]:
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(cloud.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode(), dict(refused.headers)


def make(cloud: Counter) -> int:
    return ask(cloud, "POST", "/make", b"one please")[0]


def drops(cloud: Counter, method: str = "GET", path: str = "/show", body: Any = None) -> bool:
    try:
        ask(cloud, method, path, body)
    except (HTTPException, OSError):
        return True
    return False


def test_every_request_is_noted(cloud: Counter) -> None:
    make(cloud)
    ask(cloud, "GET", "/show")
    asked = [(row.call, row.method, row.path, row.what, row.machine, row.status, row.told) for row in cloud.requests]
    assert asked == [
        ("create", "POST", "/make", "/MAKE", "after 0", 200, 200),
        ("get", "GET", "/show", "/SHOW", "after 1", 200, 200),
    ]


@pytest.mark.parametrize(
    ("kind", "status", "told", "lost"),
    [("outage", 0, 0, False), ("error", 0, 500, False), ("lost_reply", 200, 0, True), ("error_after", 200, 500, True)],
)
def test_what_became_of_a_request_that_a_fault_struck(
    cloud: Counter, kind: str, status: int, told: int, lost: bool
) -> None:
    cloud.faults.add(Fault(kind=kind))
    assert drops(cloud) is (told == 0)
    [row] = json.loads(ask(cloud, "GET", "/_rehearsal/requests")[1])
    assert (row["fault"], row["status"], row["told"], row["reply_lost"]) == (kind, status, told, lost)
    assert [fault["kind"] for fault in json.loads(ask(cloud, "GET", "/_rehearsal/struck")[1])] == [kind]


@pytest.mark.parametrize(("kind", "made"), [("error", 0), ("throttled", 0), ("error_after", 1)])
def test_a_refusal_in_the_clouds_own_form(cloud: Counter, kind: str, made: int) -> None:
    cloud.faults.add(Fault(kind=kind, on="create", seconds=7))
    status, body, headers = ask(cloud, "POST", "/make", b"one please")
    assert (body, headers["Retry-After"]) == (kind, "7") and status == (429 if kind == "throttled" else 500)
    assert cloud.made == made
    assert cloud.requests[-1].fault == kind
    assert make(cloud) == 200, "once only"


def test_a_lost_reply_is_done_and_not_told(cloud: Counter, capfd: pytest.CaptureFixture[str]) -> None:
    cloud.faults.add(Fault(kind="lost_reply", on="create"))
    assert drops(cloud, "POST", "/make", b"one please")
    assert cloud.made == 1
    assert ask(cloud, "GET", "/show")[1] == "1"
    assert capfd.readouterr().err == "", "no traceback of the server's"


def test_an_outage_lasts_for_every_call_and_ends_by_the_clouds_clock(cloud: Counter) -> None:
    cloud.faults.add(Fault(kind="outage", seconds=60))
    assert drops(cloud) and drops(cloud, "POST", "/make", b"one please")
    assert cloud.made == 0
    cloud.clock.advance(61)
    assert make(cloud) == 200
    cloud.faults.add(Fault(kind="outage", seconds=60, status=503))
    assert ask(cloud, "GET", "/show")[0] == ask(cloud, "GET", "/show")[0] == 503


def test_an_outage_may_begin_at_any_call_and_last_for_so_many(cloud: Counter) -> None:
    cloud.faults.add(Fault(kind="outage", skip=2, times=3))
    assert [drops(cloud) for _ in range(7)] == [False, False, True, True, True, False, False]


def test_an_answer_is_lost_only_where_something_was_done(cloud: Counter) -> None:
    cloud.faults.add(Fault(kind="lost_reply", on="create"))
    cloud.full = True
    assert make(cloud) == 409 and len(cloud.faults.waiting()) == 1
    cloud.full = False
    assert drops(cloud, "POST", "/make", b"one please") and cloud.made == 1


def test_what_is_under_way_when_it_ends_makes_nothing() -> None:
    counter = Counter()
    counter.faults.add(Fault(kind="slow", on="create", seconds=600))
    with Served(counter):
        under_way = threading.Thread(target=drops, args=(counter, "POST", "/make", b"one please"))
        under_way.start()
        while counter.faults.waiting():
            time.sleep(0.01)
    under_way.join(10)
    assert not under_way.is_alive() and counter.made == 0
    ticks = counter.ticks
    time.sleep(0.3)
    assert counter.ticks == ticks, "time stands still"


def test_slow_and_latency_take_real_time_and_keep_nobody_else_waiting(cloud: Counter) -> None:
    cloud.faults.add(Fault(kind="slow", on="get", seconds=3))
    slow = threading.Thread(target=ask, args=(cloud, "GET", "/show"))
    began = time.monotonic()
    slow.start()
    while cloud.faults.waiting():
        time.sleep(0.01)
    assert make(cloud) == 200 and time.monotonic() - began < 2.8
    slow.join()
    assert time.monotonic() - began >= 3
    assert cloud.requests[-1].fault == "slow"
    cloud.latency_seconds = 0.3
    began = time.monotonic()
    make(cloud)
    assert time.monotonic() - began >= 0.3


def test_what_a_machine_asks_its_host_meets_no_fault(cloud: Counter) -> None:
    cloud.faults.add(Fault(kind="error"))
    assert ask(cloud, "GET", "/metadata")[0] == 200
    assert len(cloud.faults.waiting()) == 1 and not cloud.requests


def test_time_passes_without_requests_and_a_broken_tick_does_not_stop_it(cloud: Counter) -> None:
    def further(ticks: int) -> bool:
        give_up = time.monotonic() + 10
        while cloud.ticks < ticks and time.monotonic() < give_up:
            time.sleep(0.01)
        return cloud.ticks >= ticks

    assert further(cloud.ticks + 2)
    cloud.broken = True
    assert further(cloud.ticks + 3)


def test_the_director_reads_the_bill_the_machines_and_the_requests(cloud: Counter) -> None:
    cloud.bill.open("m", Rate(meter="compute", unit="hour", usd_per_unit=Decimal("0.1")), cloud.clock())
    cloud.bill.close("m", at=cloud.bill.lines()[0].start)
    make(cloud)
    [line] = json.loads(ask(cloud, "GET", "/_rehearsal/bill")[1])
    assert (line["machine"], line["usd_per_unit"], line["quantity"]) == ("m", "0.1", "0")
    machine, dead = json.loads(ask(cloud, "GET", "/_rehearsal/machines")[1])
    assert machine["id"] == "m" and machine["created_at"].endswith("+00:00")
    assert json.loads(ask(cloud, "GET", "/_rehearsal/alive")[1]) == [machine]
    cloud.bill.count(
        "volume", Rate(meter="disk", unit="GB", usd_per_unit=Decimal("0.5")), Decimal(3), *[cloud.clock()] * 2
    )
    mine, free, other = json.loads(ask(cloud, "GET", "/_rehearsal/bills")[1])
    assert mine == {"id": "m", "name": "n", "alive": True, "usd": "0.0", "meters": {"compute": "0.0"}}
    assert (free["id"], free["usd"], free["meters"]) == (dead["id"], "0", {}), "also what has cost nothing"
    assert (other["id"], other["alive"], other["usd"], other["meters"]) == ("volume", False, "1.5", {"disk": "1.5"})
    [asked] = json.loads(ask(cloud, "GET", "/_rehearsal/requests")[1])
    assert asked["call"] == "create", "the director's own requests are not the cloud's"


def test_the_director_adds_faults_moves_the_clock_and_preempts(cloud: Counter) -> None:
    assert ask(cloud, "POST", "/_rehearsal/faults", [{"kind": "error", "on": "get"}])[0] == 200
    assert json.loads(ask(cloud, "GET", "/_rehearsal/faults")[1])[0]["kind"] == "error"
    before = cloud.clock()
    assert ask(cloud, "POST", "/_rehearsal/clock", {"advance": 3600})[0] == 200
    assert (cloud.clock() - before).total_seconds() >= 3600
    assert ask(cloud, "POST", "/_rehearsal/preempt", {"machine": "m", "notice": 120})[0] == 200
    assert cloud.preempted == [("m", 120.0)]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "faults", [{"kind": "rain"}], 400),
        ("POST", "faults", {"kind": "error"}, 400),
        ("POST", "clock", {"advance": -1}, 400),
        ("POST", "clock", {}, 400),
        ("POST", "preempt", {"machine": "x"}, 400),
        ("GET", "weather", None, 404),
        ("DELETE", "bill", None, 404),
    ],
)
def test_a_wrong_direction_is_refused(cloud: Counter, method: str, path: str, body: Any, status: int) -> None:
    assert ask(cloud, method, f"/_rehearsal/{path}", body)[0] == status
    assert cloud.faults.waiting() == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_machines_reach_the_cloud_and_cannot_direct_it() -> None:
    counter = Counter()
    with Served(counter, also_on=["127.0.0.2"]):
        there = counter.url.replace("127.0.0.1", "127.0.0.2")
        with urllib.request.urlopen(f"{there}/show", timeout=5) as answer:
            assert answer.read() == b"0"
        source = socket.create_connection(("127.0.0.2", int(there.rpartition(":")[2])), source_address=("127.0.0.3", 0))
        with source:
            source.sendall(b"GET /_rehearsal/bill HTTP/1.0\r\n\r\n")
            assert b" 403 " in source.makefile("rb").readline()


def test_it_can_be_closed_before_it_ran_and_leaves_the_port() -> None:
    counter = Counter()
    Served(counter).close()
    port = int(counter.url.rpartition(":")[2])
    with Served(Counter(), port=port), pytest.raises(OSError, match="in use"):
        Served(Counter(), port=port)
