"""Calls about the account: who one is, SSH keys, and what was paid and charged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.rehearsal.vast.account import SshKey
from providers.rehearsal.vast.asked import Asked, token
from providers.rehearsal.vast.money import charge_rows, invoice_rows, moment
from providers.rehearsal.vast.refused import Refused, refused
from providers.rehearsal.vast.service import Vast

MOST_CHARGES, USUAL_CHARGES = 500, 100


def user(vast: Vast, asked: Asked) -> Any:
    """`credit` is what is left; `balance` is something else. The SDK takes `api_key` out of what it gives on."""
    return {
        "id": vast.account.id,
        "username": "rehearsal",
        "fullname": "Rehearsal",
        "email": "rehearsal@example.invalid",
        "email_verified": True,
        "credit": float(vast.account.credit),
        "balance": 0.0,
        "balance_threshold": 0.0,
        "balance_threshold_enabled": False,
        "billaddress_country": None,
        "can_pay": True,
        "has_billing": True,
        "has_payout": False,
        "host_agreement_accepted": False,
        "ssh_key": next((key.text for key in vast.account.ssh_keys.values()), None),
        "api_key": asked.api_key,
    }


def keys(vast: Vast, _: Asked) -> Any:
    """A plain list, and 404 when it would be empty."""
    if not vast.account.ssh_keys:
        raise refused(404, "not_found", "No SSH keys found for the user.")
    return [{**_key_row(vast, key), "key": key.text} for key in vast.account.ssh_keys.values()]


def add_key(vast: Vast, asked: Asked) -> Any:
    """The text is `key` in the list and `public_key` here."""
    key = vast.account.add_key(_text(asked))
    return {"success": True, "key": {**_key_row(vast, key), "public_key": key.text}}


def change_key(vast: Vast, asked: Asked) -> Any:
    key = _key(vast, asked)
    vast.account.ssh_keys[key.id] = SshKey(key.id, _text(asked), key.created_at)
    return {"success": True, "key": {**_key_row(vast, key), "public_key": _text(asked)}}


def delete_key(vast: Vast, asked: Asked) -> Any:
    del vast.account.ssh_keys[_key(vast, asked).id]
    return {"success": True}


def keys_of_instance(vast: Vast, asked: Asked) -> Any:
    """The list is a string of JSON within the JSON."""
    contract = vast.contract(asked.id)
    rows = [{"id": number, "public_key": text} for number, text in contract.keys.items()]
    return {"success": True, "ssh_keys": json.dumps(rows)}


def attach_key(vast: Vast, asked: Asked) -> Any:
    """It opens the container from the next time on that this one is made (a recycle)."""
    contract = vast.contract(asked.id)
    contract.keys[600_000 + len(contract.keys) + 1] = _text(asked)
    return {"success": True, "msg": "SSH key added to instance successfully."}


def detach_key(vast: Vast, asked: Asked) -> Any:
    contract = vast.contract(asked.id)
    if contract.keys.pop(int(asked.numbers["key"]), None) is None:
        raise refused(404, "no_such_ssh_key", f"No SSH key {asked.numbers['key']} on instance {asked.id}.")
    return {"success": True}


def charges(vast: Vast, asked: Asked) -> Any:
    since, until = _range(asked, "day")
    if since is None or until is None:
        raise Refused(
            400, {"success": False, "msg": "Must provide both 'day' gte and lte filters for instance charges"}
        )
    rows = charge_rows(vast.contracts.all.values(), vast.bill, since, until, vast.clock())
    kinds = (asked.json("select_filters", {}).get("type") or {}).get("in")
    rows = [row for row in rows if not kinds or row["type"] in kinds]
    return _paged(rows, asked, bool(asked.json("latest_first", True)))


def invoices(vast: Vast, asked: Asked) -> Any:
    """What was paid in. Without a range: status 200, and no success."""
    since, until = _range(asked, "when")
    if since is None or until is None:
        return {"success": False, "msg": "Must provide both 'when' gte and lte filters for invoices"}
    return _paged(invoice_rows(vast.account.top_ups, since, until), asked, bool(asked.json("latest_first", False)))


def contracts(vast: Vast, asked: Asked) -> Any:
    label, ids = asked.said("label"), asked.said("contract_ids")
    found = [
        {"id": contract.id, "label": contract.label, "machine_id": contract.host.machine_id, "type": "instance"}
        for contract in vast.contracts.all.values()
        if (label is None or contract.label == label) and (ids is None or contract.id in ids)
    ]
    return {"success": True, "contracts": found}


def deposit(vast: Vast, asked: Asked) -> Any:
    vast.contract(asked.id)
    return {"success": True, "balance": 0.0, "discounted_dph": None}


def prepay(vast: Vast, asked: Asked) -> Any:
    """Status 411 when there is not enough."""
    vast.contract(asked.id)
    try:
        amount = Decimal(str(asked.said("amount")))
    except InvalidOperation:
        raise refused(400, "invalid_args", "Invalid args: 'amount' must be a number") from None
    if amount > vast.account.credit:
        raise refused(411, "insufficient_credit", "Your account lacks credit; see the billing page.")
    raise refused(400, "invalid_args", "Invalid args: reserved instances are not simulated")


def _range(asked: Asked, column: str) -> tuple[datetime | None, datetime | None]:
    limits = asked.json("select_filters", {}).get(column) or {}
    try:
        since, until = (moment(limits[op]) if op in limits else None for op in ("gte", "lte"))
    except (TypeError, ValueError):
        raise refused(400, "invalid_args", f"Error in query parameters: {column} must be seconds since 1970") from None
    return since, until


def _paged(rows: Sequence[dict[str, Any]], asked: Asked, latest_first: bool) -> dict[str, Any]:
    """A token is the place where the last page ended."""
    rows = list(reversed(rows)) if latest_first else list(rows)
    start = asked.after() or 0
    limit = max(1, min(asked.number("limit", USUAL_CHARGES), MOST_CHARGES))
    page = rows[start : start + limit]
    more = start + limit < len(rows)
    return {
        "success": True,
        "count": len(page),
        "total": len(rows),
        "next_token": token(start + limit) if more else None,
        "results": page,
    }


def _key(vast: Vast, asked: Asked) -> SshKey:
    if (key := vast.account.ssh_keys.get(int(asked.numbers["key"]))) is None:
        raise refused(400, "no_ssh_key", "No such SSH key.")
    return key


def _text(asked: Asked) -> str:
    if not (text := asked.said("ssh_key")):
        raise refused(400, "invalid_args", "Invalid args: 'ssh_key' is required")
    return str(text)


def _key_row(vast: Vast, key: SshKey) -> dict[str, Any]:
    return {"id": key.id, "user_id": vast.account.id, "created_at": key.created_at.isoformat(), "deleted_at": None}
