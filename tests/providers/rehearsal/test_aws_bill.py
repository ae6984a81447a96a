"""The simulated EC2's own bill, by EC2's rules, and what Cost Explorer makes of it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.rehearsal.bill import Line
from providers.rehearsal.faults import Fault
from tests.providers.rehearsal.aws_account import Account

A10G = Decimal("1.006")  # g5.xlarge in us-east-1


@pytest.fixture
def account() -> Account:
    return Account()


def lines(account: Account, instance_id: str, meter: str) -> list[Line]:
    return [line for line in account.cloud.bill.lines(instance_id) if line.rate.meter == meter]


def cost(account: Account, instance_id: str, meter: str) -> Decimal:
    return sum((line.usd(account.clock()) for line in lines(account, instance_id, meter)), Decimal(0))


def about(amount: Decimal) -> Any:
    return pytest.approx(amount, abs=Decimal("1e-12"))


def test_seconds_of_running_and_nothing_else(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="slow_boot", seconds=300))
    instance_id = account.run()
    account.advance(300)
    account.advance(1000)
    account.ended(instance_id)
    assert cost(account, instance_id, "compute") == about(A10G * 1000 / 3600)
    assert cost(account, instance_id, "address") == about(Decimal("0.005") * 1000 / 3600)


def test_at_least_a_minute_each_time_that_it_begins_to_run(account: Account) -> None:
    instance_id = account.running()
    account.advance(10)
    account.ec2.stop_instances(InstanceIds=[instance_id])
    account.advance(10)
    account.ec2.start_instances(InstanceIds=[instance_id])
    account.advance(0)
    account.ended(instance_id)
    assert cost(account, instance_id, "compute") == about(A10G * 120 / 3600)


def test_the_disk_costs_from_the_launch_until_it_is_deleted(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="slow_boot", seconds=300))
    instance_id = account.run(BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 100}}])
    account.advance(3600 - 2)
    account.ended(instance_id)
    assert cost(account, instance_id, "disk") == about(Decimal("0.08") * 100 / 720)


def test_a_disk_costs_at_least_a_minute(account: Account) -> None:
    instance_id = account.run()
    account.ended(instance_id)
    assert cost(account, instance_id, "disk") == about(Decimal("0.08") * 75 / 720 / 60)


def test_a_stopped_machine_costs_its_disk_only(account: Account) -> None:
    instance_id = account.running()
    account.ec2.stop_instances(InstanceIds=[instance_id])
    account.advance(10)
    before = {meter: cost(account, instance_id, meter) for meter in ("compute", "address")}
    account.advance(10_000)
    assert account.meters(instance_id) == {"disk"}
    assert before == {meter: cost(account, instance_id, meter) for meter in ("compute", "address")}


def test_a_volume_of_its_own_costs_under_its_own_name(account: Account) -> None:
    made = account.ec2.create_volume(AvailabilityZone="us-east-1a", Size=10, VolumeType="gp2")
    assert account.cloud.bill.running() == {made["VolumeId"]}
    account.advance(3600)
    account.ec2.delete_volume(VolumeId=made["VolumeId"])
    assert account.cloud.bill.total() == about(Decimal("0.10") * 10 / 720)


def test_a_fast_disk_costs_what_is_above_its_kinds_own_speed(account: Account) -> None:
    fast = {"VolumeSize": 100, "VolumeType": "gp3", "Iops": 4000, "Throughput": 225}
    instance_id = account.run(BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": fast}])
    usual = account.run(
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {**fast, "Iops": 3000, "Throughput": 125}}]
    )
    account.advance(3600)
    assert cost(account, instance_id, "disk_iops") == about(Decimal("0.005") * 1000 / 720)
    assert cost(account, instance_id, "disk_throughput") == about(Decimal("0.04") * 100 / 720)
    assert account.meters(usual) == {"disk", "compute", "address"}
    account.ended(instance_id)
    assert account.meters(instance_id) == set()


def test_traffic_out_costs_above_the_months_allowance(account: Account) -> None:
    instance_id = account.running()
    account.cloud.traffic(instance_id, gb_out=60)
    assert lines(account, instance_id, "traffic_out") == []
    account.cloud.traffic(instance_id, gb_out=60)
    account.cloud.traffic(instance_id, gb_out=10)
    assert cost(account, instance_id, "traffic_out") == about(Decimal("0.09") * 30)
    account.advance(32 * 86_400)
    account.cloud.traffic(instance_id, gb_out=100)
    assert cost(account, instance_id, "traffic_out") == about(Decimal("0.09") * 30)


def test_spot_costs_the_price_of_its_zone(account: Account) -> None:
    instance_id = account.running(spot=True, Placement={"AvailabilityZone": "us-east-1b"})
    usd = account.cloud.spot.now("g5.xlarge", "us-east-1b", account.clock()).usd
    account.advance(1800)
    account.terminate(instance_id)
    assert cost(account, instance_id, "compute") == about(usd / 2)
    assert usd < A10G


def test_spot_follows_the_market_at_full_hours(account: Account) -> None:
    """A price that changes in between counts from the next hour on, also when many hours pass at once."""
    instance_id = account.running(spot=True)
    start, zone = account.clock(), account.row(instance_id)["Placement"]["AvailabilityZone"]
    account.advance(30 * 3600)
    account.terminate(instance_id)
    moments = [start + timedelta(hours=hour) for hour in range(30)]
    wanted = sum((account.cloud.spot.now("g5.xlarge", zone, moment).usd for moment in moments), Decimal(0))
    assert len({line.rate.usd_per_unit for line in lines(account, instance_id, "compute")}) > 1
    assert cost(account, instance_id, "compute") == about(wanted)


def test_prices_that_are_moved_are_billed_from_the_next_hour_on(account: Account) -> None:
    instance_id = account.running(spot=True)
    start, zone = account.clock(), account.row(instance_id)["Placement"]["AvailabilityZone"]
    account.cloud.move_prices(Decimal("1.3"), seconds=1800)
    account.advance(1000)
    account.http.post("/_rehearsal/prices", json={"factor": 0.5, "in": 2 * 3600})
    account.advance(3 * 3600 - 1000)
    account.terminate(instance_id)
    market = account.cloud.spot
    first, dear, still = (market.now("g5.xlarge", zone, start + timedelta(hours=hour)).usd for hour in range(3))
    assert dear > Decimal("1.1") * first and still > Decimal("0.8") * dear, "cheap only when the third hour had begun"
    assert cost(account, instance_id, "compute") == about(first + dear + still)


def test_above_its_maximum_price_a_machine_is_taken_back(account: Account) -> None:
    """With the notice, and another request whose maximum is the price on demand goes on."""
    usd = account.cloud.spot.now("g5.xlarge", "us-east-1b", account.clock()).usd
    place = {"AvailabilityZone": "us-east-1b"}
    capped = {"MarketType": "spot", "SpotOptions": {"MaxPrice": str(usd * Decimal("1.2"))}}
    cheap = account.running(InstanceMarketOptions=capped, Placement=place)
    open_ended = account.running(spot=True, Placement=place)
    account.cloud.move_prices(Decimal("1.5"), seconds=3000)
    account.advance(3300)
    assert (account.state(cheap), account.state(open_ended)) == ("terminated", "running")
    assert account.row(cheap)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    [line] = lines(account, cheap, "compute")
    assert line.end is not None and (line.end - line.start).total_seconds() == pytest.approx(3120, abs=1)
    assert cost(account, cheap, "compute") == 0, "its first hour"
    codes = {row["Status"]["Code"] for row in account.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]}
    assert codes == {"instance-terminated-by-price", "fulfilled"}


@pytest.mark.parametrize(("seconds", "free"), [(3599, True), (3600, False)])
def test_the_first_hour_is_free_when_aws_takes_a_spot_machine(account: Account, seconds: int, free: bool) -> None:
    instance_id = account.running(spot=True)
    account.advance(seconds)
    account.cloud.preempt(instance_id)
    account.advance(10)
    assert (cost(account, instance_id, "compute") == 0) is free
    assert cost(account, instance_id, "disk") > 0 and cost(account, instance_id, "address") > 0
    assert account.cloud.bill.running() == set()


def test_it_is_not_free_when_one_ends_it_oneself(account: Account) -> None:
    instance_id = account.running(spot=True)
    account.advance(600)
    account.terminate(instance_id)
    assert cost(account, instance_id, "compute") > 0


def test_an_interruption_bills_to_its_moment_however_late_it_is_looked_at(account: Account) -> None:
    account.cloud.faults.add(Fault(kind="preempt", seconds=7200))
    instance_id = account.running(spot=True)
    account.advance(50_000)
    ends = {line.end for line in lines(account, instance_id, "compute")}
    start = lines(account, instance_id, "compute")[0].start
    assert max(end for end in ends if end) - start == timedelta(seconds=7200)


def explored(account: Account, **changes: Any) -> list[dict[str, Any]]:
    """Of the days around now."""
    now = account.clock()
    days = {"Start": f"{now - timedelta(days=2):%Y-%m-%d}", "End": f"{now + timedelta(days=2):%Y-%m-%d}"}
    asked = {"TimePeriod": days, "Granularity": "DAILY", "Metrics": ["UnblendedCost", "UsageQuantity"], **changes}
    found: list[dict[str, Any]] = account.client("ce").get_cost_and_usage(**asked)["ResultsByTime"]
    return found


def by_type(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in rows:
        for group in row["Groups"]:
            key = group["Keys"][0]
            found[key] = found.get(key, Decimal(0)) + Decimal(group["Metrics"]["UnblendedCost"]["Amount"])
    return found


def test_cost_explorer_knows_the_bill_by_usage_type(account: Account) -> None:
    instance_id = account.running()
    account.advance(3000)
    account.ended(instance_id)
    account.advance(9 * 3600)
    found = by_type(explored(account, GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}]))
    assert found.keys() == {"BoxUsage:g5.xlarge", "EBS:VolumeUsage.gp3", "PublicIPv4:InUseAddress"}
    assert found["BoxUsage:g5.xlarge"] == pytest.approx(A10G * 3000 / 3600, abs=Decimal("1e-8"))


@pytest.mark.parametrize("seconds", [30, 3000], ids=["less than the minimum", "more"])
def test_the_days_of_cost_explorer_add_up_to_the_bill(account: Account, seconds: int) -> None:
    """Of a machine that runs at midnight, too: what a minimum adds is on the day of its begin."""
    now = account.clock()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    account.advance((midnight - now).total_seconds() - 27)
    instance_id = account.running()
    account.advance(seconds)
    account.ended(instance_id)
    account.advance(9 * 3600)
    days = explored(account, GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}])
    assert len([day for day in days if day["Groups"]]) == 2
    billed = max(seconds, 60) * A10G / 3600
    assert by_type(days)["BoxUsage:g5.xlarge"] == pytest.approx(billed, abs=Decimal("1e-8"))
    total = sum((cost(account, instance_id, meter) for meter in ("compute", "disk", "address")), Decimal(0))
    assert sum(by_type(days).values()) == pytest.approx(total, abs=Decimal("1e-8"))


def test_cost_explorer_is_hours_late(account: Account) -> None:
    account.ended(account.running())
    by_usage = [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}]
    assert by_type(explored(account, GroupBy=by_usage)) == {}
    account.cloud.cost_delay_hours = 0
    assert by_type(explored(account, GroupBy=by_usage))


def test_cost_explorer_by_tag(account: Account) -> None:
    for name in ("one", "two"):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "run", "Value": name}]}]
        account.ended(
            account.running(TagSpecifications=tags, InstanceType="g5.xlarge" if name == "one" else "m6i.large")
        )
    account.advance(9 * 3600)
    of_one = {"Tags": {"Key": "run", "Values": ["one"]}}
    by_usage = [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}]
    assert "BoxUsage:m6i.large" not in by_type(explored(account, Filter=of_one, GroupBy=by_usage))
    assert {"run$one", "run$two"} <= by_type(explored(account, GroupBy=[{"Type": "TAG", "Key": "run"}])).keys()


def test_asking_cost_explorer_costs_a_cent(account: Account) -> None:
    explored(account)
    explored(account)
    assert account.cloud.bill.total() == Decimal("0.02")
