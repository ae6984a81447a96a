"""How an instance of Vast.ai stands, from the four things that it says of itself. Pure.

`cur_state` is the contract (its GPUs are held, or not), `intended_status` what is wanted, `actual_status` what the host
last said of the container, `status_msg` its words. https://docs.vast.ai/api-reference/instances/show-instance, and what
others saw on the live API in 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers import sent
from providers.base import InstanceStatus

_LONGEST_WORD = 50
_BOOTING = ("loading", "created", "rebooting")
# The container is not there although the contract runs. No such one comes up by itself, but single reads of this kind
# are wrong at times: what is seen once only is not believed.
_LOST = {
    "exited": InstanceStatus.STOPPED,
    "stopped": InstanceStatus.STOPPED,
    "frozen": InstanceStatus.STOPPED,
    "unknown": InstanceStatus.FAILED,
    "offline": InstanceStatus.FAILED,
}
_NOT_STARTED = ("loading", "created")
_BAD_IMAGE = (
    "manifest unknown",
    "pull access denied",
    "no matching manifest",
    "repository does not exist",
    "invalid reference format",
    "unauthorized: ",
)
_BROKEN = ("error response from daemon", "oci runtime create failed")


@dataclass(frozen=True)
class Standing:
    """`is_lost`: to be believed when it is seen again; `by_cloud`: a stop that nobody of ours asked for."""

    status: InstanceStatus
    detail: str
    is_lost: bool = False
    by_cloud: bool = False


def standing(row: Mapping[str, Any], now: datetime) -> Standing:
    """Without a look at the account's credit, which alone tells one stop from another: see `without_credit`."""
    said, words = _word(row, "actual_status"), message(row)
    state = _word(row, "cur_state") or _word(row, "intended_status")
    if said in ("", *_NOT_STARTED, "exited") and (bad := _complaint(words, stopped=state == "stopped")):
        return Standing(InstanceStatus.FAILED, bad)
    if state == "stopped":
        return _stopped(row, said, words, now)
    if said == "running":
        return Standing(InstanceStatus.RUNNING, words or said)
    if said == "":
        return Standing(InstanceStatus.PENDING, words or "being provisioned")
    if said in _BOOTING:
        return Standing(InstanceStatus.BOOTING, f"{said}: {words}" if words else said)
    if said in _LOST:
        return Standing(_LOST[said], f"its host says {said}{f': {words}' if words else ''}", is_lost=True)
    return Standing(InstanceStatus.UNKNOWN, f"Vast.ai says {said}")


def without_credit(found: Standing, credit: Decimal | None) -> Standing:
    """At no credit everything is stopped; bids look then as if they were outbid."""
    if found.by_cloud and credit is not None and credit <= 0:
        return Standing(InstanceStatus.STOPPED, f"Vast.ai stopped it: the account has ${credit} of credit")
    return found


def message(row: Mapping[str, Any]) -> str:
    return sent.words(row.get("status_msg"))


def _stopped(row: Mapping[str, Any], said: str, words: str, now: datetime) -> Standing:
    """Nobody of ours stops an instance."""
    if said == "" and not (row.get("is_bid") and _word(row, "intended_status") == "stopped"):
        return Standing(InstanceStatus.PENDING, words or "being provisioned")
    was_outbid = row.get("is_bid") and said not in _NOT_STARTED  # it may resume, or never: its processes have ended
    if _word(row, "intended_status") == "running" and not was_outbid:
        return Standing(InstanceStatus.PENDING, "waits for its GPUs")
    if (end := sent.moment(row.get("end_date"))) is not None and end <= now:
        return Standing(InstanceStatus.STOPPED, "stopped: its host's contract has ended")
    if row.get("is_bid"):
        text = "outbid: Vast.ai stopped it, and its disk is still billed"
        return Standing(InstanceStatus.PREEMPTED, text, by_cloud=True)
    if said in _NOT_STARTED:
        return Standing(InstanceStatus.FAILED, f"never started: {words or said}")
    return Standing(InstanceStatus.STOPPED, "stopped, and its disk is still billed", by_cloud=True)


def _complaint(words: str, *, stopped: bool) -> str | None:
    """Why the container cannot be started. A daemon's error may be overcome while the contract runs; an image's not."""
    lower = words.lower()
    if any(sign in lower for sign in _BAD_IMAGE):
        return f"the image cannot be had: {words}"
    if stopped and any(sign in lower for sign in _BROKEN):
        return f"the host could not start the container: {words}"
    return None


def _word(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return (sent.words(value, _LONGEST_WORD) or "nonsense" if value else "").lower()
