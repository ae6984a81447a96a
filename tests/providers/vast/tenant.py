"""Somebody who rents at the simulated Vast.ai with VastProvider, on a clock that moves when a turn is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from providers.base import Instance, InstanceStatus, Offer, OfferQuery, Settings
from providers.errors import NotFound
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served
from providers.vast.provider import VastProvider
from tests.providers.vast.wire import request

NAME = "gpujob-r-abc123-1-1"
QUERY = OfferQuery(gpus=("RTX4090",), gpu_count=1, disk_gb=20)
SPOT = replace(QUERY, spot=True)


class Tenant:
    """One account, one provider, and the offer that is rented next."""

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

    def fault(self, kind: str, **how: object) -> None:
        self.cloud.faults.add(Fault(kind=kind, **how))  # type: ignore[arg-type]

    def create(self, name: str = NAME, **changes: object) -> Instance:
        deadline = self.cloud.clock() + timedelta(hours=1)
        return self.provider.create(self.offer, request(name=name, deadline=deadline, **changes))

    def spot(self) -> Instance:
        self.offer = self.cheapest(SPOT)
        made = self.create()
        self.later(10)
        assert self.provider.get(made.id).status is InstanceStatus.RUNNING
        return made

    def later(self, seconds: float) -> None:
        self.cloud.clock.advance(seconds)
        self.cloud.tick()

    def end(self, instance_id: str) -> int:
        """Terminate until it is gone; how often that was."""
        for number in range(1, 20):
            self.provider.terminate(instance_id)
            self.later(4)
            try:
                self.provider.get(instance_id)
            except NotFound:
                return number
        raise AssertionError("it never went")

    def alive(self) -> list[str]:
        return [machine.name for machine in self.cloud.everything() if machine.alive]


@contextmanager
def renting(home: Path) -> Iterator[Tenant]:
    """A tenant of a cloud of its own."""
    with Served(cloud := VastCloud(PaperMachines())):
        tenant = Tenant(cloud, home)
        yield tenant
        tenant.provider.close()
