"""RunPod's catalog as offers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from providers.base import Offer, OfferQuery
from providers.runpod.offers import (
    Choice,
    Hardware,
    catalog_offers,
    cpu_offers,
    hardware_of,
    money,
    public_offers,
)
from tests.fakes.clock import START

Json = dict[str, Any]
ONE = OfferQuery(gpu_count=1, disk_gb=20)


def gpu(**changes: Any) -> Json:
    made: Json = {
        "id": "NVIDIA GeForce RTX 4090",
        "name": "RTX 4090",
        "manufacturer": "NVIDIA",
        "memory": 24,
        "secure": True,
        "community": True,
        "price": {"secure": Decimal("0.69"), "community": Decimal("0.34")},
        "maxCount": {"secure": 8, "community": 4},
        "availability": "HIGH",
        "dataCenters": [
            {"id": "EU-RO-1", "name": "Romania", "availability": "LOW"},
            {"id": "US-KS-2", "name": "Kansas", "availability": "NONE"},
        ],
    }
    return {**made, **changes}


def offers(*rows: Json, query: OfferQuery = ONE, cloud: str = "SECURE", known: Hardware | None = None) -> list[Offer]:
    hardware = {"NVIDIA GeForce RTX 4090": known} if known else {}
    return list(catalog_offers(rows, query, cloud=cloud, hardware=hardware, at=START))


def test_one_offer_where_runpod_chooses_the_data_centre() -> None:
    [found] = offers(gpu())
    assert found.offer_id == "secure:NVIDIA GeForce RTX 4090:1:any"
    assert (found.gpu, found.gpu_count, found.gpu_memory_gb, found.region) == ("RTX4090", 1, 24, "any")
    assert (found.usd_per_hour, found.disk_usd_per_gb_month, found.spot) == (Decimal("0.69"), Decimal("0.10"), False)
    assert found.ingress_usd_per_gb == found.egress_usd_per_gb == 0
    assert found.fetched_at == START and found.source


def test_regions_are_data_centres_that_have_stock() -> None:
    wanted = replace(ONE, regions=("EU-RO-1", "US-KS-2", "EU-XX-9"))
    assert [found.offer_id for found in offers(gpu(), query=wanted)] == ["secure:NVIDIA GeForce RTX 4090:1:EU-RO-1"]
    assert [found.region for found in offers(gpu(), query=replace(ONE, regions=("eu-ro-1",)))] == ["eu-ro-1"]
    assert offers(gpu(dataCenters=None), query=wanted) == [], "omitted where there is none anywhere"
    assert [found.region for found in offers(gpu(dataCenters=["EU-RO-1"]), query=wanted)] == ["EU-RO-1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"availability": "NONE"},
        {"availability": None},
        {"price": {"secure": None, "community": Decimal("0.34")}},
        {"price": {"secure": 0, "community": Decimal("0.34")}},
        {"price": {}},
        {"secure": False},
        {"maxCount": {"secure": 0, "community": 8}},
        {"maxCount": None},
    ],
    ids=str,
)
def test_what_cannot_be_rented_is_no_offer(changes: Json) -> None:
    assert offers(gpu(**changes)) == []


def test_each_cloud_has_its_price_and_its_most() -> None:
    [secure] = offers(gpu(), query=replace(ONE, gpu_count=8))
    assert (secure.usd_per_hour, secure.gpu_count) == (Decimal("5.52"), 8)
    assert offers(gpu(), query=replace(ONE, gpu_count=8), cloud="COMMUNITY") == []
    [community] = offers(gpu(), cloud="COMMUNITY")
    assert community.offer_id == "community:NVIDIA GeForce RTX 4090:1:any"
    assert community.usd_per_hour == Decimal("0.34")
    assert "not promised" in community.location, "v2 cannot ask for a public address"
    assert "not promised" not in secure.location


@pytest.mark.parametrize(
    ("written", "price"),
    [
        (0.69, "0.69"),
        (Decimal("2.0699999999999998"), "2.07"),
        (10, "10"),
        (None, "0"),
        (-1, "0"),
        ("0.69", "0"),
        (True, "0"),
        (Decimal("NaN"), "0"),
    ],
)
def test_money(written: object, price: str) -> None:
    assert str(money(written)) == price


def test_unknown_gpus_keep_runpods_name() -> None:
    [found] = offers(gpu(id="NVIDIA RTX PRO 4000 Blackwell"))
    assert found.gpu == "NVIDIA RTX PRO 4000 Blackwell"
    [known] = offers(gpu(id="NVIDIA H100 80GB HBM3"))
    assert known.gpu == "H100-SXM"


class TestHardware:
    wish = OfferQuery(gpu_count=2, vcpus=12, memory_gb=64)

    def test_what_runpod_says_counts(self) -> None:
        [found] = offers(gpu(), query=self.wish, known=Hardware(8, 31))
        assert (found.vcpus, found.memory_gb) == (8, 31) and found.unfit(self.wish) is not None

    def test_what_nobody_says_is_claimed_within_reason(self) -> None:
        """The probe finds out; and what no machine has is not claimed."""
        [found] = offers(gpu(), query=self.wish)
        assert (found.vcpus, found.memory_gb) == (12, 64)
        [found] = offers(gpu(), query=replace(self.wish, vcpus=1e6, memory_gb=1e6))
        assert (found.vcpus, found.memory_gb) == (32, 256)

    def test_it_comes_from_the_lowest_price_where_there_is_stock(self) -> None:
        rows: list[Json] = [
            {"id": "a", "lowestPrice": {"minVcpu": 6, "minMemory": 23, "stockStatus": "Low"}},
            {"id": "b", "lowestPrice": {"minVcpu": None, "minMemory": None, "stockStatus": None}},
            {"id": "c", "lowestPrice": None},
        ]
        assert hardware_of(rows) == {"a": Hardware(6, 23), "b": Hardware(), "c": Hardware()}


class TestWithoutAnAccount:
    def row(self, stock: str | None = "High", **changes: Any) -> Json:
        lowest = {"uninterruptablePrice": Decimal("0.69"), "stockStatus": stock, "minVcpu": 8, "minMemory": 31}
        made: Json = {
            "id": "NVIDIA GeForce RTX 4090",
            "memoryInGb": 24,
            "secureCloud": True,
            "communityCloud": True,
            "securePrice": Decimal("0.69"),
            "communityPrice": Decimal("0.34"),
            "maxGpuCountSecureCloud": 8,
            "maxGpuCountCommunityCloud": 2,
            "lowestPrice": lowest,
        }
        return {**made, **changes}

    def found(self, *rows: Json, query: OfferQuery = ONE, cloud: str = "SECURE") -> list[Offer]:
        return list(public_offers(rows, query, cloud=cloud, at=START))

    def test_the_public_price_is_an_offer(self) -> None:
        [offer] = self.found(self.row())
        assert (offer.usd_per_hour, offer.gpu, offer.vcpus, offer.memory_gb) == (Decimal("0.69"), "RTX4090", 8, 31)
        assert offer.offer_id == "secure:NVIDIA GeForce RTX 4090:1:any" and offer.gpu_memory_gb == 24

    @pytest.mark.parametrize("stock", [None, "None", ""])
    def test_no_stock_is_null_or_a_word(self, stock: str | None) -> None:
        assert self.found(self.row(stock)) == []

    def test_prices_may_be_null(self) -> None:
        assert self.found(self.row(communityPrice=None), cloud="COMMUNITY") == []
        assert self.found(self.row(communityCloud=False), cloud="COMMUNITY") == []
        assert self.found(self.row(), query=replace(ONE, gpu_count=3), cloud="COMMUNITY") == []


class TestCpus:
    row: ClassVar[Json] = {
        "id": "cpu3c",
        "name": "Compute-Optimized",
        "vcpu": {"min": 2, "max": 32},
        "ramGbPerVcpu": Decimal("2.5"),
        "price": {"securePerVcpu": Decimal("0.03")},
        "availability": "MEDIUM",
        "dataCenters": [{"id": "EU-RO-1", "availability": "MEDIUM"}],
    }

    @pytest.mark.parametrize(
        ("wish", "count"),
        [
            (OfferQuery(), 2),
            (OfferQuery(vcpus=3), 4),
            (OfferQuery(memory_gb=20), 8),
            (OfferQuery(vcpus=2, memory_gb=80), 32),
        ],
    )
    def test_the_least_power_of_two_that_has_it(self, wish: OfferQuery, count: int) -> None:
        [found] = cpu_offers([self.row], wish, at=START)
        assert found.offer_id == f"cpu:cpu3c:{count}:any" and found.unfit(wish) is None
        assert (found.vcpus, found.memory_gb, found.usd_per_hour) == (count, count * 2.5, count * Decimal("0.03"))
        assert found.gpu is None and found.gpu_count == 0

    def test_more_than_the_flavor_has_or_no_stock_is_no_offer(self) -> None:
        assert list(cpu_offers([self.row], OfferQuery(vcpus=33), at=START)) == []
        assert list(cpu_offers([{**self.row, "availability": "NONE"}], OfferQuery(), at=START)) == []
        [found] = cpu_offers([self.row], OfferQuery(regions=("EU-RO-1", "US-KS-2")), at=START)
        assert found.region == "EU-RO-1"


def test_an_id_says_what_is_to_be_made() -> None:
    choice = Choice("secure", "NVIDIA: odd GPU", 2, "EU-RO-1")
    assert Choice.of(choice.offer_id) == choice
    with pytest.raises(ValueError, match="unpack"):
        Choice.of("local")
