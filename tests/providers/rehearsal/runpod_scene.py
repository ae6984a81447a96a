"""A simulated RunPod and somebody who speaks its wire, in one process: no socket, and time that only a test moves."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from werkzeug.test import Client, TestResponse

from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.runpod.account import ACCOUNT_KEY
from providers.rehearsal.runpod.cloud import RunpodCloud
from providers.rehearsal.web import Wire

RTX_4090 = "NVIDIA GeForce RTX 4090"
AGENT = "rehearsal-test"


class Answer(TestResponse):
    """An answer whose JSON may be anything."""

    @property
    def json(self) -> Any:
        return self.get_json()


class Scene:
    """One cloud with machines on paper."""

    def __init__(self, machines: PaperMachines | None = None, *, credit: str = "1000", **options: Any) -> None:
        self.machines = machines or PaperMachines()
        self.cloud = RunpodCloud(self.machines, clock=SimulatedClock(speed=0), **options)
        self.cloud.account.credit = Decimal(credit)
        self.cloud.url = "http://127.0.0.1:1"
        self._client = Client(Wire(self.cloud), response_wrapper=Answer)

    def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = ACCOUNT_KEY,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        given = {"User-Agent": AGENT, **({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        return cast(Answer, self._client.open(path, method=method, json=body, headers=given))

    def query(self, text: str, variables: Mapping[str, Any] | None = None, *, key: str = ACCOUNT_KEY) -> Answer:
        body = {"query": text, "variables": variables or {}}
        return self.rest("POST", "/graphql", body, key=key)

    def data(self, text: str, variables: Mapping[str, Any] | None = None) -> Any:
        """What a query without errors yields."""
        answer = self.query(text, variables)
        assert answer.status_code == 200 and "errors" not in answer.json, answer.text
        return answer.json["data"]

    def pod(self, **changes: Any) -> dict[str, Any]:
        """A pod, made by REST v2. What is None is left out."""
        answer = self.rest("POST", "/v2/pods", order(**changes))
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json
        return made

    def get(self, id: str) -> dict[str, Any]:
        answer = self.rest("GET", f"/v2/pods/{id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    def is_gone(self, id: str) -> bool:
        return self.rest("GET", f"/v2/pods/{id}").status_code == 404

    def names(self) -> list[str]:
        return [pod["name"] for pod in self.rest("GET", "/v2/pods").json["pods"]]

    def fail(self, kind: str, **more: Any) -> None:
        self.cloud.faults.add(Fault(kind=kind, **more))

    def pass_time(self, seconds: float) -> None:
        self.cloud.clock.advance(seconds)
        with self.cloud.lock:
            self.cloud.tick()

    def usd(self, id: str, meter: str) -> float:
        now = self.cloud.clock()
        return float(sum(line.usd(now) for line in self.cloud.bill.lines(id) if line.rate.meter == meter))


def order(**changes: Any) -> dict[str, Any]:
    """A body for POST /v2/pods."""
    body = {"name": "job-1", "image": "ubuntu:24.04", "gpu": {"id": RTX_4090}, "ports": ["22/tcp"], "disk": 73}
    return {name: value for name, value in {**body, **changes}.items() if value is not None}
