"""Somebody who rents at the simulated Vast.ai with VastProvider, on a clock that moves when a turn is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from providers.base import Instance, InstanceStatus, Offer, OfferQuery, Settings
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served
from providers.vast.provider import VastProvider
from tests.providers.tenants import Renter

QUERY = OfferQuery(gpus=("RTX4090",), gpu_count=1, disk_gb=20)
SPOT = replace(QUERY, spot=True)


class Tenant(Renter[VastCloud, VastProvider]):
    """Waits for a turn on the cloud's clock."""

    looks_after = 4.0  # one instance may not be asked for more often

    def __init__(self, cloud: VastCloud, home: Path) -> None:
        self.cloud = cloud
        self.settings = Settings(home=home, env=cloud.environment(), now=cloud.clock)
        self.provider = self.another()
        self.offer = self.cheapest()

    def another(self) -> VastProvider:
        return VastProvider(self.settings, sleep=self.cloud.clock.advance)

    def cheapest(self, query: OfferQuery = QUERY) -> Offer:
        offer = self.provider.offers(query).cheapest()
        assert offer is not None
        return offer

    def spot(self) -> Instance:
        self.offer = self.cheapest(SPOT)
        made = self.create()
        self.later(10)
        assert self.provider.get(made.id).status is InstanceStatus.RUNNING
        return made


@contextmanager
def renting(home: Path) -> Iterator[Tenant]:
    """A tenant of a cloud of its own."""
    with Served(cloud := VastCloud(PaperMachines())):
        tenant = Tenant(cloud, home)
        yield tenant
        tenant.provider.close()
