"""EC2's rows as machines and offers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.aws import mapping
from providers.aws.machine_types import MachineType
from providers.base import InstanceStatus, LaunchRequest, Offer, Runs, SshAccess
from providers.errors import Rejected

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
G5 = MachineType(name="g5.xlarge", gpu="A10G", gpu_count=1, gpu_memory_gb=24, vcpus=4, memory_gb=17.2)
REQUEST = LaunchRequest(
    name="gpujob-r-1-1", owner="alice", run_id="r-1", attempt=3, deadline=NOW + timedelta(hours=1), disk_gb=20
)
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPrx0l1qpHbpbhQO6a0OtsjZ8CkTUlGmD5YcCz5gtnBm"
MONEY = {mapping.RATE: "1.006", mapping.DISK_GB: "94", mapping.DISK_RATE: "0.08"}


def row(state: str = "running", *, code: str = "", tags: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    kept = {**mapping.tags_for(REQUEST, host_key=HOST_KEY), **MONEY, **(tags or {})}
    found = {
        "InstanceId": "i-0abc",
        "State": {"Name": state},
        "LaunchTime": NOW,
        "PublicIpAddress": "203.0.113.9",
        "Tags": mapping.to_rows(kept),
        **more,
    }
    return {**found, "StateReason": {"Code": code, "Message": f"{code}: why"}} if code else found


def seen(found: dict[str, Any], *, simulated: bool = False) -> Any:
    return mapping.instance(found, region="us-east-1", simulated=simulated)


def offered(**changes: Any) -> Offer:
    made = mapping.offer(
        G5,
        region="us-east-1",
        zone="us-east-1a",
        spot=False,
        usd_per_hour=Decimal("1.006"),
        disk_usd_per_gb_month=Decimal("0.08"),
        fetched_at=NOW,
        source="a list",
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        ("pending", "", InstanceStatus.PENDING),
        ("running", "", InstanceStatus.RUNNING),
        ("shutting-down", "Client.UserInitiatedShutdown", InstanceStatus.TERMINATING),
        ("terminated", "Client.UserInitiatedShutdown", InstanceStatus.TERMINATING),
        ("terminated", "", InstanceStatus.TERMINATING),
        ("stopping", "Client.UserInitiatedShutdown", InstanceStatus.STOPPED),
        ("stopped", "", InstanceStatus.STOPPED),
        ("shutting-down", "Server.SpotInstanceTermination", InstanceStatus.PREEMPTED),
        ("terminated", "Server.SpotInstanceTermination", InstanceStatus.PREEMPTED),
        ("stopped", "Server.SpotInstanceShutdown", InstanceStatus.PREEMPTED),
        ("terminated", "Server.InsufficientInstanceCapacity", InstanceStatus.FAILED),
        ("terminated", "Server.InternalError", InstanceStatus.FAILED),
        ("terminated", "Client.VolumeLimitExceeded", InstanceStatus.FAILED),
        ("terminated", "Client.InstanceInitiatedShutdown", InstanceStatus.FAILED),
        ("hibernating", "", InstanceStatus.UNKNOWN),
    ],
)
def test_states(state: str, code: str, status: InstanceStatus) -> None:
    machine = seen(row(state, code=code))
    assert machine.status is status
    assert state in machine.detail and code in machine.detail


def test_a_machine_says_whose_it_is_by_its_tags() -> None:
    machine = seen(row())
    assert (machine.id, machine.name, machine.owner) == ("us-east-1/i-0abc", "gpujob-r-1-1", "alice")
    assert (machine.run_id, machine.attempt, machine.deadline) == ("r-1", 3, REQUEST.deadline)
    assert (machine.created_at, machine.region, machine.usd_per_hour) == (NOW, "us-east-1", Decimal("1.006"))


def test_a_machine_with_strange_tags_is_still_a_machine() -> None:
    wrong = {mapping.ATTEMPT: "first", mapping.DEADLINE: "soon", mapping.RATE: "cheap", mapping.DISK_GB: "NaN"}
    machine = seen(row(tags=wrong))
    assert (machine.attempt, machine.deadline, machine.usd_per_hour, machine.meters) == (0, None, None, ())
    assert mapping.instance({**row(), "Tags": None}, region="us-east-1", simulated=False).name == ""


def test_a_running_machine_is_reached_at_its_public_address_with_the_pinned_key() -> None:
    access = seen(row()).access
    assert access == SshAccess(
        host="203.0.113.9",
        port=22,
        user="ubuntu",
        directory=".gpujob/machine",
        host_keys=(HOST_KEY,),
        env={"GPUJOB_MACHINE": "gpujob-r-1-1"},
    )
    assert seen(row("shutting-down")).access is None
    assert seen(row(PublicIpAddress=None)).access is None


def test_only_a_rehearsal_says_where_its_port_22_is() -> None:
    tagged = row(tags={"rehearsal:ssh-port": "40022"})
    assert seen(tagged, simulated=True).access.port == 40022
    assert seen(tagged).access.port == 22


def test_meters_follow_ec2s_rules() -> None:
    meters = {meter.name: meter for meter in seen(row()).meters}
    assert (meters["compute"].usd_per_unit, meters["compute"].minimum_seconds) == (Decimal("1.006"), 60)
    assert meters["compute"].runs is Runs.RUNNING and meters["disk"].runs is Runs.EXISTS
    assert meters["disk"].usd_per_hour * 720 == pytest.approx(Decimal("0.08") * 94)
    assert meters["address"].usd_per_hour == Decimal("0.005")
    assert all(meter.source for meter in meters.values())


@pytest.mark.parametrize(
    ("zone", "region", "is_one"),
    [
        ("us-east-1a", "us-east-1", True),
        ("ap-southeast-2c", "ap-southeast-2", True),
        ("us-gov-west-1b", "us-gov-west-1", True),
        ("us-west-2-lax-1a", "us-west-2", False),
        ("us-east-1-wl1-bos-wlz-1", "us-east-1", False),
        ("us-east-1", "us-east-1", False),
        ("us-east-2a", "us-east-1", False),
    ],
)
def test_local_zones_are_not_zones_of_the_region(zone: str, region: str, is_one: bool) -> None:
    assert mapping.is_zone(zone, region) is is_one


def test_an_offer_names_its_zone_and_says_what_comes_on_top() -> None:
    offer = offered()
    assert (offer.offer_id, offer.region, offer.location) == (
        "us-east-1a/g5.xlarge/on-demand",
        "us-east-1",
        "us-east-1a",
    )
    assert (offer.other_usd_per_hour, offer.egress_usd_per_gb) == (Decimal("0.005"), Decimal("0.09"))
    place = mapping.place_of(offer)
    assert (place.zone, place.machine_type, place.spot) == ("us-east-1a", "g5.xlarge", False)
    assert mapping.place_of(offered(offer_id="us-east-1a/g5.xlarge/spot")).spot


@pytest.mark.parametrize("wrong", ["us-east-1/g5.xlarge/on-demand", "us-east-1a//spot", "us-east-1a/g5.xlarge", "x"])
def test_what_has_no_zone_cannot_be_rented(wrong: str) -> None:
    with pytest.raises(Rejected):
        mapping.place_of(offered(offer_id=wrong))


def test_what_is_left_of_a_machine_says_what_it_is() -> None:
    tags = {**mapping.tags_for(REQUEST, host_key=""), mapping.ASKED: str(int(NOW.timestamp()))}
    later = NOW + timedelta(hours=5)
    made = mapping.half_made(REQUEST.name, tags, region="us-east-1", left=["security group sg-1"], now=later)
    assert (made.id, made.status, made.created_at) == ("us-east-1/gpujob-r-1-1", InstanceStatus.TERMINATING, NOW)
    assert (made.owner, made.run_id, made.attempt) == ("alice", "r-1", 3)
    assert "security group sg-1" in made.detail
