"""The contract on the cloud in memory, so that what unit tests rely on is what clouds do."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from providers.base import Instance, InstanceStatus, LaunchRequest, OfferQuery, Provider
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoCapacity,
    NoFunds,
    NotFound,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from tests.contract.contract import Advance, ProviderContract
from tests.fakes.clock import FakeClock
from tests.fakes.memory_provider import Boot, Made, MemoryProvider, Outage, offer


class TestMemory(ProviderContract):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def provider(self, clock: FakeClock) -> Provider:
        cloud = MemoryProvider(clock, offers=[offer("dear", usd_per_hour="2"), offer("cheap")], terminate_seconds=7)
        cloud.faults.boots += [Boot(seconds=40), Boot(seconds=3)]
        return cloud

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(disk_gb=20, vcpus=2)

    @pytest.fixture
    def advance(self, clock: FakeClock) -> Advance:
        return clock.advance


class TestFaults:
    """Each fault as a caller meets it, and what the cloud's own bill says afterwards."""

    clock = FakeClock()

    @pytest.fixture
    def cloud(self) -> MemoryProvider:
        self.clock = FakeClock()
        return MemoryProvider(self.clock, offers=[offer("small", usd_per_hour="3600")])

    def create(self, cloud: MemoryProvider, name: str = "m-1") -> Instance:
        deadline = self.clock() + timedelta(hours=1)
        request = LaunchRequest(name=name, owner="alice", run_id="r-1", attempt=1, deadline=deadline, disk_gb=1)
        return cloud.create(cloud.rentable[0], request)

    @pytest.mark.parametrize(
        "error",
        [
            NoCapacity("none left"),
            OfferGone("taken"),
            QuotaExceeded("0 GPUs allowed"),
            AuthFailed("no key"),
            NoFunds("no credit"),
            Throttled("slow down", after=5),
            Ambiguous("no reply"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_create_that_fails_makes_nothing_and_only_once(self, cloud: MemoryProvider, error: ProviderError) -> None:
        cloud.faults.creates.append(error)
        with pytest.raises(type(error)) as caught:
            self.create(cloud)
        assert caught.value.provider == "memory"
        assert cloud.made() == () and cloud.billed() == 0
        assert self.create(cloud).name == "m-1"

    def test_a_lost_reply_leaves_a_machine_that_bills(self, cloud: MemoryProvider) -> None:
        cloud.faults.creates.append(Made(Ambiguous("no reply", created_id="i-m-1")))
        with pytest.raises(Ambiguous) as caught:
            self.create(cloud)
        self.clock.advance(30)
        assert cloud.alive() == ("m-1",) and cloud.billed("m-1") == 30
        assert cloud.get(str(caught.value.created_id)).name == "m-1"

    def test_an_offer_that_is_not_there_any_more(self, cloud: MemoryProvider) -> None:
        chosen = cloud.rentable.pop()
        cloud.rentable.append(offer("other"))
        request = LaunchRequest(name="m", owner="a", run_id="r", attempt=1, deadline=self.clock(), disk_gb=1)
        with pytest.raises(OfferGone):
            cloud.create(chosen, request)

    def test_boots(self, cloud: MemoryProvider) -> None:
        cloud.faults.boots += [Boot(seconds=10), Boot(stuck=True), Boot(seconds=5, failed="no such image")]
        slow, stuck, failed = (self.create(cloud, name) for name in ("slow", "stuck", "failed"))
        assert (slow.status, slow.access) == (InstanceStatus.BOOTING, None)
        self.clock.advance(10)
        assert cloud.get(slow.id).status is InstanceStatus.RUNNING and cloud.is_up("slow")
        assert (cloud.get(failed.id).status, cloud.get(failed.id).detail) == (InstanceStatus.FAILED, "no such image")
        self.clock.advance(10**6)
        assert cloud.get(stuck.id).status is InstanceStatus.BOOTING and not cloud.is_up("stuck")

    def test_an_outage_says_nothing_and_ends(self, cloud: MemoryProvider) -> None:
        made = self.create(cloud)
        cloud.faults.outages.append(Outage(10, 20, ("get",)))
        self.clock.advance(10)
        with pytest.raises(Unreachable):
            cloud.get(made.id)
        assert [machine.name for machine in cloud.list("alice")] == ["m-1"]
        self.clock.advance(10)
        assert cloud.get(made.id).name == "m-1"

    def test_a_terminate_that_is_ignored_or_fails_bills_on(self, cloud: MemoryProvider) -> None:
        made = self.create(cloud)
        cloud.faults.terminates += ["ignored", Throttled("slow down", after=5)]
        cloud.terminate(made.id)
        with pytest.raises(Throttled):
            cloud.terminate(made.id)
        self.clock.advance(60)
        assert cloud.alive() == ("m-1",)
        cloud.terminate(made.id)
        self.clock.advance(60)
        assert cloud.alive() == () and cloud.billed() == 60

    def test_a_list_lags(self, cloud: MemoryProvider) -> None:
        cloud.faults.list_lag_seconds = 30
        made = self.create(cloud)
        assert cloud.list("alice") == [] and cloud.get(made.id).name == "m-1"
        self.clock.advance(30)
        assert [machine.name for machine in cloud.list("alice")] == ["m-1"]

    def test_preempted_machines_stay_or_vanish(self, cloud: MemoryProvider) -> None:
        cloud.faults.boots += [Boot(preempt_after=60), Boot(preempt_after=60, vanishes=True), None]
        stays, vanishes, third = (self.create(cloud, name) for name in ("stays", "vanishes", "third"))
        self.clock.advance(90)
        cloud.preempt("third")
        assert cloud.get(stays.id).status is InstanceStatus.PREEMPTED
        assert cloud.get(third.id).status is InstanceStatus.PREEMPTED
        with pytest.raises(NotFound):
            cloud.get(vanishes.id)
        assert (cloud.billed("stays"), cloud.billed("vanishes")) == (Decimal(90), Decimal(60))
