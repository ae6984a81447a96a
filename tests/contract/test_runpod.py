"""The contract on RunPod, on its simulated cloud, whose machines are on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.base import Instance, OfferQuery, Provider, Settings
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.runpod.cloud import RunpodCloud
from providers.rehearsal.web import Served
from providers.runpod.provider import RunpodProvider
from tests.contract.contract import Advance, ProviderContract

pytestmark = pytest.mark.process


class TestRunpod(ProviderContract):
    # RunPod bills in buckets of an hour, and does not say how late they are: what it bills is final two hours later.
    charges_are_exact = False
    # A pod that is gone has left no name.
    names_are_remembered = False

    @pytest.fixture
    def cloud(self) -> Iterator[RunpodCloud]:
        cloud = RunpodCloud(PaperMachines(), boot_seconds=5)
        for host in cloud.market.hosts:  # not every community host can be reached, and the cheapest offer is one
            host.has_public_ip = True
        with Served(cloud):
            yield cloud

    @pytest.fixture
    def provider(self, cloud: RunpodCloud, tmp_path: Path) -> Iterator[Provider]:
        provider = RunpodProvider(Settings(home=tmp_path, env=cloud.environment(), now=cloud.clock))
        yield provider
        provider.close()

    @pytest.fixture
    def another(self, cloud: RunpodCloud, tmp_path: Path) -> Iterator[Provider]:
        provider = RunpodProvider(Settings(home=tmp_path, env=cloud.environment_of_another(), now=cloud.clock))
        yield provider
        provider.close()

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(gpus=("RTX4090", "RTXA5000"), gpu_count=1, disk_gb=20)

    @pytest.fixture
    def advance(self, cloud: RunpodCloud) -> Advance:
        return cloud.clock.advance

    def unknown_id(self, made: Instance) -> str:
        return made.id[::-1]


class TestRunpodCpu(TestRunpod):
    """Pods without a GPU."""

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(vcpus=2, memory_gb=4, disk_gb=10)
