"""The filter language of the API: `{"field": {"op": value}}`, for offers and for instances. Knows rows only.

Values may be strings where the row has numbers: that is how the official SDK sends what a person has written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.rehearsal.vast.refused import refused

Row = Mapping[str, Any]

MOST_OFFERS = 64  # per search, whatever the limit; seen by third parties in 2026, not documented

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_LISTS = ("in", "notin")
_TYPES = {
    "on-demand": "on-demand",
    "ondemand": "on-demand",
    "ask": "on-demand",
    "bid": "bid",
    "interruptible": "bid",
    "reserved": "reserved",
}
_CONTROLS = ("order", "limit", "type", "allocated_storage", "disable_bundling", "extra_ids", "select_cols", "q")
# Columns by which one can search although an offer does not show them so, and other names of columns.
_VIRTUAL = {
    "reliability2": "reliability",
    "dphtotal": "dph_total",
    "gpu_totalram": "gpu_total_ram",
    "ubuntu_version": "os_version",
    "driver_version": "driver_vers",
}
_IN_GB = {"gpu_totalram_GB": "gpu_total_ram", "cpu_ram_GB": "cpu_ram", "gpu_ram_GB": "gpu_ram"}
# The server drops it: what is rented is sorted out by the client (vast-ai/docs, search_offers.yaml, 2026-11).
_DROPPED = ("rented",)
_SLIPS_THROUGH = ("reliability", "inet_up", "inet_down", "disk_space", "disk_bw", "cpu_ram", "cpu_cores_effective")


@dataclass(frozen=True)
class Condition:
    """One comparison of one column."""

    column: str
    op: str
    value: Any

    def holds(self, row: Row) -> bool:
        have = row.get(self.column)
        if have is None:
            return (self.op == "eq" and self.value is None) or (self.op == "in" and None in self.value)
        if self.op in _LISTS:
            return (have in [_like(have, value) for value in self.value]) == (self.op == "in")
        wanted = _like(have, self.value)
        if wanted is None:
            return self.op == "neq"
        return _COMPARE[self.op](have, wanted)


@dataclass(frozen=True)
class OfferSearch:
    """What somebody asks of the market."""

    conditions: tuple[Condition, ...]
    order: tuple[tuple[str, bool], ...]  # column, descending
    type: str
    storage_gb: Decimal
    limit: int | None

    def pick(self, rows: Iterable[tuple[Row, Row, bool]]) -> tuple[list[Row], bool]:
        """Of (shown, searched, sloppy) the shown ones that fit, in order, and whether more would have."""
        found = [(shown, searched) for shown, searched, sloppy in rows if self._fits(searched, sloppy)]
        for column, descending in reversed(self.order):
            found.sort(key=lambda pair: _sortable(pair[1].get(column)), reverse=descending)
        most = MOST_OFFERS if self.limit is None else max(0, min(self.limit, MOST_OFFERS))
        cut = len(found) > most and (self.limit is None or self.limit > most)
        return [shown for shown, _ in found[:most]], cut

    def _fits(self, row: Row, sloppy: bool) -> bool:
        for condition in self.conditions:
            if condition.column == "id":
                return False  # a filter on it finds nothing: `ask_contract_id` does (seen by third parties, 2026)
            if sloppy and condition.op in ("gt", "gte", "lt", "lte") and condition.column in _SLIPS_THROUGH:
                continue  # numeric filters are "not always applied" (seen by third parties, 2026)
            if not condition.holds(row):
                return False
        return True


def offer_search(body: Any, columns: set[str]) -> OfferSearch:
    """The body of a search. Raises Refused for what is no operator, no column or no number."""
    if not isinstance(body, dict):
        raise refused(400, "invalid_request", "Invalid json body")
    kind = body.get("type") or "on-demand"
    if kind not in _TYPES:
        raise refused(400, "invalid_request", f"{kind} is not a valid offer type")
    conditions = [
        condition
        for column, ops in body.items()
        if column not in (*_CONTROLS, *_DROPPED)
        for condition in _of_column(column, ops, columns)
    ]
    storage = _amount("allocated_storage", body.get("allocated_storage"), Decimal(8))
    conditions.append(Condition("disk_space", "gte", float(storage)))
    limit = body.get("limit")
    return OfferSearch(
        conditions=tuple(conditions),
        order=_order(body.get("order"), columns),
        type=_TYPES[kind],
        storage_gb=storage,
        limit=None if limit is None else int(_amount("limit", limit, Decimal(0))),
    )


def row_filters(filters: Any, columns: set[str]) -> list[Condition]:
    """`select_filters` of a list. Raises Refused for a column that is computed or unknown."""
    if not isinstance(filters, dict):
        raise refused(400, "invalid_args", "Error in query parameters: select_filters must be an object")
    found = []
    for column, ops in filters.items():
        if column not in columns:
            raise refused(400, "invalid_args", f"Error in query parameters: {column} is not a valid search key")
        for op, value in ops.items() if isinstance(ops, dict) else [("eq", ops)]:
            if op not in _COMPARE and op not in _LISTS:
                raise refused(400, "invalid_args", f"Error in query parameters: {op} is not a valid search op")
            found.append(Condition(column, op, value))
    return found


def sort_rows(rows: list[Row], order: Sequence[tuple[str, bool]]) -> list[Row]:
    for column, descending in reversed(order):
        rows = sorted(rows, key=lambda row: _sortable(row.get(column)), reverse=descending)
    return rows


def _of_column(column: str, ops: Any, columns: set[str]) -> Iterable[Condition]:
    if column == "target_reliability":  # a plain number, not an operator
        return [Condition("expected_reliability", "gte", float(_amount(column, ops, Decimal(0))))]
    real = _VIRTUAL.get(column, _IN_GB.get(column, column))
    if real not in columns:
        raise refused(400, "invalid_request", f"{column} is not a valid search key")
    if not isinstance(ops, dict):
        raise refused(400, "invalid_request", f"{column} must be an object of operators")
    if wrong := [op for op in ops if op not in _COMPARE and op not in _LISTS]:
        raise refused(400, "invalid_request", f"{wrong[0]} is not a valid search op")
    return [Condition(real, op, _value(column, value)) for op, value in ops.items()]


def _value(column: str, value: Any) -> Any:
    if column in _IN_GB:
        return float(_amount(column, value, Decimal(0))) * 1000
    if column == "driver_version" and isinstance(value, str) and value.count(".") == 2:
        return int("".join(part.zfill(3) for part in value.split(".")))
    return value


def _order(order: Any, columns: set[str]) -> tuple[tuple[str, bool], ...]:
    if not order:
        return (("score", True),)
    found = []
    for entry in order:
        column, direction = (*entry, "asc")[:2] if isinstance(entry, list) else (entry, "asc")
        real = _VIRTUAL.get(column, _IN_GB.get(column, column))
        if real not in columns:
            raise refused(400, "invalid_request", f"{column} is not a valid search key")
        found.append((real, direction == "desc"))
    return tuple(found)


def _amount(name: str, value: Any, default: Decimal) -> Decimal:
    if value is None:
        return default
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise refused(400, "invalid_request", f"{name} must be a number") from None


def _like(have: Any, value: Any) -> Any:
    """The value as the kind of thing that the row has; None when it cannot be."""
    if isinstance(have, bool):
        return str(value).lower() in ("true", "1")
    if isinstance(have, int | float):
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    return None if value is None else str(value)


def _sortable(value: Any) -> tuple[bool, bool, float, str]:
    """Any two of them can be compared; nothing comes first."""
    number = isinstance(value, int | float)
    return value is not None, number, float(value) if number else 0.0, "" if number else str(value)
