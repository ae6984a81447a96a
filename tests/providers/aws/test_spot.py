"""What a spot machine costs by now: EC2's rule, and its own price history through the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.aws import spot
from providers.errors import AuthFailed
from tests.providers.aws.conftest import Tenant

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("history", "lasted", "expected"),
    [
        ([], 90, []),
        ([(-500, "0.2")], 90, [(0, "0.2")]),
        ([(-500, "0.2"), (0, "0.3")], 90, [(0, "0.3")]),  # at the very moment
        ([(-500, "0.2"), (1, "0.3")], 59, [(0, "0.2")]),  # the hour that has begun keeps its price
        ([(-500, "0.2"), (1, "0.3")], 60, [(0, "0.2"), (60, "0.3")]),
        ([(-500, "0.2"), (1, "0.9"), (59, "0.3")], 300, [(0, "0.2"), (60, "0.3")]),  # 0.9 was in force at no full hour
        ([(-500, "0.2"), (61, "0.3"), (130, "0.2")], 300, [(0, "0.2"), (120, "0.3"), (180, "0.2")]),
        ([(70, "0.3")], 300, [(120, "0.3")]),  # what was before is not known
    ],
)
def test_an_hour_costs_what_was_in_force_at_its_beginning(
    history: list[tuple[float, str]], lasted: float, expected: list[tuple[float, str]]
) -> None:
    told = spot.rates([(at(minutes), Decimal(usd)) for minutes, usd in history], NOON, at(lasted))
    assert [(rate.since, rate.usd_per_unit) for rate in told] == [(at(m), Decimal(usd)) for m, usd in expected]


@pytest.mark.process
class TestAtTheCloud:
    def test_what_is_told_is_what_is_billed(self, tenant: Tenant) -> None:
        offer = tenant.offer(spot=True)
        machine = tenant.provider.create(offer, tenant.request())
        assert [meter.name for meter in machine.meters if meter.moves] == ["compute"]
        tenant.provider.get(machine.id)
        began = tenant.cloud.clock()
        tenant.cloud.move_prices(Decimal("1.3"), seconds=1800)
        tenant.cloud.move_prices(Decimal("0.8"), seconds=3 * 3600)
        tenant.cloud.clock.advance(5.5 * 3600)
        tenant.provider.get(machine.id)
        [lines] = [[line for line in tenant.cloud.bill.lines(machine.id.split("/")[1]) if line.rate.meter == "compute"]]
        told = tenant.another().rates(offer, began)["compute"]
        assert [rate.usd_per_unit for rate in told] == [line.rate.usd_per_unit for line in lines]
        assert all(abs(rate.since - line.start) < timedelta(seconds=5) for rate, line in zip(told, lines, strict=True))
        assert len(told) >= 3
        tenant.end(machine)

    def test_of_a_machine_on_demand_there_is_nothing_to_tell(self, tenant: Tenant) -> None:
        offer = tenant.offer()
        assert offer.most_usd_per_hour is None
        assert tenant.provider.rates(offer, tenant.cloud.clock()) == {}

    def test_a_spot_machine_never_costs_more_than_one_on_demand(self, tenant: Tenant) -> None:
        assert tenant.offer(spot=True).most_usd_per_hour == tenant.offer().usd_per_hour

    def test_who_may_not_see_the_history_is_told_so(self, tenant: Tenant) -> None:
        offer = tenant.offer(spot=True)
        tenant.cloud.deny("ec2:DescribeSpotPriceHistory")
        with pytest.raises(AuthFailed):
            tenant.provider.rates(offer, tenant.cloud.clock())
