"""The market: what is asked for, and each row as an offer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from providers import gpus
from providers.base import Offer, OfferQuery
from providers.vast import offers
from providers.vast.offers import Ask
from tests.fakes.clock import START
from tests.providers.vast.wire import ask

ONE = OfferQuery(gpus=("RTX4090",), gpu_count=1)


def made(bid: bool = False, **changes: Any) -> Offer:
    found = offers.offer(ask(**changes), bid=bid, at=START)
    assert found is not None
    return found


def test_an_offer_has_all_that_a_row_says() -> None:
    found = made()
    assert (found.offer_id, found.host_id, found.provider) == ("7", "5501", "vast")
    assert (found.gpu, found.gpu_count, found.gpu_memory_gb) == ("RTX4090", 1, 24)
    assert (found.region, found.location, found.cuda) == ("US", "Texas, US", "12.8")
    assert (found.usd_per_hour, found.disk_usd_per_gb_month) == (Decimal("0.34"), Decimal("0.15"))
    assert (found.ingress_usd_per_gb, found.egress_usd_per_gb) == (Decimal("0.001"), Decimal("0.002"))
    assert (found.reliability, found.disk_gb, found.spot) == (0.995, 300, False)
    assert found.fetched_at == START and found.source


def test_the_disk_is_not_priced_twice() -> None:
    """`dph_total` has the disk in it, our disk is in a price of its own."""
    assert made(dph_base=0.3, dph_total=0.9).usd_per_hour == Decimal("0.3")


def test_the_memory_of_the_machine_is_shared_and_so_are_its_cpus() -> None:
    found = made(cpu_cores=64, cpu_cores_effective=16, cpu_ram=256_000)
    assert (found.vcpus, found.memory_gb) == (16, 64)
    assert made(cpu_cores=None, gpu_frac=0.5, cpu_ram=256_000).memory_gb == 128
    assert made(cpu_cores=8, cpu_cores_effective=16, cpu_ram=256_000).memory_gb == 256


def test_a_bid_is_another_offer_than_the_same_ask_on_demand_and_costs_the_least_bid() -> None:
    bid = made(bid=True, min_bid=0.2, dph_base=0.2)
    assert bid.offer_id != made().offer_id and bid.spot and bid.usd_per_hour == Decimal("0.2")
    assert Ask.of(bid.offer_id) == Ask(7, bid=True) and Ask.of("7") == Ask(7)
    assert made(bid=True, min_bid=0.0001).usd_per_hour == offers.LEAST_BID


@pytest.mark.parametrize(
    "changes",
    [
        {"dph_base": None},
        {"dph_base": 0},
        {"dph_base": -1},
        {"dph_base": "dear"},
        {"id": None, "ask_contract_id": None},
    ],
    ids=repr,
)
def test_a_row_without_a_sensible_price_or_id_is_no_offer(changes: dict[str, Any]) -> None:
    assert offers.offer(ask(**changes), bid=False, at=START) is None


@pytest.mark.parametrize(
    ("name", "megabytes", "gpu", "memory"),
    [
        ("RTX 4090", 24564, "RTX4090", 24),
        ("L4", 23034, "L4", 24),
        ("H100 SXM", 81559, "H100-SXM", 80),
        ("RTX 6000Ada", 49140, "RTX6000-Ada", 48),
        ("A100 SXM4", 81920, "A100-80GB", 80),
        ("A100 PCIE", 40960, "A100-40GB", 40),
        ("Tesla V100", 16160, "V100-16GB", 16),
        ("A100 SXM4", 20480, "A100 SXM4", 20),
        ("RTX 3060", 8192, "RTX3060", 8),
        ("RTX 4090D", 24564, "RTX 4090D", 24),
        ("RTX 3060 laptop", 6144, "RTX 3060 laptop", 6),
        ("Q RTX 6000", 24576, "Q RTX 6000", 24),
    ],
)
def test_a_gpu_has_our_name_or_the_one_that_it_came_with(name: str, megabytes: int, gpu: str, memory: float) -> None:
    """A card reports a little more or less memory than it is sold with."""
    found = made(gpu_name=name, gpu_ram=megabytes)
    assert (found.gpu, found.gpu_memory_gb) == (gpu, memory)


@pytest.mark.parametrize(
    ("place", "region"),
    [("Texas, US", "US"), (", US", "US"), ("US", "US"), (None, "unknown"), ("", "unknown"), ("Atlantis", "unknown")],
)
def test_a_region_is_a_country(place: str | None, region: str) -> None:
    assert made(geolocation=place).region == region


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_gpus_are_asked_for_in_the_wires_own_spelling() -> None:
    def asked(*names: str) -> Any:
        return offers.filters(OfferQuery(gpus=names, gpu_count=1)).get("gpu_name")

    assert asked("RTX4090") == {"in": ["RTX 4090"]}
    assert asked("RTX6000-Ada", "H100-SXM") == {"in": ["RTX 6000Ada", "H100 SXM"]}
    assert asked("A100-80GB") == {"in": ["A100 PCIE", "A100 SXM4", "A100 SXM"]}
    assert asked("RTX 4090D") == {"in": ["RTX 4090D"]}, "a name that only Vast.ai has"
    assert asked("RTX4090", "MI300X") is None, "one whose spelling there is not known: everything is looked through"
    assert asked() is None


def test_every_spelling_means_one_gpu_or_cards_that_differ_in_memory() -> None:
    for wire in offers.WIRE_NAMES:
        assert gpus.canonical(wire) or gpus.ambiguous(wire), wire


def test_a_card_is_not_missed_for_what_it_reports_of_its_memory() -> None:
    """An L4 has 23034 MB, a 4090 24564: neither passes a filter of 24 times 1000 or 1024 for sure."""
    asked = offers.filters(OfferQuery(gpu_count=1, gpu_memory_gb=24))["gpu_ram"]["gte"]
    assert asked <= 23034 and asked > 16_384


def test_all_that_can_be_asked_for_is() -> None:
    query = OfferQuery(
        gpu_count=2, vcpus=8, memory_gb=64, disk_gb=100, regions=("US", "CA"), reliability=0.98, gpus=("RTX4090",)
    )
    asked = offers.filters(query, least_total=0.5)
    assert asked["num_gpus"] == {"eq": 2}
    assert asked["cpu_cores_effective"] == {"gte": 8}
    assert asked["cpu_ram"] == {"gte": 64_000}
    assert asked["disk_space"] == {"gte": 100}
    assert asked["geolocation"] == {"in": ["US", "CA"]}
    assert asked["reliability"] == {"gte": 0.98}
    assert asked["dph_total"] == {"gte": 0.5}
    assert asked["verified"] == asked["rentable"] == {"eq": True}
    assert "id" not in asked, "a filter on it finds nothing"
    assert offers.filters(OfferQuery(disk_gb=1))["disk_space"] == {"gte": 8}
    assert "geolocation" not in offers.filters(OfferQuery(regions=("Texas",)))


# -- looked at again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"verification": "unverified"},
        {"verification": "deverified"},
        {"rentable": False},
        {"rented": True},
        {"external": True},
        {"direct_port_count": 0},
        {"cuda_max_good": 11.8},
        {"duration": 3600},
        {"duration": None, "end_date": START.timestamp() + 3600},
        {"disk_space": 4},
        {"num_gpus": 2},
    ],
    ids=repr,
)
def test_what_the_server_lets_through_is_not_offered(changes: dict[str, Any]) -> None:
    assert offers.is_wanted(ask(), ONE, START)
    assert not offers.is_wanted(ask(**changes), ONE, START)


def test_what_a_row_does_not_say_does_not_hide_it() -> None:
    row = ask()
    for name in ("verification", "rentable", "rented", "duration", "cuda_max_good", "disk_space"):
        del row[name]
    assert offers.is_wanted(row, ONE, START)


def test_a_job_without_a_gpu_runs_on_any_machine() -> None:
    assert offers.is_wanted(ask(num_gpus=4), OfferQuery(), START)
    assert "num_gpus" not in offers.filters(OfferQuery())
