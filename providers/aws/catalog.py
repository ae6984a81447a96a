"""Which regions the account may use, and which instance types each of their zones sells. Kept for a day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from providers.aws import machine_types, mapping
from providers.aws.cache import Cache
from providers.aws.machine_types import MachineType
from providers.errors import Unreachable

if TYPE_CHECKING:
    from providers.aws.client import Aws

KEPT = timedelta(days=1)

Json = dict[str, Any]


@dataclass(frozen=True)
class Sold:
    """What a region sells: its types by name, and the zones of each."""

    types: Mapping[str, MachineType]
    zones: Mapping[str, tuple[str, ...]]


class Catalog:
    """Safe between threads."""

    def __init__(self, aws: Aws, cache: Cache) -> None:
        self._aws = aws
        self._cache = cache
        self._sold: dict[str, tuple[str, Sold]] = {}

    def regions(self) -> tuple[str, ...]:
        """The regions that the account has enabled: the others answer AuthFailure to everything."""
        return tuple(self._cache.get("regions", KEPT, self._ask_regions)["regions"])

    def sold(self, region: str) -> Sold:
        document = self._cache.get(f"types-{region}", KEPT, lambda: self._ask_types(region))
        stamp, sold = self._sold.get(region, ("", None))
        if sold is None or stamp != document["fetched_at"]:
            types = {row["name"]: MachineType.from_json(row) for row in document["types"]}
            sold = Sold(types, {name: tuple(zones) for name, zones in document["zones"].items()})
            self._sold[region] = (document["fetched_at"], sold)
        return sold

    def _ask_regions(self) -> Json:
        usable = [{"Name": "opt-in-status", "Values": ["opt-in-not-required", "opted-in"]}]
        answer = self._aws.call("ec2", self._aws.home_region, "describe_regions", Filters=usable)
        regions = [row.get("RegionName") for row in answer.get("Regions") or ()]
        if not regions or not all(regions):  # machines of a region that is not asked would not be seen
            raise Unreachable("EC2's list of regions makes no sense", provider=mapping.PROVIDER)
        return {"regions": sorted(regions)}

    def _ask_types(self, region: str) -> Json:
        wanted = [{"Name": "instance-type", "Values": machine_types.patterns()}]
        x86 = [{"Name": "processor-info.supported-architecture", "Values": ["x86_64"]}]
        rows = self._aws.pages("ec2", region, "describe_instance_types", "InstanceTypes", Filters=wanted + x86)
        types = {machine.name: machine for machine in machine_types.described(rows)}
        offerings = self._aws.pages(
            "ec2",
            region,
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=wanted,
        )
        zones: dict[str, list[str]] = defaultdict(list)
        for row in offerings:
            name, zone = row.get("InstanceType"), row.get("Location") or ""
            if name in types and mapping.is_zone(zone, region):
                zones[name].append(zone)
        sold = [machine.to_json() for name, machine in types.items() if name in zones]
        return {"types": sold, "zones": {name: sorted(found) for name, found in zones.items()}}
