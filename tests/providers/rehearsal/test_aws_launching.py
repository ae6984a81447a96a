"""RunInstances of the simulated EC2: what makes a machine, what makes none, and how it is said."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest

from providers.rehearsal.faults import Fault
from tests.providers.rehearsal.aws_account import PUBLIC_KEY, Account, refused

ZONE_A = {"AvailabilityZone": "us-east-1a"}
ZONE_B = {"AvailabilityZone": "us-east-1b"}


@pytest.fixture
def account() -> Account:
    return Account()


def test_a_launch_is_pending_and_has_no_address_before_it_runs(account: Account) -> None:
    row = account.launch()["Instances"][0]
    assert row["State"] == {"Code": 0, "Name": "pending"} and "PublicIpAddress" not in row
    account.advance(1)
    row = account.row(row["InstanceId"])
    assert (row["State"]["Name"], row["PublicIpAddress"]) == ("running", "127.0.0.1")


def test_the_real_port_of_ssh_is_in_a_tag(account: Account) -> None:
    row = account.row(account.running())
    assert {"Key": "rehearsal:ssh-port", "Value": "9"} in row["Tags"]


def test_without_a_public_address_there_is_none(account: Account) -> None:
    nic = {"DeviceIndex": 0, "AssociatePublicIpAddress": False}
    instance_id = account.running(NetworkInterfaces=[nic])
    assert "PublicIpAddress" not in account.row(instance_id)
    assert "address" not in account.meters(instance_id)


def test_the_same_token_is_the_same_machine(account: Account) -> None:
    assert account.run(ClientToken="t") == account.run(ClientToken="t")
    assert len(account.listed()) == 1


def test_no_token_is_another_machine_each_time(account: Account) -> None:
    assert account.run() != account.run()


def test_a_token_with_other_parameters_is_refused(account: Account) -> None:
    account.run(ClientToken="t")
    with refused("IdempotentParameterMismatch"):
        account.run(ClientToken="t", InstanceType="g5.2xlarge")
    assert len(account.listed()) == 1


def test_a_token_belongs_to_its_zone(account: Account) -> None:
    """The same token in the next zone is a second machine."""
    first, second = (account.run(ClientToken="t", Placement=zone) for zone in (ZONE_A, ZONE_B))
    assert first != second
    assert account.run(ClientToken="t", Placement=ZONE_B) == second


def test_a_subnet_names_a_zone_too(account: Account) -> None:
    subnets = {row["AvailabilityZone"]: row["SubnetId"] for row in account.ec2.describe_subnets()["Subnets"]}
    first, second = (account.run(ClientToken="t", SubnetId=subnets[f"us-east-1{letter}"]) for letter in "ab")
    assert first != second and account.row(second)["Placement"]["AvailabilityZone"] == "us-east-1b"


def test_the_token_of_a_dead_machine_is_spent(account: Account) -> None:
    account.terminate(account.run(ClientToken="t"))
    with refused("IdempotentInstanceTerminated"):
        account.run(ClientToken="t")


def test_or_the_dead_machine_is_answered_again(account: Account) -> None:
    account.cloud.refuses_spent_tokens = False
    dead = account.run(ClientToken="t")
    account.ended(dead)
    assert account.launch(ClientToken="t")["Instances"][0]["State"]["Name"] == "terminated"


def test_a_launch_that_failed_has_used_up_no_token(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="no_capacity"))
    with refused("InsufficientInstanceCapacity"):
        account.run(ClientToken="t")
    account.run(ClientToken="t")


def test_no_capacity_is_a_500(account: Account) -> None:
    """SDKs take that for a fault of the server and try again by themselves."""
    account.cloud.faults.add(Fault(kind="no_capacity"))
    with refused("InsufficientInstanceCapacity", status=500, saying="g5.xlarge"):
        account.run()
    assert not account.listed() and not account.cloud.bill.lines()


def test_a_zone_can_be_sold_out(account: Account) -> None:
    account.cloud.sold_out.add(("g5.xlarge", "us-east-1a"))
    with refused("InsufficientInstanceCapacity"):
        account.run(Placement=ZONE_A)
    assert account.row(account.run())["Placement"]["AvailabilityZone"] == "us-east-1b", "AWS chooses another"


def test_a_type_that_its_zone_does_not_have(account: Account) -> None:
    with refused("Unsupported", status=400, saying="us-east-1a, us-east-1c"):
        account.run(InstanceType="p5en.48xlarge", Placement=ZONE_B)


def test_a_type_that_its_region_does_not_have(account: Account) -> None:
    with refused("Unsupported"):
        account.run(InstanceType="p5e.48xlarge")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "ubuntu"}, "InvalidAMIID.Malformed"),
        ({"ImageId": None}, "MissingParameter"),
        ({"InstanceType": "g5.huge"}, "InvalidParameterValue"),
        ({"InstanceType": "g5g.xlarge"}, "InvalidParameterValue"),  # an Arm machine, an x86 image
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroupIds": ["default"]}, "InvalidGroupId.Malformed"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"Placement": {"AvailabilityZone": "us-east-1x"}}, "InvalidParameterValue"),
        ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"UserData": "x" * 16385}, "InvalidParameterValue"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8}}]}, "InvalidBlockDeviceMapping"),
        ({"SubnetId": "subnet-1", "NetworkInterfaces": [{"DeviceIndex": 0}]}, "InvalidSubnetID.NotFound"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_bad_request_makes_nothing(account: Account, change: dict[str, Any], code: str) -> None:
    with refused(code, status=400):
        account.run(**change)
    assert not account.listed() and not account.cloud.bill.lines()


def test_groups_belong_to_the_interface_where_one_is_named(account: Account) -> None:
    group = account.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    with refused("InvalidParameterCombination"):
        account.run(NetworkInterfaces=[{"DeviceIndex": 0}], SecurityGroupIds=[group])


def test_as_many_as_wanted_and_allowed(account: Account) -> None:
    account.cloud.quotas.set("L-DB2E81BA", 14)
    assert len(account.launch(MinCount=1, MaxCount=5)["Instances"]) == 3, "4 vCPUs each"
    with refused("VcpuLimitExceeded"):
        account.run()


def test_quotas_are_per_family_market_and_region(account: Account) -> None:
    account.cloud.quotas.set("L-DB2E81BA", 0, region="us-east-1")
    with refused("VcpuLimitExceeded", status=400, saying="vCPU limit of 0"):
        account.run()
    account.run(spot=True)
    account.run(InstanceType="m6i.large")
    account.cloud.quotas.set("L-3819A6DF", 4)
    with refused("MaxSpotInstanceCountExceeded", status=400):
        account.run(spot=True)


def test_what_has_ended_counts_no_more(account: Account) -> None:
    account.cloud.quotas.set("L-DB2E81BA", 4)
    account.terminate(account.run())
    account.run()


def test_a_spot_machine_says_so_and_has_a_request(account: Account) -> None:
    instance_id = account.run(spot=True)
    row = account.row(instance_id)
    assert row["InstanceLifecycle"] == "spot"
    [request] = account.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[row["SpotInstanceRequestId"]])[
        "SpotInstanceRequests"
    ]
    assert (request["InstanceId"], request["State"], request["Status"]["Code"]) == (instance_id, "active", "fulfilled")
    assert "InstanceLifecycle" not in account.row(account.run())


def test_a_spot_price_that_is_too_low(account: Account) -> None:
    with refused("SpotMaxPriceTooLow", status=400):
        account.run(InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.01"}})


@pytest.mark.parametrize(
    ("kind", "spot", "code"),
    [
        ("no_funds", False, "Blocked"),
        ("quota", False, "VcpuLimitExceeded"),
        ("quota", True, "MaxSpotInstanceCountExceeded"),
        ("offer_gone", False, "InsufficientInstanceCapacity"),
    ],
)
def test_faults_at_the_launch_make_nothing(account: Account, kind: str, spot: bool, code: str) -> None:
    account.cloud.faults.add(Fault(kind=kind))
    with refused(code):
        account.run(spot=spot)
    assert not account.listed()
    account.run(spot=spot)


def test_tags_go_to_everything_that_is_named(account: Account) -> None:
    kinds = ("instance", "volume", "network-interface", "spot-instances-request")
    tags = [{"Key": "owner", "Value": "alice"}]
    account.run(spot=True, TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in kinds])
    wanted = [{"Name": "tag:owner", "Values": ["alice"]}]
    assert account.ec2.describe_instances(Filters=wanted)["Reservations"]
    assert account.ec2.describe_volumes(Filters=wanted)["Volumes"]
    assert account.ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"]
    assert account.ec2.describe_spot_instance_requests(Filters=wanted)["SpotInstanceRequests"]


def test_no_tags_for_a_spot_request_that_is_none(account: Account) -> None:
    with refused("InvalidParameterValue"):
        account.run(
            TagSpecifications=[{"ResourceType": "spot-instances-request", "Tags": [{"Key": "a", "Value": "b"}]}]
        )


def test_what_the_machine_is_made_of(account: Account) -> None:
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=PUBLIC_KEY)
    made = account.started(account.run(InstanceType="g4dn.12xlarge", KeyName="k", UserData="#!/bin/sh\necho hi\n"))
    assert (made.is_vm, made.user, made.user_data) == (True, "ubuntu", "#!/bin/sh\necho hi\n")
    assert made.authorized_keys == (PUBLIC_KEY.decode(),)
    assert made.gpus is not None and (made.gpus.name, made.gpus.count) == ("Tesla T4", 4)
    assert made.metadata_url.endswith(f"/imds/{made.name}")


def test_user_data_may_be_compressed(account: Account) -> None:
    packed = base64.b64decode(base64.b64encode(gzip.compress(b"#!/bin/sh\ntrue\n")))
    assert account.started(account.run(UserData=packed)).user_data == "#!/bin/sh\ntrue\n"


@pytest.mark.parametrize(
    ("machine_type", "name", "count"),
    [
        ("g5.48xlarge", "NVIDIA A10G", 8),
        ("g6.xlarge", "NVIDIA L4", 1),
        ("g6e.xlarge", "NVIDIA L40S", 1),
        ("p4d.24xlarge", "NVIDIA A100-SXM4-40GB", 8),
        ("p5.4xlarge", "NVIDIA H100 80GB HBM3", 1),
        ("p5en.48xlarge", "NVIDIA H200", 8),
        ("p6-b200.48xlarge", "NVIDIA B200", 8),
    ],
)
def test_gpus_are_named_as_nvidia_does(account: Account, machine_type: str, name: str, count: int) -> None:
    gpus = account.started(account.run(InstanceType=machine_type)).gpus
    assert gpus is not None and (gpus.name, gpus.count) == (name, count)


def test_a_machine_without_a_gpu_has_none(account: Account) -> None:
    assert account.started(account.run(InstanceType="m6i.large")).gpus is None


def test_gpus_that_are_not_there_or_others(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="no_gpu"), Fault(kind="wrong_gpu"))
    assert account.started(account.run()).gpus is None
    wrong = account.started(account.run()).gpus
    assert wrong is not None and wrong.name == "Tesla K80"
    assert account.row(account.run())["InstanceType"] == "g5.xlarge"


def test_a_dry_run_makes_nothing(account: Account) -> None:
    with refused("DryRunOperation", status=412):
        account.run(DryRun=True)
    assert not account.listed()


def test_ways_that_moto_does_wrongly_are_closed(account: Account) -> None:
    with refused("UnsupportedOperation"):
        account.ec2.request_spot_instances(LaunchSpecification={"ImageId": account.ami, "InstanceType": "g5.xlarge"})
