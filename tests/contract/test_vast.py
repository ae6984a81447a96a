"""The contract on Vast.ai, on its simulated cloud, whose machines are on paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from providers.base import Instance, LaunchRequest, OfferQuery, Provider, Settings
from providers.errors import OfferGone
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served
from providers.vast.provider import VastProvider
from tests.contract.contract import Advance, ProviderContract, Tenant

pytestmark = pytest.mark.process

PATIENCE = 20.0  # the suite makes machines faster than Vast.ai allows: here a turn is waited for, on the cloud's clock


@dataclass
class VastTenant(Tenant):
    """At Vast.ai an offer is a host's, and can be rented once: the next machine needs the next offer."""

    query: OfferQuery = field(default_factory=OfferQuery)

    def rent(self, request: LaunchRequest | None = None) -> Instance:
        request = request or self.request()
        try:
            return super().rent(request)
        except OfferGone:
            offer = self.provider.offers(self.query).cheapest()
            assert offer is not None
            self.offer = offer
            return super().rent(request)


class TestVast(ProviderContract):
    # Amounts are rounded to a tenth of a cent, and the GPUs are billed from "running" on, not from the create.
    charges_are_exact = False
    # A label is free again once its instance is destroyed.
    names_are_remembered = False

    @pytest.fixture
    def cloud(self) -> Iterator[VastCloud]:
        cloud = VastCloud(PaperMachines())
        with Served(cloud):
            yield cloud

    @pytest.fixture
    def provider(self, cloud: VastCloud, tmp_path: Path) -> Iterator[Provider]:
        settings = Settings(home=tmp_path, env=cloud.environment(), now=cloud.clock)
        provider = VastProvider(settings, sleep=cloud.clock.advance, patience=PATIENCE)
        yield provider
        provider.close()

    @pytest.fixture
    def another(self, cloud: VastCloud, tmp_path: Path) -> Iterator[Provider]:
        settings = Settings(home=tmp_path, env=cloud.environment_of_another(), now=cloud.clock)
        provider = VastProvider(settings, sleep=cloud.clock.advance, patience=PATIENCE)
        yield provider
        provider.close()

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(gpus=("RTX4090",), gpu_count=1, disk_gb=20)

    @pytest.fixture
    def tenant(self, provider: Provider, offer_query: OfferQuery, advance: Advance) -> Iterator[Tenant]:
        offer = provider.offers(offer_query).cheapest()
        assert offer is not None
        tenant = VastTenant(provider, offer, advance, query=offer_query)
        yield tenant
        for instance in tenant.rented:
            tenant.end(instance)

    @pytest.fixture
    def advance(self, cloud: VastCloud) -> Advance:
        return cloud.clock.advance

    def unknown_id(self, made: Instance) -> str:
        return str(int(made.id) + 1_000_000)


class TestVastSpot(TestVast):
    """Interruptible machines, at the least bid."""

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(gpus=("RTX4090", "RTX3090"), gpu_count=1, disk_gb=20, spot=True)


class TestVastAnyMachine(TestVast):
    """A job that needs no GPU."""

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(vcpus=2, memory_gb=4, disk_gb=10)
