"""What every value that a provider gives must be, whatever came over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from providers.base import Charge, Instance, InstanceStatus, LocalAccess, Meter, Offer, SshAccess

_LONGEST = 2000


def offer(found: Offer) -> None:
    for usd in (found.usd_per_hour, found.disk_usd_per_gb_month, found.ingress_usd_per_gb, found.egress_usd_per_gb):
        _price(usd)
    assert found.usd_per_hour > 0
    assert type(found.gpu_count) is int and found.gpu_count >= 0
    for size in (found.vcpus, found.memory_gb, found.gpu_memory_gb, found.disk_gb, found.reliability):
        assert size is None or 0 <= size < float("inf")
    assert found.offer_id and all(len(word) <= _LONGEST for word in _words(found))


def instance(found: Instance) -> None:
    assert found.id and isinstance(found.status, InstanceStatus)
    assert isinstance(found.created_at, datetime) and found.created_at.tzinfo is not None
    assert found.deadline is None or found.deadline.tzinfo is not None
    assert type(found.attempt) is int and found.attempt >= 0
    if found.usd_per_hour is not None:
        _price(found.usd_per_hour)
    for meter in found.meters:
        _meter(meter)
    for access in (found.access, *found.other_access):
        if isinstance(access, SshAccess):
            for word in (access.host, access.user):
                assert word and not word.startswith("-") and word.isprintable() and " " not in word
            assert 0 < access.port < 65536
        else:
            assert access is None or isinstance(access, LocalAccess)
    for word in (found.name, found.detail, found.region, found.host_id):
        assert isinstance(word, str) and len(word) <= _LONGEST


def charge(found: Charge) -> None:
    for number in (found.usd, found.quantity, found.usd_per_unit):
        assert isinstance(number, Decimal) and number.is_finite()
    assert found.start <= found.end


def error(found: BaseException) -> None:
    """Its words fit into a line or two of a screen."""
    assert len(str(found)) <= _LONGEST, len(str(found))


def _meter(meter: Meter) -> None:
    _price(meter.usd_per_unit)
    _price(meter.units_per_hour)


def _price(usd: Decimal) -> None:
    assert isinstance(usd, Decimal) and usd.is_finite() and usd >= 0


def _words(found: Offer) -> Iterator[str]:
    yield from (
        found.offer_id,
        found.region,
        found.gpu or "",
        found.location,
        found.host_id,
        found.cuda or "",
        found.source,
    )
