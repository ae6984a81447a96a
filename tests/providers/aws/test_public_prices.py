"""The public price file, line by line: what is taken from it, and what mixes in and must not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from providers.aws import public_prices
from providers.errors import Unreachable

COLUMNS = [
    "SKU",
    "OfferTermCode",
    "TermType",
    "Unit",
    "PricePerUnit",
    "Currency",
    "Product Family",
    "Instance Type",
    "vCPU",
    "Physical Processor",
    "Memory",
    "Volume API Name",
    "Tenancy",
    "Operating System",
    "CapacityStatus",
    "GPU",
    "GPU Memory",
    "MarketOption",
    "Pre Installed S/W",
]
G5 = {
    "SKU": "A",
    "TermType": "OnDemand",
    "Unit": "Hrs",
    "PricePerUnit": "1.0060000000",
    "Currency": "USD",
    "Product Family": "Compute Instance",
    "Instance Type": "g5.xlarge",
    "vCPU": "4",
    "Physical Processor": "AMD EPYC 7R32",
    "Memory": "16 GiB",
    "Tenancy": "Shared",
    "Operating System": "Linux",
    "CapacityStatus": "Used",
    "GPU": "1",
    "MarketOption": "OnDemand",
    "Pre Installed S/W": "NA",
}
GP3 = {
    "SKU": "D",
    "TermType": "OnDemand",
    "Unit": "GB-Mo",
    "PricePerUnit": "0.0800000000",
    "Currency": "USD",
    "Product Family": "Storage",
    "Volume API Name": "gp3",
}


def lines(*rows: dict[str, str]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows(
        [["FormatVersion", "v1.0"], ["Disclaimer", "a, long, one"], ["Publication Date", "2026-11-19T02:00:00Z"]]
    )
    writer.writerows([["Version", "20261119"], ["OfferCode", "AmazonEC2"], COLUMNS])
    writer.writerows([[row.get(column, "") for column in COLUMNS] for row in rows])
    yield from text.getvalue().splitlines()


def prices(*rows: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = public_prices.read(lines(*rows))["on_demand"]
    return found


def test_types_prices_and_the_disk() -> None:
    found = public_prices.read(lines(GP3, G5))
    assert found["published"] == "2026-11-19T02:00:00Z"
    assert (found["gp3"], found["on_demand"]) == ("0.0800000000", {"g5.xlarge": "1.0060000000"})
    [machine] = found["types"]
    assert (machine["gpu"], machine["gpu_count"], machine["gpu_memory_gb"], machine["vcpus"]) == ("A10G", 1, 24, 4)
    assert machine["memory_gb"] == pytest.approx(17.18, abs=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"TermType": "Reserved"},
        {"Tenancy": "Dedicated"},
        {"Operating System": "Windows"},
        {"CapacityStatus": "UnusedCapacityReservation"},
        {"Unit": "Quantity"},
        {"Currency": "CNY"},
        {"Pre Installed S/W": "SQL Std"},
        {"MarketOption": "CapacityBlock"},
        {"PricePerUnit": "0.0000000000"},
        {"Instance Type": "g4dn.metal"},
        {"Instance Type": "p3.2xlarge"},
        {"Instance Type": "g5g.xlarge", "Physical Processor": "AWS Graviton2 Processor"},
        {"Instance Type": "m7g.large", "Physical Processor": "AWS Graviton3 Processor", "GPU": ""},
        {"Instance Type": "t3.micro", "GPU": ""},
        {"Memory": "NA"},
        {"GPU": "0.5"},
    ],
    ids=lambda changes: "-".join(changes.values()),
)
def test_what_is_no_price_of_a_machine_that_we_rent(changes: dict[str, str]) -> None:
    """p5e has rows for capacity blocks only: without the filter on the market it would look rentable."""
    assert prices({**G5, **changes}) == {}
    assert prices({**G5, **changes}, G5) == {"g5.xlarge": "1.0060000000"}


def test_a_machine_without_gpus() -> None:
    [machine] = public_prices.read(lines({**G5, "Instance Type": "m7i.large", "GPU": "", "Memory": "8 GiB"}))["types"]
    assert (machine["gpu"], machine["gpu_count"]) == (None, 0)


def test_large_memories_are_written_with_commas() -> None:
    row = {**G5, "Instance Type": "p5.48xlarge", "Memory": "2,048 GiB", "GPU": "8", "vCPU": "192"}
    [machine] = public_prices.read(lines(row))["types"]
    assert (machine["gpu"], machine["gpu_count"]) == ("H100-SXM", 8)
    assert Decimal(str(machine["memory_gb"])) > 2000


@pytest.mark.parametrize("cut", [0, 3, 6])
def test_a_file_that_is_not_one_is_no_empty_price_list(cut: int) -> None:
    """An empty list would be kept for a day."""
    torn: Any = list(lines(G5))[:cut]
    if cut == 6:
        torn = [*torn[:5], '"SKU","Price"']
    with pytest.raises(Unreachable):
        public_prices.read(iter(torn))
