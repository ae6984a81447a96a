"""Vast.ai's instances and bills in this house's words, and a launch in Vast.ai's. Pure.

What we need to know of an instance later is in its own variables, GPUJOB_*: Vast.ai keeps a label and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from providers import marks, sent
from providers.base import Charge, Instance, InstanceStatus, LaunchRequest, Meter, Offer, Runs, SshAccess
from providers.errors import Rejected, Unreachable
from providers.vast import offers
from providers.vast.launch import MOST_VARIABLE_BYTES, onstart
from providers.vast.offers import Ask, money
from providers.vast.standing import Standing

HOURS_PER_MONTH = Decimal(720)  # storage_total_cost / (storage_cost * GB) in the samples of the API reference
BILL_SETTLED = timedelta(minutes=10)  # after its end a bill is final; balances are said to follow within seconds
DIRECTORY = ".gpujob/machine"

# A job without an image gets one with Python and PyTorch that most hosts have pulled before.
DEFAULT_IMAGE = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"

# As the official SDK sends it (vastai 1.9.1): a port of the host for SSH, and the way through Vast.ai's proxy.
RUNTYPE = "ssh_direc ssh_proxy"

_OUR_NAME = re.compile(r"gpujob-(?P<run>.+)-(?P<attempt>\d+)-\d+")
_DESCRIBED = re.compile(r"(?P<quantity>\d+(?:\.\d+)?) \S+ at \$(?P<rate>\d+(?:\.\d+)?)/")
_METERS = {"gpu": "compute", "disk": "disk", "bwd": "traffic_in", "bwu": "traffic_out"}
_UNITS = {"compute": "hour", "disk": "GB-month", "traffic_in": "GB", "traffic_out": "GB"}
_PRICING = "https://docs.vast.ai/guides/instances/pricing"
_ZERO = Decimal(0)

Json = dict[str, Any]
Row = Mapping[str, Any]


def create_body(offer: Offer, request: LaunchRequest, *, now: datetime) -> Json:
    """What PUT /asks/ID/ gets.

    `cancel_unavail` is said: the SDK would send false, and then a host without room means a stopped instance that bills
    storage. `price` makes it interruptible; without it the same ask is rented on demand.
    """
    body: Json = {
        "client_id": "me",
        "image": request.image or DEFAULT_IMAGE,
        "disk": disk_gb(request),
        "label": request.name,
        "env": _variables(offer, request),
        "onstart": onstart(request, now),
        "runtype": RUNTYPE,
        "cancel_unavail": True,
    }
    if Ask.of(offer.offer_id).bid:
        body["price"] = float(offer.usd_per_hour)
    if request.registry is not None:
        login = request.registry
        if any(re.search(r"[\s'\"\\]", word) or not word for word in (login.server, login.username, login.password)):
            text = "Vast.ai takes a registry login as one line of words: blanks, quotes and backslashes cannot be in it"
            raise Rejected(text, provider="vast")
        body["image_login"] = f"-u {login.username} -p {login.password} {login.server}"
    return body


def secrets(request: LaunchRequest) -> tuple[str, ...]:
    """What an answer may repeat and a message must not."""
    login = (request.registry.password,) if request.registry is not None else ()
    return (*login, *(value for value in request.env.values() if len(value) >= 6))


def disk_gb(request: LaunchRequest) -> int:
    return max(offers.LEAST_DISK_GB, math.ceil(request.disk_gb))


def owner_of(row: Row) -> str:
    """Whose instance it is; "" when it is none of ours.

    Raises Unreachable for one of our names whose variables cannot be read: it must not be left out of a list.
    """
    env = row.get("extra_env")
    if not (env is None or isinstance(env, (dict, list))) and _OUR_NAME.fullmatch(_label(row)):
        raise _senseless(f"the variables of {_label(row)}")
    return _env(row).get(marks.OWNER, "")


def instance(row: Row, standing: Standing, *, now: datetime, progress: str) -> Instance:
    """An instance as it is. `standing` and `progress` are what its states have come to.

    What makes no sense is left out of it; without an id it is Unreachable, never nothing.
    """
    env, name = _env(row), _label(row)
    if not (instance_id := sent.whole(row.get("id"))):
        raise _senseless(f"an instance without an id, {name or 'without a label'}")
    ways = _ways(row, name) if standing.status is InstanceStatus.RUNNING else ()
    status, detail = standing.status, standing.detail
    if status is InstanceStatus.RUNNING and not ways:
        status, detail = InstanceStatus.BOOTING, "running, without an address for SSH yet"
    ours = _OUR_NAME.fullmatch(name)
    return Instance(
        id=str(instance_id),
        name=name,
        provider="vast",
        owner=env.get(marks.OWNER, ""),
        run_id=env.get(marks.RUN) or (ours["run"] if ours else ""),
        attempt=sent.whole(env.get(marks.ATTEMPT)) or sent.whole(ours and ours["attempt"]),
        status=status,
        detail=detail,
        progress=progress,
        access=ways[0] if ways else None,
        other_access=ways[1:],
        region=offers.region(row),
        host_id=offers.host_id(row),
        created_at=sent.moment(row.get("start_date")) or now,
        deadline=sent.moment(env.get(marks.DEADLINE)),
        usd_per_hour=_rate(row, env),
        meters=_meters(row, _rate(row, env)),
    )


def charges(rows: Iterable[Row], machine: Instance, *, since: datetime, gone: bool, now: datetime) -> list[Charge]:
    """The parts of the machine's bill. Amounts are rounded to a tenth of a cent: a short run may show as 0."""
    found: list[Charge] = []
    for row in rows:
        if row.get("source") != f"instance-{machine.id}":
            continue
        for item in _items(row):
            start, end = sent.moment(item.get("start")), sent.moment(item.get("end"))
            if start is None or end is None or end < since:
                continue
            # A bill begins with the whole second, before the machine.
            start = min(max(start, machine.created_at), end)
            found.append(_charge(item, machine, start, end, final=gone and now - end >= BILL_SETTLED))
    return found


def _items(row: Row) -> list[Row]:
    """All of them, or Unreachable: a bill that lacks a part would say too little."""
    items = row.get("items") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) and "amount" in item for item in items):
        raise _senseless("a bill")
    if any(money(item["amount"]) is None for item in items):
        raise _senseless("an amount of a bill")
    return items


def _charge(item: Row, machine: Instance, start: datetime, end: datetime, *, final: bool) -> Charge:
    kind = sent.words(item.get("type")) or "unknown"
    meter = _METERS.get(kind, kind)
    usd = money(item.get("amount")) or _ZERO
    described = _DESCRIBED.match(sent.words(item.get("description")))
    rate = (sent.price(described["rate"]) if described else None) or _ZERO
    if meter == "compute" and machine.usd_per_hour:
        rate = machine.usd_per_hour
    rate = next((own.usd_per_unit for own in machine.meters if own.name == meter), rate)
    quantity = usd / rate if rate else _ZERO
    if described and not quantity:
        quantity = sent.price(described["quantity"]) or _ZERO
    return Charge(
        meter=meter,
        quantity=quantity,
        unit=_UNITS.get(meter, "part"),
        usd_per_unit=rate,
        usd=usd,
        start=start,
        end=end,
        source="Vast.ai's charges, each amount rounded to $0.001",
        final=final,
    )


def _variables(offer: Offer, request: LaunchRequest) -> dict[str, str]:
    """An object: a string of docker's flags is not applied to instances, and nothing is said about it."""
    env = {
        **request.env,
        **marks.of(offer, request),
    }
    size = sum(len(name.encode()) + len(value.encode()) for name, value in env.items())
    if size > MOST_VARIABLE_BYTES:
        text = f"Vast.ai gives a machine at most {MOST_VARIABLE_BYTES} bytes of variables; these are {size}"
        raise Rejected(text, provider="vast")
    return env


def _ways(row: Row, name: str) -> tuple[SshAccess, ...]:
    """Direct: the host's address and the port that it gave to 22. Through the proxy: ssh_host and ssh_port.

    The two are never mixed: the host's port leads nowhere at the proxy. Addresses may have blanks around them, and a
    Jupyter instance's port at the proxy is one further (vastai 1.9.1, cli/commands/misc.py).
    """
    found = []
    ports = row.get("ports")
    mapped = ports.get("22/tcp") if isinstance(ports, dict) else None
    listed = mapped if isinstance(mapped, list) else []
    port = next((sent.port(one.get("HostPort")) for one in listed if isinstance(one, dict)), 0)
    if (address := sent.address(row.get("public_ipaddr"))) and port:
        found.append((address, port))
    proxy, proxy_port = sent.address(row.get("ssh_host")), sent.port(row.get("ssh_port"))
    if proxy and proxy_port:
        found.append((proxy, proxy_port + ("jupyter" in str(row.get("image_runtype") or ""))))
    return tuple(
        SshAccess(host=host, port=port, user="root", directory=DIRECTORY, env={"GPUJOB_MACHINE": name})
        for host, port in found
    )


def _rate(row: Row, env: Mapping[str, str]) -> Decimal | None:
    """For the GPUs. `dph_total` has the disk in it; `instance.gpuCostPerHour` is 0 while it does not run."""
    return sent.price(row.get("dph_base")) or sent.price(env.get(marks.RATE))


def _meters(row: Row, rate: Decimal | None) -> tuple[Meter, ...]:
    """GPUs only while it runs, the disk from the create to the destroy, traffic both ways in any state.

    How much traffic there was nobody knows before the bill: those meters say the price and count nothing.
    """
    if rate is None:
        return ()
    compute = Meter(name="compute", unit="hour", usd_per_unit=rate, runs=Runs.RUNNING, source=f"dph_base; {_PRICING}")
    gb, usd = sent.price(row.get("disk_space")), sent.price(row.get("storage_cost"))
    meters = [compute]
    if gb and usd is not None:
        per_hour = gb / HOURS_PER_MONTH
        disk = Meter(
            name="disk", unit="GB-month", usd_per_unit=usd, units_per_hour=per_hour, source=f"storage_cost; {_PRICING}"
        )
        meters.append(disk)
    for name, field in (("traffic_in", "inet_down_cost"), ("traffic_out", "inet_up_cost")):
        if (usd := sent.price(row.get(field))) is not None:
            source = f"{field}; {_PRICING}"
            meters.append(Meter(name=name, unit="GB", usd_per_unit=usd, units_per_hour=_ZERO, source=source))
    return tuple(meters)


def _env(row: Row) -> Mapping[str, str]:
    """Pairs in a list, or an object; absent while it is being provisioned."""
    env = row.get("extra_env")
    if isinstance(env, dict):
        return {str(name): str(value) for name, value in env.items()}
    pairs = env if isinstance(env, list) else ()
    return {str(pair[0]): str(pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2}


def _label(row: Row) -> str:
    return sent.words(row.get("label"))


def _senseless(what: str) -> Unreachable:
    return Unreachable(f"Vast.ai's answer makes no sense: {what}", provider="vast")
