"""Cost Explorer on the cloud's own bill: what GetCostAndUsage says, hours after it was spent.

A request costs $0.01 in life, and here: https://aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers.rehearsal.aws.backing import tags_of
from providers.rehearsal.aws.wire import Answer, Call, Refused, json_answer
from providers.rehearsal.bill import Line, Rate

if TYPE_CHECKING:
    from providers.rehearsal.aws.cloud import AwsCloud

REQUESTS = "cost-explorer"  # the bill's name for what asking costs
_REQUEST = Rate(meter="requests", unit="request", usd_per_unit=Decimal("0.01"))
_REGION_PREFIX = {"us-east-1": "", "us-west-2": "USW2-", "eu-central-1": "EUC1-"}
_SERVICES = {"compute": "Amazon Elastic Compute Cloud - Compute", "address": "Amazon Virtual Private Cloud"}
_STEPS = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1)}

Row = tuple[Line, dict[str, str], dict[str, str]]  # what was billed, its dimensions, its tags


def answer(cloud: AwsCloud, call: Call) -> Answer:
    """Raises Refused."""
    if call.action != "GetCostAndUsage":
        raise Refused("InvalidAction", f"{call.action} is not simulated.")
    now = cloud.clock()
    cloud.bill.count(REQUESTS, _REQUEST, Decimal(1), now, now)
    until = now - timedelta(hours=cloud.cost_delay_hours)
    rows = [row for row in _rows(cloud) if _passes(row, call.body.get("Filter"))]
    metrics = call.body.get("Metrics") or ["UnblendedCost"]
    groups = call.body.get("GroupBy") or []
    found = []
    for start, end in _periods(call.body):
        spent: dict[tuple[str, ...], tuple[Decimal, Decimal]] = {}
        for line, dimensions, tags in rows:
            usd, quantity = _within(line, start, min(end, until), now)
            key = tuple(_group(group, dimensions, tags) for group in groups)
            before = spent.get(key, (Decimal(0), Decimal(0)))
            if usd or quantity:
                spent[key] = (before[0] + usd, before[1] + quantity)
        found.append(_period(start, end, spent, metrics, bool(groups)) | {"Estimated": end > until})
    return json_answer({"ResultsByTime": found, "DimensionValueAttributes": []})


def _rows(cloud: AwsCloud) -> Iterator[Row]:
    rented = {each.id: each for each in cloud.fleet.everything()}
    for line in cloud.bill.lines():
        one = rented.get(line.machine)
        if one is None:
            continue
        meter = line.rate.meter
        prefix = _REGION_PREFIX.get(one.region, "")
        kinds = {
            "compute": f"{'SpotUsage' if one.spot else 'BoxUsage'}:{one.type}",
            "address": "PublicIPv4:InUseAddress",
            "traffic_out": "DataTransfer-Out-Bytes",
            "disk_iops": "EBS:VolumeP-IOPS.gp3",
            "disk_throughput": "EBS:VolumeP-Throughput.gp3",
        }
        kind = kinds.get(meter) or f"EBS:VolumeUsage.{meter.removeprefix('disk_') if meter != 'disk' else 'gp3'}"
        dimensions = {
            "USAGE_TYPE": prefix + kind,
            "REGION": one.region,
            "SERVICE": _SERVICES.get(meter, "EC2 - Other"),
            "INSTANCE_TYPE": one.type if meter == "compute" else "NoInstanceType",
        }
        yield line, dimensions, tags_of(one.shown)


def _within(line: Line, start: datetime, end: datetime, now: datetime) -> tuple[Decimal, Decimal]:
    """The part of a line that falls into a period; what was counted, or a minimum adds, is in the period of its begin.

    The parts of all periods add up to the line.
    """
    over = line.end or now
    if start <= line.start < end:
        share = line.quantity(now) - _used(line, end, over)
    else:
        share = _used(line, max(start, line.start), min(end, over))
    return share * line.rate.usd_per_unit, share


def _used(line: Line, first: datetime, last: datetime) -> Decimal:
    """By its clock, in a part of its time that is not its begin."""
    if line.units is not None:
        return Decimal(0)
    seconds = Decimal(str(max(0.0, (last - first).total_seconds())))
    return seconds * line.rate.units_per_hour / 3600


def _passes(row: Row, rule: Mapping[str, Any] | None) -> bool:
    _, dimensions, tags = row
    if not rule:
        return True
    if "And" in rule:
        return all(_passes(row, each) for each in rule["And"])
    if "Or" in rule:
        return any(_passes(row, each) for each in rule["Or"])
    if "Not" in rule:
        return not _passes(row, rule["Not"])
    for kind, values in (("Tags", tags), ("Dimensions", dimensions)):
        if kind in rule and "ABSENT" in rule[kind].get("MatchOptions", ()):
            return rule[kind]["Key"] not in values
        if kind in rule:
            return values.get(rule[kind]["Key"], "") in rule[kind]["Values"]
    raise Refused("ValidationException", f"The expression {sorted(rule)} is not simulated.")


def _group(group: Mapping[str, str], dimensions: Mapping[str, str], tags: Mapping[str, str]) -> str:
    key = group["Key"]
    return f"{key}${tags.get(key, '')}" if group["Type"] == "TAG" else dimensions.get(key, "")


def _periods(body: Mapping[str, Any]) -> Iterator[tuple[datetime, datetime]]:
    start, end = (_moment(body["TimePeriod"][name]) for name in ("Start", "End"))
    if start >= end:
        raise Refused("ValidationException", "Start time must be before end time")
    granularity = body.get("Granularity", "MONTHLY")
    while start < end:
        after = min(_next(start, granularity), end)
        yield start, after
        start = after


def _next(start: datetime, granularity: str) -> datetime:
    if granularity in _STEPS:
        return start + _STEPS[granularity]
    return (start.replace(day=28) + timedelta(days=4)).replace(day=1, hour=0, minute=0, second=0)


def _period(
    start: datetime,
    end: datetime,
    spent: Mapping[tuple[str, ...], tuple[Decimal, Decimal]],
    metrics: Sequence[str],
    grouped: bool,
) -> dict[str, Any]:
    shown = {"Start": _written(start), "End": _written(end)}
    if grouped:
        groups = [{"Keys": list(key), "Metrics": _metrics(metrics, *sums)} for key, sums in sorted(spent.items())]
        return {"TimePeriod": shown, "Total": {}, "Groups": groups}
    return {"TimePeriod": shown, "Total": _metrics(metrics, *spent.get((), (Decimal(0), Decimal(0)))), "Groups": []}


def _metrics(names: Sequence[str], usd: Decimal, quantity: Decimal) -> dict[str, dict[str, str]]:
    return {
        name: {"Amount": f"{quantity:.10f}", "Unit": "N/A"}
        if name == "UsageQuantity"
        else {"Amount": f"{usd:.10f}", "Unit": "USD"}
        for name in names
    }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _written(moment: datetime) -> str:
    at_midnight = moment == moment.replace(hour=0, minute=0, second=0)
    return moment.strftime("%Y-%m-%d" if at_midnight else "%Y-%m-%dT%H:%M:%SZ")
