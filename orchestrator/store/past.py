"""Which runs of one name succeeded lately, with their attempts: what estimates are made from. One question."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Executable, Integer, bindparam, select

from orchestrator.records import Attempt, Outcome, Run
from orchestrator.store.columns import AnyText
from orchestrator.store.engine import Database
from orchestrator.store.rows import ATTEMPTS, RUNS
from orchestrator.store.tables import attempts, runs


class Past:
    """Every method is one question and raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def succeeded(self, *, name: str, project: str, limit: int, among: int) -> list[tuple[Run, list[Attempt]]]:
        """Newest first, at most `limit`, looked for among the `among` newest runs of that name, however they ended."""
        width = len(RUNS.columns)
        found: dict[str, tuple[Run, list[Attempt]]] = {}
        wanted = {"of_name": name, "of_project": project, "at_most": limit, "among": among}
        with self._database.read() as connection:
            for row in connection.execute(_statement(), wanted):
                attempt = ATTEMPTS.record(row[width:])
                if attempt.run_id not in found:
                    found[attempt.run_id] = (RUNS.record(row[:width]), [])
                found[attempt.run_id][1].append(attempt)
        return list(found.values())


@cache
def _statement() -> Executable:
    """By the index of names: what it costs does not grow with the store."""
    newest = (runs.c.created_at.desc(), runs.c.id.desc())
    named = (
        select(runs.c.id)
        .where(runs.c.name == bindparam("of_name", type_=AnyText()))
        .order_by(*newest)
        .limit(bindparam("among", type_=Integer()))
        .subquery()
    )
    wanted = (
        select(runs.c.id)
        .where(
            runs.c.id.in_(select(named.c.id)),
            runs.c.outcome == Outcome.SUCCEEDED,
            runs.c.project == bindparam("of_project", type_=AnyText()),
        )
        .order_by(*newest)
        .limit(bindparam("at_most", type_=Integer()))
        .subquery()
    )
    return (
        select(*RUNS.columns, *ATTEMPTS.columns)
        .join(attempts, attempts.c.run_id == runs.c.id)
        .where(runs.c.id.in_(select(wanted.c.id)))
        .order_by(*newest, attempts.c.number)
    )
