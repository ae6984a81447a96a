"""What an account keeps beside pods: registry credentials, templates, network volumes. Knows schemas and no route."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from providers.rehearsal.runpod import prices, validation
from providers.rehearsal.runpod.orders import BrokenRule, NotFound
from providers.rehearsal.runpod.pods import Pods

_TEMPLATE_DEFAULTS: Mapping[str, Any] = {
    "args": "",
    "disk": 50,
    "mounts": {},
    "ports": [],
    "env": {},
    "registry": None,
    "serverless": False,
    "public": False,
    "category": "NVIDIA",
    "startSsh": True,
    "startJupyter": True,
    "allowedCudaVersions": [],
}
_TEMPLATE_IN_USE = timedelta(minutes=2)  # after its last use it cannot be deleted, as clients have met
_LIST_KEYS = {"registries": "registries", "templates": "templates", "volumes": "networkVolumes"}
_CREATE = {
    "registries": validation.CREATE_REGISTRY,
    "templates": validation.CREATE_TEMPLATE,
    "volumes": validation.CREATE_VOLUME,
}
_UPDATE = {"templates": validation.UPDATE_TEMPLATE, "volumes": validation.UPDATE_VOLUME}
_SECRET = ("username", "password")


class Belongings:
    """The three collections, by the names `registries`, `templates`, `volumes`."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods

    def create_schema(self, kind: str) -> validation.Schema:
        return _CREATE[kind]

    def update_schema(self, kind: str) -> validation.Schema | None:
        return _UPDATE.get(kind)

    def list(self, kind: str) -> dict[str, Any]:
        return {_LIST_KEYS[kind]: [_shown(each) for each in self._kept(kind).values()]}

    def get(self, kind: str, id: str) -> dict[str, Any]:
        return _shown(self._one(kind, id))

    def create(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        id = "".join(self._pods.dice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=10))
        made: dict[str, Any] = {"id": id, **body}
        if kind == "templates":
            made = {"id": id, **_TEMPLATE_DEFAULTS, **body}
        elif kind == "volumes":
            self._check_place(str(body["dataCenter"]))
            made = {"type": "STANDARD", **made}
            self._pods.bill.open(id, prices.network_volume(body["size"]))
        self._kept(kind)[id] = made
        return _shown(made)

    def update(self, kind: str, id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        kept = self._one(kind, id)
        if kind == "volumes" and (size := body.get("size", kept["size"])) != kept["size"]:
            if size < kept["size"]:
                raise BrokenRule("a network volume can only grow")
            self._pods.bill.close(id)
            self._pods.bill.open(id, prices.network_volume(size))
        kept.update(body)
        return _shown(kept)

    def delete(self, kind: str, id: str) -> None:
        self._one(kind, id)
        if kind == "volumes":
            if any(pod.order.network_volume == id for pod in self._pods.living()):
                raise BrokenRule("network volume is attached to a pod")
            self._pods.bill.close(id)
        used = self._pods.account.templates_used.get(id)
        if used is not None and self._pods.clock() - used < _TEMPLATE_IN_USE:
            raise BrokenRule("template is in use")
        del self._kept(kind)[id]

    def _check_place(self, place: str) -> None:
        """An id in lower case is accepted, and no pod can ever use that volume (a trap that dstack met)."""
        center = self._pods.market.data_centers.get(place.upper())
        if center is None or not center.volumes:
            raise BrokenRule(f"data center {place!r} does not support network volumes")

    def _one(self, kind: str, id: str) -> dict[str, Any]:
        kept = self._kept(kind).get(id)
        if kept is None:
            raise NotFound("resource not found")
        return kept

    def _kept(self, kind: str) -> dict[str, dict[str, Any]]:
        account = self._pods.account
        return {"registries": account.registries, "templates": account.templates, "volumes": account.volumes}[kind]


def _shown(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is write-only."""
    return {name: value for name, value in kept.items() if name not in _SECRET}
