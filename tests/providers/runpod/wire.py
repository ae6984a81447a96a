"""RunPod's API as a script: what was asked, and what is answered. Opens no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from providers.base import LaunchRequest, Now, Offer, Settings
from providers.runpod.account import Account
from providers.runpod.client import Client
from providers.runpod.provider import RunpodProvider
from tests.fakes.clock import START, FakeClock

KEY = "rehearsal-unit-key"
BASE = "https://api.runpod.io"

Json = dict[str, Any]


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Reply | Exception | Callable[[requests.PreparedRequest], Any]


class Wire(BaseAdapter):
    """Answers by "METHOD /path": the first of several answers is used up, the last one stays."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[requests.PreparedRequest] = []
        self.proxies: list[Mapping[str, str]] = []  # by which each request would have gone

    def on(self, call: str, *answers: Any) -> Wire:
        """A dict is the body of a 200."""
        self.answers[call] = [Reply(body=answer) if isinstance(answer, dict) else answer for answer in answers]
        return self

    def calls(self, call: str = "") -> list[str]:
        found = [f"{request.method} {path_of(request)}" for request in self.asked]
        return [each for each in found if call in each]

    def body(self, call: str) -> Json:
        """The body of the newest such request."""
        request = [each for each in self.asked if f"{each.method} {path_of(each)}" == call][-1]
        body: Json = json.loads(request.body or b"{}")
        return body

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.asked.append(request)
        self.proxies.append(options.get("proxies") or {})
        left = self.answers.get(f"{request.method} {path_of(request)}", [Reply(404, {"detail": "resource not found"})])
        answer: Any = left.pop(0) if len(left) > 1 else left[0]
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return _response(request, answer if isinstance(answer, Reply) else Reply(body=answer))

    def close(self) -> None:
        """Nothing is open."""


def path_of(request: requests.PreparedRequest) -> str:
    return str(request.path_url).partition("?")[0]


def client(wire: Wire, now: Now | None = None, *, base: str = BASE, key: str = KEY) -> Client:
    return mounted(Client(Account(base, key), now or FakeClock()), wire)


def mounted(made: Client, wire: Wire) -> Client:
    made.session.mount("https://", wire)
    made.session.mount("http://", wire)
    return made


def provider(wire: Wire, clock: FakeClock | None = None, *, key: str = KEY, tmp: Any = None) -> RunpodProvider:
    now = clock or FakeClock()
    settings = Settings(home=tmp, env={"RUNPOD_API_KEY": key}, now=now)
    return RunpodProvider(settings, connect=lambda account: mounted(Client(account, now), wire))


def pod(pod_id: str = "p1", name: str = "gpujob-r-abc123-1-1", **changes: Any) -> Json:
    """A pod as v2 shows it."""
    made: Json = {
        "id": pod_id,
        "name": name,
        "status": "RUNNING",
        "actions": ["stop", "restart", "terminate"],
        "image": "python:3.12",
        "args": "",
        "disk": 20,
        "mounts": {},
        "ports": ["22/tcp"],
        "env": {
            "GPUJOB_OWNER": "alice",
            "GPUJOB_RUN": "r-abc123",
            "GPUJOB_ATTEMPT": "1",
            "GPUJOB_DEADLINE": "1795262400",
            "GPUJOB_USD_PER_HOUR": "0.69",
        },
        "registry": None,
        "cloud": "SECURE",
        "dataCenterId": "EU-RO-1",
        "cudaVersion": "12.8",
        "ssh": {"proxy": None, "direct": None},
        "template": None,
        "cost": 0.69,
        "locked": False,
        "runtime": None,
        "createdAt": "2026-11-21T12:00:00.000Z",
        "startedAt": None,
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1},
    }
    return {**made, **changes}


DIRECT = {"host": "203.0.113.7", "port": 34446, "username": "root", "command": "ssh root@203.0.113.7 -p 34446"}


def offer(offer_id: str = "secure:NVIDIA GeForce RTX 4090:1:any", **changes: Any) -> Offer:
    made: Json = {
        "provider": "runpod",
        "offer_id": offer_id,
        "region": "any",
        "gpu": "RTX4090",
        "gpu_count": 1,
        "gpu_memory_gb": 24.0,
        "vcpus": 8.0,
        "memory_gb": 31.0,
        "disk_gb": 20.0,
        "spot": False,
        "usd_per_hour": Decimal("0.69"),
        "fetched_at": START,
        "source": "test",
    }
    return Offer(**{**made, **changes})


def request(**changes: Any) -> LaunchRequest:
    made: Json = {
        "name": "gpujob-r-abc123-1-1",
        "owner": "alice",
        "run_id": "r-abc123",
        "attempt": 1,
        "deadline": START.replace(hour=13),
        "disk_gb": 19.5,
        "image": "python:3.12",
        "public_key": "ssh-ed25519 AAAApublic",
    }
    return LaunchRequest(**{**made, **changes})


def _response(asked: requests.PreparedRequest, reply: Reply) -> requests.Response:
    response = requests.Response()
    response.status_code = reply.status
    response.headers = CaseInsensitiveDict(reply.headers)
    text = reply.text if reply.text is not None else "" if reply.body is None else json.dumps(reply.body)
    response._content = text.encode()
    response.encoding = "utf-8"
    response.url = str(asked.url)
    response.request = asked
    return response
