"""What RunPod rents out: GPU types, CPU flavors, data centres, and the hosts that pods are placed on.

A pod lives on one host. Stock is counted over hosts, so a high stock does not mean that a pod fits. Knows no wire.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from providers.rehearsal.runpod.orders import NO_DISK, NoCapacity, Order

SECURE, COMMUNITY = "SECURE", "COMMUNITY"


@dataclass(frozen=True, kw_only=True)
class GpuType:
    """Prices are USD per GPU-hour; None where that cloud does not have it."""

    id: str
    name: str
    memory_gb: int
    secure: Decimal | None
    community: Decimal | None
    most: int = 8  # GPUs on the largest host
    pool: str | None = None
    cores: int = 0
    vcpus: int = 8  # per GPU
    ram_gb: int = 31  # per GPU

    def price(self, cloud: str) -> Decimal | None:
        return self.secure if cloud == SECURE else self.community

    @property
    def manufacturer(self) -> str:
        return "AMD" if self.id.startswith("AMD") else "NVIDIA"


@dataclass(frozen=True, kw_only=True)
class CpuFlavor:
    """USD per vCPU-hour. Its memory follows from the vCPUs."""

    id: str
    name: str
    group: str
    usd_per_vcpu: Decimal
    ram_per_vcpu: int
    fewest: int = 2
    most: int = 32


@dataclass(frozen=True, kw_only=True)
class DataCenter:
    id: str
    name: str
    region: str
    country: str
    volumes: bool = True


@dataclass(kw_only=True)
class Host:
    """A machine of RunPod's. A community host belongs to somebody, has a country, and no data centre."""

    id: str
    kind: str  # GPU type or CPU flavor
    cloud: str
    data_center: str | None
    country: str
    size: int  # GPUs or vCPUs
    free: int
    cuda: str | None
    has_public_ip: bool = True


def _gpu(
    id: str, name: str, memory: int, secure: str | None, community: str | None, pool: str | None = None, **more: int
) -> GpuType:
    prices = [Decimal(price) if price else None for price in (secure, community)]
    return GpuType(id=id, name=name, memory_gb=memory, secure=prices[0], community=prices[1], pool=pool, **more)


# Ids, names and memory as docs.runpod.io/references/gpu-types lists them (2026-08); prices are of that order.
GPU_TYPES = (
    _gpu("NVIDIA RTX A4000", "RTX A4000", 16, "0.25", "0.17", "AMPERE_16", cores=6144),
    _gpu("NVIDIA RTX 2000 Ada Generation", "RTX 2000 Ada", 16, "0.24", None, "AMPERE_16", cores=2816),
    _gpu("NVIDIA RTX A5000", "RTX A5000", 24, "0.27", "0.16", "AMPERE_24", cores=8192),
    _gpu("NVIDIA GeForce RTX 3070", "RTX 3070", 8, None, "0.13", most=4, cores=5888),
    _gpu("NVIDIA GeForce RTX 3090", "RTX 3090", 24, "0.46", "0.22", "AMPERE_24", cores=10496),
    _gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, "0.69", "0.34", "ADA_24", cores=16384),
    _gpu("NVIDIA GeForce RTX 5090", "RTX 5090", 32, "0.99", "0.69", "ADA_32_PRO", cores=21760),
    _gpu("NVIDIA L4", "L4", 24, "0.39", None, "AMPERE_24", cores=7424),
    _gpu("NVIDIA A40", "A40", 48, "0.40", None, "AMPERE_48", cores=10752),
    _gpu("NVIDIA RTX A6000", "RTX A6000", 48, "0.49", "0.33", "AMPERE_48", cores=10752),
    _gpu("NVIDIA L40S", "L40S", 48, "0.86", "0.79", "ADA_48_PRO", cores=18176, ram_gb=94),
    _gpu("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, "1.64", "1.19", "AMPERE_80", cores=6912, ram_gb=117),
    _gpu("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, "1.74", None, "AMPERE_80", cores=6912, vcpus=16, ram_gb=125),
    _gpu("NVIDIA H100 PCIe", "H100 PCIe", 80, "2.39", "1.99", "ADA_80_PRO", cores=14592, vcpus=16, ram_gb=188),
    _gpu("NVIDIA H100 80GB HBM3", "H100 SXM", 80, "2.99", None, "ADA_80_PRO", cores=16896, vcpus=20, ram_gb=251),
    _gpu("NVIDIA H200", "H200 SXM", 141, "3.99", None, "HOPPER_141", cores=16896, vcpus=24, ram_gb=276),
    _gpu("NVIDIA B200", "B200", 180, "5.99", None, cores=18432, vcpus=28, ram_gb=283),
    _gpu("AMD Instinct MI300X OAM", "MI300X", 192, "2.49", None, cores=0, vcpus=24, ram_gb=283),
)
CPU_FLAVORS = tuple(
    CpuFlavor(id=id, name=name, group=group, usd_per_vcpu=Decimal(usd), ram_per_vcpu=ram)
    for id, name, group, usd, ram in (
        ("cpu3c", "Compute-Optimized", "Gen 3", "0.03", 2),
        ("cpu3g", "General Purpose", "Gen 3", "0.04", 4),
        ("cpu3m", "Memory-Optimized", "Gen 3", "0.055", 8),
        ("cpu5c", "Compute-Optimized", "Gen 5", "0.035", 2),
        ("cpu5g", "General Purpose", "Gen 5", "0.045", 4),
    )
)
DATA_CENTERS = tuple(
    DataCenter(id=id, name=name, region=region, country=country, volumes=volumes)
    for id, name, region, country, volumes in (
        ("EU-RO-1", "EU Romania 1", "EUROPE", "RO", True),
        ("EU-SE-1", "EU Sweden 1", "EUROPE", "SE", True),
        ("EUR-IS-1", "Europe Iceland 1", "EUROPE", "IS", True),
        ("US-KS-2", "US Kansas 2", "NORTH_AMERICA", "US", True),
        ("US-TX-3", "US Texas 3", "NORTH_AMERICA", "US", True),
        ("CA-MTL-3", "CA Montreal 3", "NORTH_AMERICA", "CA", False),
    )
)
COMMUNITY_COUNTRIES = ("US", "SE", "CZ", "FR")
CUDA_VERSIONS = ("12.4", "12.8", "13.0")
_HOSTS_PER_PLACE = 6
_CPU_HOST = 1024
_HOST_DISK_GB = 4000


class Market:
    """Hosts and their stock. What is random about them comes from the seed."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(f"market {seed}")
        self.gpus = {gpu.id: gpu for gpu in GPU_TYPES}
        self.cpus = {flavor.id: flavor for flavor in CPU_FLAVORS}
        self.data_centers = {center.id: center for center in DATA_CENTERS}
        self._placed = 0
        self.hosts = [*self._gpu_hosts(), *self._cpu_hosts()]

    def place(self, order: Order) -> Host:
        """The host for this order, its GPUs taken. Raises NoCapacity, also for a type that does not exist."""
        wanted = order.gpu_count if order.gpu else order.vcpus
        fitting = [host for host in self.offering(order) if host.free >= wanted]
        if not fitting:
            raise NoCapacity
        if order.disk_gb + order.volume_gb > _HOST_DISK_GB:
            raise NoCapacity(NO_DISK)
        least = min(self.price(host, wanted) for host in fitting)
        cheapest = [host for host in fitting if self.price(host, wanted) == least]
        host = cheapest[self._placed % len(cheapest)]  # another one each time: who orders again gets another host
        self._placed += 1
        host.free -= wanted
        return host

    def price(self, host: Host, count: int) -> Decimal:
        """USD per hour, without the disks."""
        if host.kind in self.cpus:
            return self.cpus[host.kind].usd_per_vcpu * count
        price = self.gpus[host.kind].price(host.cloud)
        assert price is not None, "a host exists only where its type has a price"
        return price * count

    def offering(self, order: Order) -> list[Host]:
        """Hosts of the ordered kind and place, with or without room."""
        kind = order.gpu or order.cpu
        return [host for host in self.hosts if host.kind == kind and self._suits(host, order)]

    def stock(
        self,
        kind: str,
        *,
        cloud: str = SECURE,
        data_center: str | None = None,
        country: str | None = None,
        count: int = 1,
    ) -> int:
        """GPUs (or vCPUs) on hosts that have at least `count` of them free."""
        return sum(
            host.free
            for host in self.hosts
            if host.kind == kind
            and host.cloud == cloud
            and data_center in (None, host.data_center)
            and country in (None, host.country)
            and host.free >= count
        )

    def largest(self, kind: str, cloud: str) -> int:
        return max((host.size for host in self.hosts if (host.kind, host.cloud) == (kind, cloud)), default=0)

    def sell_out(self, kind: str | None = None, *, data_center: str | None = None) -> None:
        """Others have rented everything that is free, of one kind or in one place."""
        for host in self.hosts:
            if kind in (None, host.kind) and data_center in (None, host.data_center):
                host.free = 0

    def _suits(self, host: Host, order: Order) -> bool:
        if order.cloud not in ("ALL", host.cloud):
            return False
        if order.data_centers and host.data_center not in order.data_centers:
            return False
        if order.country not in (None, host.country) or (order.public_ip and not host.has_public_ip):
            return False
        return self._cuda_suits(host, order) and self._is_big_enough(host, order)

    def _cuda_suits(self, host: Host, order: Order) -> bool:
        if order.cuda:
            return host.cuda in order.cuda
        return order.min_cuda is None or (host.cuda is not None and version(host.cuda) >= version(order.min_cuda))

    def _is_big_enough(self, host: Host, order: Order) -> bool:
        gpu = self.gpus.get(host.kind)
        if gpu is None:
            return True
        count = order.gpu_count
        return gpu.vcpus * count >= order.min_vcpus and gpu.ram_gb * count >= order.min_memory_gb

    def _gpu_hosts(self) -> Iterator[Host]:
        for number, gpu in enumerate(GPU_TYPES):
            if gpu.secure is not None:
                here = [DATA_CENTERS[(number + step) % len(DATA_CENTERS)] for step in (0, 1, 3)]
                for center in here:
                    yield from self._row(gpu, SECURE, center.id, center.country)
            if gpu.community is not None:
                for country in COMMUNITY_COUNTRIES:
                    yield from self._row(gpu, COMMUNITY, None, country)

    def _row(self, gpu: GpuType, cloud: str, data_center: str | None, country: str) -> Iterator[Host]:
        for number in range(_HOSTS_PER_PLACE):
            cuda = CUDA_VERSIONS[number % len(CUDA_VERSIONS)] if gpu.manufacturer == "NVIDIA" else None
            yield Host(
                id=self._host_id(), kind=gpu.id, cloud=cloud, data_center=data_center, country=country,
                size=gpu.most, free=gpu.most, cuda=cuda, has_public_ip=cloud == SECURE or number % 2 == 1,
            )  # fmt: skip

    def _cpu_hosts(self) -> Iterator[Host]:
        for flavor in CPU_FLAVORS:
            for center in DATA_CENTERS[:3]:
                yield Host(
                    id=self._host_id(), kind=flavor.id, cloud=SECURE, data_center=center.id, country=center.country,
                    size=_CPU_HOST, free=_CPU_HOST, cuda=None,
                )  # fmt: skip

    def _host_id(self) -> str:
        return "".join(self._dice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=12))


def level(stock: int) -> str:
    """RunPod's word for a stock. It is advice: a pod of several GPUs needs them on one host."""
    if stock <= 0:
        return "NONE"
    return "LOW" if stock <= 4 else "MEDIUM" if stock <= 16 else "HIGH"


def version(text: str) -> tuple[int, ...]:
    """12.11 is above 12.2."""
    return tuple(int(part) for part in text.split("."))
