"""A simulated cloud on a loopback port: the request log and the faults on the wire.

What is below `/_rehearsal/` is the director's (entrance.py); everything else is the cloud's API.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NoReturn
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from providers.rehearsal import entrance
from providers.rehearsal.cloud import Asked, SimulatedCloud
from providers.rehearsal.faults import CALLS, Fault

TICK_SECONDS = 0.1
_POLL_SECONDS = 0.05  # how long a close may take to be noticed
_CHANCES = 5
_STOP_SECONDS = 5.0
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
        self._over = threading.Event()
        self._servers = _listen_on_one_port([LOOPBACK, *addresses], port, Wire(cloud, over=self._over))
        cloud.url = f"http://{LOOPBACK}:{self._servers[0].port}"
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
            for server in self._servers
        ]
        self._threads.append(threading.Thread(target=self._tick, daemon=True))

    @property
    def url(self) -> str:
        return self.cloud.url

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening and remove every machine."""
        self.stop()
        self.cloud.machines.close()

    def stop(self) -> None:
        """Nobody is answered any more, time stands still, and what is under way makes no machine."""
        self._over.set()
        for server, thread in zip(self._servers, self._threads, strict=False):
            if thread.is_alive():  # a server that never ran would wait for its end for ever
                server.shutdown()
            server.server_close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=_STOP_SECONDS)
        if self.cloud.lock.acquire(timeout=_STOP_SECONDS):  # whoever has it now is the last to have it
            self.cloud.lock.release()

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            try:
                with self.cloud.lock:
                    if not self._over.is_set():
                        self.cloud.tick()
            except Exception:
                log.exception("%s: tick", self.cloud.name)


class Wire:
    """The WSGI application around a cloud's own. Once `over` is set, nothing reaches the cloud any more."""

    def __init__(self, cloud: SimulatedCloud, *, over: threading.Event | None = None) -> None:
        self._cloud = cloud
        self._over = over or threading.Event()
        self._outage: Fault | None = None
        self._out_until: datetime | None = None
        self._outage_lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if str(environ["PATH_INFO"]).startswith(entrance.PREFIX):
            if environ.get("REMOTE_ADDR") != LOOPBACK:  # a machine is no director
                return Response("the director sits on this computer\n", status=403)(environ, start_response)
            return entrance.answer(self._cloud, Request(environ))(environ, start_response)
        return self._answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        cloud = self._cloud
        call = cloud.call_of(environ)
        if call not in CALLS:
            return self._asked(environ)(environ, start_response)
        slow = cloud.faults.take(call, "slow")
        self._over.wait(cloud.latency_seconds + (slow.seconds if slow else 0.0))
        answer: Response | None = None
        fault, status = self._before(call), 0
        with cloud.lock:
            what, machine = cloud.about(environ)
            if fault is None:
                answer = own = self._asked(environ)
                status, fault = own.status_code, self._after(call, own)
            if fault is not None:
                answer = self._in_its_place(fault, environ)
            kind = fault.kind if fault else "slow" if slow else ""
            cloud.requests.append(
                Asked(
                    at=cloud.clock(), call=call, method=environ["REQUEST_METHOD"], path=environ["PATH_INFO"], what=what,
                    machine=machine, fault=kind, status=status, told=answer.status_code if answer else 0,
                )
            )  # fmt: skip
        if answer is None:
            _drop(environ)
        return answer(environ, start_response)

    def _asked(self, environ: WSGIEnvironment) -> Response:
        """The cloud's own answer. What a machine asks its own host is no call of the API: no fault strikes it."""
        with self._cloud.lock:
            if self._over.is_set():
                _drop(environ)
            self._cloud.tick()
            return Response.from_app(self._cloud, environ, buffered=True)

    def _before(self, call: str) -> Fault | None:
        """What strikes a call before the cloud hears of it: an outage that has begun, or the next fault."""
        with self._outage_lock:
            now = self._cloud.clock()
            if self._out_until is not None and now < self._out_until:
                return self._outage
            fault = self._cloud.faults.take(call, *_BEFORE)
            if fault is not None and fault.kind == "outage":
                self._outage, self._out_until = fault, now + timedelta(seconds=fault.seconds)
            return fault

    def _after(self, call: str, answer: Response) -> Fault | None:
        """What strikes an answer; that of a cloud that has refused is none that could be lost."""
        if self._cloud.is_done(answer.status_code, answer.get_data()):
            return self._cloud.faults.take(call, *_AFTER)
        self._cloud.faults.spare(call, *_AFTER)
        return None

    def _in_its_place(self, fault: Fault, environ: WSGIEnvironment) -> Response | None:
        """What the client gets instead of the answer; None: the connection drops."""
        if fault.kind in ("outage", "lost_reply") and not fault.status:
            return None
        status, headers, body = self._cloud.refusal(fault, environ)
        return Response(body, status=status, headers=headers)


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


def _drop(environ: WSGIEnvironment) -> NoReturn:
    """Close the connection in the middle of the answer."""
    connection: socket.socket = environ["werkzeug.socket"]
    with suppress(OSError):  # the client may have gone first
        connection.shutdown(socket.SHUT_RDWR)
    raise _Dropped
