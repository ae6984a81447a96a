"""The official `aws` command line against the simulated cloud: a machine is made, seen and ended by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.rehearsal.aws.cloud import AwsCloud
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.web import Served

pytestmark = pytest.mark.process

AWS = str(Path(sys.executable).with_name("aws"))


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    cloud = AwsCloud(PaperMachines(), regions=("us-east-1",))
    with Served(cloud):
        yield cloud


def aws(cloud: AwsCloud, *arguments: str) -> Any:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **cloud.environment()}
    command = [AWS, *arguments, "--output", "json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_a_machine_by_hand(cloud: AwsCloud) -> None:
    assert aws(cloud, "sts", "get-caller-identity")["Arn"].endswith("user/rehearsal")
    parameter = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    ami = aws(cloud, "ssm", "get-parameter", "--name", parameter)["Parameter"]["Value"]
    asked = ["--image-id", ami, "--instance-type", "g4dn.xlarge", "--client-token", "by-hand"]
    made = [aws(cloud, "ec2", "run-instances", *asked)["Instances"][0]["InstanceId"] for _ in range(2)]
    assert made[0] == made[1], "the same token is the same machine"
    [shown] = aws(cloud, "ec2", "describe-instances", "--instance-ids", made[0])["Reservations"][0]["Instances"]
    assert shown["InstanceType"] == "g4dn.xlarge"
    aws(cloud, "ec2", "terminate-instances", "--instance-ids", made[0])
    cloud.clock.advance(60)
    with cloud.lock:
        cloud.tick()
    assert [machine.alive for machine in cloud.everything()] == [False]
