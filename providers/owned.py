"""What `local` and `ssh` share: the answers of providers/host.py as Instances, Charges and errors.

Pure. Whatever a computer answers is checked here; it knows no connection and no configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers import sent
from providers.base import Access, Charge, Instance, InstanceStatus, LaunchRequest, Meter, Offer, Traits
from providers.errors import BadHost, NoCapacity, NotFound, ProviderError, Rejected, Throttled
from providers.host import MARK

Json = dict[str, Any]

# The directory that the machine is, and the variables that mark what runs in its name.
ToAccess = Callable[[str, Mapping[str, str]], Access]

TRAITS = Traits(is_container=False, owned=True, watch_seconds=0.5, boot_seconds=60.0, console="on that computer")
RELIABILITY = 1.0  # nobody takes it away: a wish for reliable machines must not exclude one's own

_REFUSALS: dict[str, type[ProviderError]] = {
    "no_capacity": NoCapacity,
    "over": Rejected,
    "bad_request": Rejected,
    "failed": BadHost,
}


def create_request(offer: Offer, request: LaunchRequest, *, gpu_ids: Sequence[int], gpu_total: int) -> Json:
    """What host.py's `create` is asked; `gpu_ids` are the GPUs of the offered kind, of `gpu_total` that there are."""
    return {
        "name": request.name,
        "owner": request.owner,
        "run_id": request.run_id,
        "attempt": request.attempt,
        "deadline": request.deadline.timestamp(),
        "usd_per_hour": str(offer.usd_per_hour),
        "gpu_ids": list(gpu_ids),
        "gpus": offer.gpu_count,
        "gpu_total": gpu_total,
    }


def refusal(error: Any, *, provider: str, where: str) -> ProviderError:
    """host.py's clear no as what the caller does next; one that makes no sense is a computer that is broken."""
    said: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    kind, message = sent.words(said.get("kind")), f"{where}: {_short(said.get('message'))}"
    if kind == "busy":
        return Throttled(message, after=2.0, provider=provider)
    return _REFUSALS.get(kind, BadHost)(message, provider=provider)


def instance(machine: Any, *, provider: str, instance_id: str, region: str, host_id: str, access: ToAccess) -> Instance:
    """One machine of host.py's answer. Raises BadHost when it makes no sense."""
    try:
        machine = dict(machine)
        running = machine["status"] in ("running", "terminating")
        rate = None if machine["usd_per_hour"] is None else _rate(machine["usd_per_hour"])
        return Instance(
            id=instance_id,
            name=sent.words(machine["name"]),
            provider=provider,
            owner=sent.words(machine["owner"]),
            run_id=sent.words(machine["run_id"]),
            attempt=sent.whole(machine["attempt"]),
            status=InstanceStatus(machine["status"]),
            detail=sent.words(machine["detail"]),
            access=access(str(machine["directory"]), _variables(machine)) if running else None,
            region=region,
            host_id=host_id,
            created_at=_time(machine["created_at"]),
            deadline=None if machine["deadline"] is None else _time(machine["deadline"]),
            usd_per_hour=rate,
            meters=() if rate is None else (meter(rate),),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadHost(f"{instance_id}: its record makes no sense: {_short(machine)}", provider=provider) from error


def meter(usd_per_hour: Decimal) -> Meter:
    """An own computer has one meter: time at the price that its owner gave it."""
    return Meter(name="compute", unit="hour", usd_per_unit=usd_per_hour, source="the price_per_hour that its owner set")


def charges(answer: Mapping[str, Any], *, since: datetime, provider: str, source: str) -> tuple[Charge, ...]:
    """host.py's `bill` as charges: final when the machine is gone, up to now while it exists."""
    try:
        lines = [(line, line["start"], line["end"], True) for line in answer["bill"]]
        if not lines and (machine := answer["machine"]) is not None and machine["usd_per_hour"] is not None:
            lines = [(machine, machine["created_at"], answer["now"], False)]
        found = [_charge(line, _time(start), _time(end), final, source) for line, start, end, final in lines]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadHost(f"{source}: the bill makes no sense: {_short(answer)}", provider=provider) from error
    return tuple(charge for charge in found if charge.end >= since)


def gpus_of(machines: Sequence[Mapping[str, Any]]) -> set[int]:
    """Which of the computer's GPUs are taken. Raises BadHost when that cannot be told."""
    try:
        return {int(gpu) for machine in machines for gpu in machine["gpu_ids"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadHost("a machine's record does not say which GPUs it has", provider="local") from error


def missing(name: str, *, provider: str, where: str) -> NotFound:
    return NotFound(f"{where} has no machine {name}", provider=provider)


def _charge(line: Mapping[str, Any], start: datetime, end: datetime, final: bool, source: str) -> Charge:
    rate = _rate(line["usd_per_hour"])
    end = max(start, end)
    seconds = math.ceil((end - start).total_seconds())
    return Charge(
        meter="compute",
        quantity=Decimal(seconds) / 3600,
        unit="hour",
        usd_per_unit=rate,
        usd=rate * seconds / 3600,
        start=start,
        end=end,
        source=source,
        final=final,
    )


def _variables(machine: Mapping[str, Any]) -> dict[str, str]:
    """The mark; and the GPUs that are this machine's, where the computer has others too."""
    mine = [str(int(gpu)) for gpu in machine["gpu_ids"]]
    marked = {MARK: str(machine["name"])}
    return marked if len(mine) == int(machine["gpu_total"]) else {**marked, "CUDA_VISIBLE_DEVICES": ",".join(mine)}


def _time(epoch: Any) -> datetime:
    """Raises ValueError, as `_rate` does."""
    if (found := sent.moment(epoch)) is None:
        raise ValueError("no moment")
    return found


def _rate(usd: Any) -> Decimal:
    if (found := sent.price(usd)) is None:
        raise ValueError("no price")
    return found


def _short(answer: Any) -> str:
    """The beginning of what a computer said, for a message."""
    try:
        return sent.words(answer if isinstance(answer, str) else repr(answer))
    except (RecursionError, ValueError):  # a number of thousands of digits has no repr
        return "something that cannot be shown"
