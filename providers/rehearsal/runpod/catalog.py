"""REST v2's catalog: GPU types, CPU flavors and data centres with prices, and their stock where it is asked for.

Stock is given only with `include=AVAILABILITY` and `product` together; the filters are valid only with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from providers.rehearsal.runpod.market import COMMUNITY, SECURE, CpuFlavor, DataCenter, GpuType, Market, level, version
from providers.rehearsal.runpod.orders import BrokenRule, NotFound, Refused
from providers.rehearsal.runpod.shapes import number

Query = Mapping[str, str]
_FILTERS = ("count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion")


class Malformed(Refused):
    """A parameter that does not have the form that the schema asks for."""

    status = 422


def gpus(market: Market, query: Query) -> dict[str, Any]:
    documents = [gpu_document(market, gpu, query) for gpu in market.gpus.values()]
    if "countryCodes" in query:
        documents = [document for document in documents if "dataCenters" in document]
    return {"gpus": documents}


def gpu(market: Market, id: str, query: Query) -> dict[str, Any]:
    if id not in market.gpus:
        raise NotFound("gpu type not found")
    return gpu_document(market, market.gpus[id], query)


def gpu_document(market: Market, gpu: GpuType, query: Query) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": gpu.id,
        "name": gpu.name,
        "pool": gpu.pool,
        "manufacturer": gpu.manufacturer,
        "memory": gpu.memory_gb,
        "secure": gpu.secure is not None,
        "community": gpu.community is not None,
        # Both are required numbers: a cloud that does not have the type shows 0, which is no price.
        "price": {cloud.lower(): number(gpu.price(cloud) or Decimal(0)) for cloud in (SECURE, COMMUNITY)},
        "maxCount": {cloud.lower(): market.largest(gpu.id, cloud) for cloud in (SECURE, COMMUNITY)},
    }
    if _wants_availability(query, ("POD", "CLUSTER", "SERVERLESS"), _FILTERS):
        document.update(_availability(market, gpu, query))
    return document


def cpus(market: Market, query: Query) -> dict[str, Any]:
    return {"cpus": [cpu_document(market, flavor, query) for flavor in market.cpus.values()]}


def cpu(market: Market, id: str, query: Query) -> dict[str, Any]:
    if id not in market.cpus:
        raise NotFound("cpu type not found")
    return cpu_document(market, market.cpus[id], query)


def cpu_document(market: Market, flavor: CpuFlavor, query: Query) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "group": flavor.group,
        "vcpu": {"min": flavor.fewest, "max": flavor.most},
        "ramGbPerVcpu": flavor.ram_per_vcpu,
        "price": {"securePerVcpu": number(flavor.usd_per_vcpu), "serverlessPerVcpu": number(flavor.usd_per_vcpu)},
    }
    if _wants_availability(query, ("POD", "SERVERLESS"), ("vcpuCount",)):
        count = _integer(query, "vcpuCount", flavor.fewest)
        document["availability"] = level(market.stock(flavor.id, count=count))
        if places := list(_places(market, flavor.id, SECURE, count, ())):
            document["dataCenters"] = places
    return document


def data_centers(market: Market, query: Query) -> dict[str, Any]:
    regions = _words(query, "regions")
    found = [center for center in market.data_centers.values() if not regions or center.region in regions]
    return {"dataCenters": [data_center_document(market, center, query) for center in found]}


def data_center(market: Market, id: str, query: Query) -> dict[str, Any]:
    if id not in market.data_centers:
        raise NotFound("data center not found")
    return data_center_document(market, market.data_centers[id], query)


def data_center_document(market: Market, center: DataCenter, query: Query) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": center.id,
        "name": center.name,
        "region": center.region,
        "globalNetwork": center.volumes,
        "networkVolumeTypes": ["STANDARD"] if center.volumes else [],
        "compliance": ["GDPR"] if center.region == "EUROPE" else ["SOC_2_TYPE_2"],
    }
    include = _words(query, "include")
    kinds: tuple[tuple[str, str, Mapping[str, GpuType] | Mapping[str, CpuFlavor]], ...] = (
        ("GPU_AVAILABILITY", "gpuAvailability", market.gpus),
        ("CPU_AVAILABILITY", "cpuAvailability", market.cpus),
    )
    for word, key, types in kinds:
        rows = [
            {"id": id, "name": type_.name, "availability": level(market.stock(id, data_center=center.id))}
            for id, type_ in types.items()
            if any((host.kind, host.data_center) == (id, center.id) for host in market.hosts)
        ]
        if word in include and rows:
            document[key] = rows
    return document


def _availability(market: Market, gpu: GpuType, query: Query) -> dict[str, Any]:
    count, cloud = _integer(query, "count", 1), query.get("cloud", SECURE)
    if cloud not in (SECURE, COMMUNITY):
        raise Malformed(f"cloud: value must be one of '{SECURE}', '{COMMUNITY}'")
    countries = _words(query, "countryCodes")
    if any(not re.fullmatch("[A-Z]{2}", country) for country in countries):
        raise Malformed("countryCodes: malformed country code")
    stock = sum(market.stock(gpu.id, cloud=cloud, country=country, count=count) for country in countries or (None,))
    document: dict[str, Any] = {"availability": level(stock)}
    if places := list(_places(market, gpu.id, cloud, count, countries)):
        document["dataCenters"] = places
    if versions := _cuda(market, gpu, cloud, count, query):
        document["cudaVersions"] = versions
    return document


def _places(market: Market, kind: str, cloud: str, count: int, countries: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for center in market.data_centers.values():
        stock = market.stock(kind, cloud=cloud, data_center=center.id, count=count)
        if stock and (not countries or center.country in countries):
            yield {"id": center.id, "name": center.name, "availability": level(stock)}


def _cuda(market: Market, gpu: GpuType, cloud: str, count: int, query: Query) -> list[dict[str, Any]]:
    hosts = [host for host in market.hosts if (host.kind, host.cloud) == (gpu.id, cloud) and host.cuda]
    wanted, least = _words(query, "cudaVersions"), query.get("minCudaVersion")
    if wanted and least:
        raise BrokenRule("cudaVersions and minCudaVersion are mutually exclusive")
    versions = sorted({host.cuda for host in hosts if host.cuda}, key=version)
    return [
        {"version": each, "available": any(host.free >= count for host in hosts if host.cuda == each)}
        for each in versions
        if (not wanted or each in wanted) and (least is None or version(each) >= version(least))
    ]


def _wants_availability(query: Query, products: tuple[str, ...], filters: tuple[str, ...]) -> bool:
    include, product = _words(query, "include"), _words(query, "product")
    if any(word != "AVAILABILITY" for word in include):
        raise Malformed("include: value must be one of 'AVAILABILITY'")
    if any(word not in products for word in product):
        raise Malformed(f"product: value must be one of {', '.join(map(repr, products))}")
    if bool(include) != bool(product):
        raise BrokenRule("include=AVAILABILITY and product must be sent together")
    if not include and (lonely := [name for name in filters if name in query]):
        raise BrokenRule(f"{lonely[0]} is valid only with include=AVAILABILITY")
    return bool(include)


def _words(query: Query, name: str) -> tuple[str, ...]:
    return tuple(word for word in query.get(name, "").split(",") if word)


def _integer(query: Query, name: str, otherwise: int) -> int:
    text = query.get(name, str(otherwise))
    if not text.isdigit() or int(text) < 1:
        raise Malformed(f"{name}: got {text!r}, want a positive integer")
    return int(text)
