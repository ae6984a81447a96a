"""How REST v2 shows a pod, and how it reads an order. Knows no request and no rule.

Deviations from the published schema are those that clients have measured; each is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.rehearsal.runpod.market import Market
from providers.rehearsal.runpod.orders import Order
from providers.rehearsal.runpod.pods import Pod, Status

DEFAULT_DISK_GB = 50  # v1's default; v2 does not document its own
_INTERNAL = ("100.65.13.37", 19123)  # an extra port that every pod shows


def pod_document(pod: Pod, market: Market, now: datetime) -> dict[str, Any]:
    order = pod.order
    document: dict[str, Any] = {
        "id": pod.id,
        "name": order.name,
        "status": pod.status.value,  # RUNNING from the first moment (measured); the docs say PROVISIONING
        "actions": list(pod.actions),
        "image": order.image,
        "args": order.args,
        "disk": order.disk_gb,
        "mounts": _mounts(order),
        "ports": list(order.ports),
        "env": dict(order.env),
        "registry": order.registry,
        "cloud": pod.host.cloud,
        "dataCenterId": pod.host.data_center,
        "cudaVersion": pod.host.cuda,
        "ssh": {"proxy": _proxy(pod), "direct": _direct(pod)},
        "template": None,
        "cost": number(pod.usd_per_hour),  # documented as 0.0 when EXITED; measured to stay
        "locked": pod.locked,
        "globalNetworking": {"enabled": order.global_networking},
        "runtime": _runtime(pod, now),
        "createdAt": when(pod.created_at),
        "startedAt": when(pod.up_since) if pod.up_since else None,
    }
    if order.gpu:
        document["gpu"] = {"id": order.gpu, "count": order.gpu_count}
    else:
        memory = market.cpus[pod.host.kind].ram_per_vcpu * order.vcpus
        document["cpu"] = {"id": order.cpu, "vcpuCount": order.vcpus, "memory": memory}
    return document


def order_of(body: Mapping[str, Any], template: Mapping[str, Any]) -> Order:
    """A checked body as an order; a template fills in what the body leaves out."""
    container = {**template, **body}
    gpu, cpu, mounts = body.get("gpu") or {}, body.get("cpu") or {}, body.get("mounts") or {}
    persistent = mounts.get("persistent") or {}
    network = (mounts.get("network") or [{}])[0]
    count = gpu.get("count", 1)
    return Order(
        name=body["name"],
        image=container.get("image", ""),
        gpu=gpu.get("id"),
        gpu_count=count,
        cpu=cpu.get("id"),
        vcpus=cpu.get("vcpuCount", 0),
        cloud=body.get("cloud", "SECURE"),
        data_centers=tuple(body.get("dataCenterIds", ())),
        cuda=tuple(gpu.get("allowedCudaVersions", ())),
        min_cuda=gpu.get("minCudaVersion"),
        min_vcpus=gpu.get("minVcpuCountPerGpu", 0) * count,
        min_memory_gb=gpu.get("minRamPerGpu", 0) * count,
        disk_gb=container.get("disk", DEFAULT_DISK_GB),
        volume_gb=persistent.get("size", 0),
        volume_path=persistent.get("path", network.get("path", "")),
        network_volume=network.get("volumeId"),
        ports=tuple(container.get("ports", ())),
        env={**template.get("env", {}), **body.get("env", {})},
        args=container.get("args", ""),
        registry=container.get("registry"),
        start_ssh=container.get("startSsh", False),
        start_jupyter=container.get("startJupyter", False),
        global_networking=body.get("globalNetworking", False),
    )


def number(usd: Decimal) -> float:
    """Money on this wire is a JSON number."""
    return float(usd)


def when(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _mounts(order: Order) -> dict[str, Any]:
    if order.network_volume:
        return {"network": [{"volumeId": order.network_volume, "path": order.volume_path}]}
    if order.volume_gb:
        return {"persistent": {"size": order.volume_gb, "path": order.volume_path}}
    return {}


def _proxy(pod: Pod) -> dict[str, Any]:
    """An interactive shell and nothing else; always there once a machine is assigned."""
    user = f"{pod.id}-{pod.host.id[:8]}"
    return {"host": "ssh.runpod.io", "port": 22, "username": user, "command": f"ssh {user}@ssh.runpod.io"}


def is_direct(pod: Pod) -> bool:
    """Whether port 22 is published. A community host may have no public address, and v2 cannot ask for one."""
    return "22/tcp" in pod.order.ports and pod.host.has_public_ip


def _direct(pod: Pod) -> dict[str, Any] | None:
    if pod.status is not Status.RUNNING or pod.ssh is None or not is_direct(pod):
        return None
    host, port = pod.ssh
    return {"host": host, "port": port, "username": "root", "command": f"ssh root@{host} -p {port}"}


def port_rows(pod: Pod) -> list[tuple[int, int | None, str, str, bool]]:
    """(private, public, type, ip, is public) of a pod that is up, with an internal one that nobody asked for."""
    rows: list[tuple[int, int | None, str, str, bool]] = []
    internal, extra = _INTERNAL
    assert pod.ssh is not None
    host, ssh_port = pod.ssh
    for number_, asked in enumerate(pod.order.ports):
        private, _, kind = asked.partition("/")
        if not private.isdigit():
            continue
        if kind == "tcp" and pod.host.has_public_ip:
            public = ssh_port if private == "22" else 10_000 + (pod.invented_port + 7 * number_) % 50_000
            rows.append((int(private), public, "tcp", host, True))
        else:
            rows.append((int(private), 60_000 + number_, kind or "http", internal, False))
    return [*rows, (extra, 60_000 + len(rows), "http", internal, False)]


def _runtime(pod: Pod, now: datetime) -> dict[str, Any] | None:
    if pod.status is not Status.RUNNING or pod.up_since is None or pod.ssh is None:
        return None
    ports = [
        {"private": private, "public": public, "type": kind, "ip": ip}
        for private, public, kind, ip, _ in port_rows(pod)
    ]
    return {
        "uptime": int((now - pod.up_since).total_seconds()),
        "gpus": [{"util": 0, "memoryUtil": 0}] * (pod.order.gpu_count if pod.order.gpu else 0),
        "cpu": {"util": 1},
        "memory": {"util": 3},
        "ports": ports,
    }
