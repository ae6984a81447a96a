"""A customer of the simulated Vast.ai who speaks HTTP without a socket, on a clock that stands still until pushed."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.test import Client, TestResponse

from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.account import API_KEY
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.vast.market import Ask
from providers.rehearsal.web import Wire

IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
SSH = "ssh_direc ssh_proxy"  # what the SDK sends for SSH on the machine's own address


class Tenant:
    """One account's view. Every call gives (status, JSON or text)."""

    def __init__(self, *, machines: PaperMachines | None = None, rate_limits: bool = False, **options: Any) -> None:
        self.machines = machines or PaperMachines()
        self.clock = SimulatedClock(speed=0)
        self.cloud = VastCloud(self.machines, clock=self.clock, rate_limits=rate_limits, **options)
        self.cloud.url = "http://127.0.0.1:1"
        self._client = Client(Wire(self.cloud))

    def response(self, method: str, path: str, body: Any = None, *, key: str | None = API_KEY) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        path = path if path.startswith(("/api/", "/instance_logs/")) else f"/api/v0{path}"
        data = body if isinstance(body, str) else None if body is None else json.dumps(body)
        return self._client.open(path, method=method, data=data, headers=headers, content_type="application/json")

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = API_KEY) -> tuple[int, Any]:
        answer = self.response(method, path, body, key=key)
        return answer.status_code, answer.get_json() if answer.is_json else answer.get_data(as_text=True)

    def search(self, **filters: Any) -> list[dict[str, Any]]:
        status, body = self.ask("POST", "/bundles/", filters)
        assert status == 200, body
        offers: list[dict[str, Any]] = body["offers"]
        return offers

    def offer(self, **filters: Any) -> dict[str, Any]:
        """The cheapest that fits and can be rented."""
        usual = {"rentable": {"eq": True}, "num_gpus": {"eq": 1}, "direct_port_count": {"gte": 1}}
        wanted = {**usual, "order": [["dph_total", "asc"]], **filters}
        return self.search(**wanted)[0]

    def wanted_ask(self, **filters: Any) -> Ask:
        """The same, as the cloud has it."""
        return self.ask_of(int(self.offer(**filters)["id"]))

    def ask_of(self, ask_id: int) -> Ask:
        ask = self.cloud.vast.market.find(ask_id, self.clock())
        assert ask is not None
        return ask

    def create(self, ask_id: int, **fields: Any) -> tuple[int, Any]:
        body = {"client_id": "me", "image": IMAGE, "disk": 20, "runtype": SSH, "label": "run-1", **fields}
        return self.ask("PUT", f"/asks/{ask_id}/", body)

    def rent(self, ask_id: int | None = None, **fields: Any) -> int:
        status, body = self.create(ask_id or int(self.offer()["id"]), **fields)
        assert status == 200 and body["success"] is True, body
        return int(body["new_contract"])

    def running(self, **fields: Any) -> int:
        instance = self.rent(**fields)
        self.clock.advance(2)
        assert self.show(instance)["actual_status"] == "running"
        return instance

    def show(self, instance: int) -> dict[str, Any]:
        status, body = self.ask("GET", f"/instances/{instance}/?owner=me")
        assert status == 200
        row: dict[str, Any] = body["instances"]
        return row

    def list(self, **query: Any) -> dict[str, Any]:
        status, body = self.ask("GET", f"/api/v1/instances/?{_words(query)}")
        assert status == 200, body
        page: dict[str, Any] = body
        return page

    def put(self, instance: int, **fields: Any) -> tuple[int, Any]:
        return self.ask("PUT", f"/instances/{instance}/", fields)

    def destroy(self, instance: int, *, key: str = API_KEY) -> tuple[int, Any]:
        return self.ask("DELETE", f"/instances/{instance}/", {}, key=key)

    def meters(self, instance: int) -> set[str]:
        """What is billed for it at this moment."""
        return {line.rate.meter for line in self.cloud.bill.lines(str(instance)) if line.end is None}

    def charges(self, **query: Any) -> dict[str, Any]:
        now = self.clock().timestamp()
        filters = {"day": {"gte": int(now) - 86_400 * 30, "lte": int(now) + 86_400}}
        words = _words({"select_filters": filters, "format": "table", **query})
        status, body = self.ask("GET", f"/charges/?{words}")
        assert status == 200, body
        page: dict[str, Any] = body
        return page


def _words(query: dict[str, Any]) -> str:
    return "&".join(f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in query.items())
