"""What EC2 shows: instances, types, offerings, spot prices and spot requests, with filters and pages.

Instances are written by moto, by id. Which of them a request is about is decided here: moto knows half of the filters
and answers the others with a 500.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from wsgiref.types import WSGIEnvironment

from providers.rehearsal.aws.backing import tags_of
from providers.rehearsal.aws.catalog import PRODUCTS, on_demand
from providers.rehearsal.aws.fleet import Rented
from providers.rehearsal.aws.wire import Answer, Call, Refused, xml, xml_answer

if TYPE_CHECKING:
    from providers.rehearsal.aws.cloud import AwsCloud

T = TypeVar("T")

_RESERVATION = re.compile(r"<reservationSet>\s*<item>(.*)</item>\s*</reservationSet>", re.DOTALL)
_SPOT_DAYS = 90  # as long as AWS keeps the history
_PAGE = 100  # moto shows no more at a time

_VALUES: dict[str, Callable[[Rented], Any]] = {
    "architecture": lambda rented: rented.shown.architecture,
    "availability-zone": lambda rented: rented.zone,
    "block-device-mapping.volume-id": lambda rented: [
        device.volume_id for device in rented.shown.block_device_mapping.values()
    ],
    "client-token": lambda rented: rented.token,
    "image-id": lambda rented: rented.shown.image_id,
    "instance-id": lambda rented: rented.id,
    "instance-lifecycle": lambda rented: "spot" if rented.spot else "",
    "instance-state-code": lambda rented: str(rented.shown.state_code),
    "instance-state-name": lambda rented: rented.state,
    "instance-type": lambda rented: rented.type,
    "instance.group-id": lambda rented: sorted(groups_of(rented)),
    "ip-address": lambda rented: rented.shown.nics[0].public_ip or "",
    "key-name": lambda rented: rented.shown.key_name or "",
    "launch-time": lambda rented: rented.shown.launch_time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    "network-interface.group-id": lambda rented: sorted(groups_of(rented)),
    "owner-id": lambda rented: rented.shown.owner_id,
    "private-ip-address": lambda rented: rented.shown.private_ip,
    "root-device-name": lambda rented: rented.shown.root_device_name,
    "spot-instance-request-id": lambda rented: rented.spot_request,
    "state-reason-code": lambda rented: rented.why[0],
    "subnet-id": lambda rented: rented.shown.subnet_id,
    "tag-key": lambda rented: list(tags_of(rented.shown)),
    "vpc-id": lambda rented: rented.shown.vpc_id,
}
_VALUES["group-id"] = _VALUES["instance.group-id"]


class Describing:
    """Answers of one cloud's EC2 that change nothing."""

    def __init__(self, cloud: AwsCloud) -> None:
        self._cloud = cloud

    def launched(self, call: Call, environ: WSGIEnvironment, ids: Sequence[str]) -> Answer:
        """The answer to a RunInstances that made these, as they are now."""
        status, headers, raw = self._cloud.backing.ask(environ, _by_id(ids))
        match = _RESERVATION.search(raw.decode())
        assert status == 200 and match is not None, raw
        return status, _typed(headers), xml_answer(call.action, match[1])[2]

    def instances(self, call: Call, environ: WSGIEnvironment) -> Answer:
        known = self._cloud.fleet.known(call.region)
        wanted = [rented.id for rented in chosen(call, known) if passes(rented, call.filters())]
        if call.listed("InstanceId") and "MaxResults" in call.form:
            message = "The parameter instancesSet cannot be used with the parameter maxResults"
            raise Refused("InvalidParameterCombination", message)
        page, token = paged(call, wanted, min(_PAGE, int(call.form.get("MaxResults", _PAGE))))
        if not page:
            return xml_answer(call.action, "<reservationSet/>")
        status, headers, raw = self._cloud.backing.ask(environ, _by_id(page))
        more = f"<nextToken>{token}</nextToken></DescribeInstancesResponse>".encode()
        return status, _typed(headers), raw.replace(b"</DescribeInstancesResponse>", more) if token else raw

    def types(self, call: Call, environ: WSGIEnvironment) -> Answer:
        sold = self._cloud.catalog.sold(call.region)
        asked = call.listed("InstanceType")
        if unknown := [name for name in asked if not self._cloud.catalog.exists(name)]:
            raise Refused("InvalidInstanceType", f"The following supplied instance types do not exist: {unknown}")
        there = [name for name in asked or sold if name in sold]
        names = self._cloud.backing.fitting_types(call.region, there, call.filters()) if there else []
        page, token = paged(call, names, min(_PAGE, int(call.form.get("MaxResults", _PAGE))))
        if not page:
            return xml_answer(call.action, "<instanceTypeSet/>")
        form = {"Action": call.action, "Version": "2016-11-15"}
        status, headers, raw = self._cloud.backing.ask(environ, form | _numbered("InstanceType", page))
        more = f"<nextToken>{token}</nextToken></DescribeInstanceTypesResponse>".encode()
        return status, _typed(headers), raw.replace(b"</DescribeInstanceTypesResponse>", more) if token else raw

    def offerings(self, call: Call) -> Answer:
        kind = call.form.get("LocationType", "region")
        sold = self._cloud.catalog.sold(call.region)
        if kind == "availability-zone":
            rows = [(name, zone) for name, zones in sold.items() for zone in zones]
        elif kind == "region":
            rows = [(name, call.region) for name in sold]
        else:
            raise Refused("InvalidParameterValue", f"The location type {kind} is not simulated")
        values: dict[str, Callable[[tuple[str, str]], Any]] = {
            "instance-type": lambda row: row[0],
            "location": lambda row: row[1],
        }
        found = [row for row in rows if matches(row, call.filters(), values)]
        page, token = paged(call, found, int(call.form.get("MaxResults", 1000)))
        items = [{"instanceType": name, "locationType": kind, "location": place} for name, place in page]
        return xml_answer(call.action, xml({"instanceTypeOfferingSet": items, "nextToken": token or None}))

    def spot_prices(self, call: Call) -> Answer:
        """Newest first; without a StartTime all that is kept, without a product every system's price."""
        now = self._cloud.clock()
        end = min(now, _moment(call.form.get("EndTime"), now))
        start = max(now - timedelta(days=_SPOT_DAYS), _moment(call.form.get("StartTime"), now - timedelta(days=90)))
        filters = dict(call.filters())
        types = call.listed("InstanceType") or filters.pop("instance-type", ["*"])
        if zone := call.form.get("AvailabilityZone"):
            filters["availability-zone"] = [zone]
        names = call.listed("ProductDescription") or filters.pop("product-description", ["*"])
        products = [name for name in PRODUCTS if _fits(name, [each.removesuffix(" (Amazon VPC)") for each in names])]
        values: dict[str, Callable[[str], Any]] = {"availability-zone": lambda zone: zone}
        found = (
            price
            for name, zones in self._cloud.catalog.sold(call.region).items()
            if _fits(name, types) and on_demand(name, call.region)
            for zone in zones
            if matches(zone, filters, values)
            for product in products
            for price in self._cloud.spot.history(name, zone, min(start, end), end, product)
        )
        first, size = int(call.form.get("NextToken") or 0), int(call.form.get("MaxResults", 1000))
        page = list(islice(found, first, first + size + 1))
        token = str(first + size) if len(page) > size else ""
        items = [
            {
                "instanceType": price.instance_type,
                "productDescription": price.product,
                "spotPrice": f"{price.usd:.6f}",
                "timestamp": price.since.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "availabilityZone": price.zone,
            }
            for price in page[:size]
        ]
        return xml_answer(call.action, xml({"spotPriceHistorySet": items, "nextToken": token}))

    def spot_requests(self, call: Call) -> Answer:
        mine = [rented for rented in self._cloud.fleet.known(call.region) if rented.spot]
        asked = call.listed("SpotInstanceRequestId")
        known = {rented.spot_request for rented in mine}
        if unknown := [name for name in asked if name not in known]:
            message = f"The spot instance request ID '{unknown[0]}' does not exist"
            raise Refused("InvalidSpotInstanceRequestID.NotFound", message)
        values: dict[str, Callable[[Rented], Any]] = {
            "instance-id": lambda rented: rented.id,
            "spot-instance-request-id": lambda rented: rented.spot_request,
            "state": lambda rented: _request_state(rented)[0],
            "tag-key": lambda rented: list(rented.spot_tags),
        }
        tags: Callable[[Rented], Mapping[str, str]] = lambda rented: rented.spot_tags  # noqa: E731
        found = [rented for rented in mine if not asked or rented.spot_request in asked]
        found = [rented for rented in found if matches(rented, call.filters(), values, tags)]
        return xml_answer(call.action, xml({"spotInstanceRequestSet": [_request_item(rented) for rented in found]}))


def chosen(call: Call, known: Iterable[Rented]) -> list[Rented]:
    """The instances that a request names, or all. Raises Refused when one of them does not exist."""
    by_id = {rented.id: rented for rented in known}
    asked = list(dict.fromkeys(call.listed("InstanceId")))
    if wrong := [name for name in asked if not re.fullmatch(r"i-[0-9a-f]{8}([0-9a-f]{9})?", name)]:
        raise Refused("InvalidInstanceID.Malformed", f'Invalid id: "{wrong[0]}"')
    if unknown := [name for name in asked if name not in by_id]:
        one = len(unknown) == 1
        words = f"ID '{unknown[0]}' does" if one else f"IDs '{', '.join(unknown)}' do"
        raise Refused("InvalidInstanceID.NotFound", f"The instance {words} not exist")
    return [by_id[name] for name in asked] if asked else list(by_id.values())


def passes(rented: Rented, filters: Mapping[str, Sequence[str]]) -> bool:
    return matches(rented, filters, _VALUES, lambda rented: tags_of(rented.shown))


def matches(
    row: T,
    filters: Mapping[str, Sequence[str]],
    values: Mapping[str, Callable[[T], Any]],
    tags: Callable[[T], Mapping[str, str]] = lambda _: {},
) -> bool:
    """Whether it passes all filters, each by any of its values; * and ? stand for anything."""
    for name, wanted in filters.items():
        if name.startswith("tag:"):
            has: Any = tags(row).get(name.removeprefix("tag:"))
        elif name in values:
            has = values[name](row)
        else:
            raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
        if not any(_fits(each, wanted) for each in (has if isinstance(has, list) else [has]) if each is not None):
            return False
    return True


def paged(call: Call, rows: Sequence[T], size: int) -> tuple[Sequence[T], str]:
    """One page and the token of the next one; "" when there is none."""
    start = int(call.form.get("NextToken") or 0)
    end = start + size
    return rows[start:end], str(end) if end < len(rows) else ""


def groups_of(rented: Rented) -> set[str]:
    """The security groups that an instance uses, its own and its network interfaces'."""
    own = {group.id for group in rented.shown.security_groups}
    return own | {group.id for nic in rented.shown.nics.values() for group in nic.group_set}


def _fits(value: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns)


def _by_id(ids: Sequence[str]) -> dict[str, str]:
    return {"Action": "DescribeInstances", "Version": "2016-11-15"} | _numbered("InstanceId", ids)


def _numbered(prefix: str, values: Sequence[str]) -> dict[str, str]:
    return {f"{prefix}.{number}": value for number, value in enumerate(values, start=1)}


def _typed(headers: Mapping[str, str]) -> dict[str, str]:
    return {"Content-Type": headers.get("Content-Type", "text/xml")}


def _moment(text: str | None, default: datetime) -> datetime:
    if not text:
        return default
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _request_state(rented: Rented) -> tuple[str, str]:
    if rented.state in ("pending", "running", "stopping", "stopped"):
        return "active", "fulfilled"
    interrupted = rented.why[0] == "Server.SpotInstanceTermination"
    if interrupted and rented.outpriced:
        return "closed", "instance-terminated-by-price"
    return "closed", "instance-terminated-no-capacity" if interrupted else "instance-terminated-by-user"


def _request_item(rented: Rented) -> dict[str, Any]:
    state, status = _request_state(rented)
    return {
        "spotInstanceRequestId": rented.spot_request,
        "spotPrice": f"{rented.on_demand:.6f}",
        "type": "one-time",
        "state": state,
        "status": {"code": status, "updateTime": rented.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")},
        "instanceId": rented.id,
        "createTime": rented.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "productDescription": "Linux/UNIX",
        "tagSet": [{"key": key, "value": value} for key, value in rented.spot_tags.items()],
        "launchedAvailabilityZone": rented.zone,
        "instanceInterruptionBehavior": "terminate",
    }
