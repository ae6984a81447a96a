"""A simulated cloud on a loopback port: the request log, the faults on the wire, and the director's entrance.

Below `/_rehearsal/` a person or a test directs the cloud and reads its bill; everything else is the cloud's API.

    GET  /_rehearsal/bill       the cloud's own bill
    GET  /_rehearsal/machines   all machines that were ever made
    GET  /_rehearsal/requests   what was asked, oldest first
    POST /_rehearsal/faults     a list of faults (faults.py), added to those that wait; GET shows these
    POST /_rehearsal/clock      {"advance": seconds}
    POST /_rehearsal/preempt    {"machine": id, "notice": seconds}
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from providers.rehearsal.cloud import Asked, SimulatedCloud, bill_document
from providers.rehearsal.faults import CALLS, Fault

TICK_SECONDS = 0.1
_POLL_SECONDS = 0.05  # how long a close may take to be noticed
_CHANCES = 5
LOOPBACK = "127.0.0.1"

_BEFORE = ("outage", "throttled", "error")
_AFTER = ("lost_reply", "error_after")

log = logging.getLogger("gpujob.rehearsal")


class _Dropped(ConnectionError):
    """The connection is gone; there is nobody to answer. The server takes a ConnectionError for just that."""


class Served:
    """A cloud that listens, on loopback and on the addresses where its machines look for it. A context manager."""

    def __init__(self, cloud: SimulatedCloud, *, port: int = 0, also_on: Sequence[str] | None = None) -> None:
        self.cloud = cloud
        addresses = cloud.machines.addresses if also_on is None else also_on
        self._servers = _listen_on_one_port([LOOPBACK, *addresses], port, Wire(cloud))
        cloud.url = f"http://{LOOPBACK}:{self._servers[0].port}"
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
            for server in self._servers
        ]
        self._threads.append(threading.Thread(target=self._tick, daemon=True))

    @property
    def url(self) -> str:
        return self.cloud.url

    def __enter__(self) -> Served:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and remove every machine."""
        self._over.set()
        for server, thread in zip(self._servers, self._threads, strict=False):
            if thread.is_alive():  # a server that never ran would wait for its end for ever
                server.shutdown()
            server.server_close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
        self.cloud.machines.close()

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            try:
                with self.cloud.lock:
                    self.cloud.tick()
            except Exception:
                log.exception("%s: tick", self.cloud.name)


class Wire:
    """The WSGI application around a cloud's own."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self._cloud = cloud
        self._out_until: datetime | None = None
        self._outage: Fault | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if str(environ["PATH_INFO"]).startswith("/_rehearsal/"):
            if environ.get("REMOTE_ADDR") != LOOPBACK:  # a machine is no director
                return Response("only from this computer\n", status=403)(environ, start_response)
            return _directed(self._cloud, Request(environ))(environ, start_response)
        return self._answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        cloud = self._cloud
        call = cloud.call_of(environ)
        if call not in CALLS:
            return self._inside(environ, start_response)
        if cloud.latency_seconds:
            time.sleep(cloud.latency_seconds)
        if (slow := cloud.faults.take(call, "slow")) is not None:
            time.sleep(slow.seconds)
        fault = self._outage_now() or cloud.faults.take(call, *_BEFORE)
        if fault is not None:
            self._note(call, environ, fault.kind)
            return self._refuse(fault, environ, start_response)
        with cloud.lock:
            cloud.tick()
            answer = Response.from_app(cloud, environ, buffered=True)
        fault = cloud.faults.take(call, *_AFTER)
        self._note(call, environ, fault.kind if fault else "slow" if slow else "")
        if fault is not None:
            return self._refuse(fault, environ, start_response)
        return answer(environ, start_response)

    def _inside(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """What a machine asks its own host is no call of the API: no fault strikes it, and none is used up by it."""
        with self._cloud.lock:
            self._cloud.tick()
            answer = Response.from_app(self._cloud, environ, buffered=True)
        return answer(environ, start_response)

    def _outage_now(self) -> Fault | None:
        if self._out_until is not None and self._cloud.clock() < self._out_until:
            return self._outage
        return None

    def _refuse(self, fault: Fault, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if fault.kind == "outage" and self._outage_now() is None:
            self._outage, self._out_until = fault, self._cloud.clock() + timedelta(seconds=fault.seconds)
        if fault.kind in ("outage", "lost_reply") and not fault.status:
            _drop(environ)
        status, headers, body = self._cloud.refusal(fault, environ)
        return Response(body, status=status, headers=headers)(environ, start_response)

    def _note(self, call: str, environ: WSGIEnvironment, fault: str) -> None:
        asked = Asked(self._cloud.clock(), call, environ["REQUEST_METHOD"], environ["PATH_INFO"], fault)
        self._cloud.requests.append(asked)


class _Quiet(WSGIRequestHandler):
    """No line on stderr for every request. HTTP/1.1, as the real ones; werkzeug still closes after every answer."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Said in the cloud's own request log."""


def _listen_on_one_port(addresses: Sequence[str], port: int, app: Wire) -> list[Any]:
    """A server for each address. A free port of the first may be somebody's at another: then with the next free one."""
    for chance in range(_CHANCES):
        servers: list[Any] = []
        try:
            for address in addresses:
                chosen = servers[0].port if servers else port
                servers.append(_listen(address, chosen, app))
            return servers
        except OSError:
            for server in servers:
                server.server_close()
            if port or chance == _CHANCES - 1:
                raise
    raise AssertionError("unreachable")


def _listen(address: str, port: int, app: Wire) -> Any:
    """Bound here: werkzeug itself would end the whole process when the port is taken."""
    with socket.create_server((address, port), backlog=128) as listening:
        return make_server(address, port, app, threaded=True, request_handler=_Quiet, fd=listening.fileno())


def _drop(environ: WSGIEnvironment) -> None:
    """Close the connection in the middle of the answer."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise _Dropped


def _directed(cloud: SimulatedCloud, request: Request) -> Response:
    answers: dict[tuple[str, str], Callable[[SimulatedCloud, Any], Any]] = {
        ("GET", "bill"): lambda cloud, _: bill_document(cloud),
        ("GET", "machines"): lambda cloud, _: [asdict(machine) for machine in cloud.everything()],
        ("GET", "requests"): lambda cloud, _: [asdict(asked) for asked in cloud.requests],
        ("GET", "faults"): lambda cloud, _: [fault.to_json() for fault in cloud.faults.waiting()],
        ("POST", "faults"): _add_faults,
        ("POST", "clock"): lambda cloud, body: cloud.clock.advance(float(body["advance"])),
        ("POST", "preempt"): lambda cloud, body: cloud.preempt(
            body["machine"], notice_seconds=float(body.get("notice", 0))
        ),
    }
    answer = answers.get((request.method, request.path.removeprefix("/_rehearsal/")))
    if answer is None:
        return Response("no such entrance\n", status=404)
    try:
        with cloud.lock:
            cloud.tick()
            found = answer(cloud, request.get_json() if request.method == "POST" else None)
            cloud.tick()
    except (KeyError, TypeError, ValueError) as error:
        return Response(f"{type(error).__name__}: {error}\n", status=400)
    return Response(json.dumps(found, default=_plain), mimetype="application/json")


def _add_faults(cloud: SimulatedCloud, rows: Any) -> None:
    cloud.faults.add(*(Fault.from_json(row) for row in rows))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
