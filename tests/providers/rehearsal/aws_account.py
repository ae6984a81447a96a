"""A customer of the simulated AWS who speaks boto3 without a socket, on a clock that stands still until pushed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from werkzeug.test import Client

from providers.rehearsal.aws.cloud import ACCESS_KEY, AwsCloud
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.machines.base import MachineRequest
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.web import Wire

PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB2cqvKZhGAmmYxDLoT6H7P8fvPnRArCtaNS3SIH+eKf rehearsal"


class Account:
    """One account with everything that a launch needs. boto3 tries once, so that errors are seen as they come."""

    def __init__(self, **options: Any) -> None:
        self.machines = PaperMachines()
        self.clock = SimulatedClock(speed=0)
        self.cloud = AwsCloud(self.machines, clock=self.clock, **options)
        self.cloud.url = "http://127.0.0.1:1"
        self.http = Client(Wire(self.cloud))
        self.ec2 = self.client("ec2")

    def client(self, service: str, region: str = "us-east-1", key: str = ACCESS_KEY) -> Any:
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        client: Any = _session().client(
            service,
            region_name=region,
            endpoint_url=self.cloud.url,
            config=config,
            aws_access_key_id=key,
            aws_secret_access_key="rehearsal",
        )
        client.meta.events.register(f"before-send.{client.meta.service_model.service_id.hyphenize()}", self._send)
        return client

    @property
    def ami(self) -> str:
        name: str = self.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"]
        return name

    def launch(self, *, spot: bool = False, client: Any = None, **changes: Any) -> dict[str, Any]:
        """A RunInstances; parameters that are None are left out."""
        told: dict[str, Any] = {
            "ImageId": self.ami if client is None else None,
            "InstanceType": "g5.xlarge",
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "InstanceMarketOptions": {"MarketType": "spot"} if spot else None,
            **changes,
        }
        answer: dict[str, Any] = (client or self.ec2).run_instances(**{k: v for k, v in told.items() if v is not None})
        return answer

    def run(self, **changes: Any) -> str:
        """The id of a machine that has been asked for."""
        return str(self.launch(**changes)["Instances"][0]["InstanceId"])

    def running(self, **changes: Any) -> str:
        instance_id = self.run(**changes)
        self.advance(0)
        assert self.state(instance_id) == "running"
        return instance_id

    def row(self, instance_id: str) -> dict[str, Any]:
        [reservation] = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        [row] = reservation["Instances"]
        found: dict[str, Any] = row
        return found

    def state(self, instance_id: str) -> str:
        return str(self.row(instance_id)["State"]["Name"])

    def listed(self, **filters: str) -> set[str]:
        """The ids that a list with these filters shows; _ stands for -."""
        rows = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        found = self.ec2.describe_instances(Filters=rows)["Reservations"]
        return {row["InstanceId"] for reservation in found for row in reservation["Instances"]}

    def terminate(self, *ids: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ec2.terminate_instances(InstanceIds=list(ids))["TerminatingInstances"]
        return rows

    def ended(self, instance_id: str) -> None:
        self.terminate(instance_id)
        self.advance(10)
        assert self.state(instance_id) == "terminated"

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.cloud.tick()

    def meters(self, instance_id: str) -> set[str]:
        """What is billed for it at this moment."""
        return {line.rate.meter for line in self.cloud.bill.lines(instance_id) if line.end is None}

    def started(self, instance_id: str) -> MachineRequest:
        """What the machine behind it was made from."""
        return self.machines.requests[instance_id]

    def _send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        headers = {name: _text(value) for name, value in request.headers.items()}
        path = request.url.removeprefix(self.cloud.url)
        answer = self.http.open(path, method=request.method, data=_bytes(request.body), headers=headers)
        said: Any = answer.headers
        return AWSResponse(request.url, answer.status_code, said, _Raw(answer.get_data()))


@contextmanager
def refused(code: str, *, status: int | None = None, saying: str = "") -> Iterator[None]:
    """AWS says no, with this code."""
    with pytest.raises(ClientError) as caught:
        yield
    response: Any = caught.value.response
    assert response["Error"]["Code"] == code
    assert status in (None, response["ResponseMetadata"]["HTTPStatusCode"])
    assert saying in response["Error"]["Message"]


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@cache
def _session() -> Any:
    """One for all tests: it keeps the descriptions of the services."""
    return boto3.Session()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else bytes(body.read())
