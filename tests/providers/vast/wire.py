"""Vast.ai's API as a script: what was asked, and what is answered. Opens no socket."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from providers.accounts import Account
from providers.base import Offer, Settings
from providers.vast.client import Client
from providers.vast.provider import VastProvider
from tests.fakes.clock import START, FakeClock
from tests.providers.wire import KEY, Reply, ScriptedWire, mounted

BASE = "https://console.vast.ai"

SEARCH, LIST, ME, CHARGES = (
    "POST /api/v0/bundles/", "GET /api/v1/instances/", "GET /api/v0/users/current", "GET /api/v0/charges/",
)  # fmt: skip
CREATE, SHOW, DESTROY, ATTACH = (
    "PUT /api/v0/asks/7/", "GET /api/v0/instances/101/", "DELETE /api/v0/instances/101/",
    "POST /api/v0/instances/101/ssh/",
)  # fmt: skip
MADE = {"success": True, "new_contract": 101, "instance_api_key": "0" * 64}
YES = {"success": True}

Json = dict[str, Any]


class Wire(ScriptedWire):
    """What Vast.ai says to a path that it does not know."""

    def __init__(self) -> None:
        super().__init__(Reply(404, text="<html>nothing here</html>"))


def client(wire: Wire, clock: FakeClock | None = None, *, key: str = KEY, patience: float = 1.5) -> Client:
    """Short waits are spent on the clock."""
    now = clock or FakeClock()
    account = Account(BASE, key, None if key else "there is no key")
    return mounted(Client(account, now, sleep=now.advance, patience=patience), wire)


def provider(
    wire: Wire, clock: FakeClock | None = None, *, key: str = KEY, home: Path = Path("/nowhere"), patience: float = 1.5
) -> VastProvider:
    now = clock or FakeClock()
    settings = Settings(home=home, env={"VAST_API_KEY": key} if key else {}, now=now)

    def connect(account: Account) -> Client:
        return mounted(Client(account, now, sleep=now.advance, patience=patience), wire)

    return VastProvider(settings, connect=connect, sleep=now.advance)


def instance(number: int = 101, label: str | None = "gpujob-r-abc123-1-1", **changes: Any) -> Json:
    """An instance as Vast.ai shows it while it boots."""
    made: Json = {
        "id": number,
        "label": label,
        "machine_id": 5501,
        "actual_status": "loading",
        "cur_state": "running",
        "next_state": "running",
        "intended_status": "running",
        "status_msg": "pytorch: Pulling from repository",
        "is_bid": False,
        "geolocation": "Texas, US",
        "dph_base": 0.34,
        "dph_total": 0.344167,
        "storage_cost": 0.15,
        "disk_space": 20.0,
        "inet_up_cost": 0.002,
        "inet_down_cost": 0.001,
        "image_runtype": "ssh_direc ssh_proxy",
        "public_ipaddr": " 203.0.113.7 \n",
        "ssh_host": "ssh4.vast.ai",
        "ssh_port": 20544,
        "start_date": START.timestamp(),
        "end_date": START.timestamp() + 30 * 86400,
        "duration": 30 * 86400.0,
        "extra_env": [
            ["GPUJOB_OWNER", "alice"],
            ["GPUJOB_RUN", "r-abc123"],
            ["GPUJOB_ATTEMPT", "1"],
            ["GPUJOB_DEADLINE", "1795266000"],
            ["GPUJOB_USD_PER_HOUR", "0.34"],
        ],
    }
    return {**made, **changes}


RUNNING: Json = {
    "actual_status": "running",
    "status_msg": "success, running pytorch/ssh",
    "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41022"}, {"HostIp": "::", "HostPort": "41022"}]},
}
STOPPED: Json = {"cur_state": "stopped", "next_state": "stopped", "intended_status": "stopped"}


def listed(*rows: Json, next_token: str | None = None) -> Json:
    return {"success": True, "instances_found": len(rows), "next_token": next_token, "instances": list(rows)}


def ask(number: int = 7, **changes: Any) -> Json:
    """An offer as a search shows it."""
    made: Json = {
        "id": number,
        "ask_contract_id": number,
        "machine_id": 5501,
        "num_gpus": 1,
        "gpu_name": "RTX 4090",
        "gpu_ram": 24564,
        "gpu_frac": 0.25,
        "cuda_max_good": 12.8,
        "cpu_cores": 64,
        "cpu_cores_effective": 16.0,
        "cpu_ram": 257_000,
        "disk_space": 300.0,
        "direct_port_count": 100,
        "reliability2": 0.995,
        "verification": "verified",
        "external": None,
        "rentable": True,
        "rented": False,
        "duration": 30 * 86400.0,
        "geolocation": "Texas, US",
        "dph_base": 0.34,
        "dph_total": 0.344167,
        "min_bid": 0.2,
        "storage_cost": 0.15,
        "inet_up_cost": 0.002,
        "inet_down_cost": 0.001,
    }
    return {**made, **changes}


def offer(offer_id: str = "7", **changes: Any) -> Offer:
    made: Json = {
        "provider": "vast",
        "offer_id": offer_id,
        "region": "US",
        "gpu": "RTX4090",
        "gpu_count": 1,
        "gpu_memory_gb": 24.0,
        "vcpus": 16.0,
        "memory_gb": 64.0,
        "disk_gb": 300.0,
        "spot": offer_id.startswith("bid:"),
        "usd_per_hour": Decimal("0.34"),
        "fetched_at": START,
        "source": "test",
    }
    return Offer(**{**made, **changes})


def creating(wire: Wire, row: Json | None = None) -> Wire:
    """All that a create asks for goes well."""
    wire.on(LIST, listed()).on(CREATE, MADE).on(ATTACH, YES)
    return wire.on(SHOW, {"instances": row or instance()})
