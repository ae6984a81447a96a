"""The life of simulated EC2 instances: boots, ends, lists, interruptions, and what is left over."""

from __future__ import annotations

from typing import Any

import pytest

from providers.rehearsal.faults import Fault
from tests.providers.rehearsal.aws_account import PUBLIC_KEY, Account, refused


@pytest.fixture
def account() -> Account:
    return Account()


def reason(account: Account, instance_id: str) -> str:
    return str(account.row(instance_id)["StateReason"]["Code"])


def test_an_end_takes_a_moment_and_shows_for_an_hour(account: Account) -> None:
    instance_id = account.running()
    [change] = account.terminate(instance_id)
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert account.state(instance_id) == "shutting-down"
    account.advance(10)
    assert account.state(instance_id) == "terminated" and instance_id in account.listed()
    assert "PublicIpAddress" not in account.row(instance_id)
    assert reason(account, instance_id) == "Client.UserInitiatedShutdown"
    account.advance(3600)
    assert instance_id not in account.listed()
    with refused("InvalidInstanceID.NotFound"):
        account.row(instance_id)


@pytest.mark.parametrize("nics", [None, [{"DeviceIndex": 0, "DeleteOnTermination": True}]])
def test_the_second_end_is_no_error(account: Account, nics: Any) -> None:
    instance_id = account.running(NetworkInterfaces=nics)
    account.terminate(instance_id)
    account.terminate(instance_id)
    account.advance(10)
    [change] = account.terminate(instance_id)
    assert change["CurrentState"]["Name"] == "terminated"


def test_one_unknown_id_and_nothing_ends(account: Account) -> None:
    instance_id = account.running()
    with refused("InvalidInstanceID.NotFound", saying="i-0123456789abcdef0"):
        account.terminate(instance_id, "i-0123456789abcdef0")
    with refused("InvalidInstanceID.Malformed"):
        account.terminate("server-1")
    assert account.state(instance_id) == "running"


def test_what_is_protected_does_not_end(account: Account) -> None:
    instance_id = account.running(DisableApiTermination=True)
    with refused("OperationNotPermitted"):
        account.terminate(instance_id)


@pytest.mark.parametrize(
    ("behaviour", "spot", "state"),
    [
        ("terminate", False, "terminated"),
        ("stop", False, "stopped"),
        (None, False, "stopped"),
        ("stop", True, "terminated"),
    ],
)
def test_a_machine_that_shuts_itself_down(account: Account, behaviour: str | None, spot: bool, state: str) -> None:
    """The default is to stop, and a stopped machine's disk bills on; a one-time spot machine cannot be stopped."""
    instance_id = account.running(InstanceInitiatedShutdownBehavior=behaviour, spot=spot)
    account.machines.end_from_inside(instance_id)
    account.advance(10)
    account.advance(10)
    assert account.state(instance_id) == state
    assert reason(account, instance_id) == "Client.InstanceInitiatedShutdown"
    assert account.meters(instance_id) == ({"disk"} if state == "stopped" else set())


def test_stopped_and_started_again(account: Account) -> None:
    instance_id = account.running()
    account.ec2.stop_instances(InstanceIds=[instance_id])
    account.advance(10)
    assert (account.state(instance_id), account.meters(instance_id)) == ("stopped", {"disk"})
    account.ec2.start_instances(InstanceIds=[instance_id])
    account.advance(1)
    assert account.state(instance_id) == "running" and "compute" in account.meters(instance_id)
    spot = account.running(spot=True)
    with refused("UnsupportedOperation"):
        account.ec2.stop_instances(InstanceIds=[spot])


def test_lists_by_tag_state_and_token(account: Account) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "owner", "Value": "alice"}]}]
    mine = account.running(TagSpecifications=tags, ClientToken="t1")
    other = account.running(ClientToken="t2", InstanceType="g4dn.xlarge")
    account.terminate(other)
    assert account.listed(**{"tag:owner": "alice"}) == {mine}
    assert account.listed(tag_key="owner") == {mine}
    assert account.listed(instance_state_name="shutting-down") == {other}
    assert account.listed(client_token="t1") == {mine}
    assert account.listed(instance_type="g4dn.*") == {other}
    assert account.listed(instance_type="g5.*", client_token="t2") == set()


@pytest.mark.parametrize("describe", ["instances", "volumes", "security_groups", "key_pairs", "images"])
def test_an_unknown_filter_is_refused(account: Account, describe: str) -> None:
    """An empty answer would mean that nothing is there."""
    account.running()
    with refused("InvalidParameterValue", status=400, saying="nonsense"):
        getattr(account.ec2, f"describe_{describe}")(Filters=[{"Name": "nonsense", "Values": ["x"]}])


def test_lists_come_in_pages(account: Account) -> None:
    account.launch(MinCount=7, MaxCount=7)
    first = account.ec2.describe_instances(MaxResults=5)
    assert sum(len(row["Instances"]) for row in first["Reservations"]) == 5
    pages = account.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
    assert len({row["InstanceId"] for page in pages for some in page["Reservations"] for row in some["Instances"]}) == 7


def test_one_region_does_not_show_another(account: Account) -> None:
    instance_id = account.running()
    elsewhere = account.client("ec2", "us-west-2")
    assert elsewhere.describe_instances()["Reservations"] == []
    with refused("InvalidInstanceID.NotFound"):
        elsewhere.terminate_instances(InstanceIds=[instance_id])


def test_several_clouds_do_not_share_anything(account: Account) -> None:
    account.running()
    assert Account().listed() == set()


def test_a_machine_just_made_may_not_be_there_yet(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="list_lag", seconds=20))
    instance_id = account.run(ClientToken="t")
    assert account.listed() == set()
    with refused("InvalidInstanceID.NotFound"):
        account.row(instance_id)
    with refused("InvalidInstanceID.NotFound"):
        account.terminate(instance_id)
    assert account.run(ClientToken="t") == instance_id, "the token knows it"
    assert account.meters(instance_id)
    account.advance(20)
    assert account.listed() == {instance_id}


def test_a_slow_boot(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="slow_boot", seconds=60))
    instance_id = account.run()
    account.advance(59)
    assert (account.state(instance_id), account.meters(instance_id)) == ("pending", {"disk"})
    account.advance(1)
    assert account.state(instance_id) == "running"


def test_a_stuck_boot_runs_and_bills_and_nobody_answers(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="stuck_boot"))
    instance_id = account.run()
    account.advance(10_000)
    row = account.row(instance_id)
    assert row["State"]["Name"] == "running" and row["PublicIpAddress"]
    assert instance_id not in account.machines.requests
    assert "compute" in account.meters(instance_id)
    account.ended(instance_id)


def test_a_failed_boot_ends_by_itself_and_costs_no_compute(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="failed_boot", seconds=30))
    instance_id = account.run()
    account.advance(29)
    assert account.state(instance_id) == "pending"
    account.advance(1)
    account.advance(10)
    assert (account.state(instance_id), reason(account, instance_id)) == ("terminated", "Server.InternalError")
    assert {line.rate.meter for line in account.cloud.bill.lines(instance_id)} == {"disk"}


def test_a_host_that_dies_is_still_running_for_ec2(account: Account) -> None:
    frozen: list[str] = []
    account.machines.freeze = frozen.append  # type: ignore[method-assign, assignment]
    account.cloud.faults.add(Fault(kind="host_dies", seconds=60))
    instance_id = account.running()
    assert not frozen
    account.advance(60)
    assert frozen == [instance_id]
    assert (account.state(instance_id), "compute" in account.meters(instance_id)) == ("running", True)
    account.ended(instance_id)


def test_an_end_that_is_ignored(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="terminate_ignored"))
    instance_id = account.running()
    assert account.terminate(instance_id)[0]["CurrentState"]["Name"] == "shutting-down"
    account.advance(100)
    assert account.state(instance_id) == "running"
    account.ended(instance_id)


def test_an_end_that_comes_late_bills_till_then(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="terminate_acknowledged", seconds=120))
    instance_id = account.running()
    account.terminate(instance_id)
    account.advance(119)
    assert account.state(instance_id) == "running"
    account.advance(3000)
    account.advance(10)
    assert account.state(instance_id) == "terminated"
    [compute] = [line for line in account.cloud.bill.lines(instance_id) if line.rate.meter == "compute"]
    assert compute.end is not None and (compute.end - compute.start).total_seconds() == 120


def test_a_spot_machine_is_taken_away(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="preempt", seconds=600, notice=120))
    on_demand, instance_id = account.running(), account.running(spot=True)
    account.advance(599)
    assert account.state(instance_id) == "running"
    account.advance(1)
    account.advance(10)
    assert (account.state(instance_id), reason(account, instance_id)) == (
        "terminated",
        "Server.SpotInstanceTermination",
    )
    assert account.state(on_demand) == "running"
    [request] = account.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert request["Status"]["Code"] == "instance-terminated-no-capacity"


def test_only_spot_machines_are_taken_away(account: Account) -> None:
    with pytest.raises(ValueError, match="not a spot instance"):
        account.cloud.preempt(account.running())
    with pytest.raises(KeyError):
        account.cloud.preempt("i-0123456789abcdef0")
    spot = account.running(spot=True)
    account.cloud.preempt(spot)
    assert account.state(spot) == "shutting-down"


def test_a_group_in_use_cannot_be_deleted(account: Account) -> None:
    group = account.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    instance_id = account.running(SecurityGroupIds=[group])
    account.terminate(instance_id)
    with refused("DependencyViolation", status=400):
        account.ec2.delete_security_group(GroupId=group)
    account.advance(10)
    account.ec2.delete_security_group(GroupId=group)
    with refused("InvalidGroup.NotFound"):
        account.ec2.delete_security_group(GroupId=group)


def test_a_group_of_an_interface_is_in_use_too(account: Account) -> None:
    group = account.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    account.running(NetworkInterfaces=[{"DeviceIndex": 0, "Groups": [group]}])
    with refused("DependencyViolation"):
        account.ec2.delete_security_group(GroupId=group)


def test_key_pairs(account: Account) -> None:
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=PUBLIC_KEY)
    with refused("InvalidKeyPair.Duplicate"):
        account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=PUBLIC_KEY)
    account.ec2.delete_key_pair(KeyName="k")
    assert account.ec2.describe_key_pairs()["KeyPairs"] == []


def test_a_further_disk_stays_behind_and_bills(account: Account) -> None:
    """DeleteOnTermination is false by default, but for the root volume."""
    disks = [{"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 500, "VolumeType": "gp3"}}]
    instance_id = account.running(BlockDeviceMappings=disks)
    assert sorted(row["Size"] for row in account.ec2.describe_volumes()["Volumes"]) == [75, 500]
    account.ended(instance_id)
    [volume] = account.ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["State"]) == (500, "available")
    [machine] = account.cloud.everything()
    assert machine.status == "terminated" and machine.alive and account.cloud.bill.running() == {instance_id}
    account.ec2.delete_volume(VolumeId=volume["VolumeId"])
    assert not account.cloud.everything()[0].alive and account.cloud.bill.running() == set()


def test_the_root_disk_goes_with_the_machine_unless_told_otherwise(account: Account) -> None:
    account.ended(account.running(BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 100}}]))
    assert account.ec2.describe_volumes()["Volumes"] == []
    kept = {"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": False}}
    account.ended(account.running(BlockDeviceMappings=[kept]))
    assert [row["Size"] for row in account.ec2.describe_volumes()["Volumes"]] == [75]


def test_interfaces_go_with_the_machine(account: Account) -> None:
    account.ended(account.running())
    assert account.ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_the_owner_sees_all_machines_ever(account: Account) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "run-1"}]}]
    first = account.running(TagSpecifications=tags)
    account.ended(first)
    second = account.running()
    seen = account.cloud.everything()
    assert [(row.id, row.name, row.alive) for row in seen] == [(first, "run-1", False), (second, "", True)]
    assert seen[0].ended_at is not None and seen[1].ssh is not None
