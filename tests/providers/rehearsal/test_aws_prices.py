"""What the simulated AWS says that things cost: the price list with all its other rows, and the spot market."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.providers.rehearsal.aws_account import Account, refused

LINUX_ON_DEMAND = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "productFamily": "Compute Instance",
}


@pytest.fixture
def account() -> Account:
    return Account()


def products(account: Account, region: str = "us-east-1", **fields: str) -> list[dict[str, Any]]:
    filters = [
        {"Type": "TERM_MATCH", "Field": name, "Value": value}
        for name, value in {"regionCode": region, **fields}.items()
    ]
    pages = account.client("pricing").get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    return [json.loads(text) for page in pages for text in page["PriceList"]]


def price(product: dict[str, Any]) -> Decimal:
    [term] = product["terms"]["OnDemand"].values()
    [dimension] = term["priceDimensions"].values()
    return Decimal(dimension["pricePerUnit"]["USD"])


@pytest.mark.parametrize(
    ("machine_type", "usd"),
    [
        ("g4dn.xlarge", "0.526"),
        ("g5.xlarge", "1.006"),
        ("g6.xlarge", "0.8048"),
        ("g6e.xlarge", "1.861"),
        ("g7e.2xlarge", "3.36312"),
        ("p4d.24xlarge", "21.957642"),
        ("p5.4xlarge", "6.88"),
        ("p5.48xlarge", "55.04"),
        ("p5en.48xlarge", "63.296"),
        ("p6-b200.48xlarge", "113.9328"),
        ("p6-b300.48xlarge", "142.416"),
    ],
)
def test_the_price_list_has_one_row_that_is_meant(account: Account, machine_type: str, usd: str) -> None:
    [product] = products(account, instanceType=machine_type, **LINUX_ON_DEMAND)
    assert price(product) == Decimal(usd)


@pytest.mark.parametrize("forgotten", sorted(LINUX_ON_DEMAND.keys() - {"productFamily"}))
def test_each_filter_that_is_forgotten_finds_more(account: Account, forgotten: str) -> None:
    fields = {name: value for name, value in LINUX_ON_DEMAND.items() if name != forgotten}
    assert len({price(row) for row in products(account, instanceType="p5.48xlarge", **fields)}) > 1 or forgotten in (
        "capacitystatus",
    )
    assert len(products(account, instanceType="p5.48xlarge", **fields)) > 1


def test_what_is_only_reserved_has_no_price(account: Account) -> None:
    assert products(account, "us-west-2", instanceType="p5e.48xlarge", **LINUX_ON_DEMAND) == []


def test_regions_have_prices_of_their_own(account: Account) -> None:
    [here], [there] = (
        products(account, region, instanceType="g5.xlarge", **LINUX_ON_DEMAND)
        for region in ("us-east-1", "eu-central-1")
    )
    assert price(there) > price(here)


def test_the_price_list_comes_in_pages(account: Account) -> None:
    client = account.client("pricing")
    first = client.get_products(ServiceCode="AmazonEC2")
    assert len(first["PriceList"]) == 100 and first["NextToken"]
    second = client.get_products(ServiceCode="AmazonEC2", NextToken=first["NextToken"])
    assert set(first["PriceList"]).isdisjoint(second["PriceList"])


def test_the_pricing_service_is_in_few_regions(account: Account) -> None:
    with refused("UnknownEndpoint"):
        account.client("pricing", "us-west-2").get_products(ServiceCode="AmazonEC2")


def test_disks_are_in_the_price_list(account: Account) -> None:
    [product] = products(account, productFamily="Storage", volumeApiName="gp3")
    assert price(product) == Decimal("0.08")


def bulk(account: Account, region: str = "us-east-1") -> list[dict[str, str]]:
    answer = account.http.get(f"/offers/v1.0/aws/AmazonEC2/current/{region}/index.csv")
    assert answer.status_code == 200
    return list(csv.DictReader(answer.get_data(as_text=True).splitlines()[5:]))


def test_the_public_file_needs_no_key_and_has_five_lines_before_its_header(account: Account) -> None:
    answer = account.http.get("/offers/v1.0/aws/AmazonEC2/current/us-east-1/index.csv")
    text = answer.get_data(as_text=True).splitlines()
    assert [line.split(",")[0] for line in text[:6]] == [
        '"FormatVersion"',
        '"Disclaimer"',
        '"Publication Date"',
        '"Version"',
        '"OfferCode"',
        '"SKU"',
    ]


def test_the_public_file_says_what_the_service_says(account: Account) -> None:
    found = {
        row["Instance Type"]: Decimal(row["PricePerUnit"])
        for row in bulk(account)
        if row["TermType"] == "OnDemand"
        and (row["Tenancy"], row["Operating System"], row["CapacityStatus"]) == ("Shared", "Linux", "Used")
        and (row["Unit"], row["Currency"], row["Pre Installed S/W"], row["MarketOption"])
        == ("Hrs", "USD", "NA", "OnDemand")
        and row["Product Family"] == "Compute Instance"
    }
    listed = products(account, **LINUX_ON_DEMAND)
    assert found == {row["product"]["attributes"]["instanceType"]: price(row) for row in listed}


def test_most_rows_of_the_public_file_are_not_meant(account: Account) -> None:
    rows = [row for row in bulk(account) if row["Instance Type"] == "p5.48xlarge"]
    assert {row["TermType"] for row in rows} == {"OnDemand", "Reserved"}
    assert {row["Tenancy"] for row in rows} == {"Shared", "Dedicated"}
    assert {row["Operating System"] for row in rows} == {"Linux", "Windows"}
    assert {row["MarketOption"] for row in rows} == {"OnDemand", "CapacityBlock"}
    assert len({row["CapacityStatus"] for row in rows}) == 3
    assert min(Decimal(row["PricePerUnit"]) for row in rows) == 0


def test_there_is_no_file_of_a_region_that_is_none(account: Account) -> None:
    assert account.http.get("/offers/v1.0/aws/AmazonEC2/current/mars-1/index.csv").status_code == 403


def spot(account: Account, **asked: Any) -> list[dict[str, Any]]:
    pages = account.ec2.get_paginator("describe_spot_price_history").paginate(**asked)
    return [row for page in pages for row in page["SpotPriceHistory"]]


def test_spot_prices_of_now_are_one_per_zone_and_older_than_now(account: Account) -> None:
    now = account.clock()
    rows = spot(account, InstanceTypes=["g5.xlarge"], ProductDescriptions=["Linux/UNIX"], StartTime=now)
    assert sorted(row["AvailabilityZone"] for row in rows) == [f"us-east-1{letter}" for letter in "abcdf"]
    assert all(row["Timestamp"] <= now for row in rows)
    assert all(Decimal("0.25") < Decimal(row["SpotPrice"]) < Decimal("1.006") for row in rows)
    assert len({row["SpotPrice"] for row in rows}) > 1


def test_spot_prices_without_a_product_are_of_all_systems(account: Account) -> None:
    rows = spot(account, InstanceTypes=["g5.xlarge"], StartTime=account.clock(), AvailabilityZone="us-east-1a")
    assert len(rows) == len({row["ProductDescription"] for row in rows}) == 4
    by_product = {row["ProductDescription"]: Decimal(row["SpotPrice"]) for row in rows}
    assert by_product["Windows"] > by_product["Linux/UNIX"]


def test_spot_history_begins_with_what_was_in_effect(account: Account) -> None:
    start = account.clock() - timedelta(hours=24)
    rows = spot(
        account,
        InstanceTypes=["g5.xlarge"],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=start,
        AvailabilityZone="us-east-1a",
    )
    times = [row["Timestamp"] for row in rows]
    assert times == sorted(times, reverse=True) and len(times) > 2
    assert times[-1] <= start < times[-2]


def test_spot_prices_move_with_the_clock_and_are_the_same_for_everybody(account: Account) -> None:
    def now(of: Account) -> str:
        asked = {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"], "StartTime": of.clock()}
        return str(spot(of, AvailabilityZone="us-east-1a", **asked)[0]["SpotPrice"])

    other = Account()
    other.clock.advance(max(0.0, (account.clock() - other.clock()).total_seconds()))
    assert now(account) == now(other)
    seen = {now(account)}
    for _ in range(10):
        account.advance(12 * 3600)
        seen.add(now(account))
    assert len(seen) > 3


def test_a_move_is_in_the_history_at_its_moment(account: Account) -> None:
    start = account.clock()
    account.cloud.move_prices(Decimal("0.5"), seconds=600)
    account.advance(1200)
    asked = {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"], "StartTime": start}
    rows = spot(account, AvailabilityZone="us-east-1a", **asked)
    [moved] = [row for row in rows if 0 <= (row["Timestamp"] - start).total_seconds() - 600 < 1]
    assert rows[-1]["Timestamp"] <= start
    assert Decimal(moved["SpotPrice"]) < Decimal("0.6") * Decimal(rows[-1]["SpotPrice"])


def test_spot_prices_of_a_filter(account: Account) -> None:
    wanted = [{"Name": "instance-type", "Values": ["g6.*"]}, {"Name": "availability-zone", "Values": ["us-east-1c"]}]
    rows = spot(account, Filters=wanted, ProductDescriptions=["Linux/UNIX"], StartTime=account.clock())
    assert rows and {row["InstanceType"].partition(".")[0] for row in rows} == {"g6"}
    with refused("InvalidParameterValue"):
        spot(account, Filters=[{"Name": "nonsense", "Values": ["x"]}])


def test_types_come_in_pages_and_are_those_of_the_region(account: Account) -> None:
    here, there = ({row["InstanceType"] for row in types(account, region)} for region in ("us-east-1", "eu-central-1"))
    assert "p5.48xlarge" in here and "p5.48xlarge" not in there
    assert len(account.ec2.describe_instance_types(MaxResults=5)["InstanceTypes"]) == 5


def types(account: Account, region: str = "us-east-1", **asked: Any) -> list[dict[str, Any]]:
    pages = account.client("ec2", region).get_paginator("describe_instance_types").paginate(**asked)
    return [row for page in pages for row in page["InstanceTypes"]]


def test_types_by_name_and_by_filter(account: Account) -> None:
    [row] = types(account, InstanceTypes=["g5.12xlarge"])
    assert (row["GpuInfo"]["Gpus"][0]["Count"], row["VCpuInfo"]["DefaultVCpus"]) == (4, 48)
    found = types(account, Filters=[{"Name": "instance-type", "Values": ["g4dn.*"]}])
    assert {row["InstanceType"].partition(".")[0] for row in found} == {"g4dn"}
    with refused("InvalidInstanceType"):
        account.ec2.describe_instance_types(InstanceTypes=["g5.huge"])
    with refused("InvalidParameterValue"):
        account.ec2.describe_instance_types(Filters=[{"Name": "nonsense", "Values": ["x"]}])


def test_a_part_of_a_gpu_counts_as_none(account: Account) -> None:
    [row] = types(account, InstanceTypes=["g6f.large"])
    assert row["GpuInfo"]["Gpus"][0]["Count"] == 0


def test_offerings_are_by_zone(account: Account) -> None:
    asked = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": ["p5en.48xlarge"]}]}
    rows = account.ec2.describe_instance_type_offerings(**asked)["InstanceTypeOfferings"]
    assert sorted(row["Location"] for row in rows) == ["us-east-1a", "us-east-1c"]
    assert {row["Location"] for row in account.ec2.describe_instance_type_offerings()["InstanceTypeOfferings"]} == {
        "us-east-1"
    }


def test_the_price_list_has_a_date_that_is_past(account: Account) -> None:
    published = json.loads(account.client("pricing").get_products(ServiceCode="AmazonEC2")["PriceList"][0])
    assert datetime.fromisoformat(published["publicationDate"]) < datetime.now(UTC)
