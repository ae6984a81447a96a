"""AWS's rows, price files and bills, mutated: a value of ours or an error of ours. Types are as boto3 has them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.aws import bill, codes, machine_types, mapping, public_prices
from providers.aws.cache import Cache
from providers.aws.catalog import Catalog
from providers.aws.prices import Prices
from providers.errors import ProviderError, Unreachable
from tests.fakes.clock import START, FakeClock
from tests.fuzz import sense
from tests.fuzz.nonsense import WORDS, examples, mutated, reworded
from tests.providers.aws.test_parts import ScriptedAws
from tests.providers.aws.test_public_prices import COLUMNS, G5, GP3

Json = dict[str, Any]

TAGS = {
    mapping.NAME: "gpujob-r-1-1-1",
    mapping.OWNER: "alice",
    mapping.RUN: "r-1",
    mapping.ATTEMPT: "1",
    mapping.DEADLINE: "1795266000",
    mapping.HOST_KEY: "ssh-ed25519 AAAA",
    mapping.RATE: "1.006",
    mapping.DISK_GB: "120",
    mapping.DISK_RATE: "0.08",
}
ROW: Json = {
    "InstanceId": "i-0abc",
    "InstanceType": "g5.xlarge",
    "InstanceLifecycle": "spot",
    "State": {"Code": 16, "Name": "running"},
    "StateReason": {"Code": "Server.SpotInstanceTermination", "Message": "Spot instance terminated"},
    "StateTransitionReason": "Server.SpotInstanceTermination (2026-11-21 12:10:00 GMT)",
    "PublicIpAddress": "203.0.113.7",
    "LaunchTime": START,
    "Tags": mapping.to_rows(TAGS),
    "NetworkInterfaces": [{"Groups": [{"GroupId": "sg-1"}]}],
}
TYPE: Json = {
    "InstanceType": "g5.xlarge",
    "BareMetal": False,
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "VCpuInfo": {"DefaultVCpus": 4},
    "MemoryInfo": {"SizeInMiB": 16384},
    "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
    "SupportedUsageClasses": ["on-demand", "spot"],
}
DAY: Json = {
    "TimePeriod": {"Start": "2026-11-21", "End": "2026-11-22"},
    "Estimated": False,
    "Groups": [
        {
            "Keys": ["USW2-BoxUsage:g5.xlarge"],
            "Metrics": {
                "UnblendedCost": {"Amount": "1.006", "Unit": "USD"},
                "UsageQuantity": {"Amount": "1", "Unit": "Hrs"},
            },
        }
    ],
}
PRODUCT: Json = {
    "product": {"attributes": {"instanceType": "g5.xlarge"}},
    "terms": {"OnDemand": {"A": {"priceDimensions": {"B": {"unit": "Hrs", "pricePerUnit": {"USD": "1.0060000000"}}}}}},
}
SPOT: Json = {
    "InstanceType": "g5.xlarge",
    "AvailabilityZone": "us-east-1a",
    "ProductDescription": "Linux/UNIX",
    "SpotPrice": "0.3021",
    "Timestamp": START,
}


@given(reworded(ROW))
@example({**ROW, "Tags": mapping.to_rows({**TAGS, mapping.ATTEMPT: "²", mapping.DEADLINE: "²"})})
@example({**ROW, "Tags": mapping.to_rows({**TAGS, mapping.DEADLINE: "9" * 200})})
@example({**ROW, "Tags": mapping.to_rows({**TAGS, mapping.RATE: "-1", mapping.DISK_RATE: "NaN"})})
@example({**ROW, "Tags": [{"Value": "x"}, {"Key": "y"}]})
@example({name: value for name, value in ROW.items() if name != "LaunchTime"})
@example({name: value for name, value in ROW.items() if name != "InstanceId"})
@examples(400)
def test_an_instance_is_shown_or_said_to_be_unreadable(row: Json) -> None:
    try:
        found = mapping.instance(row, region="us-east-1", simulated=True)
    except ProviderError as error:
        return sense.error(error)
    sense.instance(found)
    mapping.groups_of(row)
    if (free := bill.free_hour(row, START)) is not None:
        sense.charge(free)
    return None


@given(reworded(dict.fromkeys(TAGS, "1")))
@examples(150)
def test_what_is_left_of_a_machine_is_shown_whatever_its_tags_say(tags: dict[str, str]) -> None:
    sense.instance(mapping.half_made("gpujob-r-1-1-1", tags, region="us-east-1", left=["volume v"], now=START))


@given(mutated([TYPE]))
@example([{**TYPE, "VCpuInfo": {}}])
@example([{**TYPE, "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": None, "Count": "x"}]}}])
@examples(300)
def test_one_bad_type_hides_no_good_one(rows: Any) -> None:
    listed = [*rows, {**TYPE, "InstanceType": "g5.good"}] if isinstance(rows, list) else [TYPE]
    found = machine_types.described(listed)
    assert {"g5.good", "g5.xlarge"} & {machine.name for machine in found}


@given(reworded(DAY))
@example({**DAY, "TimePeriod": {"Start": "x", "End": "y"}})
@examples(200)
def test_a_day_of_the_bill_is_charges_or_unreachable(day: Json) -> None:
    looking = bill.Bill(ScriptedAws(get_cost_and_usage={"ResultsByTime": [day]}), FakeClock())  # type: ignore[arg-type]
    try:
        for charge in looking.charges("gpujob-r-1-1-1", START.replace(year=2025)):
            sense.charge(charge)
    except ProviderError as error:
        sense.error(error)


@given(mutated(PRODUCT), reworded(SPOT))
@example({**PRODUCT, "product": {}}, {**SPOT, "SpotPrice": "NaN"})
@example("[[[", {**SPOT, "SpotPrice": "-1"})
@examples(200)
def test_one_bad_price_hides_no_good_one(tmp_path: Path, product: Any, spot: Json) -> None:
    good = {**PRODUCT, "product": {"attributes": {"instanceType": "g5.good"}}}
    products = {"PriceList": [product if isinstance(product, str) else json.dumps(product), json.dumps(good)]}
    history = {"SpotPriceHistory": [spot, {**SPOT, "InstanceType": "g5.good"}]}
    aws, clock = ScriptedAws(get_products=products, describe_spot_price_history=history), FakeClock()
    clock.advance(next(_ages))
    prices = Prices(aws, Cache(tmp_path, clock), clock, lambda _: ())  # type: ignore[arg-type]
    listed = prices.listed("us-east-1", may_download=False).on_demand
    market = prices.spot("us-east-1", ["g5.xlarge"]).prices
    assert listed["g5.good"] == Decimal("1.006") and market["g5.good", "us-east-1a"] == Decimal("0.3021")
    for usd in (*listed.values(), *market.values()):
        assert usd.is_finite() and usd > 0


_ages = iter(range(100_000, 10**12, 100_000))  # each example is a day later than what the cache keeps


@pytest.mark.parametrize("answer", [{}, {"Regions": []}, {"Regions": [{}]}, {"Regions": [{"RegionName": ""}]}])
def test_a_list_of_regions_that_lacks_one_is_an_error(tmp_path: Path, answer: Json) -> None:
    """Machines of a region that nobody asks would not be in any list."""
    aws = ScriptedAws(describe_regions=answer)
    aws.home_region = "us-east-1"  # type: ignore[attr-defined]
    with pytest.raises(Unreachable, match="regions"):
        Catalog(aws, Cache(tmp_path, FakeClock())).regions()  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from(COLUMNS), st.one_of(st.sampled_from(WORDS), st.text(max_size=9))), max_size=3)
)
@example([("PricePerUnit", "NaN")])
@example([("PricePerUnit", "x")])
@example([("PricePerUnit", "-1")])
@example([("vCPU", "²")])
@example([("Memory", "x GiB")])
@example([("GPU", "²")])
@example([("Physical Processor", "A" * 200_000)])
@examples(200)
def test_one_bad_row_of_the_price_file_hides_no_good_one(changes: list[tuple[str, str]]) -> None:
    good = {**G5, "SKU": "Z", "Instance Type": "g5.2xlarge"}
    document = public_prices.read(_file({**G5, **dict(changes)}, {**GP3, **dict(changes)}, good))
    assert "g5.2xlarge" in document["on_demand"]
    for price in document["on_demand"].values():
        assert Decimal(price) > 0


@given(st.lists(st.binary(max_size=300), max_size=6))
@example([b"x" * 200_000])
@example([b'"' + b"x" * 90_000 + b"\n", b'"OnDemand""Linux"' * 5000])
@example([b"\xff\xfe\x00"])
@examples(200)
def test_a_torn_price_file_is_read_or_unreachable(chunks: list[bytes]) -> None:
    whole = "\n".join(_file(G5, GP3)).encode()
    for text in (chunks, [whole[: len(whole) // 2], *chunks], [whole, b"\n", *chunks]):
        try:
            public_prices.read(public_prices.lines_of(text))
        except Unreachable as error:
            sense.error(error)


@given(st.text(max_size=100), st.integers(0, 999), st.one_of(st.text(max_size=300), st.just(" " * 500_000)))
@examples(200)
def test_every_code_has_a_kind_and_a_short_message(code: str, status: int, message: str) -> None:
    assert isinstance(codes.kind_of(code, status), codes.Kind)
    assert len(codes.without_blob(message)) <= 1000
    assert ":" in codes.permission(message, service="ec2", operation="RunInstances")
    assert codes.quota_advice(code, spot=True, region="us-east-1")


def _file(*rows: dict[str, str]) -> list[str]:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows(
        [["FormatVersion", "v1.0"], ["Disclaimer", "x"], ["Publication Date", "2026"], ["V", "1"], ["O", "x"]]
    )
    writer.writerow(COLUMNS)
    writer.writerows([row.get(column, "") for column in COLUMNS] for row in rows)
    return [line.encode("utf-8", "replace").decode() for line in text.getvalue().split("\n")]


def test_the_file_of_these_tests_is_one() -> None:
    assert public_prices.read(_file(G5, GP3))["gp3"] == "0.0800000000"
    assert datetime.now(UTC) > START.replace(year=2020)
