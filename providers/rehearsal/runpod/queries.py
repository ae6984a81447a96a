"""What GraphQL's queries see: the market, the account, the pods. graphql.py takes from it what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.market import (
    COMMUNITY,
    COMMUNITY_COUNTRIES,
    SECURE,
    CpuFlavor,
    DataCenter,
    GpuType,
    Market,
)
from providers.rehearsal.runpod.market import level as level_of
from providers.rehearsal.runpod.orders import NotAllowed
from providers.rehearsal.runpod.pods import Pod, Pods, Status
from providers.rehearsal.runpod.shapes import number, port_rows, when

Arguments = Mapping[str, Any]


class Queries:
    """One method per field of the query type."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._market = pods.market

    def resolve(self, name: str, arguments: Arguments, key: Key | None) -> Any:
        wish = arguments.get("input") or {}
        if name == "myself":
            return self._myself(key)
        if name == "pod":
            return self._pod(wish["podId"], key) if "podId" in wish else None
        market = self._market
        table: Mapping[str, Callable[[Arguments], Any]] = {
            "gpuTypes": self._gpu_types,
            "dataCenters": lambda _: [data_center(market, each) for each in market.data_centers.values()],
            "countryCodes": lambda _: [*COMMUNITY_COUNTRIES, None],  # a null is among them, as on the real one
            "cpuFlavors": lambda _: [_cpu_flavor(market, each) for each in market.cpus.values()],
        }
        return table[name](wish)

    def _gpu_types(self, wish: Arguments) -> list[dict[str, Any]]:
        """An unknown id yields an empty list, no error."""
        ids = wish.get("ids") or ([wish["id"]] if "id" in wish else list(self._market.gpus))
        return [_gpu_type(self._market, self._market.gpus[id]) for id in ids if id in self._market.gpus]

    def _myself(self, key: Key | None) -> dict[str, Any]:
        if key is None or key.pod is not None:
            raise NotAllowed
        return {**user(self._pods), "pods": lambda _: self._list()}

    def _list(self) -> list[dict[str, Any]]:
        now = self._pods.clock()
        return [pod_document(self._pods.seen(pod), self._market, now) for pod in self._pods.listed()]

    def _pod(self, id: str, key: Key | None) -> dict[str, Any] | None:
        """Null when it is gone, and when it is not ours."""
        if key is None or key.pod not in (None, id):
            raise NotAllowed
        pod = self._pods.all.get(id)
        if pod is None or pod.status is Status.TERMINATED:
            return None
        return pod_document(self._pods.seen(pod), self._market, self._pods.clock())


def user(pods: Pods) -> dict[str, Any]:
    account = pods.account
    return {
        "id": account.id,
        "email": account.email,
        "pubKey": "\n".join(account.ssh_keys),
        "clientBalance": number(pods.balance()),
        "currentSpendPerHr": number(pods.usd_per_hour()),
        "spendLimit": number(account.spend_limit),
        "networkVolumes": [network_volume(pods, each) for each in account.volumes.values()],
        "podTemplates": [template(each) for each in account.templates.values()],
        "containerRegistryCreds": list(account.registries.values()),
    }


def pod_document(pod: Pod, market: Market, now: datetime) -> dict[str, Any]:
    order, is_running = pod.order, pod.status is Status.RUNNING
    gpu = market.gpus.get(pod.host.kind)
    return {
        "id": pod.id,
        "name": order.name,
        "desiredStatus": "RUNNING" if is_running else "EXITED",
        "lastStatusChange": pod.last_change,
        "imageName": order.image,
        "env": [f"{name}={value}" for name, value in order.env.items()],
        "dockerArgs": order.args,
        "costPerHr": number(pod.usd_per_hour),
        "gpuCount": order.gpu_count if order.gpu else 0,
        "vcpuCount": order.vcpus or (gpu.vcpus * order.gpu_count if gpu else 0),
        "memoryInGb": _memory(market, pod),
        "containerDiskInGb": order.disk_gb,
        "volumeInGb": order.volume_gb,
        "volumeMountPath": order.volume_path,
        "ports": ",".join(order.ports),
        "podType": "RESERVED",
        "uptimeSeconds": _uptime(pod, now),
        "machineId": pod.host.id,
        "createdAt": when(pod.created_at),
        "lastStartedAt": when(pod.started_at),
        "networkVolumeId": order.network_volume,
        "containerRegistryAuthId": order.registry,
        "locked": pod.locked,
        "machine": {
            "gpuDisplayName": gpu.name if gpu else None,
            "gpuTypeId": order.gpu,
            "podHostId": f"{pod.id}-{pod.host.id[:8]}",
            "location": pod.host.country,
            "dataCenterId": pod.host.data_center,
            "costPerHr": number(pod.usd_per_hour),
            "secureCloud": pod.host.cloud == SECURE,
        },
        "runtime": _runtime(pod, now),
    }


def network_volume(pods: Pods, volume: Mapping[str, Any]) -> dict[str, Any]:
    center = pods.market.data_centers.get(volume["dataCenter"])
    place = data_center(pods.market, center) if center else None
    return {**volume, "dataCenterId": volume["dataCenter"], "dataCenter": place}


def template(kept: Mapping[str, Any]) -> dict[str, Any]:
    persistent = kept["mounts"].get("persistent") or {}
    return {
        "id": kept["id"],
        "name": kept["name"],
        "imageName": kept["image"],
        "dockerArgs": kept["args"],
        "containerDiskInGb": kept["disk"],
        "volumeInGb": persistent.get("size", 0),
        "volumeMountPath": persistent.get("path", ""),
        "ports": ",".join(kept["ports"]),
        "env": [{"key": key, "value": value} for key, value in kept["env"].items()],
        "isServerless": kept["serverless"],
    }


def data_center(market: Market, center: DataCenter) -> dict[str, Any]:
    def availability(wish: Arguments) -> list[dict[str, Any]]:
        rows = []
        for gpu in market.gpus.values():
            stock = market.stock(gpu.id, data_center=center.id, count=wish.get("gpuCount", 1))
            name = {"gpuTypeId": gpu.id, "displayName": gpu.name, "gpuTypeDisplayName": gpu.name}
            rows.append({"available": stock > 0, "stockStatus": _stock_word(stock), **name})
        return rows

    return {
        "id": center.id,
        "name": center.name,
        "location": center.country,
        "listed": True,
        "storageSupport": center.volumes,
        "gpuAvailability": availability,
    }


def _gpu_type(market: Market, gpu: GpuType) -> dict[str, Any]:
    return {
        "id": gpu.id,
        "displayName": gpu.name,
        "manufacturer": {"NVIDIA": "Nvidia"}.get(gpu.manufacturer, gpu.manufacturer),
        "memoryInGb": gpu.memory_gb,
        "cudaCores": gpu.cores,
        "secureCloud": gpu.secure is not None,
        "communityCloud": gpu.community is not None,
        "securePrice": _price(gpu.secure),
        "communityPrice": _price(gpu.community),
        "maxGpuCount": gpu.most,
        "maxGpuCountSecureCloud": market.largest(gpu.id, SECURE),
        "maxGpuCountCommunityCloud": market.largest(gpu.id, COMMUNITY),
        "minPodGpuCount": 1,
        "lowestPrice": lambda wish: _lowest_price(market, gpu, wish),
        "nodeGroupDatacenters": [
            data_center(market, center)
            for center in market.data_centers.values()
            if any((host.kind, host.data_center) == (gpu.id, center.id) for host in market.hosts)
        ],
    }


def _lowest_price(market: Market, gpu: GpuType, wish: Arguments) -> dict[str, Any]:
    """Per GPU-hour. Without stock the type still has a price, and the rest is null."""
    secure, count = wish.get("secureCloud"), wish.get("gpuCount", 1)
    clouds = [SECURE, COMMUNITY] if secure is None else [SECURE if secure else COMMUNITY]
    place, country = wish.get("dataCenterId"), wish.get("countryCode")
    found = [
        host
        for host in market.hosts
        if host.kind == gpu.id
        and host.cloud in clouds
        and host.free >= count
        and place in (None, host.data_center)
        and country in (None, host.country)
    ]
    prices = [price for cloud in clouds if (price := gpu.price(cloud)) is not None]
    stock = sum(host.free for host in found)
    most = max((host.free for host in found), default=0)
    return {
        "uninterruptablePrice": _price(min(prices, default=None)),
        "minVcpu": gpu.vcpus * count if stock else None,
        "minMemory": gpu.ram_gb * count if stock else None,
        "stockStatus": _stock_word(stock),
        "countryCode": found[0].country if found else None,
        "maxUnreservedGpuCount": most,
        "availableGpuCounts": list(range(1, most + 1)),
        "gpuName": gpu.name,
        "gpuTypeId": gpu.id,
    }


def _cpu_flavor(market: Market, flavor: CpuFlavor) -> dict[str, Any]:
    def specifics(wish: Arguments) -> dict[str, Any]:
        """`instanceId` is flavor-vcpus-memory."""
        vcpus = int((wish.get("instanceId") or f"{flavor.id}-{flavor.fewest}").split("-")[1])
        stock = market.stock(flavor.id, data_center=wish.get("dataCenterId"), count=vcpus)
        price = number(flavor.usd_per_vcpu * vcpus) if stock else None
        return {"stockStatus": _stock_word(stock), "securePrice": price, "slsPrice": price}

    return {
        "id": flavor.id,
        "groupId": flavor.id[:4],
        "groupName": flavor.group,
        "displayName": flavor.name,
        "minVcpu": flavor.fewest,
        "maxVcpu": flavor.most,
        "ramMultiplier": flavor.ram_per_vcpu,
        "specifics": specifics,
    }


def _memory(market: Market, pod: Pod) -> int:
    if pod.order.gpu:
        return market.gpus[pod.host.kind].ram_gb * pod.order.gpu_count
    return market.cpus[pod.host.kind].ram_per_vcpu * pod.order.vcpus


def _uptime(pod: Pod, now: datetime) -> int:
    return int((now - pod.up_since).total_seconds()) if pod.up_since else 0


def _runtime(pod: Pod, now: datetime) -> dict[str, Any] | None:
    """Null until the container is up; after a stop the old one stays to be seen for a while."""
    is_up = pod.status is Status.RUNNING and pod.up_since is not None
    is_stale = pod.status is not Status.RUNNING and pod.stale_until is not None and now < pod.stale_until
    if pod.ssh is None or not (is_up or is_stale):
        return None
    return {
        "uptimeInSeconds": _uptime(pod, now),
        "ports": [
            {"privatePort": private, "publicPort": public, "type": kind, "ip": ip, "isIpPublic": is_public}
            for private, public, kind, ip, is_public in port_rows(pod)
        ],
        "gpus": [
            {"id": f"GPU-{pod.host.id}-{number_}", "gpuUtilPercent": 0, "memoryUtilPercent": 0}
            for number_ in range(pod.order.gpu_count if pod.order.gpu else 0)
        ],
        "container": {"cpuPercent": 1, "memoryPercent": 3},
    }


def _stock_word(stock: int) -> str | None:
    return None if stock <= 0 else level_of(stock).capitalize()


def _price(usd: Decimal | None) -> float | None:
    return None if usd is None else number(usd)
