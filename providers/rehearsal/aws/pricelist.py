"""The price list: GetProducts of the Pricing service and the public CSV file, with the rows that do not apply as well.

Most rows of the real list are for other systems, tenancies, reservations and capacity blocks: a reader that filters too
little finds a price that nobody pays, or 0. A sample of each kind is here for every instance type.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from providers.rehearsal.aws.billing import GB_MONTH
from providers.rehearsal.aws.catalog import PRODUCTS, Catalog, family, on_demand
from providers.rehearsal.aws.wire import Answer, Call, Refused, json_answer

if TYPE_CHECKING:
    from providers.rehearsal.aws.cloud import AwsCloud

PREFIX = "/offers/v1.0/aws/"

_PUBLISHED = "2026-07-20T00:00:00Z"
_VERSION = "20260720000000"
# The Pricing service has endpoints in these regions only: https://docs.aws.amazon.com/general/latest/gr/billing.html
_ENDPOINTS = ("us-east-1", "eu-central-1", "ap-south-1")
_PAGE = 100
_PREFIXES = {"us-east-1": "", "us-west-2": "USW2-", "eu-central-1": "EUC1-"}
_PLACES = {"us-east-1": "US East (N. Virginia)", "us-west-2": "US West (Oregon)", "eu-central-1": "EU (Frankfurt)"}

_COLUMNS = {  # of the CSV file -> attribute names of GetProducts
    "Product Family": "productFamily",
    "serviceCode": "servicecode",
    "Location": "location",
    "Location Type": "locationType",
    "Instance Type": "instanceType",
    "Current Generation": "currentGeneration",
    "Instance Family": "instanceFamily",
    "vCPU": "vcpu",
    "Physical Processor": "physicalProcessor",
    "Memory": "memory",
    "Storage": "storage",
    "Network Performance": "networkPerformance",
    "Processor Architecture": "processorArchitecture",
    "Volume Type": "volumeType",
    "Tenancy": "tenancy",
    "Operating System": "operatingSystem",
    "License Model": "licenseModel",
    "usageType": "usagetype",
    "operation": "operation",
    "CapacityStatus": "capacitystatus",
    "GPU": "gpu",
    "GPU Memory": "gpuMemory",
    "MarketOption": "marketoption",
    "Normalization Size Factor": "normalizationSizeFactor",
    "Pre Installed S/W": "preInstalledSw",
    "Region Code": "regionCode",
    "serviceName": "servicename",
    "Volume API Name": "volumeApiName",
}
_TERM = ("SKU", "OfferTermCode", "RateCode", "TermType", "PriceDescription", "EffectiveDate", "StartingRange")
_MORE_TERM = ("EndingRange", "Unit", "PricePerUnit", "Currency", "LeaseContractLength", "PurchaseOption")


@dataclass(frozen=True, kw_only=True)
class Product:
    """One product and its price on demand; `reserved` adds the hourly price of a reservation."""

    attributes: dict[str, str]
    usd: Decimal
    unit: str = "Hrs"
    reserved: Decimal | None = None
    sku: str = field(default="", init=False)

    def __post_init__(self) -> None:
        digest = sha256(json.dumps(self.attributes, sort_keys=True).encode()).hexdigest()
        object.__setattr__(self, "sku", digest[:16].upper())


def answer(cloud: AwsCloud, call: Call) -> Answer:
    """GetProducts. Raises Refused."""
    if call.region not in _ENDPOINTS:
        raise Refused("UnknownEndpoint", f"The Pricing service has no endpoint in {call.region}.", 404)
    if call.action != "GetProducts":
        raise Refused("InvalidAction", f"{call.action} is not simulated.")
    if call.body.get("ServiceCode") != "AmazonEC2":
        raise Refused("NotFoundException", f"The service {call.body.get('ServiceCode')} is not simulated.")
    wanted = [(str(row["Field"]), str(row["Value"])) for row in call.body.get("Filters", ())]
    regions = [region for region in cloud.regions if ("regionCode", region) in wanted] or list(cloud.regions)
    found = [
        product
        for region in regions
        for product in _products(cloud.catalog, region)
        if all(product.attributes.get(name) == value for name, value in wanted)
    ]
    start = int(call.body.get("NextToken") or 0)
    end = start + min(_PAGE, int(call.body.get("MaxResults") or _PAGE))
    page = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(_document(each)) for each in found[start:end]]}
    return json_answer(page | ({"NextToken": str(end)} if end < len(found) else {}))


def bulk_file(cloud: AwsCloud, path: str) -> Answer:
    """A region's CSV file. Public: no key is asked for."""
    parts = path.removeprefix(PREFIX).split("/")
    if len(parts) != 4 or (parts[0], parts[1], parts[3]) != ("AmazonEC2", "current", "index.csv"):
        return 404, {"Content-Type": "text/plain"}, b"Not Found"
    if parts[2] not in cloud.regions:
        return 403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerows([("FormatVersion", "v1.0"), ("Disclaimer", "Simulated prices, for rehearsals only.")])
    table.writerows([("Publication Date", _PUBLISHED), ("Version", _VERSION), ("OfferCode", "AmazonEC2")])
    table.writerow([*_TERM, *_MORE_TERM, *_COLUMNS])
    for product in _products(cloud.catalog, parts[2]):
        for term in _terms(product):
            table.writerow([*term, *(product.attributes.get(name, "") for name in _COLUMNS.values())])
    return 200, {"Content-Type": "text/csv"}, text.getvalue().encode()


def _products(catalog: Catalog, region: str) -> Iterator[Product]:
    for name in catalog.sold(region):
        usd = on_demand(name, region)
        common = _instance(catalog, name, region)
        if usd:
            yield Product(attributes=common, usd=usd, reserved=(usd * Decimal("0.63")).quantize(Decimal("0.00001")))
            yield from _others(common, usd)
        if not usd or family(name).startswith("p"):
            block = {"marketoption": "CapacityBlock", "usagetype": f"{_PREFIXES.get(region, '')}CapacityBlock:{name}"}
            yield Product(attributes=common | block, usd=Decimal(0))
    for kind, usd in GB_MONTH.items():
        yield Product(attributes=_volume(kind, region), usd=usd, unit="GB-Mo")


def _others(common: dict[str, str], usd: Decimal) -> Iterator[Product]:
    """The rows next to the one that is wanted, each of which differs in one or two attributes."""
    name = common["instanceType"]
    yield Product(
        attributes=common | {"operatingSystem": "Windows", "operation": "RunInstances:0002"},
        usd=usd * Decimal(PRODUCTS["Windows"]),
    )
    yield Product(
        attributes=common | {"preInstalledSw": "SQL Web", "operation": "RunInstances:0200"}, usd=usd + Decimal("0.27")
    )
    dedicated = {"tenancy": "Dedicated", "usagetype": common["usagetype"].replace("BoxUsage", "DedicatedUsage")}
    yield Product(attributes=common | dedicated, usd=usd * Decimal("1.06"))
    unused = {
        "capacitystatus": "UnusedCapacityReservation",
        "usagetype": common["usagetype"].replace("Box", "UnusedBox"),
    }
    yield Product(attributes=common | unused, usd=usd)
    allocated = {"capacitystatus": "AllocatedCapacityReservation", "usagetype": f"Reservation:{name}"}
    yield Product(attributes=common | allocated, usd=Decimal(0))


def _instance(catalog: Catalog, name: str, region: str) -> dict[str, str]:
    shape = catalog.shape(name)
    gpus = shape.get("GpuInfo", {}).get("Gpus", [])
    accelerated = {"gpu": str(sum(row["Count"] for row in gpus))}
    bare = shape.get("BareMetal", False)
    return {
        "productFamily": "Compute Instance (bare metal)" if bare else "Compute Instance",
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "location": _PLACES.get(region, region),
        "locationType": "AWS Region",
        "regionCode": region,
        "instanceType": name,
        "currentGeneration": "Yes" if shape["CurrentGeneration"] else "No",
        "instanceFamily": "GPU instance" if gpus else "General purpose",
        "vcpu": str(catalog.vcpus(name)),
        "memory": f"{shape['MemoryInfo']['SizeInMiB'] / 1024:g} GiB",
        "storage": "EBS only" if not shape["InstanceStorageSupported"] else "NVMe SSD",
        "networkPerformance": shape["NetworkInfo"]["NetworkPerformance"],
        "processorArchitecture": "64-bit",
        "tenancy": "Shared",
        "operatingSystem": "Linux",
        "licenseModel": "No License required",
        "usagetype": f"{_PREFIXES.get(region, '')}BoxUsage:{name}",
        "operation": "RunInstances",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "normalizationSizeFactor": "NA",
        "preInstalledSw": "NA",
        **(accelerated if gpus else {}),
    }


def _volume(kind: str, region: str) -> dict[str, str]:
    return {
        "productFamily": "Storage",
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "location": _PLACES.get(region, region),
        "locationType": "AWS Region",
        "regionCode": region,
        "volumeType": "General Purpose" if kind.startswith("gp") else "Other",
        "volumeApiName": kind,
        "usagetype": f"{_PREFIXES.get(region, '')}EBS:VolumeUsage.{kind}",
    }


def _document(product: Product) -> dict[str, Any]:
    """One string of GetProducts' PriceList, parsed."""
    attributes = {name: value for name, value in product.attributes.items() if name != "productFamily"}
    row = {"productFamily": product.attributes["productFamily"], "attributes": attributes, "sku": product.sku}
    terms: dict[str, Any] = {"OnDemand": _term(product, "JRTCKXETXF", product.usd, {})}
    if product.reserved is not None:
        lease = {"LeaseContractLength": "1yr", "OfferingClass": "standard", "PurchaseOption": "No Upfront"}
        terms["Reserved"] = _term(product, "4NA7Y494T4", product.reserved, lease)
    document = {"product": row, "serviceCode": "AmazonEC2", "terms": terms}
    return document | {"version": _VERSION, "publicationDate": _PUBLISHED}


def _term(product: Product, code: str, usd: Decimal, lease: dict[str, str]) -> dict[str, Any]:
    rate = f"{product.sku}.{code}.6YS6EN2CT7"
    dimension = {
        "rateCode": rate,
        "unit": product.unit,
        "beginRange": "0",
        "endRange": "Inf",
        "description": _description(product, usd),
        "appliesTo": [],
        "pricePerUnit": {"USD": f"{usd:.10f}"},
    }
    term = {"priceDimensions": {rate: dimension}, "sku": product.sku, "offerTermCode": code}
    return {f"{product.sku}.{code}": term | {"effectiveDate": "2026-07-01T00:00:00Z", "termAttributes": lease}}


def _terms(product: Product) -> Iterator[list[str]]:
    """The first columns of the product's lines in the CSV file."""
    yield _line(product, "JRTCKXETXF", "OnDemand", product.usd, ["", ""])
    if product.reserved is not None:
        yield _line(product, "4NA7Y494T4", "Reserved", product.reserved, ["1yr", "No Upfront"])


def _line(product: Product, code: str, kind: str, usd: Decimal, lease: list[str]) -> list[str]:
    rate = f"{product.sku}.{code}.6YS6EN2CT7"
    price = [_description(product, usd), "2026-07-01", "0", "Inf", product.unit, f"{usd:.10f}", "USD"]
    return [product.sku, code, rate, kind, *price, *lease]


def _description(product: Product, usd: Decimal) -> str:
    name, system = product.attributes.get("instanceType"), product.attributes.get("operatingSystem")
    what = f"On Demand {system} {name} Instance Hour" if name else f"GB-month of {product.attributes['volumeApiName']}"
    return f"${usd:f} per {what}"
