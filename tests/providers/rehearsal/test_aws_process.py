"""The simulated AWS as a child process meets it: boto3 as it comes, led by environment variables alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from providers.rehearsal.aws.cloud import AwsCloud
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.web import Served

pytestmark = pytest.mark.process

PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
LAUNCH = f"""
import json, boto3
ami = boto3.client("ssm").get_parameter(Name="{PARAMETER}")["Parameter"]["Value"]
ec2 = boto3.client("ec2")
made = ec2.run_instances(ImageId=ami, InstanceType="g5.xlarge", MinCount=1, MaxCount=1)
there = [row["InstanceId"] for some in ec2.describe_instances()["Reservations"] for row in some["Instances"]]
print(json.dumps(dict(there=there, tries=made["ResponseMetadata"]["RetryAttempts"] + 1)))
"""


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    cloud = AwsCloud(PaperMachines())
    with Served(cloud):
        yield cloud


def child(cloud: AwsCloud, program: str) -> Any:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean | cloud.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["lost_reply", "error_after"])
def test_a_lost_reply_and_boto3s_own_retry_make_one_machine(cloud: AwsCloud, kind: str) -> None:
    """boto3 sends its own token with each try; bare moto would make two machines here."""
    cloud.faults.add(Fault(kind=kind, on="create"))
    seen = child(cloud, LAUNCH)
    assert seen["tries"] == 2 and len(seen["there"]) == 1
    assert len(cloud.everything()) == 1


def test_boto3_hides_that_there_is_no_capacity_behind_its_retries(cloud: AwsCloud) -> None:
    cloud.faults.add(Fault(kind="no_capacity", times=2))
    assert child(cloud, LAUNCH)["tries"] == 3
