"""RunPod's catalog as offers. Pure.

An offer is a GPU type (or a CPU flavor) in one of RunPod's two clouds: "secure:NVIDIA GeForce RTX 4090:1:any". RunPod
chooses the data centre, because one create then tries all of them; where a job names regions there is an offer for each
of those data centres that has stock: "secure:NVIDIA GeForce RTX 4090:1:EU-RO-1". Spot is not sold any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers import gpus, sent
from providers.base import Offer, OfferQuery

SECURE, COMMUNITY = "SECURE", "COMMUNITY"
ANYWHERE = "any"
MOST_VCPUS = 1024
MOST_GPUS = 32  # no pod has more: a pod is on one machine

DISK_USD_PER_GB_MONTH = Decimal("0.10")  # https://docs.runpod.io/pods/pricing, seen 2026-08; traffic is free

# What a machine has beside its GPUs v2 does not say, and GraphQL only for types in stock. Where nobody says it, an
# offer claims what is wanted, up to this much per GPU: the probe looks at the machine before anything is shipped.
MOST_VCPUS_PER_GPU = 16.0
MOST_MEMORY_GB_PER_GPU = 128.0

_LONGEST_NAME = 100
_CENT_OF_A_CENT = Decimal("0.000001")
_CATALOG = "RunPod API v2, catalog"
_PUBLIC = "RunPod GraphQL, gpuTypes"

Json = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What an offer's id says. `kind` is "secure", "community" or "cpu"; `count` GPUs, or vCPUs."""

    kind: str
    id: str
    count: int
    region: str

    @classmethod
    def of(cls, offer_id: str) -> Choice:
        """Raises ValueError for an id that is none of ours."""
        kind, _, rest = offer_id.partition(":")
        name, count, region = rest.rsplit(":", 2)
        return cls(kind, name, int(count), region)

    @property
    def offer_id(self) -> str:
        return f"{self.kind}:{self.id}:{self.count}:{self.region}"


@dataclass(frozen=True)
class Hardware:
    """The least that comes with so many GPUs of a type; None where RunPod does not say."""

    vcpus: float | None = None
    memory_gb: float | None = None


def money(value: Any) -> Decimal:
    """RunPod writes prices as doubles, 0.69 times three as 2.0699999999999998. Nothing, or nonsense, is 0."""
    price = None if isinstance(value, str) else sent.price(value)
    if not price:
        return Decimal(0)
    rounded = price.quantize(_CENT_OF_A_CENT).normalize()
    return rounded if rounded.as_tuple().exponent <= 0 else rounded.quantize(Decimal(1))  # type: ignore[operator]


def catalog_offers(
    rows: Iterable[Json], query: OfferQuery, *, cloud: str, hardware: Mapping[str, Hardware], at: datetime
) -> Iterator[Offer]:
    """v2's catalog for one cloud. Stock there is advice: a create may still be refused."""
    key = cloud.lower()
    for row in _sensible(rows):
        price, most = money(_in(row, "price").get(key)), _whole(_in(row, "maxCount").get(key))
        if not price or row.get(key) is False or most < query.gpu_count or not _in_stock(row.get("availability")):
            continue
        for region in _regions(row, query.regions):
            yield _gpu_offer(row, query, price, Choice(key, _id(row), query.gpu_count, region), hardware, at, _CATALOG)


def public_offers(rows: Iterable[Json], query: OfferQuery, *, cloud: str, at: datetime) -> Iterator[Offer]:
    """GraphQL's list, which needs no account; it does not say where the stock is."""
    rows = _sensible(rows)
    key, hardware = cloud.lower(), hardware_of(rows)
    for row in rows:
        price, most = money(row.get(f"{key}Price")), _whole(row.get(f"maxGpuCount{cloud.capitalize()}Cloud"))
        if not price or row.get(f"{key}Cloud") is False or not _in_stock(_in(row, "lowestPrice").get("stockStatus")):
            continue
        if most < query.gpu_count:
            continue
        choice = Choice(key, _id(row), query.gpu_count, ANYWHERE)
        yield _gpu_offer({"memory": row.get("memoryInGb")}, query, price, choice, hardware, at, _PUBLIC)


def hardware_of(rows: Iterable[Json]) -> dict[str, Hardware]:
    """By GPU id, from GraphQL's lowestPrice; null where nothing is in stock."""
    found = {_id(row): _in(row, "lowestPrice") for row in _sensible(rows)}
    return {
        name: Hardware(_number(lowest.get("minVcpu")), _number(lowest.get("minMemory")))
        for name, lowest in found.items()
    }


def cpu_offers(rows: Iterable[Json], query: OfferQuery, *, at: datetime) -> Iterator[Offer]:
    """CPU pods: for every flavor the least number of vCPUs, a power of two, that has what is wanted."""
    for row in _sensible(rows):
        per_vcpu, memory = money(_in(row, "price").get("securePerVcpu")), _number(row.get("ramGbPerVcpu")) or 0.0
        limits = _in(row, "vcpu")
        if not per_vcpu or not memory or not _in_stock(row.get("availability")):
            continue
        count = _power_of_two(max(_whole(limits.get("min")), query.vcpus or 0.0, (query.memory_gb or 0.0) / memory))
        if not count <= min(_whole(limits.get("max")), MOST_VCPUS):
            continue
        for region in _regions(row, query.regions):
            yield Offer(
                provider="runpod",
                offer_id=Choice("cpu", _id(row), count, region).offer_id,
                region=region,
                gpu=None,
                gpu_count=0,
                gpu_memory_gb=None,
                vcpus=float(count),
                memory_gb=count * memory,
                disk_gb=query.disk_gb,
                spot=False,
                usd_per_hour=per_vcpu * count,
                disk_usd_per_gb_month=DISK_USD_PER_GB_MONTH,
                machine_type=f"{_id(row)} x {count}",
                location=f"{sent.words(row.get('name'), _LONGEST_NAME) or _id(row)}, secure cloud",
                fetched_at=at,
                source=_CATALOG,
            )


def _gpu_offer(
    row: Json,
    query: OfferQuery,
    price: Decimal,
    choice: Choice,
    hardware: Mapping[str, Hardware],
    at: datetime,
    source: str,
) -> Offer:
    known = hardware.get(choice.id, Hardware())
    return Offer(
        provider="runpod",
        offer_id=choice.offer_id,
        region=choice.region,
        gpu=gpus.canonical(choice.id) or choice.id,
        gpu_count=choice.count,
        gpu_memory_gb=_number(row.get("memory")),
        vcpus=_claimed(known.vcpus, query.vcpus, MOST_VCPUS_PER_GPU * choice.count),
        memory_gb=_claimed(known.memory_gb, query.memory_gb, MOST_MEMORY_GB_PER_GPU * choice.count),
        disk_gb=query.disk_gb,  # how much a machine has left nobody says: a create that finds too little is refused
        spot=False,
        usd_per_hour=price * choice.count,
        disk_usd_per_gb_month=DISK_USD_PER_GB_MONTH,
        # v2 cannot ask for a public address (v1's supportPublicIp): a community pod may never be reachable.
        machine_type=choice.kind,
        location="secure cloud" if choice.kind == "secure" else "community cloud, a public address is not promised",
        fetched_at=at,
        source=source,
    )


def _claimed(known: float | None, wanted: float | None, most: float) -> float:
    return known if known is not None else min(wanted or 0.0, most)


def _regions(row: Json, wanted: Sequence[str]) -> Sequence[str]:
    if not wanted:
        return (ANYWHERE,)
    centres = row.get("dataCenters")
    stocked = {
        sent.words(centre.get("id") if isinstance(centre, dict) else centre)
        for centre in (centres if isinstance(centres, list) else ())
        if not isinstance(centre, dict) or _in_stock(centre.get("availability"))
    }
    return [region for region in dict.fromkeys(wanted) if region.upper() in stocked]


def _in_stock(level: Any) -> bool:
    """v2 says NONE, GraphQL null; both have been seen to say it the other's way."""
    return isinstance(level, str) and level.upper() not in ("", "NONE")


def _power_of_two(least: float) -> int:
    count = 2  # RunPod's own least
    while count < least <= MOST_VCPUS:
        count *= 2
    return count


def _id(row: Json) -> str:
    return sent.words(row.get("id"), _LONGEST_NAME)


def _sensible(rows: Iterable[Json]) -> list[Json]:
    """Without those that are no rows or have no id: one that cannot be read must not hide the others."""
    return [row for row in rows if isinstance(row, dict) and _id(row)]


def _in(row: Json, key: str) -> Mapping[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return None if isinstance(value, str) else sent.number(value)


def _whole(value: Any) -> int:
    return int(_number(value) or 0)
