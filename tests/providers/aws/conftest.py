"""A simulated EC2 for the tests of this folder, put in order before each of them; its catalogue is fetched once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.aws.client import Aws
from providers.aws.provider import AwsProvider
from providers.base import Instance, LaunchRequest, Offer, OfferQuery, Settings
from providers.errors import NotFound
from providers.rehearsal.aws.cloud import AwsCloud
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.web import Served

REGIONS = ("us-east-1", "us-west-2")
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPrx0l1qpHbpbhQO6a0OtsjZ8CkTUlGmD5YcCz5gtnBm run"
ONE_A10G = OfferQuery(gpus=("A10G",), gpu_count=1, regions=("us-east-1",))

_numbers = itertools.count(1)


@dataclass
class Tenant:
    """Somebody with an account at the simulated EC2, and the cloud as its owner sees it."""

    cloud: AwsCloud
    home: Path
    env: dict[str, str]
    slept: list[float] = field(default_factory=list)
    provider: AwsProvider = field(init=False)

    def __post_init__(self) -> None:
        self.provider = self.another()

    def another(self, **env: str) -> AwsProvider:
        """As a process that begins anew: what was in memory is gone."""
        settings = Settings(home=self.home, env={**self.env, **env}, now=self.cloud.clock)
        return AwsProvider(settings, sleep=self.slept.append)

    def offer(self, *, spot: bool = False, region: str = "us-east-1") -> Offer:
        query = OfferQuery(gpus=("A10G",), gpu_count=1, regions=(region,), spot=spot)
        cheapest = self.provider.offers(query).cheapest()
        assert cheapest is not None
        return cheapest

    def request(self, **changes: Any) -> LaunchRequest:
        number = next(_numbers)
        told: dict[str, Any] = {
            "name": f"gpujob-r-{number}-1-1",
            "owner": f"alice-{number}",
            "run_id": f"r-{number}",
            "attempt": 1,
            "deadline": self.cloud.clock() + timedelta(hours=1),
            "disk_gb": 20.0,
            "public_key": PUBLIC_KEY,
        }
        return LaunchRequest(**{**told, **changes})

    def rent(self, *, spot: bool = False, **changes: Any) -> Instance:
        return self.provider.create(self.offer(spot=spot), self.request(**changes))

    def ec2(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The account's owner looks for himself."""
        return Aws(self.env).call("ec2", "us-east-1", operation, **parameters)

    def made(self, name: str) -> list[str]:
        """The states of all machines that were ever made for a name: what the bill knows."""
        return [machine.status for machine in self.cloud.everything() if machine.name == name]

    def calls(self, call: str) -> int:
        return sum(asked.call == call for asked in self.cloud.requests)

    def strike(self, *faults: Fault) -> None:
        self.cloud.requests.clear()
        self.cloud.faults.add(*faults)

    def end(self, machine: Instance) -> None:
        for _ in range(10):
            self.provider.terminate(machine.id)
            try:
                self.provider.get(machine.id)
            except NotFound:
                return
            self.cloud.clock.advance(5)
        raise AssertionError("it never went")


@pytest.fixture(scope="session")
def simulated() -> Iterator[AwsCloud]:
    cloud = AwsCloud(PaperMachines(), regions=REGIONS)
    with Served(cloud):
        yield cloud


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aws-home")


@pytest.fixture
def tenant(simulated: AwsCloud, home: Path) -> Iterator[Tenant]:
    yield Tenant(simulated, home, simulated.environment())
    simulated.faults.clear()
    simulated._denied.clear()
    simulated.sold_out.clear()
    simulated.spot.moves.clear()
    simulated.quotas._values.clear()
    simulated.refuses_spent_tokens = simulated.slug_has_gpu = simulated.has_parameters = True
