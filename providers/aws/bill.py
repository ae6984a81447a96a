"""What AWS says that it billed: Cost Explorer by tag, and the one rule that makes a spot machine free.

Cost Explorer knows a machine only when `gpujob:name` is an activated cost allocation tag, and a day late.
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/activating-tags.html (2026-11-21)
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers import sent
from providers.aws import mapping
from providers.base import Charge, Now
from providers.errors import AuthFailed, Rejected, Unreachable

if TYPE_CHECKING:
    from providers.aws.client import Aws

# Every question costs $0.01. https://aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing/ (2026-11-21)
ASK_EVERY = timedelta(hours=6)
LOOK_BACK = timedelta(days=14)  # a longer time costs no more
MOST_PAGES = 20
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
    """One question for all machines of the account, at most every few hours. Safe between threads."""

    def __init__(self, aws: Aws, now: Now) -> None:
        self._aws = aws
        self._now = now
        self._said: dict[str, list[Charge]] = {}  # by the machine's name
        self._covers: tuple[datetime, date] | None = None  # when it was asked, and from which day on
        self._asking = threading.Lock()

    def charges(self, name: str, since: datetime) -> tuple[Charge, ...]:
        """Empty where Cost Explorer is not enabled, not permitted, or does not know the tag (yet)."""
        now = self._now()
        if now - since < NOTHING_BEFORE:
            return ()
        with self._asking:
            day = since.astimezone(UTC).date()
            if self._covers is None or self._covers[0] <= now - ASK_EVERY or day < self._covers[1]:
                day = min(day, (now - LOOK_BACK).date())
                self._covers = (now, day)  # also when nothing is said: it has cost as much
                self._said = self._ask(day)
            return tuple(charge for charge in self._said.get(name, ()) if charge.end >= since)

    def _ask(self, day: date) -> dict[str, list[Charge]]:
        found: dict[str, list[Charge]] = defaultdict(list)
        try:
            for answer in self._pages(day):
                for period in answer.get("ResultsByTime", []):
                    for name, charge in charges_of(period, self._now()):
                        found[name].append(charge)
        except (AuthFailed, Rejected):
            return {}
        except (KeyError, TypeError, ValueError, IndexError) as error:  # a bill that lacks a part would say too little
            raise Unreachable("Cost Explorer's answer makes no sense", provider=mapping.PROVIDER) from error
        return found

    def _pages(self, day: date) -> Iterator[Json]:
        more: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            answer = self._aws.try_call(
                _NOT_FOR_US,
                "ce",
                REGION,
                "get_cost_and_usage",
                TimePeriod={"Start": day.isoformat(), "End": (self._now() + timedelta(days=1)).date().isoformat()},
                Granularity="DAILY",
                Metrics=["UnblendedCost", "UsageQuantity"],
                Filter={"Not": {"Tags": {"Key": mapping.NAME, "MatchOptions": ["ABSENT"]}}},
                GroupBy=[{"Type": "TAG", "Key": mapping.NAME}, {"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
                **more,
            )
            if not answer:
                return
            yield answer
            if not (token := answer.get("NextPageToken")):
                return
            more = {"NextPageToken": token}


def charges_of(day: Json, now: datetime) -> list[tuple[str, Charge]]:
    """A day of Cost Explorer's answer, by machines' names. Raises KeyError, TypeError, ValueError or IndexError."""
    start, end = (datetime.fromisoformat(day["TimePeriod"][key]).replace(tzinfo=UTC) for key in ("Start", "End"))
    final = not day.get("Estimated", True) and now - end > FINAL_AFTER
    found = []
    for group in day.get("Groups") or ():
        cost, used = (group["Metrics"][key] for key in ("UnblendedCost", "UsageQuantity"))
        usd, quantity = sent.amount(cost["Amount"]), sent.amount(used["Amount"])
        if usd is None or quantity is None:
            raise ValueError("no amount")
        tag, usage_type = group["Keys"]
        meter, unit = _meter(str(usage_type))
        if not meter or cost["Unit"] != "USD":
            continue
        charge = Charge(
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
        found.append((str(tag).partition("$")[2], charge))  # Cost Explorer writes KEY$VALUE
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


def _meter(usage_type: str) -> tuple[str, str]:
    return next(((meter, unit) for part, meter, unit in _METERS if part in usage_type), ("", ""))
