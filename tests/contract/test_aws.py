"""The contract on the simulated EC2: real boto3 over loopback, machines on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.aws.provider import AwsProvider
from providers.base import Instance, OfferQuery, Provider, Settings
from providers.rehearsal.aws.cloud import AwsCloud
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.web import Served
from tests.contract.contract import Advance, ProviderContract


@pytest.fixture(scope="module")
def cloud() -> Iterator[AwsCloud]:
    """One for all tests, as the real one is: each has machines of its own names."""
    cloud = AwsCloud(PaperMachines(), regions=("us-east-1",))
    with Served(cloud):
        yield cloud


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aws")


@pytest.mark.process
class TestAws(ProviderContract):
    charges_are_exact = False  # Cost Explorer comes a day late

    @pytest.fixture
    def provider(self, cloud: AwsCloud, home: Path) -> Provider:
        return AwsProvider(Settings(home=home, env=cloud.environment(), now=cloud.clock))

    @pytest.fixture
    def another(self, cloud: AwsCloud, home: Path) -> Provider:
        return AwsProvider(Settings(home=home, env=cloud.environment_of_another(), now=cloud.clock))

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(gpus=("A10G", "T4"), gpu_count=1, disk_gb=20, regions=("us-east-1",))

    @pytest.fixture
    def advance(self, cloud: AwsCloud) -> Advance:
        return cloud.clock.advance

    def unknown_id(self, made: Instance) -> str:
        return "us-east-1/i-0123456789abcdef0"
