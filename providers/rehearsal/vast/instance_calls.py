"""Calls about instances: show, change, restart, destroy, and their logs."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from werkzeug.wrappers import Response

from providers.rehearsal.vast.asked import Asked, token
from providers.rehearsal.vast.contracts import Contract
from providers.rehearsal.vast.forms import FILTERABLE, instance_row
from providers.rehearsal.vast.refused import refused
from providers.rehearsal.vast.search import row_filters, sort_rows
from providers.rehearsal.vast.service import Vast

MOST_PER_PAGE, USUAL_PER_PAGE = 25, 5
LONGEST_LABEL, LONGEST_COMMAND = 1024, 512
_COMMANDS = ("ls", "rm", "du")
_LOG_SECONDS = 0.5  # until a log can be fetched


def show_all(vast: Vast, asked: Asked) -> Any:
    """One page of instances. Without a limit it is a short one (vast-ai/docs, show_instances.yaml, 2026-11)."""
    now = vast.clock()
    conditions = row_filters(asked.json("select_filters", {}), FILTERABLE)
    order = _order(asked.json("order_by", []))
    rows = [instance_row(contract, now, asked.proxy) for contract in vast.listed()]
    found = sort_rows([row for row in rows if all(condition.holds(row) for condition in conditions)], order)
    page, more = _page(found, asked, by_id=order[0] == ("id", False))
    return {
        "success": True,
        "instances_found": len(page),
        "total_instances": len(found),
        "label_counts": dict(Counter(row["label"] or "" for row in found)),
        "next_token": token(page[-1]["id"]) if more else None,
        "instances": [_columns(row, asked.json("select_cols", ["*"])) for row in page],
    }


def deprecated(_vast: Vast, _asked: Asked) -> Any:
    """It is gone since the middle of 2026, and some pages of the documentation still show it."""
    message = "This endpoint is deprecated. Use /api/v1/instances/ instead."
    raise refused(410, "deprecated_endpoint", message)


def show(vast: Vast, asked: Asked) -> Any:
    """null when it is gone, or never was."""
    if (contract := vast.contracts.find(asked.id)) is None:
        return {"instances": None}
    row = instance_row(contract, vast.clock(), asked.proxy)
    del row["volume_info"]  # the list only has it
    if contract.misreads:
        contract.misreads -= 1
        row["actual_status"] = "exited"
    return {"instances": row}


def filters(vast: Vast, _: Asked) -> Any:
    kinds = {(one.actual, one.host.kind.name, one.host.verification) for one in vast.listed()}
    names = ("actual_status", "gpu_name", "verification")
    return {"success": True, "filters": [dict(zip(names, kind, strict=True)) for kind in kinds]}


def price_increases(_vast: Vast, _asked: Asked) -> Any:
    return {"success": True, "count": 0, "truncated": False, "pending_price_increases": []}


def change(vast: Vast, asked: Asked) -> Any:
    """`state` or `label`."""
    contract = vast.contract(asked.id)
    if asked.said("state") is not None:
        return _change_state(vast, contract, asked.said("state"))
    label = asked.said("label")
    if label is None:
        raise refused(400, "invalid_args", "Invalid args: 'state' or 'label' is required")
    if len(str(label)) > LONGEST_LABEL:
        raise refused(400, "label_too_long", f"The label may have {LONGEST_LABEL} characters.")
    contract.label = str(label) or None
    return {"success": True, "msg": f"Instance {contract.id} label set to {label}."}


def change_several(vast: Vast, asked: Asked) -> Any:
    for instance_id in asked.said("ids") or ():
        _change_state(vast, vast.contract(int(instance_id)), asked.said("state"))
    return {"success": True}


def destroy(vast: Vast, asked: Asked) -> Any:
    vast.destroy(asked.id)
    return {"success": True}


def destroy_several(vast: Vast, asked: Asked) -> Any:
    for instance_id in asked.said("instance_ids") or ():
        vast.destroy(int(instance_id))
    return {"success": True}


def bid(vast: Vast, asked: Asked) -> Any:
    vast.bid(asked.id, asked.said("price"))
    return {"success": True}


def reboot(vast: Vast, asked: Asked) -> Any:
    vast.restart(asked.id, anew=False)
    return {"success": True}


def recycle(vast: Vast, asked: Asked) -> Any:
    vast.restart(asked.id, anew=True)
    return {"success": True}


def request_logs(vast: Vast, asked: Asked) -> Any:
    """The log is put where it can be fetched without a key, a moment later."""
    if (contract := vast.contracts.find(asked.id)) is None:
        raise refused(404, "invalid_id", f"Invalid instance id {asked.id}")
    lines = _log(contract)
    if wanted := asked.said("filter"):
        lines = [line for line in lines if str(wanted) in line]
    tail = int(asked.said("tail") or 1000)
    return {"success": True, "result_url": _publish(vast, asked, "\n".join(lines[-tail:]) + "\n")}


def command(vast: Vast, asked: Asked) -> Any:
    """Three commands are allowed; their output is not simulated."""
    vast.contract(asked.id)
    words = str(asked.said("command") or "")
    if words.split()[:1] not in [[name] for name in _COMMANDS] or len(words) > LONGEST_COMMAND:
        raise refused(400, "invalid_args", "Invalid args: only ls, rm and du are allowed")
    return {"success": True, "writeable_path": "/workspace", "result_url": _publish(vast, asked, "")}


def log_file(vast: Vast, asked: Asked) -> Any:
    """As a store of objects does: not there until it is there."""
    ready, text = vast.logs.get(str(asked.numbers["name"]), (None, ""))
    if ready is None or vast.clock() < ready:
        return Response("<Error><Code>NoSuchKey</Code></Error>", 404, mimetype="application/xml")
    return Response(text, mimetype="text/plain")


def _change_state(vast: Vast, contract: Contract, state: Any) -> dict[str, Any]:
    if state == "stopped":
        vast.stop(contract.id)
        return {"success": True}
    if state != "running":
        raise refused(400, "invalid_args", "Invalid args: 'state' must be running or stopped")
    if vast.start(contract.id):
        return {"success": True}
    # Status 200, and it is not started: it will be, and be billed, once there is room.
    message = "Required resources are currently unavailable, state change queued."
    return {"success": False, "error": "resources_unavailable", "msg": message}


def _order(order: Any) -> list[tuple[str, bool]]:
    found = []
    for entry in order:
        if not isinstance(entry, dict) or entry.get("col") not in FILTERABLE:
            column = entry.get("col") if isinstance(entry, dict) else entry
            raise refused(400, "invalid_args", f"Error in query parameters: {column} is not a valid search key")
        found.append((str(entry["col"]), entry.get("dir") == "desc"))
    return [*found, ("id", False)]


def _page(rows: list[Mapping[str, Any]], asked: Asked, *, by_id: bool) -> tuple[list[Mapping[str, Any]], bool]:
    after, limit = asked.after(), asked.number("limit", USUAL_PER_PAGE)
    if after is not None and by_id:
        rows = [row for row in rows if row["id"] > after]
    elif after is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        rows = rows[places[0] + 1 :] if places else []
    most = min(limit, MOST_PER_PAGE) if limit > 0 else USUAL_PER_PAGE
    return rows[:most], len(rows) > most


def _columns(row: Mapping[str, Any], names: Any) -> Mapping[str, Any]:
    return row if "*" in names else {name: row.get(name) for name in names}


def _log(contract: Contract) -> list[str]:
    """What a container says is not known here: only what the host says of it."""
    said = contract.message or "waiting for the host"
    return [f"instance {contract.id} on machine {contract.host.machine_id}", *said.splitlines()]


def _publish(vast: Vast, asked: Asked, text: str) -> str:
    name = f"{secrets.token_hex(16)}.log"
    vast.logs[name] = (vast.clock() + timedelta(seconds=_LOG_SECONDS), text)
    return f"{asked.url}/instance_logs/{name}"
