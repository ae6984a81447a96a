"""The rates of a pod by RunPod's rules: compute per second from allocation, disks by the GB-month.

docs.runpod.io/pods/pricing, 2026-08: container disk $0.10 running and free when stopped, volume disk $0.10 running and
$0.20 stopped. A month's hours are not published: 730 here. The price that the API shows is compute alone.
"""

from __future__ import annotations

from decimal import Decimal

from providers.rehearsal.bill import Rate
from providers.rehearsal.runpod.orders import Order

MONTH_HOURS = 730
_DISK = Decimal("0.10")
_STOPPED_DISK = Decimal("0.20")
_NETWORK_VOLUME = Decimal("0.07")
_NETWORK_VOLUME_BEYOND = Decimal("0.05")  # per GB above the first 1,000
_FIRST_GB = 1000


def running(order: Order, usd_per_hour: Decimal) -> tuple[Rate, ...]:
    """What a running pod costs, whether its container is up or not."""
    compute = Rate(meter="compute", unit="hour", usd_per_unit=usd_per_hour)
    return (compute, _gb_months("disk", _DISK, order.disk_gb + order.volume_gb))


def stopped(order: Order) -> tuple[Rate, ...]:
    """What a stopped pod costs: its volume disk, until it is terminated."""
    return (_gb_months("stopped_disk", _STOPPED_DISK, order.volume_gb),) if order.volume_gb else ()


def network_volume(size_gb: int) -> Rate:
    """Billed by the hour, attached or not."""
    usd = _NETWORK_VOLUME * min(size_gb, _FIRST_GB) + _NETWORK_VOLUME_BEYOND * max(0, size_gb - _FIRST_GB)
    return Rate(
        meter="network_volume",
        unit="month",
        usd_per_unit=usd,
        units_per_hour=Decimal(1) / MONTH_HOURS,
        granularity_seconds=3600,
    )


def _gb_months(meter: str, usd: Decimal, size_gb: int) -> Rate:
    return Rate(meter=meter, unit="GB-month", usd_per_unit=usd, units_per_hour=Decimal(size_gb) / MONTH_HOURS)
