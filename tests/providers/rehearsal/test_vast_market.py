"""What is on offer at the simulated Vast.ai, and how it lets itself be searched."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from providers.gpus import canonical
from providers.rehearsal.vast.market import KINDS
from tests.providers.rehearsal.vast_tenant import Tenant


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


def test_the_market_is_as_wide_as_the_real_one(tenant: Tenant) -> None:
    hosts = tenant.cloud.vast.market.hosts.values()
    assert len(hosts) >= 150
    assert {kind.name for kind in KINDS} == {host.kind.name for host in hosts}
    assert {"RTX 3060", "RTX 4090", "H100 SXM"} <= {kind.name for kind in KINDS}
    assert Counter(host.verification for host in hosts).keys() == {"verified", "unverified", "deverified"}
    assert min(host.reliability for host in hosts) < 0.95 < max(host.reliability for host in hosts)
    assert any(host.place is None for host in hosts) and any(host.place == ", US" for host in hosts)
    assert any(host.ports == 0 for host in hosts) and any(host.cores is None for host in hosts)


def test_the_same_seed_makes_the_same_offers() -> None:
    def seen(seed: int) -> list[tuple[int, float, str]]:
        return [(row["id"], row["dph_base"], row["gpu_name"]) for row in Tenant(seed=seed).search(limit=64)]

    assert seen(0) == seen(0) != seen(1)


def test_a_search_needs_no_key(tenant: Tenant) -> None:
    assert tenant.ask("POST", "/bundles/", {}, key=None)[0] == 200
    assert tenant.ask("GET", "/gpu_names/unique/", key=None)[0] == 200
    assert tenant.ask("POST", "/bundles/", {}, key="nobody")[0] == 404


def test_a_search_gives_64_offers_at_most_and_says_so(tenant: Tenant) -> None:
    status, body = tenant.ask("POST", "/bundles/", {"limit": 1000})
    assert (status, len(body["offers"]), body["truncated"]) == (200, 64, True)
    status, body = tenant.ask("POST", "/bundles/", {"limit": 3})
    assert len(body["offers"]) == 3 and "truncated" not in body


def test_all_offers_can_be_had_by_paging_over_the_price(tenant: Tenant) -> None:
    seen: set[int] = set()
    last = 0.0
    while True:
        page = tenant.search(order=[["dph_total", "asc"]], dph_total={"gte": last})
        if not {row["id"] for row in page} - seen:
            break
        seen |= {row["id"] for row in page}
        last = page[-1]["dph_total"]
    assert seen == {ask.id for ask in tenant.cloud.vast.market.asks(tenant.clock())}


def test_both_ways_to_search_find_the_same(tenant: Tenant) -> None:
    wanted = {"gpu_name": {"eq": "L40S"}, "order": [["dph_total", "asc"]]}
    status, body = tenant.ask("PUT", "/search/asks/", {"select_cols": ["*"], "q": wanted})
    assert status == 200 and body["offers"] == tenant.search(**wanted)


@pytest.mark.parametrize(
    ("op", "value", "fits"),
    [
        ("eq", 4, lambda n: n == 4),
        ("neq", 4, lambda n: n != 4),
        ("gt", 4, lambda n: n > 4),
        ("gte", 4, lambda n: n >= 4),
        ("lt", 4, lambda n: n < 4),
        ("lte", 4, lambda n: n <= 4),
        ("in", [1, 8], lambda n: n in (1, 8)),
        ("notin", [1, 8], lambda n: n not in (1, 8)),
    ],
)
def test_every_operator(tenant: Tenant, op: str, value: object, fits: object) -> None:
    assert callable(fits)
    found = tenant.search(num_gpus={op: value}, gpu_name={"eq": "A100 SXM4"})
    asks = [ask for ask in tenant.cloud.vast.market.asks(tenant.clock()) if ask.host.kind.name == "A100 SXM4"]
    assert Counter(row["num_gpus"] for row in found) == Counter(ask.gpus for ask in asks if fits(ask.gpus))


def test_numbers_may_be_strings(tenant: Tenant) -> None:
    assert tenant.search(num_gpus={"eq": "4"}) == tenant.search(num_gpus={"eq": 4}) != []
    assert tenant.search(num_gpus={"in": ["4"]}) == tenant.search(num_gpus={"in": [4]})


def test_an_unknown_operator_field_or_body_is_refused(tenant: Tenant) -> None:
    for body, words in (
        ({"num_gpus": {"like": 1}}, "like is not a valid search op"),
        ({"gpus": {"eq": 1}}, "gpus is not a valid search key"),
        ({"order": [["prettiness", "asc"]]}, "prettiness is not a valid search key"),
    ):
        status, answer = tenant.ask("POST", "/bundles/", body)
        assert (status, answer["error"], answer["msg"]) == (400, "invalid_request", words)
    status, answer = tenant.ask("POST", "/bundles/", "{not json")
    assert (status, answer["error"], answer["msg"]) == (400, "invalid_request", "Invalid json body")


def test_a_filter_on_id_finds_nothing_and_one_on_ask_contract_id_does(tenant: Tenant) -> None:
    wanted = tenant.offer()
    assert tenant.search(id={"eq": wanted["id"]}) == []
    assert [row["id"] for row in tenant.search(ask_contract_id={"eq": wanted["id"]})] == [wanted["id"]]


def test_the_server_has_no_filters_of_its_own_and_drops_rented(tenant: Tenant) -> None:
    host = tenant.wanted_ask().host
    tenant.cloud.occupy(host.machine_id)
    mine = tenant.search(machine_id={"eq": host.machine_id}, rented={"eq": False})
    assert mine and all(row["rented"] and not row["rentable"] for row in mine)
    assert tenant.search(machine_id={"eq": host.machine_id}, rentable={"eq": True}) == []
    assert tenant.search(verification={"eq": "deverified"}) != []


def test_virtual_columns(tenant: Tenant) -> None:
    assert {row["verification"] for row in tenant.search(verified={"eq": True})} == {"verified"}
    assert {row["hosting_type"] for row in tenant.search(datacenter={"eq": True})} == {1}
    assert {row["geolocation"][-2:] for row in tenant.search(geolocation={"in": ["SE", "NO"]})} == {"SE", "NO"}
    assert all(row["duration"] >= 86_400 * 300 for row in tenant.search(duration={"gte": 86_400 * 300.0}))
    assert {row["gpu_name"] for row in tenant.search(gpu_ram_GB={"gte": 80})} == {"A100 SXM4", "H100 SXM"}
    assert all(row["driver_vers"] >= 560_000_000 for row in tenant.search(driver_version={"gte": "560.0.0"}))
    assert tenant.search(reliability2={"gte": 0.99}) == tenant.search(reliability={"gte": 0.99})
    assert tenant.search(target_reliability=0.95) == []


def test_a_gpu_has_its_exact_memory(tenant: Tenant) -> None:
    """The SDK multiplies by 1000: 24 GB cards pass `>=24`, none is `=24`, and an L4 does not pass."""
    assert tenant.search(gpu_ram={"eq": 24_000.0}) == []
    passing = {row["gpu_name"] for name in ("RTX 3090", "RTX 4090", "L4") for row in tenant.search(
        gpu_ram={"gte": 24_000.0}, gpu_name={"eq": name})}  # fmt: skip
    assert passing == {"RTX 3090", "RTX 4090"}


def test_numeric_filters_are_not_always_applied(tenant: Tenant) -> None:
    slipped = tenant.search(inet_down={"gte": 1e9})
    assert 0 < len(slipped) < 20, "a few, so that clients look themselves"
    assert tenant.search(num_gpus={"gte": 1000}) == [], "never the number of GPUs"


def test_disk_that_is_asked_for_must_be_there_and_is_in_the_price(tenant: Tenant) -> None:
    usual = tenant.search(order=[["dph_total", "asc"]])[0]
    more = tenant.search(allocated_storage=200, ask_contract_id={"eq": usual["id"]})
    for row, gb in ((usual, 8), *((row, 200) for row in more)):
        storage = Decimal(str(row["storage_cost"])) * gb / 720
        assert row["storage_total_cost"] == float(storage)
        assert row["dph_total"] == pytest.approx(row["dph_base"] + row["storage_total_cost"], abs=1e-12)
    assert all(
        row["disk_space"] >= 2000 or tenant.ask_of(row["id"]).host.sloppy
        for row in tenant.search(allocated_storage=2000)
    )


def test_prices_of_a_search_for_bids_are_the_least_bids(tenant: Tenant) -> None:
    wanted = tenant.offer()
    [bid] = tenant.search(type="bid", ask_contract_id={"eq": wanted["id"]})
    assert bid["dph_base"] == bid["min_bid"] == wanted["min_bid"] < wanted["dph_base"]
    assert bid["is_bid"] is True
    [reserved] = tenant.search(type="reserved", ask_contract_id={"eq": wanted["id"]})
    assert reserved["discounted_dph_total"] < reserved["dph_total"] == wanted["dph_total"]
    assert tenant.search(type="ondemand") == tenant.search(type="on-demand") == tenant.search()


def test_order(tenant: Tenant) -> None:
    prices = [row["dph_total"] for row in tenant.search(order=[["dph_total", "desc"]])]
    assert prices == sorted(prices, reverse=True)
    scores = [row["score"] for row in tenant.search()]
    assert scores == sorted(scores, reverse=True), "by score when nothing is said"


def test_an_offer_is_priced_for_all_its_gpus(tenant: Tenant) -> None:
    whole = tenant.search(num_gpus={"gte": 4}, gpu_name={"eq": "RTX 4090"})[0]
    one = tenant.search(machine_id={"eq": whole["machine_id"]}, num_gpus={"eq": 1})[0]
    assert whole["dph_base"] == pytest.approx(one["dph_base"] * whole["num_gpus"])
    assert whole["gpu_total_ram"] == whole["num_gpus"] * whole["gpu_ram"]
    assert whole["cpu_ram"] == one["cpu_ram"], "of the whole machine"
    assert one["cpu_cores_effective"] < whole["cpu_cores_effective"]


def test_every_gpu_is_one_that_gpujob_knows(tenant: Tenant) -> None:
    for kind in KINDS:
        assert canonical(kind.nvidia), kind.nvidia


def test_an_offer_of_a_host_whose_contract_is_over_is_gone(tenant: Tenant) -> None:
    ask = tenant.wanted_ask()
    tenant.clock.advance((ask.host.end - tenant.clock()).total_seconds() + 1)
    assert tenant.search(ask_contract_id={"eq": ask.id}) == []
    assert tenant.create(ask.id)[0] == 410
