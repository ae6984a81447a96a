"""VastProvider at the simulated cloud on good days: the ways to a machine, the bill, and the market."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base import OfferQuery, Settings, SshAccess
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served
from providers.vast.provider import VastProvider
from tests.providers.vast.tenant import QUERY, Tenant, renting

pytestmark = pytest.mark.process


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    with renting(tmp_path) as tenant:
        yield tenant


class TestWays:
    def test_direct_first_and_the_proxy_besides(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.later(10)
        seen = tenant.provider.get(made.id)
        [machine] = tenant.cloud.everything()
        assert isinstance(seen.access, SshAccess) and (seen.access.host, seen.access.port) == machine.ssh
        [proxy] = seen.other_access
        assert isinstance(proxy, SshAccess) and proxy.host == "127.0.0.9" != seen.access.host
        assert seen.access.user == proxy.user == "root"

    def test_a_host_that_opens_no_port_is_reached_through_the_proxy(self, tenant: Tenant) -> None:
        host = tenant.cloud.vast.market.hosts[int(tenant.offer.host_id)]
        host.ports = 0
        made = tenant.create()
        tenant.later(10)
        seen = tenant.provider.get(made.id)
        assert isinstance(seen.access, SshAccess) and seen.access.host == "127.0.0.9" and seen.other_access == ()

    def test_no_key_of_ours_stays_in_the_account(self, tenant: Tenant) -> None:
        """Vast.ai puts the account's keys into every new instance, of everybody who uses the account."""
        made = tenant.create()
        assert tenant.cloud.vast.account.ssh_keys == {}
        contract = tenant.cloud.vast.contracts.find(int(made.id))
        assert contract is not None and list(contract.keys.values()) == ["ssh-ed25519 AAAApublic"]


class TestMoney:
    def test_the_bill_is_the_clouds(self, tenant: Tenant) -> None:
        made = tenant.create(disk_gb=100.0)
        tenant.later(5 * 3600)
        tenant.cloud.traffic(made.id, gb_down=40, gb_up=30)
        assert not any(charge.final for charge in tenant.provider.charges(made, made.created_at))
        tenant.end(made.id)
        tenant.later(3600)
        charges = tenant.provider.charges(made, made.created_at)
        assert {charge.meter for charge in charges} <= {"compute", "disk", "traffic_in", "traffic_out"}
        assert {"compute", "disk"} <= {charge.meter for charge in charges}
        difference = sum((charge.usd for charge in charges), Decimal(0)) - tenant.cloud.bill.total(made.id)
        assert abs(difference) <= Decimal("0.0005") * len(charges), "each amount is rounded to a tenth of a cent"
        assert all(charge.final and "rounded" in charge.source for charge in charges)
        hours = sum((charge.quantity for charge in charges if charge.meter == "compute"), Decimal(0))
        assert abs(hours - 5) < Decimal("0.02")

    def test_our_meters_come_to_the_clouds_bill(self, tenant: Tenant) -> None:
        made = tenant.create(disk_gb=100.0)
        tenant.later(36_000)
        tenant.end(made.id)
        ours = sum((meter.usd_per_hour * 10 for meter in made.meters), Decimal(0))
        assert abs(ours - tenant.cloud.bill.total(made.id)) < Decimal("0.01")

    def test_a_bill_knows_what_is_gone_and_nobody_elses(self, tenant: Tenant) -> None:
        first = tenant.create()
        tenant.later(600)
        tenant.end(first.id)
        tenant.offer = tenant.cheapest()
        second = tenant.create("gpujob-r-abc123-2-1")
        tenant.later(7200)
        of_first = tenant.provider.charges(first, first.created_at)
        tenant.later(5)
        of_second = tenant.provider.charges(second, second.created_at)
        first_usd = sum((one.usd for one in of_first), Decimal(0))
        second_usd = sum((one.usd for one in of_second), Decimal(0))
        assert 0 < first_usd < second_usd
        assert all(one.final for one in of_first) and not any(one.final for one in of_second)

    def test_an_instance_that_never_was_has_no_bill(self, tenant: Tenant) -> None:
        made = tenant.create()
        assert tenant.provider.charges(replace(made, id="1"), made.created_at) == ()


def test_prices_without_an_account(tenant: Tenant, tmp_path: Path) -> None:
    cloud = tenant.cloud
    cloud.requests.clear()
    without = VastProvider(Settings(home=tmp_path, env={"VAST_URL": cloud.url}, now=cloud.clock))
    found = without.offers(QUERY)
    assert {each.gpu for each in found} == {"RTX4090"} and all(each.usd_per_hour > 0 for each in found)
    assert without.unusable() is not None and not without.check().usable
    assert {each.call for each in cloud.requests} == {"offers"}
    without.close()


def test_all_of_a_market_with_more_than_a_page(tmp_path: Path) -> None:
    """64 come back at most, whatever is asked for."""
    cloud = VastCloud(PaperMachines(), hosts=900)
    with Served(cloud):
        provider = VastProvider(Settings(home=tmp_path, env=cloud.environment(), now=cloud.clock))
        many = provider.offers(OfferQuery(gpu_count=1, disk_gb=20))
        assert len(many) >= 50 and len({each.offer_id for each in many}) == len(many)
        best = sorted(many, key=lambda each: (each.usd_per_hour, each.offer_id))[0]
        assert best == many.cheapest()
        some = replace(QUERY, reliability=0.99, memory_gb=32, vcpus=8)
        assert all(each.unfit(some) is None for each in provider.offers(some))
        provider.close()
