"""What GraphQL's mutations do: deploy, stop, resume, terminate, and the account's small things.

Only here are `terminateAfter` and `stopAfter`; spot pods are refused, as on the real one since 2026-09.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from providers.rehearsal.runpod import orders
from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.belongings import Belongings
from providers.rehearsal.runpod.orders import BrokenRule, NotAllowed, NotFound, Order, Refused
from providers.rehearsal.runpod.pods import Pod, Pods
from providers.rehearsal.runpod.queries import network_volume, pod_document, template, user

Arguments = Mapping[str, Any]
_DEFAULT_DISK_GB = 10
_DEFAULT_INSTANCE = "cpu3c-2-4"
_OWN = {"podStop", "podResume", "podTerminate"}  # what a pod's own key may do


class Mutations:
    """One method per field of the mutation type."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._belongings = Belongings(pods)
        self._table: Mapping[str, Callable[[Arguments], Any]] = {
            "podFindAndDeployOnDemand": self._deploy,
            "podRentInterruptable": self._no_spot,
            "podBidResume": self._no_spot,
            "deployCpuPod": self._deploy_cpu,
            "podStop": self._stop,
            "podResume": self._resume,
            "podTerminate": self._terminate,
            "podEditJob": self._edit,
            "saveTemplate": self._save_template,
            "deleteTemplate": self._delete_template,
            "saveRegistryAuth": lambda wish: self._belongings.create("registries", wish),
            "updateRegistryAuth": self._update_registry,
            "deleteRegistryAuth": lambda wish: self._belongings.delete("registries", wish["registryAuthId"]),
            "createNetworkVolume": self._create_volume,
            "updateNetworkVolume": self._update_volume,
            "deleteNetworkVolume": self._delete_volume,
            "updateUserSettings": self._settings,
        }

    def resolve(self, name: str, arguments: Arguments, key: Key | None) -> Any:
        wish = arguments["input"] or {} if "input" in arguments else arguments
        if key is None or not key.may_write:
            raise NotAllowed
        if key.pod is not None and (name not in _OWN or wish["podId"] != key.pod):
            raise NotAllowed
        return self._table[name](wish)

    def _deploy(self, wish: Arguments) -> Any:
        if "gpuTypeId" not in wish and "gpuTypeIdList" not in wish:
            raise BrokenRule("gpuTypeId is required")
        last: Refused | None = None
        for gpu in [*wish.get("gpuTypeIdList", ()), *([wish["gpuTypeId"]] if "gpuTypeId" in wish else ())]:
            try:
                return self._show(self._pods.create(self._order(wish, gpu=gpu, gpu_count=wish.get("gpuCount", 1))))
            except orders.NoCapacity as refused:
                last = refused
        raise last or orders.NoCapacity

    def _deploy_cpu(self, wish: Arguments) -> Any:
        flavor, _, rest = wish.get("instanceId", _DEFAULT_INSTANCE).partition("-")
        vcpus = rest.partition("-")[0]
        if not vcpus.isdigit():
            raise orders.NoCapacity
        return self._show(self._pods.create(self._order(wish, cpu=flavor, vcpus=int(vcpus))))

    def _no_spot(self, _: Arguments) -> Any:
        raise Refused(orders.NO_SPOT)

    def _stop(self, wish: Arguments) -> Any:
        pod = self._pods.get(wish["podId"])
        self._pods.stop(pod)
        return self._show(pod)

    def _resume(self, wish: Arguments) -> Any:
        pod = self._pods.get(wish["podId"])
        self._pods.start(pod)
        return self._show(pod)

    def _terminate(self, wish: Arguments) -> None:
        """Void."""
        try:
            self._pods.terminate(self._pods.get(wish["podId"]))
        except NotFound as error:
            raise NotFound(orders.NOT_FOUND_TO_TERMINATE) from error

    def _edit(self, wish: Arguments) -> Any:
        pod = self._pods.get(wish["podId"])
        wishes: dict[str, Any] = {}
        if "containerRegistryAuthId" in wish:
            wishes["registry"] = wish["containerRegistryAuthId"]
        if "imageName" in wish:
            wishes["image"] = wish["imageName"]
        if "env" in wish:
            wishes["env"] = {each["key"]: each["value"] for each in wish["env"]}
        self._pods.change(pod, wishes)
        return self._show(pod)

    def _save_template(self, wish: Arguments) -> Any:
        body: dict[str, Any] = {
            "name": wish["name"],
            "image": wish["imageName"],
            "args": wish["dockerArgs"],
            "disk": wish["containerDiskInGb"],
            "ports": _ports(wish),
            "env": {each["key"]: each["value"] for each in wish["env"]},
            "serverless": wish.get("isServerless", False),
        }
        if wish["volumeInGb"]:
            body["mounts"] = {"persistent": {"size": wish["volumeInGb"], "path": wish.get("volumeMountPath", "")}}
        return template(self._belongings.create("templates", body))

    def _delete_template(self, wish: Arguments) -> None:
        for id, kept in self._pods.account.templates.items():
            if kept["name"] == wish["templateName"]:
                return self._belongings.delete("templates", id)
        raise NotFound("template not found")

    def _update_registry(self, wish: Arguments) -> Any:
        self._belongings.get("registries", wish["id"])
        self._pods.account.registries[wish["id"]].update(wish)
        return self._belongings.get("registries", wish["id"])

    def _create_volume(self, wish: Arguments) -> Any:
        body = {"name": wish["name"], "size": wish["size"], "dataCenter": wish["dataCenterId"]}
        return network_volume(self._pods, self._belongings.create("volumes", body))

    def _update_volume(self, wish: Arguments) -> Any:
        changes = {name: wish[name] for name in ("name", "size") if name in wish}
        return network_volume(self._pods, self._belongings.update("volumes", wish["id"], changes))

    def _delete_volume(self, wish: Arguments) -> None:
        if wish["id"] not in self._pods.account.volumes:
            raise Refused("Tried to delete nonexistent network volume")
        self._belongings.delete("volumes", wish["id"])

    def _settings(self, wish: Arguments) -> Any:
        """All keys are replaced by those in the text, one a line."""
        if "pubKey" in wish:
            self._pods.account.ssh_keys = [line for line in wish["pubKey"].split("\n") if line.strip()]
        return user(self._pods)

    def _order(self, wish: Arguments, **compute: Any) -> Order:
        kept: Mapping[str, Any] = {}
        if wish.get("templateId"):
            found = self._pods.account.use_template(wish["templateId"], self._pods.clock())
            if found is None:
                raise NotFound("template not found")
            kept = found
        return Order(
            name=wish.get("name", ""),
            image=wish.get("imageName") or kept.get("image", ""),
            cloud="SECURE" if "cpu" in compute else wish.get("cloudType", "ALL"),
            data_centers=(wish["dataCenterId"],) if "dataCenterId" in wish else (),
            country=wish.get("countryCode"),
            public_ip=wish.get("supportPublicIp"),
            cuda=tuple(wish.get("allowedCudaVersions", ())),
            min_cuda=wish.get("minCudaVersion"),
            min_vcpus=wish.get("minVcpuCount", 0),
            min_memory_gb=wish.get("minMemoryInGb", 0),
            disk_gb=wish.get("containerDiskInGb", kept.get("disk", _DEFAULT_DISK_GB)),
            volume_gb=wish.get("volumeInGb", 0),
            volume_path=wish.get("volumeMountPath", ""),
            network_volume=wish.get("networkVolumeId"),
            ports=tuple(_ports(wish) or kept.get("ports", ())),
            env={**kept.get("env", {}), **{each["key"]: each["value"] for each in wish.get("env", ())}},
            args=wish.get("dockerArgs") or kept.get("args", ""),
            registry=wish.get("containerRegistryAuthId"),
            start_ssh=wish.get("startSsh", False),
            start_jupyter=wish.get("startJupyter", False),
            stop_after=_time(wish, "stopAfter"),
            terminate_after=_time(wish, "terminateAfter"),
            **compute,
        )

    def _show(self, pod: Pod) -> dict[str, Any]:
        return pod_document(pod, self._pods.market, self._pods.clock())


def _ports(wish: Arguments) -> list[str]:
    return [port for port in wish.get("ports", "").replace(" ", "").split(",") if port]


def _time(wish: Arguments, name: str) -> datetime | None:
    if name not in wish:
        return None
    try:
        at = datetime.fromisoformat(wish[name])
    except ValueError as error:
        raise BrokenRule(f"{name}: not a date") from error
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
