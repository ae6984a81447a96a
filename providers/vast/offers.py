"""Vast.ai's market in this house's words: what a search is asked for, and each row as an Offer. Pure.

The server returns at most 64 rows and does not apply every numeric filter (seen by others, 2026): all that is asked for
is looked at again here. Field names and units: https://docs.vast.ai/api-reference/search/search-offers, 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers import gpus, sent
from providers.base import Offer, OfferQuery

MOST_ROWS = 64
LEAST_DISK_GB = 8
LEAST_CUDA = 12.0  # of a host's driver; today's PyTorch images run on no older one
LEAST_SECONDS_LEFT = 24 * 3600  # of the host's own contract: at its end it stops everybody
LEAST_BID = Decimal("0.001")

UNKNOWN_REGION = "unknown"
SOURCE = "Vast.ai's offers (POST /api/v0/bundles/)"

# Vast.ai's spellings, with spaces; from `vastai` 1.9.1, data/query.py. One that gpus.py knows otherwise is shown, too,
# but not asked for by name: then everything is searched.
WIRE_NAMES = (
    "A10", "A10g", "A16", "A30", "A40", "A100 PCIE", "A100 SXM4", "A100 SXM", "B200", "GH200 SXM", "H100 PCIE",
    "H100 SXM", "H100 NVL", "H200", "H200 NVL", "L4", "L40", "L40S", "Tesla P100", "Tesla T4", "Tesla V100",
    "GTX 1080 Ti", "RTX 2080 Ti", "RTX 3060", "RTX 3060 Ti", "RTX 3070", "RTX 3070 Ti", "RTX 3080", "RTX 3080 Ti",
    "RTX 3090", "RTX 3090 Ti", "RTX 4070", "RTX 4070S", "RTX 4070S Ti", "RTX 4070 Ti", "RTX 4080", "RTX 4080S",
    "RTX 4090", "RTX 5070", "RTX 5070 Ti", "RTX 5080", "RTX 5090", "RTX A2000", "RTX A4000", "RTX A4500", "RTX A5000",
    "RTX A6000", "RTX 2000Ada", "RTX 4000Ada", "RTX 4500Ada", "RTX 5000Ada", "RTX 6000Ada", "RTX PRO 4500",
    "RTX PRO 6000", "RTX PRO 6000 S", "RTX PRO 6000 WS", "RTX PRO 6000 Max-Q",
)  # fmt: skip

_LONGEST_NAME = 100
_SIDE_PRICES = ("storage_cost", "inet_down_cost", "inet_up_cost")
_SLACK = 0.9  # what is sold as 24 GB reports 24564 MB, or 23034 (L4)
_MEMORY_SUFFIX = re.compile(r"-\d+GB$")
_COUNTRY = re.compile(r"[A-Z]{2}")

Json = dict[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """What an offer's id stands for: Vast.ai's id of it, on demand or for a bid."""

    id: int
    bid: bool = False

    def __str__(self) -> str:
        return f"bid:{self.id}" if self.bid else str(self.id)

    @classmethod
    def of(cls, offer_id: str) -> Ask:
        return cls(int(offer_id.removeprefix("bid:")), offer_id.startswith("bid:"))


def filters(query: OfferQuery, *, least_total: Any = None) -> Json:
    """What is asked of the server. `least_total` begins a further page; there are no others."""
    wanted: Json = {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "direct_port_count": {"gte": 1},
        "cuda_max_good": {"gte": LEAST_CUDA},
        "duration": {"gte": LEAST_SECONDS_LEFT},
        "disk_space": {"gte": disk_gb(query)},
    }
    if query.gpu_count:
        wanted["num_gpus"] = {"eq": query.gpu_count}
        if names := _wire_names(query.gpus):
            wanted["gpu_name"] = {"in": names}
        if query.gpu_memory_gb is not None:
            wanted["gpu_ram"] = {"gte": query.gpu_memory_gb * 1000 * _SLACK}  # MB
    if query.vcpus is not None:
        wanted["cpu_cores_effective"] = {"gte": query.vcpus}
    if query.memory_gb is not None:
        wanted["cpu_ram"] = {"gte": query.memory_gb * 1000}  # MB of the whole machine: our share is looked at here
    if query.reliability is not None:
        wanted["reliability"] = {"gte": query.reliability}
    if query.regions and all(_COUNTRY.fullmatch(region) for region in query.regions):
        wanted["geolocation"] = {"in": list(query.regions)}
    if least_total is not None:
        wanted["dph_total"] = {"gte": least_total}
    return wanted


def disk_gb(query: OfferQuery) -> float:
    return max(float(LEAST_DISK_GB), query.disk_gb or 0.0)


def offer(row: Row, *, bid: bool, at: datetime) -> Offer | None:
    """None when it has no id or a price that makes no sense: of its GPUs, its disk or its traffic."""
    usd = sent.price(row.get("min_bid") if bid else row.get("dph_base"))
    ask = sent.whole(row.get("ask_contract_id")) or sent.whole(row.get("id"))
    disk, down, up = (_side_price(row.get(name)) for name in _SIDE_PRICES)
    if not usd or not ask or disk is None or down is None or up is None:
        return None
    share = _share(row)
    gpu = canonical(sent.words(row.get("gpu_name"), _LONGEST_NAME), row.get("gpu_ram"))
    return Offer(
        provider="vast",
        offer_id=str(Ask(ask, bid)),
        region=region(row),
        gpu=gpu,
        gpu_count=int(_number(row.get("num_gpus"))),
        gpu_memory_gb=_gpu_memory(gpu, row.get("gpu_ram")),
        vcpus=_number(row.get("cpu_cores_effective")) or _number(row.get("cpu_cores")) * share,
        memory_gb=round(_number(row.get("cpu_ram")) * share / 1000, 3),
        disk_gb=_number(row.get("disk_space")) if row.get("disk_space") is not None else None,
        spot=bid,
        usd_per_hour=max(usd, LEAST_BID) if bid else usd,
        disk_usd_per_gb_month=disk,
        ingress_usd_per_gb=down,
        egress_usd_per_gb=up,
        reliability=_first_number(row, "reliability2", "reliability"),
        cuda=_cuda(row.get("cuda_max_good")),
        location=_place(row).strip(" ,"),
        host_id=host_id(row),
        fetched_at=at,
        source=SOURCE,
    )


def is_wanted(row: Row, query: OfferQuery, now: datetime) -> bool:
    """What an Offer does not carry, looked at again. What a row does not say, the filter has decided."""
    verified = row.get("verification")
    left = _first_number(row, "duration")
    if left is None and (end := _first_number(row, "end_date")) is not None:
        left = end - now.timestamp()
    return (
        (verified is None or verified == "verified")
        and row.get("rentable") is not False
        and row.get("rented") is not True
        and row.get("external") is not True
        and _at_least(_first_number(row, "direct_port_count"), 1)
        and _at_least(_first_number(row, "cuda_max_good"), LEAST_CUDA)
        and _at_least(left, LEAST_SECONDS_LEFT)
        and _at_least(_first_number(row, "disk_space"), LEAST_DISK_GB)
        and query.gpu_count in (0, _number(row.get("num_gpus")))
    )


def canonical(name: str, memory_mb: Any) -> str | None:
    """Our name for a GPU, or Vast.ai's own where we have none.

    "A100 SXM4" and "Tesla V100" stand for cards that differ in nothing but memory, which the row says.
    """
    if (known := gpus.canonical(name)) is not None:
        return known
    meant = gpus.ambiguous(name)
    if len({_MEMORY_SUFFIX.sub("", one) for one in meant}) == 1:
        right = [one for one in meant if _is_memory_of(memory_mb, gpus.specification(one).memory_gb)]
        if len(right) == 1:
            return right[0]
    return name or None


def region(row: Row) -> str:
    """The country, of "Texas, US", ", US" or nothing."""
    word = _place(row).rpartition(",")[2].strip()
    return word if _COUNTRY.fullmatch(word) else UNKNOWN_REGION


def host_id(row: Row) -> str:
    """The physical machine: after a rental the same one is offered under another id."""
    return sent.words(row.get("machine_id"), _LONGEST_NAME)


def money(value: Any) -> Decimal | None:
    """An amount of the wire, which is a float there, and may be owed; None for what is no number."""
    return sent.amount(value)


def at_bid(query: OfferQuery) -> tuple[bool, ...]:
    """Which of the two markets are searched."""
    return (False, True) if query.spot is None else (query.spot,)


def on_market(query: OfferQuery, *, bid: bool) -> OfferQuery:
    return replace(query, spot=bid)


def _wire_names(wanted: tuple[str, ...]) -> list[str]:
    """Empty, which means any, when one of them has no spelling here that we know."""
    found: list[str] = []
    for name in wanted:
        stem = _MEMORY_SUFFIX.sub("", name)
        mine = [wire for wire in WIRE_NAMES if _may_be(wire, name, stem)]
        if not mine and gpus.canonical(name) is None:
            mine = [name]
        if not mine:
            return []
        found += mine
    return list(dict.fromkeys(found))


def _may_be(wire: str, name: str, stem: str) -> bool:
    meant = gpus.ambiguous(wire)
    return gpus.canonical(wire) == name or (name in meant and all(one.startswith(stem) for one in meant))


def _gpu_memory(gpu: str | None, memory_mb: Any) -> float | None:
    """As the maker says, unless the card has clearly another size: RTX 3060 are sold with 12 and with 8 GB."""
    megabytes = _number(memory_mb)
    try:
        nominal = gpus.specification(gpu or "").memory_gb
    except KeyError:
        return float(round(megabytes / 1024)) if megabytes else None
    return nominal if not megabytes or _is_memory_of(megabytes, nominal) else float(round(megabytes / 1024))


def _is_memory_of(memory_mb: Any, nominal_gb: float) -> bool:
    return nominal_gb * _SLACK <= _number(memory_mb) / 1000 <= nominal_gb * 1.1


def _share(row: Row) -> float:
    """How much of the machine comes with this offer: the row has the CPUs and the memory of all of it."""
    cores, mine = _number(row.get("cpu_cores")), _number(row.get("cpu_cores_effective"))
    share = mine / cores if cores and mine else _number(row.get("gpu_frac")) or 1.0
    return min(1.0, share)


def _first_number(row: Row, *names: str) -> float | None:
    found = (sent.number(row.get(name)) for name in names)
    return next((value for value in found if value is not None), None)


def _number(value: Any) -> float:
    return sent.number(value) or 0.0


def _side_price(value: Any) -> Decimal | None:
    """0 where the row does not say it; None where it says what makes no sense."""
    return Decimal(0) if value is None else sent.price(value)


def _place(row: Row) -> str:
    return sent.words(row.get("geolocation"), _LONGEST_NAME)


def _cuda(value: Any) -> str | None:
    return f"{value}" if sent.number(value) and len(f"{value}") <= _LONGEST_NAME else None


def _at_least(has: float | None, least: float) -> bool:
    return has is None or has >= least
