"""EC2's rows as Offer, Instance and Meter, and our tags. Pure: knows no SDK and asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from providers import sent
from providers.aws.machine_types import MachineType
from providers.base import (
    Instance,
    InstanceStatus,
    LaunchRequest,
    Meter,
    Offer,
    Runs,
    SshAccess,
)
from providers.errors import Rejected, Unreachable

PROVIDER = "aws"
USER = "ubuntu"
DIRECTORY = ".gpujob/machine"
HOURS_PER_MONTH = Decimal(720)

# Public IPv4 and traffic out, us-east-1, as AWS's pages have them (2026-11-21). The address costs the same everywhere;
# traffic is dearer in some regions: it is an estimate. https://aws.amazon.com/vpc/pricing/,
# https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer
ADDRESS_USD_PER_HOUR = Decimal("0.005")
ADDRESS_SOURCE = "https://aws.amazon.com/vpc/pricing/ (2026-11-21)"
EGRESS_USD_PER_GB = Decimal("0.09")

# EC2's promise for one instance. https://aws.amazon.com/compute/sla/ (2026-11-21)
RELIABILITY = 0.995
# The largest gp3 volume is 16 TiB in every region. https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
LARGEST_DISK_GB = 16_000.0

NAME, OWNER, RUN, ATTEMPT, DEADLINE = (f"gpujob:{key}" for key in ("name", "owner", "run", "attempt", "deadline"))
HOST_KEY, RATE, DISK_GB, DISK_RATE, IMAGE, ASKED = (
    f"gpujob:{key}" for key in ("host-key", "usd-per-hour", "disk-gb", "disk-usd-per-gb-month", "ami", "asked-at")
)
_SIMULATED_PORT = "rehearsal:ssh-port"

GONE = "terminated"
ENDING = ("shutting-down", GONE)

_ZONE = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d[a-z]")  # us-east-1a; a Local Zone, us-west-2-lax-1a, has other prices
_STATES = {
    "pending": InstanceStatus.PENDING,
    "running": InstanceStatus.RUNNING,
    "shutting-down": InstanceStatus.TERMINATING,
    "terminated": InstanceStatus.TERMINATING,
    "stopping": InstanceStatus.STOPPED,
    "stopped": InstanceStatus.STOPPED,
}
_TAKEN_AWAY = ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown")
_BY_A_PERSON = "Client.UserInitiatedShutdown"  # and by our own terminate

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a machine is made, and of what kind: an offer id is ZONE/TYPE/MARKET."""

    region: str
    zone: str
    machine_type: str
    spot: bool

    @property
    def market(self) -> str:
        return "spot" if self.spot else "on-demand"


def place_of(offer: Offer) -> Place:
    """Raises Rejected for what EC2 cannot be asked for."""
    zone, _, rest = offer.offer_id.partition("/")
    machine_type, _, market = rest.partition("/")
    if not is_zone(zone, offer.region) or not machine_type or market not in ("on-demand", "spot"):
        text = f"{offer.offer_id} cannot be rented: without credentials there are prices, and no zones"
        raise Rejected(text, provider=PROVIDER)
    return Place(region=offer.region, zone=zone, machine_type=machine_type, spot=market == "spot")


def is_zone(zone: str, region: str) -> bool:
    """A zone of the region itself, not one of its Local or Wavelength Zones."""
    return _ZONE.fullmatch(zone) is not None and zone[:-1] == region


def offer(
    machine: MachineType,
    *,
    region: str,
    zone: str,
    spot: bool,
    usd_per_hour: Decimal,
    disk_usd_per_gb_month: Decimal,
    fetched_at: datetime,
    source: str,
) -> Offer:
    return Offer(
        provider=PROVIDER,
        offer_id=f"{zone or region}/{machine.name}/{'spot' if spot else 'on-demand'}",
        region=region,
        gpu=machine.gpu,
        gpu_count=machine.gpu_count,
        gpu_memory_gb=machine.gpu_memory_gb,
        vcpus=float(machine.vcpus),
        memory_gb=machine.memory_gb,
        disk_gb=LARGEST_DISK_GB,
        spot=spot,
        usd_per_hour=usd_per_hour,
        disk_usd_per_gb_month=disk_usd_per_gb_month,
        egress_usd_per_gb=EGRESS_USD_PER_GB,
        other_usd_per_hour=ADDRESS_USD_PER_HOUR,
        reliability=RELIABILITY,
        location=zone or region,
        machine_type=machine.name,
        fetched_at=fetched_at,
        source=source,
    )


def tags_for(request: LaunchRequest, *, host_key: str) -> dict[str, str]:
    """What everything that we make for a machine says about it."""
    tags = {
        "Name": request.name,
        NAME: request.name,
        OWNER: request.owner,
        RUN: request.run_id,
        ATTEMPT: str(request.attempt),
        DEADLINE: str(int(request.deadline.timestamp())),
    }
    return {**tags, HOST_KEY: host_key} if host_key else tags


def to_rows(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(row: Json) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in row.get("Tags") or () if "Key" in tag}


def instances(reservations: Iterable[Json]) -> list[Json]:
    """DescribeInstances' rows without the reservations around them."""
    return [row for reservation in reservations for row in reservation.get("Instances") or ()]


def state_of(row: Json) -> str:
    return str(row.get("State", {}).get("Name", ""))


def instance(row: Json, *, region: str, simulated: bool, left: Sequence[str] = ()) -> Instance:
    """One row of DescribeInstances. `left` names what a terminated machine has left behind.

    Tags that make no sense are left out of it; without an id or a launch time it is Unreachable, never nothing.
    """
    tags = tags_of(row)
    launched = row.get("LaunchTime")
    if not row.get("InstanceId") or not isinstance(launched, datetime):
        text = f"EC2's answer makes no sense: an instance without an id or a launch time, {tags.get(NAME, 'no name')}"
        raise Unreachable(text, provider=PROVIDER)
    detail = _detail(row)
    if left:
        detail = f"{detail}; left: {', '.join(left)}"
    return Instance(
        id=f"{region}/{row['InstanceId']}",
        name=tags.get(NAME, ""),
        provider=PROVIDER,
        owner=tags.get(OWNER, ""),
        run_id=tags.get(RUN, ""),
        attempt=sent.whole(tags.get(ATTEMPT)),
        status=_status(row),
        detail=detail,
        progress=state_of(row),
        access=_access(row, tags, simulated=simulated),
        region=region,
        created_at=launched.astimezone(UTC),
        deadline=sent.moment(tags.get(DEADLINE)),
        usd_per_hour=sent.price(tags.get(RATE)),
        meters=_meters(tags, spot=row.get("InstanceLifecycle") == "spot"),
    )


def groups_of(row: Json) -> list[str]:
    """The security groups of its network interfaces."""
    cards = row.get("NetworkInterfaces") or ()
    groups = (group.get("GroupId") for card in cards for group in card.get("Groups") or ())
    return list(dict.fromkeys(str(group) for group in groups if group))


def rate_of(row: Json) -> Decimal | None:
    return sent.price(tags_of(row).get(RATE))


def half_made(name: str, tags: Mapping[str, str], *, region: str, left: Sequence[str], now: datetime) -> Instance:
    """What belongs to a machine's name, without the machine."""
    return Instance(
        id=f"{region}/{name}",
        name=name,
        provider=PROVIDER,
        owner=tags.get(OWNER, ""),
        run_id=tags.get(RUN, ""),
        attempt=sent.whole(tags.get(ATTEMPT)),
        status=InstanceStatus.TERMINATING,
        detail=f"no instance; left: {', '.join(left)}",
        region=region,
        created_at=sent.moment(tags.get(ASKED)) or now,
        deadline=sent.moment(tags.get(DEADLINE)),
    )


def _status(row: Json) -> InstanceStatus:
    state, code = state_of(row), str(row.get("StateReason", {}).get("Code", ""))
    status = _STATES.get(state, InstanceStatus.UNKNOWN)
    if status not in (InstanceStatus.TERMINATING, InstanceStatus.STOPPED) or not code:
        return status
    if code in _TAKEN_AWAY:
        return InstanceStatus.PREEMPTED
    # Whatever else ended it was not asked for: no capacity after all, a volume that could not be made, its own
    # `shutdown`. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html (2026-11-21)
    return status if code == _BY_A_PERSON else InstanceStatus.FAILED


def _detail(row: Json) -> str:
    reason = row.get("StateReason", {})
    words = (state_of(row), str(reason.get("Message", "")), str(row.get("StateTransitionReason", "")))
    return sent.words("; ".join(dict.fromkeys(word for word in words if word)))


def _access(row: Json, tags: Mapping[str, str], *, simulated: bool) -> SshAccess | None:
    address = sent.address(row.get("PublicIpAddress"))
    if not address or state_of(row) != "running":
        return None
    host_key = tags.get(HOST_KEY)
    return SshAccess(
        host=address,
        port=sent.port(tags.get(_SIMULATED_PORT)) or 22 if simulated else 22,
        user=USER,
        directory=DIRECTORY,
        host_keys=(host_key,) if host_key else (),
        env={"GPUJOB_MACHINE": tags.get(NAME, "")},
    )


def _meters(tags: Mapping[str, str], *, spot: bool) -> tuple[Meter, ...]:
    """Billed by the second in the state `running` with a least of a minute; the disk as long as it exists.

    https://aws.amazon.com/ec2/pricing/on-demand/, https://aws.amazon.com/ebs/pricing/ (2026-11-21)
    """
    rate, disk_gb, disk_rate = (sent.price(tags.get(key)) for key in (RATE, DISK_GB, DISK_RATE))
    if rate is None:
        return ()
    compute = Meter(
        name="compute",
        unit="hour",
        usd_per_unit=rate,
        runs=Runs.RUNNING,
        minimum_seconds=60,
        moves=spot,
        source="EC2 spot price at launch" if spot else "AWS price list",
    )
    address = Meter(
        name="address", unit="hour", usd_per_unit=ADDRESS_USD_PER_HOUR, runs=Runs.RUNNING, source=ADDRESS_SOURCE
    )
    if disk_gb is None or disk_rate is None:
        return (compute, address)
    disk = Meter(
        name="disk",
        unit="GB-month",
        usd_per_unit=disk_rate,
        units_per_hour=disk_gb / HOURS_PER_MONTH,
        minimum_seconds=60,
        source="AWS price list, gp3",
    )
    return (compute, disk, address)
