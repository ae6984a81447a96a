"""The simulated AWS around its instances: keys, permissions, regions, images, quotas, metadata, and how it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from providers.rehearsal.faults import Fault
from tests.providers.rehearsal.aws_account import PARAMETER, Account, refused


@pytest.fixture
def account() -> Account:
    return Account()


def test_the_environment_is_all_that_an_sdk_needs_and_throw_away(account: Account) -> None:
    environment = account.cloud.environment()
    assert environment["AWS_ENDPOINT_URL"] == account.cloud.url
    assert all(environment[name].startswith("rehearsal") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    assert environment["AWS_DEFAULT_REGION"] == "us-east-1"


def test_who_am_i(account: Account) -> None:
    said = account.client("sts").get_caller_identity()
    assert said["Account"] == account.cloud.backing.account and said["Arn"].endswith(":user/rehearsal")


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("ec2", "describe_instances", "AuthFailure"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("ssm", "describe_parameters", "UnrecognizedClientException"),
    ],
)
def test_a_key_that_is_not_known(account: Account, service: str, call: str, code: str) -> None:
    with refused(code):
        getattr(account.client(service, key="AKIASOMEBODYELSE0000"), call)()


def test_a_region_that_is_not_enabled(account: Account) -> None:
    with refused("AuthFailure", status=401):
        account.client("ec2", "ap-east-1").describe_instances()


def test_the_regions_are_few(account: Account) -> None:
    names = [row["RegionName"] for row in account.ec2.describe_regions()["Regions"]]
    assert names == ["us-east-1", "us-west-2", "eu-central-1"]
    assert [
        row["RegionName"]
        for row in Account(regions=("us-west-2",)).client("ec2", "us-west-2").describe_regions()["Regions"]
    ] == ["us-west-2"]


def test_a_permission_that_is_missing(account: Account) -> None:
    account.cloud.deny("ec2:RunInstances")
    with refused("UnauthorizedOperation", status=403, saying="Encoded authorization failure message: "):
        account.run()
    with refused("UnauthorizedOperation"):
        account.run(DryRun=True)
    assert account.listed() == set()


def test_tags_at_the_launch_need_a_permission_of_their_own(account: Account) -> None:
    account.cloud.deny("ec2:CreateTags")
    account.run()
    with refused("UnauthorizedOperation", saying="ec2:CreateTags"):
        account.run(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}])


def test_spot_needs_a_role_that_may_have_to_be_made(account: Account) -> None:
    account.cloud.deny("iam:CreateServiceLinkedRole")
    account.run()
    with refused("AuthFailure.ServiceLinkedRoleCreationNotPermitted"):
        account.run(spot=True)


def test_permissions_of_other_services(account: Account) -> None:
    account.cloud.deny("pricing:*", "ce:*")
    with refused("AccessDeniedException"):
        account.client("pricing").get_products(ServiceCode="AmazonEC2")


def test_the_image_parameter_names_an_image_that_is_there(account: Account) -> None:
    [image] = account.ec2.describe_images(ImageIds=[account.ami])["Images"]
    assert image["Name"].startswith("Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 2026")
    assert (image["OwnerId"], image["RootDeviceName"]) == ("898082745236", "/dev/sda1")
    [root] = image["BlockDeviceMappings"]
    assert root["Ebs"]["VolumeSize"] == 75 and root["Ebs"]["DeleteOnTermination"]


def test_the_image_differs_from_region_to_region(account: Account) -> None:
    there = account.client("ssm", "us-west-2").get_parameter(Name=PARAMETER)["Parameter"]["Value"]
    assert there != account.ami
    with refused("InvalidAMIID.NotFound"):
        account.run(ImageId=there)


def test_the_image_parameter_has_one_spelling(account: Account) -> None:
    other = PARAMETER.replace("-gpu-", "-")
    with refused("ParameterNotFound"):
        account.client("ssm").get_parameter(Name=other)
    account.cloud.slug_has_gpu = False
    assert account.client("ssm").get_parameter(Name=other)
    account.cloud.has_parameters = False
    with refused("ParameterNotFound"):
        account.client("ssm").get_parameter(Name=other)


def test_images_are_found_by_owner_and_name(account: Account) -> None:
    """The fallback without the parameter; the newest is the last one made, not the last one listed."""
    name = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) *"
    images = account.ec2.describe_images(Owners=["898082745236"], Filters=[{"Name": "name", "Values": [name]}])[
        "Images"
    ]
    assert sorted(image["CreationDate"][:10] for image in images) == ["2026-09-11", "2026-10-16"]


def test_quotas_can_be_asked(account: Account) -> None:
    account.cloud.quotas.set("L-417A185B", 96)
    client = account.client("service-quotas")
    assert client.get_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")["Quota"]["Value"] == 96
    codes = {row["QuotaCode"] for row in client.list_service_quotas(ServiceCode="ec2")["Quotas"]}
    assert {"L-DB2E81BA", "L-417A185B", "L-3819A6DF", "L-7212CCBC"} <= codes
    with refused("NoSuchResourceException"):
        client.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")


def imds(account: Account, instance_id: str, path: str, token: str = "", method: str = "GET") -> tuple[int, str]:
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    if method == "PUT":
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    answer = account.http.open(f"/imds/{instance_id}/latest/{path}", method=method, headers=headers)
    return answer.status_code, answer.get_data(as_text=True)


def test_a_machine_finds_itself_in_its_metadata(account: Account) -> None:
    instance_id = account.running(UserData="#!/bin/sh\n", MetadataOptions={"HttpTokens": "required"})
    assert imds(account, instance_id, "meta-data/instance-id")[0] == 401
    assert imds(account, instance_id, "meta-data/instance-id", "wrong")[0] == 401
    status, token = imds(account, instance_id, "api/token", method="PUT")
    assert status == 200 and token
    assert imds(account, instance_id, "meta-data/instance-id", token) == (200, instance_id)
    assert imds(account, instance_id, "meta-data/public-ipv4", token) == (200, "127.0.0.1")
    assert imds(account, instance_id, "meta-data/placement/region", token) == (200, "us-east-1")
    assert imds(account, instance_id, "user-data", token) == (200, "#!/bin/sh\n")
    assert "instance-id" in imds(account, instance_id, "meta-data/", token)[1].splitlines()
    assert imds(account, instance_id, "meta-data/nonsense", token)[0] == 404


def test_a_token_needs_a_lifetime(account: Account) -> None:
    assert account.http.put(f"/imds/{account.running()}/latest/api/token").status_code == 400


def test_the_notice_of_an_interruption_is_in_the_metadata(account: Account) -> None:
    instance_id = account.running(spot=True)
    _, token = imds(account, instance_id, "api/token", method="PUT")
    assert imds(account, instance_id, "meta-data/spot/instance-action", token)[0] == 404
    account.cloud.preempt(instance_id, notice_seconds=120)
    status, text = imds(account, instance_id, "meta-data/spot/instance-action", token)
    assert status == 200 and json.loads(text)["action"] == "terminate"
    assert account.state(instance_id) == "running"
    account.advance(120)
    assert account.state(instance_id) == "shutting-down"


def test_no_fault_of_the_api_is_used_up_by_a_machine_that_asks_its_host(account: Account) -> None:
    instance_id = account.running()
    account.cloud.faults.add(Fault(kind="throttled"), Fault(kind="error"))
    assert imds(account, instance_id, "meta-data/instance-id") == (200, instance_id)
    with refused("RequestLimitExceeded"):
        account.state(instance_id)


def test_the_notice_comes_no_sooner_than_it_should(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="preempt", seconds=600, notice=120))
    instance_id = account.running(spot=True)
    _, token = imds(account, instance_id, "api/token", method="PUT")
    account.advance(479)
    assert imds(account, instance_id, "meta-data/spot/instance-action", token)[0] == 404
    account.advance(1)
    assert imds(account, instance_id, "meta-data/spot/instance-action", token)[0] == 200


@pytest.mark.parametrize(
    ("fault", "service", "call", "code", "status"),
    [
        (Fault(kind="throttled"), "ec2", "describe_instances", "RequestLimitExceeded", 503),
        (Fault(kind="throttled"), "ssm", "describe_parameters", "ThrottlingException", 400),
        (Fault(kind="error"), "ec2", "describe_instances", "InternalError", 500),
        (Fault(kind="error", status=503), "ec2", "describe_instances", "Unavailable", 503),
        (Fault(kind="error"), "sts", "get_caller_identity", "InternalError", 500),
    ],
)
def test_faults_on_the_wire_speak_as_the_service_does(
    account: Account, fault: Fault, service: str, call: str, code: str, status: int
) -> None:
    client = account.client(service)
    account.cloud.faults.add(fault)
    with refused(code, status=status):
        getattr(client, call)()
    getattr(client, call)()


def test_a_launch_that_answers_with_an_error_may_have_happened(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="error_after", on="create", status=503))
    with refused("Unavailable"):
        account.run(ClientToken="t")
    [made] = account.listed(client_token="t")
    assert account.run(ClientToken="t") == made


@pytest.mark.parametrize(
    ("call", "asked", "kind"),
    [
        ("describe_instances", {}, "list"),
        ("describe_instances", {"InstanceIds": ["i-0123456789abcdef0"]}, "get"),
        ("terminate_instances", {"InstanceIds": ["i-0123456789abcdef0"]}, "terminate"),
        ("run_instances", {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}, "create"),
        ("describe_instance_types", {}, "offers"),
        ("describe_spot_price_history", {}, "offers"),
        ("describe_volumes", {}, "other"),
    ],
)
def test_every_call_has_its_name(account: Account, call: str, asked: dict[str, Any], kind: str) -> None:
    try:
        getattr(account.ec2, call)(**asked)
    except ClientError:
        pass
    assert account.cloud.requests[-1].call == kind


def test_what_is_not_simulated_says_so_and_is_not_repeated(account: Account) -> None:
    with refused("InvalidAction", status=400, saying="not simulated"):
        account.ec2.get_spot_placement_scores(TargetCapacity=1, InstanceTypes=["g5.xlarge"])


def test_storage_is_motos(account: Account) -> None:
    client = account.client("s3")
    client.create_bucket(Bucket="artifacts")
    client.put_object(Bucket="artifacts", Key="k", Body=b"x" * 1000)
    assert client.get_object(Bucket="artifacts", Key="k")["Body"].read() == b"x" * 1000
