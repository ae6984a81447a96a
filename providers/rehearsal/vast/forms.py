"""Offers and instances as the API shows them: names, units and floats of the wire. Changes nothing.

Field names and units: vast-ai/docs, search_offers.yaml and show_instances.yaml (2026-11), and what the official SDK
and command line read.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.rehearsal.machines.base import MachinePhase
from providers.rehearsal.vast.contracts import Contract
from providers.rehearsal.vast.market import HOURS_PER_MONTH, Ask, Host

# Not the address that leads to the machine, so that this host with the HostPort leads nowhere, as with the real ones.
_PROXY_ADDRESS, _NOWHERE_PORT = "127.0.0.9", 9  # the discard port: nobody listens there
# Stored columns of an instance: one can filter by these and by no other.
FILTERABLE = {
    "id", "label", "actual_status", "cur_state", "next_state", "intended_status", "gpu_name", "verification",
    "machine_id", "host_id", "image_uuid", "image_runtype", "start_date", "end_date", "template_id",
    "template_hash_id", "geolocation", "public_ipaddr", "is_bid", "disk_space", "status_msg",
}  # fmt: skip


def offer_row(ask: Ask, kind: str, storage_gb: Decimal, now: datetime) -> dict[str, Any]:
    """An offer. In a search for `bid` its price is what has to be bid at least."""
    host = ask.host
    base = ask.min_bid if kind == "bid" else ask.usd
    storage = host.storage_usd_per_month * storage_gb / HOURS_PER_MONTH
    total = base + storage
    row = {
        "id": ask.id,
        "ask_contract_id": ask.id,
        "bundle_id": host.machine_id * 10 + ask.gpus,
        "bundled_results": None,
        "is_bid": kind == "bid",
        "rentable": ask.rentable,
        "rented": not ask.rentable,
        "start_date": round(now.timestamp() - 86400.0, 4),
        "score": round(100 * host.kind.dlperf * ask.gpus / float(total) / 1000 * host.reliability, 4),
        **_hardware(host, ask.gpus),
        **_prices(host, base, storage, ask.min_bid),
        "dlperf_per_dphtotal": round(host.kind.dlperf * ask.gpus / float(total), 4),
        "flops_per_dphtotal": round(host.kind.tflops * ask.gpus / float(total), 4),
        "duration": (host.end - now).total_seconds(),
        "disk_space": round(host.disk_gb * ask.share, 1),
        "public_ipaddr": f"203.0.113.{host.machine_id % 250 + 1}",
    }
    if kind == "reserved":
        row["discounted_dph_total"] = float(total * Decimal("0.8"))
    return row


def searched_row(row: dict[str, Any]) -> dict[str, Any]:
    """What a search compares in place of what an offer shows: the server's virtual columns."""
    place = row["geolocation"]
    return {
        **row,
        "verified": row["verification"] == "verified",
        "datacenter": row["hosting_type"] == 1,
        "geolocation": place.rpartition(", ")[2] if place else None,
    }


def instance_row(contract: Contract, now: datetime, proxy: bool) -> dict[str, Any]:
    """An instance. `proxy` says whether the SSH proxy leads to it."""
    host, launch = contract.host, contract.launch
    storage = contract.storage_usd * launch.disk_gb / HOURS_PER_MONTH
    runs = contract.running_since is not None
    return {
        **_hardware(host, contract.gpus),
        **_prices(host, contract.usd, storage, host.min_bid_per_gpu * contract.gpus),
        "id": contract.id,
        "label": contract.label,
        "actual_status": contract.actual,
        "cur_state": contract.state,
        "next_state": "running" if contract.intended == "running" else contract.state,
        "intended_status": contract.intended,
        "status_msg": contract.message,
        "is_bid": contract.is_bid,
        "rentable": False,
        "image_uuid": launch.image,
        "image_args": list(launch.args),
        "image_runtype": launch.runtype,
        "extra_env": [[name, value] for name, value in launch.env.items()],
        "onstart": launch.onstart or None,
        "template_id": None,
        "template_hash_id": None,
        "template_name": None,
        "jupyter_token": contract.key[::-1],
        "disk_space": float(launch.disk_gb),
        "disk_usage": 0.05 if runs else None,
        "disk_util": 0.05 if runs else None,
        "gpu_util": 0.0 if runs else None,
        "gpu_temp": 41.0 if runs else None,
        "cpu_util": 0.0 if runs else None,
        "mem_usage": 0.01 if runs else None,
        "mem_limit": round(host.ram_mb * contract.gpus / host.gpus / 1000, 3),
        "vmem_usage": 0.5 if runs else None,
        "uptime_mins": None,
        "volume_info": [],
        "start_date": round(contract.created_at.timestamp(), 6),
        "duration": (host.end - now).total_seconds(),
        "dlperf": host.kind.dlperf * contract.gpus,
        "dlperf_per_dphtotal": None,
        "score": None,
        **_connection(contract, proxy),
        "search": _costs(contract.usd, storage),
        # 0 while it does not run; `dph_total` stays as it was.
        "instance": _costs(contract.usd if runs else Decimal(0), storage),
    }


def _connection(contract: Contract, proxy: bool) -> dict[str, Any]:
    """Direct: `public_ipaddr` and the HostPort of 22/tcp. Through the proxy: `ssh_host` and `ssh_port`.

    In a rehearsal both lead to this computer; the proxy refuses unless the cloud was told to have one. Of a Jupyter
    instance the proxy's port is one more than `ssh_port` (vastai 1.9.1, cli/commands/misc.py).
    """
    machine = contract.machine
    address = machine.ssh if machine is not None and machine.phase is MachinePhase.UP else None
    runs = contract.running_since is not None and contract.actual == "running"
    through = address[1] if proxy and address is not None else _NOWHERE_PORT
    first = 40_000 + contract.id % 200 * 64
    ports: dict[str, list[dict[str, str]]] = {}
    # A host without ports of its own opens none, whatever was asked for: only the proxy leads there.
    for offset, port in enumerate(contract.launch.ports() if runs and contract.host.ports else ()):
        outside = address[1] if port == "22/tcp" and address is not None else first + offset
        ports[port] = [{"HostIp": ip, "HostPort": str(outside)} for ip in ("0.0.0.0", "::")]
    return {
        # Stray blanks are in what the hosts report; the SDK strips them from lists, but not from a single instance.
        "public_ipaddr": f" {address[0] if address else '127.0.0.1'} ",
        "local_ipaddrs": "172.17.0.3 192.168.1.17 \n",
        "ssh_host": address[0] if proxy and address is not None else _PROXY_ADDRESS,
        "ssh_idx": "4",
        "ssh_port": through - 1 if contract.launch.is_jupyter else through,
        "machine_dir_ssh_port": 21_000 + contract.host.machine_id % 9000,
        "direct_port_start": first if ports else -1,
        "direct_port_end": first + len(ports) if ports else -1,
        **({"ports": ports} if runs else {}),
    }


def _hardware(host: Host, gpus: int) -> dict[str, Any]:
    kind, share = host.kind, gpus / host.gpus
    return {
        "machine_id": host.machine_id,
        "host_id": host.owner_id,
        "hostname": None,
        "hosting_type": 1 if host.datacenter else 0,
        "external": False,
        "resource_type": "gpu",
        "num_gpus": gpus,
        "gpu_name": kind.name,
        "gpu_arch": "nvidia",
        "gpu_ram": kind.memory_mb,
        "gpu_total_ram": kind.memory_mb * gpus,
        "gpu_totalram": kind.memory_mb * gpus,
        "gpu_frac": share,
        "gpu_lanes": 16,
        "gpu_mem_bw": kind.memory_gb_s,
        "gpu_max_power": 350.0,
        "gpu_max_temp": 85.0,
        "gpu_display_active": False,
        "bw_nvlink": 450.0 if "SXM" in kind.name and gpus > 1 else 0.0,
        "compute_cap": kind.compute_cap,
        "cuda_max_good": host.cuda,
        "driver_version": host.driver,
        "driver_vers": int("".join(part.zfill(3) for part in host.driver.split("."))),
        "total_flops": round(kind.tflops * gpus, 2),
        "dlperf": kind.dlperf * gpus,
        "cpu_name": host.cpu,
        "cpu_arch": "amd64",
        "cpu_ghz": 3.2,
        "has_avx": 1,
        "cpu_cores": host.cores,  # of the whole machine, as its memory
        "cpu_cores_effective": round((host.cores or 8 * host.gpus) * share, 2),
        "cpu_ram": host.ram_mb,
        "disk_name": "NVMe",
        "disk_bw": host.disk_mb_s,
        "inet_up": host.up_mbit,
        "inet_down": host.down_mbit,
        "direct_port_count": host.ports,
        "static_ip": host.static_ip,
        "pci_gen": 4.0,
        "pcie_bw": 22.4,
        "mobo_name": "ROMED8-2T",
        "os_version": "22.04",
        "vms_enabled": False,
        "geolocation": host.place,
        "geolocode": None if host.place is None else sum(host.place.encode()),
        "reliability": host.reliability,
        "reliability2": host.reliability,
        "reliability_mult": 1.0,
        "expected_reliability": None,
        "verification": host.verification,
        "vericode": 1 if host.verification == "verified" else 0,
        "is_vm_deverified": False,
        "cluster_id": None,
        "logo": "/static/logos/vastai_small2.png",
        "webpage": None,
        "end_date": host.end.timestamp(),
    }


def _prices(host: Host, base: Decimal, storage: Decimal, min_bid: Decimal) -> dict[str, Any]:
    """Traffic is not in `dph_total`."""
    return {
        "dph_base": float(base),
        "dph_total": float(base + storage),
        "dph_total_adj": float(base + storage),
        "min_bid": float(min_bid),
        "storage_cost": float(host.storage_usd_per_month),
        "storage_total_cost": float(storage),
        "inet_up_cost": float(host.up_usd_per_gb),
        "inet_down_cost": float(host.down_usd_per_gb),
        "internet_up_cost_per_tb": float(host.up_usd_per_gb * 1024),
        "internet_down_cost_per_tb": float(host.down_usd_per_gb * 1024),
        "vram_costperhour": float(base) / host.kind.memory_mb,
        "credit_discount_max": 0.4,
        "credit_balance": None,
        "platform_fee": None,
        "search": _costs(base, storage),
        "instance": _costs(base, storage),
    }


def _costs(gpu: Decimal, disk: Decimal) -> dict[str, float]:
    return {
        "gpuCostPerHour": float(gpu),
        "diskHour": float(disk),
        "totalHour": float(gpu + disk),
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": float(gpu + disk),
    }
