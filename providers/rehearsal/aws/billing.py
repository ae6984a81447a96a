"""What EC2 charges for: instance hours by market, public addresses, and volumes for as long as they exist.

- Only `running` counts, per second, with at least 60 seconds every time that it begins to run.
- Spot: the price of the zone at the launch; at each full hour the price of then, as a new line. A spot instance that
  AWS takes away in its first hour costs nothing but its volumes and its address.
- gp3: $0.08 per GB-month, $0.005 per IOPS-month above 3000 and $0.04 per MiBps-month above 125, per second, at least
  60 seconds. AWS divides by the hours of the month at hand; here a month
  always has 720, as in the examples of its page, so that a figure does not depend on the day of the rehearsal.
As of 2026-08: https://aws.amazon.com/ec2/pricing/on-demand/, https://aws.amazon.com/ebs/pricing/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers.rehearsal.aws.spot import SpotMarket
from providers.rehearsal.bill import Bill, Rate

if TYPE_CHECKING:
    from providers.rehearsal.aws.fleet import Rented

MONTH_HOURS = 720
ADDRESS = Rate(meter="address", unit="hour", usd_per_unit=Decimal("0.005"))
GB_MONTH = {
    "gp3": Decimal("0.08"),
    "gp2": Decimal("0.10"),
    "io1": Decimal("0.125"),
    "io2": Decimal("0.125"),
    "st1": Decimal("0.045"),
    "sc1": Decimal("0.015"),
    "standard": Decimal("0.05"),
}
GB_FREE_PER_MONTH = Decimal(100)  # of traffic out, over all regions
_METER = {"gp3": "disk"}  # of other kinds: disk_gp2, ...
_RATES = {  # meter -> unit, US dollars per month
    **{_METER.get(kind, f"disk_{kind}"): ("GB-month", usd) for kind, usd in GB_MONTH.items()},
    "disk_iops": ("IOPS-month", Decimal("0.005")),
    "disk_throughput": ("MiBps-month", Decimal("0.04")),
}
_INCLUDED = {"disk_iops": 3000, "disk_throughput": 125}  # in every gp3 volume
_TRAFFIC_OUT = Rate(meter="traffic_out", unit="GB", usd_per_unit=Decimal("0.09"))
_HOUR = timedelta(hours=1)

Volumes = Callable[[str], Iterable[Any]]  # of a region


class Billing:
    """Writes the bill. A machine's lines are under its instance id, those of its volumes too."""

    def __init__(self, bill: Bill, volumes: Volumes, market: SpotMarket) -> None:
        self._bill = bill
        self._market = market
        self._volumes = volumes
        self._owners: dict[str, str] = {}  # volume -> the instance that it was made for
        self._disks: dict[str, dict[tuple[str, str], int]] = {}  # region -> (owner, meter) -> GB, IOPS, MiB/s
        self._sent: dict[tuple[int, int], Decimal] = {}  # year and month -> GB that went out
        self._hours: dict[str, datetime] = {}  # spot instance -> when its next hour begins

    def made(self, rented: Rented, volumes: Iterable[str]) -> None:
        self._owners |= dict.fromkeys(volumes, rented.id)

    def ran(self, rented: Rented, at: datetime) -> None:
        """It begins to run."""
        self._bill.open(rented.id, self._compute(rented, at, least=60), at)
        self._hours[rented.id] = at + _HOUR
        if rented.wants_address:
            self._bill.open(rented.id, ADDRESS, at)

    def next_hours(self, rented: Rented, until: datetime) -> None:
        """At every full hour a spot instance gets the price of then."""
        while rented.spot and (begins := self._hours[rented.id]) <= until:
            self._hours[rented.id] = begins + _HOUR
            current = next(line.rate for line in reversed(self._bill.lines(rented.id)) if line.rate.meter == "compute")
            rate = self._compute(rented, begins)
            if rate.usd_per_unit != current.usd_per_unit:
                self._bill.close(rented.id, "compute", at=begins)
                self._bill.open(rented.id, rate, begins)

    def left(self, rented: Rented, at: datetime) -> None:
        """It does not run any more."""
        self._bill.close(rented.id, "compute", "address", at=at)

    def interrupted(self, rented: Rented, at: datetime) -> None:
        """AWS takes it: free in its first hour."""
        if rented.first_ran_at is not None and at - rented.first_ran_at < _HOUR:
            self._bill.close(rented.id, "compute", at=at)
            self._bill.forgive(rented.id, "compute")

    def volumes_changed(self, region: str, at: datetime) -> None:
        """Every volume that exists costs, attached or not; what is gone costs no more."""
        before, after = self._disks.get(region, {}), self._sizes(region)
        for (owner, meter), size in before.items():
            if after.get((owner, meter)) != size:
                self._bill.close(owner, meter, at=at)
        for (owner, meter), size in after.items():
            if before.get((owner, meter)) != size:
                self._bill.open(owner, _disk(meter, size, least=0 if (owner, meter) in before else 60), at)
        self._disks[region] = after

    def traffic_out(self, instance_id: str, gigabytes: Decimal, at: datetime) -> None:
        """So much went to the internet now; only what is above the month's free allowance is on the bill."""
        month = (at.year, at.month)
        before = self._sent.get(month, Decimal(0))
        self._sent[month] = before + gigabytes
        billed = max(Decimal(0), before + gigabytes - max(before, GB_FREE_PER_MONTH))
        if billed:
            self._bill.count(instance_id, _TRAFFIC_OUT, billed, at, at)

    def has_volumes(self, instance_id: str) -> bool:
        return any(owner == instance_id for disks in self._disks.values() for owner, _ in disks)

    def _compute(self, rented: Rented, at: datetime, least: int = 0) -> Rate:
        usd = self._market.now(rented.type, rented.zone, at).usd if rented.spot else rented.on_demand
        return Rate(meter="compute", unit="hour", usd_per_unit=usd, minimum_seconds=least)

    def _sizes(self, region: str) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for volume in self._volumes(region):
            owner, kind = self._owners.get(volume.id, volume.id), volume.volume_type
            sizes = {_METER.get(kind, f"disk_{kind}"): int(volume.size)}
            if kind == "gp3":
                asked = {"disk_iops": volume.iops or 0, "disk_throughput": volume.throughput or 0}
                sizes |= {meter: int(more) - _INCLUDED[meter] for meter, more in asked.items()}
            for meter, size in sizes.items():
                if size > 0:
                    found[owner, meter] = found.get((owner, meter), 0) + size
        return found


def _disk(meter: str, size: int, least: int) -> Rate:
    unit, usd = _RATES[meter]
    return Rate(
        meter=meter,
        unit=unit,
        usd_per_unit=usd,
        units_per_hour=Decimal(size) / MONTH_HOURS,
        minimum_seconds=least,
    )
