"""What EC2's machines cost: the price list (kept for a day) and the spot prices of each zone (kept for minutes)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers import sent
from providers.aws import public_prices
from providers.aws.cache import Cache
from providers.aws.machine_types import MachineType
from providers.aws.spot import History
from providers.base import Now
from providers.errors import AuthFailed

if TYPE_CHECKING:
    from providers.aws.client import Aws

KEPT = timedelta(days=1)
SPOT_KEPT = timedelta(minutes=5)
PRICING_REGION = "us-east-1"  # the price list is served in three regions only

# https://aws.amazon.com/ebs/pricing/, us-east-1 (2026-11-21): where the price list does not say
GP3_USD_PER_GB_MONTH = Decimal("0.08")

# Karpenter's (aws/karpenter-provider-aws, pkg/providers/pricing/pricing.go, 2026-08-21). Metal would be another query.
_COMPUTE = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "productFamily": "Compute Instance",
}
_DISK = {"productFamily": "Storage", "volumeApiName": "gp3"}
_LINUX = "Linux/UNIX"

Json = dict[str, Any]
Download = Callable[[str], Iterable[str]]
SpotPrices = Mapping[tuple[str, str], Decimal]  # (type, zone)


@dataclass(frozen=True)
class PriceList:
    """On-demand prices of a region by type. `types` are given where the list is all that there is."""

    on_demand: Mapping[str, Decimal]
    gp3_usd_per_gb_month: Decimal
    fetched_at: datetime
    source: str
    types: tuple[MachineType, ...] = ()


@dataclass(frozen=True)
class Spot:
    prices: SpotPrices
    fetched_at: datetime


class Prices:
    """Safe between threads."""

    def __init__(self, aws: Aws, cache: Cache, now: Now, download: Download) -> None:
        self._aws = aws
        self._cache = cache
        self._now = now
        self._download = download
        self._lists: dict[str, tuple[str, PriceList]] = {}
        self._spot: dict[str, Spot] = {}
        self._lock = threading.Lock()

    def listed(self, region: str, *, may_download: bool) -> PriceList:
        """From the Price List API; who may not ask it gets the same prices from the public file, which is large."""
        try:
            document = self._cache.get(f"prices-{region}", KEPT, lambda: self._ask(region))
        except AuthFailed:
            if not may_download:
                raise
            return self.public(region)
        return self._parsed(f"prices-{region}", document)

    def public(self, region: str) -> PriceList:
        """From the public file, which needs no account. It takes a while, once a day."""
        name = f"public-{region}"
        document = self._cache.get(name, KEPT, lambda: public_prices.read(self._download(region)))
        return self._parsed(name, document)

    def known(self, region: str) -> PriceList | None:
        """What is at hand without asking anybody."""
        name = f"prices-{region}"
        document = self._cache.known(name)
        return self._parsed(name, document) if document is not None else None

    def spot(self, region: str, types: Sequence[str]) -> Spot:
        """The present spot price of every type in every zone."""
        with self._lock:
            known = self._spot.get(region)
        if known is not None and known.fetched_at > self._now() - SPOT_KEPT:
            return known
        found = Spot(self._ask_spot(region, types), self._now())
        with self._lock:
            self._spot[region] = found
        return found

    def spot_now(self, region: str, machine_type: str, zone: str) -> Decimal | None:
        """What one type costs in one zone at this moment; None when EC2 names no price."""
        known = self._spot.get(region)
        if known is not None and known.fetched_at > self._now() - timedelta(seconds=30):
            return known.prices.get((machine_type, zone))
        return self._ask_spot(region, [machine_type]).get((machine_type, zone))

    def spot_since(self, region: str, machine_type: str, zone: str, since: datetime) -> History:
        """What one type has cost in one zone: the price in force at `since`, and every change until now."""
        changes = self._linux(region, InstanceTypes=[machine_type], AvailabilityZone=zone, StartTime=since)
        return [(at, usd) for at, place, usd in changes if place == (machine_type, zone)]

    def _ask(self, region: str) -> Json:
        prices = {
            name: price
            for attributes, price in self._products(region, _COMPUTE, "Hrs")
            if (name := sent.words(attributes.get("instanceType")))
        }
        disk = [price for _, price in self._products(region, _DISK, "GB-Mo")]
        return {"on_demand": prices, "gp3": disk[0] if disk else None, "source": "AWS price list"}

    def _products(self, region: str, wanted: Mapping[str, str], unit: str) -> Iterator[tuple[Json, str]]:
        filters = {"regionCode": region, **wanted}
        rows = self._aws.pages(
            "pricing",
            PRICING_REGION,
            "get_products",
            "PriceList",
            ServiceCode="AmazonEC2",
            Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()],
        )
        for text in rows:
            try:
                product = json.loads(str(text))
                price, attributes = _on_demand(product, unit), dict(product["product"]["attributes"])
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                continue  # one that makes no sense must not hide the others
            if price is not None:
                yield attributes, price

    def _ask_spot(self, region: str, types: Sequence[str]) -> dict[tuple[str, str], Decimal]:
        """With a start of now, EC2 gives the price in force: one row per type and zone."""
        changes = self._linux(region, InstanceTypes=list(types), StartTime=self._now())
        return {place: usd for _, place, usd in changes}

    def _linux(self, region: str, **asked: Any) -> list[tuple[datetime, tuple[str, str], Decimal]]:
        """(from when on, (type, zone), price) of Linux, oldest first. The last change before the start is there, too.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html (2026-11-21)
        """
        rows = self._aws.pages(
            "ec2",
            region,
            "describe_spot_price_history",
            "SpotPriceHistory",
            ProductDescriptions=[_LINUX],
            **asked,
        )
        linux = [row for row in rows if row.get("ProductDescription", _LINUX) == _LINUX and row.get("Timestamp")]
        linux.sort(key=lambda row: row["Timestamp"])
        return [
            (row["Timestamp"], (str(row.get("InstanceType")), str(row.get("AvailabilityZone"))), plain(usd))
            for row in linux
            if (usd := sent.price(row.get("SpotPrice")))
        ]

    def _parsed(self, name: str, document: Json) -> PriceList:
        stamp, parsed = self._lists.get(name, ("", None))
        if parsed is None or stamp != document["fetched_at"]:
            fetched_at = Cache.dated(document)
            parsed = PriceList(
                on_demand={
                    name: plain(usd) for name, text in document["on_demand"].items() if (usd := sent.price(text))
                },
                gp3_usd_per_gb_month=plain(sent.price(document.get("gp3")) or GP3_USD_PER_GB_MONTH),
                fetched_at=fetched_at,
                source=f"{document['source']}, {fetched_at:%Y-%m-%d}",
                types=tuple(MachineType.from_json(row) for row in document.get("types", ())),
            )
            self._lists[name] = (document["fetched_at"], parsed)
        return parsed


def _on_demand(product: Json, unit: str) -> str | None:
    """The one price above 0 in this unit; p5e has no on-demand term at all: it can only be reserved."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            price = str(dimension.get("pricePerUnit", {}).get("USD", "0"))
            if dimension.get("unit") == unit and sent.price(price):
                return price
    return None


def plain(price: Decimal) -> Decimal:
    """Without the zeros at its end: AWS writes 0.0800000000."""
    text = f"{price:f}"
    return Decimal(text.rstrip("0").rstrip(".") or "0") if "." in text else price
