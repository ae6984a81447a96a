"""RunPod's API as a script: what was asked, and what is answered. Opens no socket."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from providers.accounts import Account
from providers.base import Now, Offer, RegistryLogin, Settings
from providers.runpod.client import Client
from providers.runpod.provider import RunpodProvider
from tests.fakes.clock import START, FakeClock
from tests.providers.wire import KEY, Reply, ScriptedWire, mounted

BASE = "https://api.runpod.io"

Json = dict[str, Any]


class Wire(ScriptedWire):
    """What RunPod says to a path that it does not know."""

    def __init__(self) -> None:
        super().__init__(Reply(404, {"detail": "resource not found"}))


NO_BODY = Reply(204)
GONE = Reply(404, {"title": "Not Found", "status": 404, "detail": "pod not found"})
EMPTY: Json = {"pods": []}
LOGIN = RegistryLogin(server="ghcr.io", username="user", password="pa55-w0rd")


def broken(status: int = 500) -> Reply:
    return Reply(status, {"title": "x", "status": status, "detail": "internal server error"})


def refused(detail: str, status: int = 400) -> Reply:
    return Reply(status, {"title": "Bad Request", "status": status, "detail": detail})


def client(wire: Wire, now: Now | None = None, *, base: str = BASE, key: str = KEY) -> Client:
    return mounted(Client(Account(base, key), now or FakeClock()), wire)


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
