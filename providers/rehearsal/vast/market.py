"""The market: hosts with GPUs, and the asks under which they can be rented. Made from a seed, so that ids are stable.

Knows no contract and no wire format. A host is somebody's physical machine; an ask is a part of it, under an id that
can be rented once: what is given back is offered again under a new id.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal

HOURS_PER_MONTH = 720  # as in the documentation's own samples: $/GB/month * GB / 720 per hour
_MICRO = Decimal("0.000001")


@dataclass(frozen=True, kw_only=True)
class GpuKind:
    """A GPU as the market names it, with what one of it does and usually costs."""

    name: str
    nvidia: str  # as nvidia-smi says
    memory_mb: int
    compute_cap: int  # 890 is 8.9
    tflops: float
    memory_gb_s: float
    dlperf: float
    usd: float
    counts: tuple[int, ...]
    share: int  # of all hosts, in relation to the other kinds


KINDS = (
    GpuKind(
        name="RTX 3060", nvidia="NVIDIA GeForce RTX 3060", memory_mb=12288, compute_cap=860, tflops=12.7,
        memory_gb_s=360.0, dlperf=11.0, usd=0.055, counts=(1, 2, 4), share=14,
    ),
    GpuKind(
        name="RTX 3090", nvidia="NVIDIA GeForce RTX 3090", memory_mb=24576, compute_cap=860, tflops=35.6,
        memory_gb_s=936.0, dlperf=36.0, usd=0.16, counts=(1, 1, 2, 4), share=20,
    ),
    GpuKind(
        name="RTX 4070S Ti", nvidia="NVIDIA GeForce RTX 4070 Ti SUPER", memory_mb=16376, compute_cap=890, tflops=44.1,
        memory_gb_s=672.0, dlperf=42.0, usd=0.13, counts=(1, 2), share=6,
    ),
    GpuKind(
        name="RTX 4090", nvidia="NVIDIA GeForce RTX 4090", memory_mb=24564, compute_cap=890, tflops=82.6,
        memory_gb_s=1008.0, dlperf=78.0, usd=0.34, counts=(1, 1, 2, 4, 8), share=30,
    ),
    GpuKind(
        name="RTX 5090", nvidia="NVIDIA GeForce RTX 5090", memory_mb=32607, compute_cap=1200, tflops=104.8,
        memory_gb_s=1792.0, dlperf=110.0, usd=0.46, counts=(1, 2, 4), share=12,
    ),
    GpuKind(
        name="RTX A6000", nvidia="NVIDIA RTX A6000", memory_mb=49140, compute_cap=860, tflops=38.7,
        memory_gb_s=768.0, dlperf=39.0, usd=0.42, counts=(1, 2, 4), share=8,
    ),
    GpuKind(
        name="RTX 6000Ada", nvidia="NVIDIA RTX 6000 Ada Generation", memory_mb=49140, compute_cap=890, tflops=91.1,
        memory_gb_s=960.0, dlperf=80.0, usd=0.68, counts=(1, 2), share=5,
    ),
    GpuKind(
        name="L4", nvidia="NVIDIA L4", memory_mb=23034, compute_cap=890, tflops=30.3,
        memory_gb_s=300.0, dlperf=26.0, usd=0.29, counts=(1, 2, 4), share=4,
    ),
    GpuKind(
        name="L40S", nvidia="NVIDIA L40S", memory_mb=46068, compute_cap=890, tflops=91.6,
        memory_gb_s=864.0, dlperf=84.0, usd=0.72, counts=(1, 2, 4), share=6,
    ),
    GpuKind(
        name="A100 SXM4", nvidia="NVIDIA A100-SXM4-80GB", memory_mb=81920, compute_cap=800, tflops=19.5,
        memory_gb_s=2039.0, dlperf=72.0, usd=0.86, counts=(1, 4, 8), share=8,
    ),
    GpuKind(
        name="H100 SXM", nvidia="NVIDIA H100 80GB HBM3", memory_mb=81559, compute_cap=900, tflops=66.9,
        memory_gb_s=3350.0, dlperf=190.0, usd=2.05, counts=(1, 4, 8), share=9,
    ),
)  # fmt: skip

_PLACES = (
    "California, US", "Texas, US", "Virginia, US", "Washington, US", "Quebec, CA", "British Columbia, CA", "Sweden, SE",
    "Norway, NO", "Germany, DE", "Czechia, CZ", "Bulgaria, BG", "Spain, ES", "Poland, PL", "Japan, JP", "Taiwan, TW",
    "South Korea, KR", "Vietnam, VN", "Australia, AU",
)  # fmt: skip
_CPUS = ("AMD EPYC 7702 64-Core Processor", "AMD EPYC 9554 64-Core Processor", "Xeon® Gold 6248R", "Core™ i9-10900X")
_DRIVERS = (("535.183.01", 12.2), ("550.127.05", 12.4), ("560.35.03", 12.6), ("570.133.20", 12.8))
_FIRST_ASK, _FIRST_MACHINE, _FIRST_OWNER = 21_400_117, 11_206, 60_317
_SLOPPY_SHARE = 0.03


@dataclass(kw_only=True)
class Host:
    """A physical machine. `free` GPUs are held by nobody; `asks` are the live ones, by their number of GPUs."""

    machine_id: int
    owner_id: int
    kind: GpuKind
    gpus: int
    usd_per_gpu: Decimal
    min_bid_per_gpu: Decimal
    storage_usd_per_month: Decimal  # per GB
    up_usd_per_gb: Decimal
    down_usd_per_gb: Decimal
    place: str | None
    verification: str
    datacenter: bool
    reliability: float
    cores: int | None
    cpu: str
    ram_mb: int
    disk_gb: float
    disk_mb_s: float
    up_mbit: float
    down_mbit: float
    ports: int
    static_ip: bool
    driver: str
    cuda: float
    end: datetime
    sloppy: bool  # slips through numeric filters
    free: int = 0
    outbidders: int = 0  # GPUs of it that went to somebody who had bid more
    asks: dict[int, int] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        return sorted({self.gpus, self.gpus // 2 if self.gpus >= 4 else self.gpus, 1}, reverse=True)


@dataclass(frozen=True)
class Ask:
    """A part of a host that can be rented under this id."""

    id: int
    host: Host
    gpus: int

    @property
    def rentable(self) -> bool:
        return self.host.free >= self.gpus

    @property
    def share(self) -> float:
        return self.gpus / self.host.gpus

    @property
    def usd(self) -> Decimal:
        """On demand, per hour."""
        return self.host.usd_per_gpu * self.gpus

    @property
    def min_bid(self) -> Decimal:
        return self.host.min_bid_per_gpu * self.gpus


class Market:
    """All hosts and their asks."""

    def __init__(self, now: datetime, *, seed: int, hosts: int) -> None:
        dice = random.Random(seed)
        self._next_ask = _FIRST_ASK
        self._asks: dict[int, Ask] = {}
        self._gone: set[int] = set()
        self.hosts = {}
        for number in range(hosts):
            host = _host(dice, number, _kind(number), now)
            self.hosts[host.machine_id] = host
            self.give_back(host, host.gpus)

    def asks(self, now: datetime) -> list[Ask]:
        """What is offered, whether its GPUs are free or not."""
        return [ask for ask in self._asks.values() if now < ask.host.end]

    def find(self, ask_id: int, now: datetime) -> Ask | None:
        ask = self._asks.get(ask_id)
        return ask if ask is not None and now < ask.host.end else None

    def was_there(self, ask_id: int) -> bool:
        """There is no such ask any more."""
        return ask_id in self._gone or ask_id in self._asks

    def use_up(self, ask: Ask) -> None:
        """The id has been rented: nobody else can rent it."""
        if self._asks.pop(ask.id, None) is not None:
            self._gone.add(ask.id)
            ask.host.asks.pop(ask.gpus, None)
        self._list(ask.host)

    def take(self, host: Host, gpus: int) -> bool:
        """Hold so many GPUs; False, and nothing is held, when they are not free."""
        if host.free < gpus:
            return False
        host.free -= gpus
        return True

    def give_back(self, host: Host, gpus: int) -> None:
        host.free = min(host.gpus, host.free + gpus)
        self._list(host)

    def _list(self, host: Host) -> None:
        """Every size that fits into what is free is on offer, under a new id if its old one was used up."""
        for size in host.sizes:
            if size <= host.free and size not in host.asks:
                host.asks[size] = self._next_ask
                self._asks[self._next_ask] = Ask(self._next_ask, host, size)
                self._next_ask += 7


def _kind(number: int) -> GpuKind:
    """Kinds in the proportion of their shares, whatever the number of hosts."""
    place = number * 37 % sum(kind.share for kind in KINDS)
    for kind in KINDS:
        place -= kind.share
        if place < 0:
            return kind
    raise AssertionError("unreachable")


def _host(dice: random.Random, number: int, kind: GpuKind, now: datetime) -> Host:
    gpus = dice.choice(kind.counts)
    datacenter = dice.random() < 0.35
    verification = "verified" if datacenter else dice.choices(("verified", "unverified", "deverified"), (78, 19, 3))[0]
    price = kind.usd * dice.uniform(0.8, 1.5) * (1.12 if datacenter else 1.0)
    cores = gpus * dice.choice((8, 12, 16, 24))
    driver, cuda = dice.choice(_DRIVERS)
    link = dice.choice((200, 500, 800, 940, 2500, 9000)) * dice.uniform(0.7, 1.0)
    return Host(
        machine_id=_FIRST_MACHINE + number * 13,
        owner_id=_FIRST_OWNER + number // 3 * 11,
        kind=kind,
        gpus=gpus,
        usd_per_gpu=usd_rounded(price),
        min_bid_per_gpu=usd_rounded(price * dice.uniform(0.4, 0.75)),
        storage_usd_per_month=usd_rounded(dice.choice((0.08, 0.1, 0.15, 0.15, 0.2, 0.3))),
        up_usd_per_gb=usd_rounded(dice.choice((0.0, 0.002, 0.005, 0.01, 0.02))),
        down_usd_per_gb=usd_rounded(dice.choice((0.0, 0.001, 0.003, 0.01))),
        # Hosts without a place, or with a country only, are seen on the real market.
        place={29: None, 59: ", US"}.get(number % 60, dice.choice(_PLACES)),
        verification=verification,
        datacenter=datacenter,
        reliability=round(max(0.5, 1 - dice.expovariate(90 if verification == "verified" else 25)), 7),
        cores=None if dice.random() < 0.02 else cores,
        cpu=dice.choice(_CPUS),
        ram_mb=int(cores * dice.choice((2015, 4030, 8062))),
        disk_gb=round(dice.uniform(120, 900) * gpus, 1),
        disk_mb_s=round(dice.uniform(450, 6500), 1),
        up_mbit=round(link * dice.uniform(0.4, 1.0), 1),
        down_mbit=round(link, 1),
        ports=dice.choices((0, 4 * gpus, 100 * gpus), (6, 14, 80))[0],
        static_ip=datacenter or dice.random() < 0.3,
        driver=driver,
        cuda=cuda,
        end=now + timedelta(days=dice.uniform(3, 400)),
        sloppy=dice.random() < _SLOPPY_SHARE,
    )


def usd_rounded(amount: Decimal | float) -> Decimal:
    """To the six digits that prices have here."""
    return Decimal(str(amount)).quantize(_MICRO, rounding=ROUND_DOWN)
