"""The simulated Vast.ai's bill by the real rules, and how charges, invoices and the balance show it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.providers.rehearsal.vast_tenant import Tenant


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


def test_gpus_are_billed_by_the_second_while_they_run_and_the_disk_while_it_exists(tenant: Tenant) -> None:
    ask = tenant.wanted_ask()
    instance = tenant.rent(ask.id, disk=36)
    tenant.clock.advance(2 + 600)  # two seconds of boot
    tenant.put(instance, state="stopped")
    tenant.clock.advance(1000)
    tenant.destroy(instance)
    tenant.clock.advance(10_000)
    gpu = ask.usd * 600 / 3600
    disk = ask.host.storage_usd_per_month * 36 / 720 * 1602 / 3600
    assert tenant.cloud.bill.total(str(instance)) == pytest.approx(gpu + disk, rel=Decimal("1e-9"))


def test_a_boot_costs_its_disk_only(tenant: Tenant) -> None:
    instance = tenant.rent()
    assert tenant.meters(instance) == {"disk"}


def test_a_jump_of_the_clock_bills_from_the_moment_that_it_ran(tenant: Tenant) -> None:
    instance = tenant.rent()
    tenant.clock.advance(3602)
    tenant.show(instance)
    [line] = [line for line in tenant.cloud.bill.lines(str(instance)) if line.rate.meter == "compute"]
    assert line.quantity(tenant.clock()) == 1


def test_traffic_is_billed_both_ways_in_any_state() -> None:
    tenant = Tenant()
    ask = next(
        tenant.ask_of(row["id"])
        for row in tenant.search(inet_up_cost={"gt": 0}, inet_down_cost={"gt": 0}, rentable={"eq": True})
    )
    instance = tenant.rent(ask.id)
    tenant.put(instance, state="stopped")
    before = tenant.cloud.bill.total()
    tenant.cloud.traffic(str(instance), gb_down=10, gb_up=Decimal("0.5"))
    assert tenant.cloud.bill.total() - before == ask.host.down_usd_per_gb * 10 + ask.host.up_usd_per_gb / 2
    items = {item["type"] for item in tenant.charges()["results"][0]["items"]}
    assert items == {"disk", "bwd", "bwu"}


def test_credit_is_what_is_left(tenant: Tenant) -> None:
    tenant.running()
    tenant.clock.advance(3600)
    _, user = tenant.ask("GET", "/users/current")
    assert user["credit"] == pytest.approx(float(100 - tenant.cloud.bill.total()))
    assert user["credit"] < 100 and user["balance"] == 0


def test_without_credit_everything_stops_and_the_disks_are_billed_on() -> None:
    tenant = Tenant(credit=Decimal("0.01"))
    running = [tenant.rent(), tenant.rent()]
    tenant.clock.advance(10 * 3600)
    for instance in running:
        row = tenant.show(instance)
        assert [row[name] for name in ("cur_state", "next_state", "intended_status")] == ["stopped"] * 3
        assert tenant.meters(instance) == {"disk"}
    assert tenant.ask("GET", "/users/current")[1]["credit"] <= 0
    assert tenant.put(running[0], state="running")[1]["error"] == "insufficient_credit"


def test_charges_name_the_parts_of_what_an_instance_has_cost(tenant: Tenant) -> None:
    ask = tenant.wanted_ask(gpu_name={"eq": "H100 SXM"})
    instance = tenant.rent(ask.id, disk=720)
    tenant.clock.advance(2 + 3600)
    tenant.destroy(instance)
    page = tenant.charges()
    [row] = page["results"]
    assert (page["count"], page["total"], page["next_token"]) == (1, 1, None)
    assert (row["type"], row["source"], row["metadata"]) == ("instance", f"instance-{instance}", {"label": "run-1"})
    assert row["end"] - row["start"] == 3602
    items = {item["type"]: item for item in row["items"]}
    assert items["gpu"]["amount"] == float(round(ask.usd, 3)) and items["gpu"]["amount"] > 1
    assert items["gpu"]["description"] == f"1.000 hours at ${ask.usd:.3f}/hour"
    assert abs(items["disk"]["amount"] - float(ask.host.storage_usd_per_month)) < 0.001


def test_amounts_are_rounded_to_a_tenth_of_a_cent_so_a_short_run_was_free(tenant: Tenant) -> None:
    instance = tenant.running(disk=8)
    tenant.clock.advance(4)
    tenant.destroy(instance)
    assert 0 < tenant.cloud.bill.total() < Decimal("0.0005")
    [row] = tenant.charges()["results"]
    assert row["amount"] == 0.0 and {item["amount"] for item in row["items"]} == {0.0}


def test_what_is_destroyed_stays_in_the_charges(tenant: Tenant) -> None:
    instance = tenant.running()
    tenant.destroy(instance)
    tenant.clock.advance(86_400 * 2)
    assert [row["source"] for row in tenant.charges()["results"]] == [f"instance-{instance}"]


def test_charges_need_a_range(tenant: Tenant) -> None:
    for filters in ("{}", '{"day":{"gte":1}}', '{"type":{"in":["instance"]}}'):
        status, body = tenant.ask("GET", f"/charges/?select_filters={filters}")
        assert status == 400 and "'day'" in body["msg"]


def test_charges_come_in_pages_latest_first_or_last(tenant: Tenant) -> None:
    mine = [f"instance-{tenant.rent(disk=8)}" for _ in range(5)]
    first = tenant.charges(limit=3, latest_first=False)
    assert (first["count"], first["total"]) == (3, 5)
    rest = tenant.charges(limit=3, latest_first=False, after_token=first["next_token"])
    assert [row["source"] for row in [*first["results"], *rest["results"]]] == mine
    assert rest["next_token"] is None
    assert [row["source"] for row in tenant.charges(latest_first=True)["results"]] == mine[::-1]


def test_charges_of_another_kind_or_time_are_not_shown(tenant: Tenant) -> None:
    tenant.rent()
    now = int(tenant.clock().timestamp())
    for filters in (
        f'{{"day":{{"gte":0,"lte":{now - 10}}}}}',
        '{"day":{"gte":0,"lte":9999999999},"type":{"in":["volume"]}}',
    ):
        assert tenant.ask("GET", f"/charges/?select_filters={filters}")[1]["results"] == []


def test_invoices_are_what_was_paid_in_as_negative_amounts(tenant: Tenant) -> None:
    tenant.cloud.vast.account.top_up(Decimal(5))
    filters = '{"when":{"gte":0,"lte":9999999999}}'
    _, page = tenant.ask("GET", f"/api/v1/invoices/?select_filters={filters}")
    assert [row["amount"] for row in page["results"]] == [-100.0, -5.0]
    status, body = tenant.ask("GET", "/api/v1/invoices/")
    assert (status, body["success"]) == (200, False), "no error status"


def test_a_deposit_that_cannot_be_paid_is_411(tenant: Tenant) -> None:
    instance = tenant.rent()
    status, body = tenant.ask("PUT", f"/instances/prepay/{instance}/", {"amount": 1000})
    assert (status, body["error"]) == (411, "insufficient_credit")


def test_contracts_are_found_by_their_label(tenant: Tenant) -> None:
    instance = tenant.rent(label="mine")
    tenant.rent(label="other")
    _, body = tenant.ask("POST", "/contracts/fetch/", {"label": "mine"})
    assert [row["id"] for row in body["contracts"]] == [instance]
