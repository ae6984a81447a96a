"""AWS's public price file of a region: what can be priced without an account. Read line by line, most of it dropped.

https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-bulk-api.html (2026-11-21). The
filters are those of gpuhunt (dstackai/gpuhunt): without `MarketOption` the rows of capacity blocks would mix in.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from providers import sent
from providers.aws import environment, machine_types
from providers.errors import Rejected, Throttled, Unreachable

PREAMBLE_LINES = 5
CONNECT_SECONDS = 10
READ_SECONDS = 30
MOST_SECONDS = 600.0
LONGEST_LINE = 100_000  # a line has about a hundred short fields

Json = dict[str, Any]

_COMPUTE = {
    "TermType": ("OnDemand",),
    "Tenancy": ("Shared",),
    "Operating System": ("Linux",),
    "CapacityStatus": ("Used",),
    "Unit": ("Hrs",),
    "Currency": ("USD",),
    "Pre Installed S/W": ("", "NA"),
    "MarketOption": ("OnDemand",),
}
_DISK = {
    "TermType": ("OnDemand",),
    "Product Family": ("Storage",),
    "Volume API Name": ("gp3",),
    "Unit": ("GB-Mo",),
    "Currency": ("USD",),
}


def download(region: str, env: Mapping[str, str]) -> Iterator[str]:
    """The lines of the file, as they come; it is large. Raises Unreachable, Throttled, Rejected."""
    import requests

    url = f"{environment.bulk_prices(env)}/offers/v1.0/aws/AmazonEC2/current/{region}/index.csv"
    try:
        with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer:
            if answer.status_code == 429:
                raise Throttled(f"{url}: too many requests", after=30.0, provider="aws")
            if answer.status_code in (403, 404):
                raise Rejected(f"AWS has no price file for {region}", provider="aws")
            if answer.status_code != 200:
                raise Unreachable(f"{url}: status {answer.status_code}", provider="aws")
            yield from _within(lines_of(answer.iter_content(1 << 20)), MOST_SECONDS, url)
    except requests.RequestException as error:
        raise Unreachable(f"{url}: {error}", provider="aws") from error


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of chunks. Raises Unreachable for a line that does not end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise Unreachable("AWS's price file is not what it was: a line does not end", provider="aws")
        yield from (line.decode("utf-8", "replace") for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


def read(lines: Iterable[str]) -> Json:
    """Types with their prices, the price of gp3, and when AWS published them. Raises Unreachable for a torn file.

    A row that makes no sense is left out.
    """
    remaining = iter(lines)
    preamble = dict(_two(line) for _, line in zip(range(PREAMBLE_LINES), remaining, strict=False))
    names = _values(next(remaining, ""))
    if not {"SKU", "Instance Type", "PricePerUnit", *_COMPUTE, *_DISK} <= set(names):
        raise Unreachable("AWS's price file is not what it was: columns are missing", provider="aws")
    types: dict[str, Json] = {}
    prices: dict[str, str] = {}
    disk = None
    for row in _interesting(remaining, names):
        price = row.get("PricePerUnit", "")
        if not sent.price(price):
            continue
        if _fits(row, _DISK):
            disk = disk or price
        elif _fits(row, _COMPUTE) and (machine := machine_types.priced(row)):
            types[machine.name] = machine.to_json()
            prices[machine.name] = price
    return {
        "types": list(types.values()),
        "on_demand": prices,
        "gp3": disk,
        "published": preamble.get("Publication Date", ""),
        "source": "AWS public price file",
    }


def _within(lines: Iterable[str], seconds: float, url: str) -> Iterator[str]:
    """A line that is slow and never silent would take for ever otherwise."""
    end = time.monotonic() + seconds
    for number, line in enumerate(lines):
        if number % 1000 == 0 and time.monotonic() > end:
            raise Unreachable(f"{url} did not come within {seconds:g} s", provider="aws")
        yield line


def _interesting(lines: Iterable[str], names: list[str]) -> Iterator[dict[str, str]]:
    """Parsing is dear, and one row of some hundred is about what we rent. Each by itself: one may lack a quote."""
    for line in lines:
        if '"OnDemand"' in line and ('"Linux"' in line or '"gp3"' in line):
            yield dict(zip(names, _values(line), strict=False))


def _fits(row: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(row.get(name, "") in values for name, values in wanted.items())


def _two(line: str) -> tuple[str, str]:
    values = _values(line)
    return (values[0], values[1]) if len(values) > 1 else ("", "")


def _values(line: str) -> list[str]:
    """Of one line; none of what is no CSV."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []
