"""What sums of the ledger are made from, and nothing else of it: a year of charges in a fraction of a second.

Reads raw columns past the types of `columns.py`, which would cost more than all the rest. Adds nothing up: amounts are
decimal text, of which no database makes an exact sum.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Select, Text, select, type_coerce

from orchestrator.store.columns import EPOCH
from orchestrator.store.engine import Database
from orchestrator.store.errors import StoreBroken
from orchestrator.store.tables import attempts, charges, runs

_MICROSECONDS_PER_DAY = 86_400_000_000
_NONSENSE = (ValueError, TypeError, ArithmeticError, AttributeError)


class Booked(NamedTuple):
    """A charge without what is no part of a sum. `day` is the one in UTC in which it starts: 2026-11-21."""

    run_id: str
    attempt: int
    provider: str
    meter: str
    day: str
    usd: Decimal


class Sums:
    """Every method is one look and raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def booked(
        self, *, run_id: str | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Booked]:
        """The charges that start in [since, until), of one run when it is given, in the order they were written."""
        found = charges.c
        statement: Select[Any] = select(
            type_coerce(found.run_id, Text),
            found.attempt,
            type_coerce(found.provider, Text),
            type_coerce(found.meter, Text),
            type_coerce(found.start, BigInteger),
            type_coerce(found.amount_usd, Text),
        ).order_by(found.id)
        if run_id is not None:
            statement = statement.where(found.run_id == run_id)
        if since is not None:
            statement = statement.where(found.start >= since)
        if until is not None:
            statement = statement.where(found.start < until)
        days: dict[int, str] = {}
        with self._database.read() as connection:
            for run, attempt, provider, meter, start, usd in connection.execute(statement):
                try:
                    number = start // _MICROSECONDS_PER_DAY
                    day = days.get(number) or days.setdefault(number, f"{EPOCH + timedelta(days=number):%Y-%m-%d}")
                    yield Booked(run, attempt, provider, meter, day, Decimal(usd))
                except _NONSENSE as error:
                    raise StoreBroken(f"table charges, a row of run {run!r} makes no sense: {error!r}") from None

    def projects(self) -> dict[str, str]:
        """The project of every run."""
        with self._database.read() as connection:
            return {row.id: row.project for row in connection.execute(select(runs.c.id, runs.c.project))}

    def labels(self) -> dict[str, Mapping[str, str]]:
        """The labels of every run that has any."""
        found: dict[str, Mapping[str, str]] = {}
        with self._database.read() as connection:
            for run_id, spec in connection.execute(select(runs.c.id, type_coerce(runs.c.spec, Text))):
                if given := _in_json("runs", run_id, spec, "labels"):
                    found[run_id] = {str(name): str(value) for name, value in dict(given).items()}
        return found

    def gpus(self) -> dict[tuple[str, int], str]:
        """The kind of GPU of every attempt that has one: canonical, or as its cloud wrote it."""
        found: dict[tuple[str, int], str] = {}
        columns = (attempts.c.run_id, attempts.c.number, type_coerce(attempts.c.offer, Text))
        with self._database.read() as connection:
            for run_id, number, offer in connection.execute(select(*columns)):
                if gpu := _in_json("attempts", run_id, offer, "gpu"):
                    found[run_id, number] = str(gpu)
        return found


def _in_json(table: str, run_id: str, text: str, name: str) -> Any:
    try:
        return json.loads(text).get(name)
    except _NONSENSE as error:
        raise StoreBroken(f"table {table}, row {run_id!r} makes no sense: {error!r}") from None
