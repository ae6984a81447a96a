"""Somebody who rents at a simulated cloud with its provider: what the clouds' own tenants share. Knows no cloud."""

from __future__ import annotations

from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from providers.base import Instance, Offer, Provider
from providers.errors import NotFound
from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.faults import Fault
from tests.providers.wire import request

NAME = "gpujob-r-abc123-1-1"
TURN = 5.0  # seconds from one terminate to the next


class Renting(Provider, Protocol):
    def close(self) -> None: ...


Cloud = TypeVar("Cloud", bound=SimulatedCloud)
Rents = TypeVar("Rents", bound=Renting)


class Renter(Generic[Cloud, Rents]):
    """One account, one provider, and the offer that is rented next."""

    cloud: Cloud
    provider: Rents
    offer: Offer
    looks_after = 0.0  # seconds from a terminate to the look whether it is gone

    def fault(self, kind: str, **how: object) -> None:
        self.cloud.faults.add(Fault(kind=kind, **how))  # type: ignore[arg-type]

    def create(self, name: str = NAME, **changes: object) -> Instance:
        deadline = self.cloud.clock() + timedelta(hours=1)
        return self.provider.create(self.offer, request(name=name, deadline=deadline, **changes))

    def later(self, seconds: float) -> None:
        self.cloud.clock.advance(seconds)
        self.cloud.tick()

    def end(self, instance_id: str) -> int:
        """Terminate until it is gone; how often that was."""
        for number in range(1, 20):
            self.provider.terminate(instance_id)
            self.later(self.looks_after)
            try:
                self.provider.get(instance_id)
            except NotFound:
                return number
            self.later(TURN - self.looks_after)
        raise AssertionError("it never went")

    def alive(self) -> list[str]:
        return [machine.name for machine in self.cloud.everything() if machine.alive]
