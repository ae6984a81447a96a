"""What AWS says that it billed: Cost Explorer by tag, and the one rule that makes a spot machine free.

Cost Explorer knows a machine only when `gpujob:name` is an activated cost allocation tag, and a day late.
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/activating-tags.html (2026-11-21)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers import sent
from providers.aws import mapping
from providers.base import Charge, Now
from providers.errors import AuthFailed, Rejected, Unreachable

if TYPE_CHECKING:
    from providers.aws.client import Aws

# Every question costs $0.01. https://aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing/ (2026-11-21)
ASK_EVERY = timedelta(hours=1)
NOTHING_BEFORE = timedelta(hours=24)  # it is a day late: an earlier question would be paid for nothing
FINAL_AFTER = timedelta(hours=24)  # of the day's end
REGION = "us-east-1"
FREE_HOUR = timedelta(hours=1)

_NOT_FOR_US = ("AccessDeniedException", "DataUnavailableException", "OptInRequired", "BillExpirationException")
# How usage types begin or what they contain, after a region's prefix such as USW2-: (part of the type, our meter, unit)
_METERS = (
    ("BoxUsage", "compute", "hour"),
    ("SpotUsage", "compute", "hour"),
    ("EBS:VolumeUsage", "disk", "GB-month"),
    ("PublicIPv4", "address", "hour"),
    ("DataTransfer-Out-Bytes", "traffic_out", "GB"),
    ("DataTransfer-In-Bytes", "traffic_in", "GB"),
)

Json = Mapping[str, Any]


class Bill:
    """Asks at most once per machine and hour. Safe between threads."""

    def __init__(self, aws: Aws, now: Now) -> None:
        self._aws = aws
        self._now = now
        self._said: dict[str, tuple[datetime, tuple[Charge, ...]]] = {}
        self._lock = threading.Lock()

    def charges(self, name: str, since: datetime) -> tuple[Charge, ...]:
        """Empty where Cost Explorer is not enabled, not permitted, or does not know the tag (yet)."""
        if self._now() - since < NOTHING_BEFORE:
            return ()
        with self._lock:
            asked_at, said = self._said.get(name, (None, ()))
            if asked_at is not None and asked_at > self._now() - ASK_EVERY:
                return _since(said, since)
            self._said[name] = (self._now(), said)
        said = self._ask(name, since)
        with self._lock:
            self._said[name] = (self._now(), said)
        return _since(said, since)

    def _ask(self, name: str, since: datetime) -> tuple[Charge, ...]:
        start, end = since.astimezone(UTC).date(), (self._now() + timedelta(days=1)).date()
        try:
            answer = self._aws.try_call(
                _NOT_FOR_US,
                "ce",
                REGION,
                "get_cost_and_usage",
                TimePeriod={"Start": start.isoformat(), "End": end.isoformat()},
                Granularity="DAILY",
                Metrics=["UnblendedCost", "UsageQuantity"],
                Filter={"Tags": {"Key": mapping.NAME, "Values": [name], "MatchOptions": ["EQUALS"]}},
                GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
            )
        except (AuthFailed, Rejected):
            return ()
        days = answer.get("ResultsByTime", []) if answer else []
        try:
            return tuple(charge for day in days for charge in charges_of(day, self._now()))
        except (KeyError, TypeError, ValueError, IndexError) as error:  # a bill that lacks a part would say too little
            raise Unreachable("Cost Explorer's answer makes no sense", provider=mapping.PROVIDER) from error


def charges_of(day: Json, now: datetime) -> list[Charge]:
    """One day of Cost Explorer's answer. Raises KeyError, TypeError, ValueError, IndexError for what is none."""
    start, end = (datetime.fromisoformat(day["TimePeriod"][key]).replace(tzinfo=UTC) for key in ("Start", "End"))
    final = not day.get("Estimated", True) and now - end > FINAL_AFTER
    found = []
    for group in day.get("Groups") or ():
        cost, used = (group["Metrics"][key] for key in ("UnblendedCost", "UsageQuantity"))
        usd, quantity = sent.amount(cost["Amount"]), sent.amount(used["Amount"])
        if usd is None or quantity is None:
            raise ValueError("no amount")
        meter, unit = _meter(str(group["Keys"][0]))
        if not meter or cost["Unit"] != "USD":
            continue
        found.append(
            Charge(
                meter=meter,
                quantity=quantity,
                unit=unit,
                usd_per_unit=usd / quantity if quantity else Decimal(0),
                usd=usd,
                start=start,
                end=end,
                source="AWS Cost Explorer",
                final=final,
            )
        )
    return found


def free_hour(row: Json, now: datetime) -> Charge | None:
    """A spot machine that AWS takes away in its first hour costs no compute (Linux and Windows); its disk does.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html (2026-11-21)
    """
    if row.get("StateReason", {}).get("Code") != "Server.SpotInstanceTermination":
        return None
    launched: datetime = row["LaunchTime"].astimezone(UTC)
    ended = min(ended_at(row) or now, now)
    if ended - launched >= FREE_HOUR:
        return None
    return Charge(
        meter="compute",
        quantity=Decimal(0),
        unit="hour",
        usd_per_unit=mapping.rate_of(row) or Decimal(0),
        usd=Decimal(0),
        start=launched,
        end=max(launched, ended),
        source="EC2 spot: interrupted by AWS in the first hour",
        final=True,
    )


def ended_at(row: Json) -> datetime | None:
    """The time in "Server.SpotInstanceTermination (2026-11-20 10:00:00 GMT)", where EC2 gives one."""
    words = str(row.get("StateTransitionReason", ""))
    try:
        return datetime.strptime(words.partition("(")[2], "%Y-%m-%d %H:%M:%S GMT)").replace(tzinfo=UTC)
    except ValueError:
        return None


def _since(charges: Sequence[Charge], since: datetime) -> tuple[Charge, ...]:
    return tuple(charge for charge in charges if charge.end >= since)


def _meter(usage_type: str) -> tuple[str, str]:
    return next(((meter, unit) for part, meter, unit in _METERS if part in usage_type), ("", ""))
