"""Benchmarks in the store: sweeps with their cells, results, and the changes that were noticed in them.

Results are written once and never changed; what is written twice is the same. Knows neither what a suite is nor when a
series has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select

from orchestrator.store.engine import Database, Write, joined
from orchestrator.store.rows import CELLS, CHANGES, RESULTS, SWEEPS, CellRow, ChangeRow, ResultRow, SweepRow
from orchestrator.store.tables import cells, changes, results, sweeps


class Benchmarks:
    """Every method is one transaction and raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def to_write(self, sweep: SweepRow, its_cells: Sequence[CellRow]) -> Write:
        """Writes a sweep as a part of somebody else's transaction, after the runs of its cells."""

        def write(connection: Connection) -> None:
            connection.execute(insert(sweeps), SWEEPS.values(sweep))
            connection.execute(insert(cells), [CELLS.values(cell) for cell in its_cells])

        return write

    def write(self, *parts: Write) -> None:
        """All of them or none."""
        with self._database.transaction() as connection:
            joined(*parts)(connection)

    def sweeps(self, *, suite: str | None = None, limit: int | None = None) -> list[SweepRow]:
        """The newest first."""
        statement = select(*SWEEPS.columns).order_by(sweeps.c.created_at.desc(), sweeps.c.id).limit(limit)
        if suite is not None:
            statement = statement.where(sweeps.c.suite == suite)
        with self._database.read() as connection:
            return [SWEEPS.record(row) for row in connection.execute(statement)]

    def cells(self, sweep_id: str) -> list[CellRow]:
        """In the order of their turns."""
        return self.cells_of([sweep_id])[sweep_id]

    def cells_of(self, sweep_ids: Sequence[str]) -> dict[str, list[CellRow]]:
        """The cells of each of these sweeps, in the order of their turns."""
        found: dict[str, list[CellRow]] = {sweep_id: [] for sweep_id in sweep_ids}
        statement = (
            select(*CELLS.columns).where(cells.c.sweep_id.in_(sweep_ids)).order_by(cells.c.sweep_id, cells.c.number)
        )
        with self._database.read() as connection:
            for cell in map(CELLS.record, connection.execute(statement)):
                found[cell.sweep_id].append(cell)
        return found

    def add_results(self, rows: Iterable[ResultRow]) -> None:
        statement = self._database.insert_or_update(results).on_conflict_do_nothing()
        with self._database.transaction() as connection:
            for row in rows:
                connection.execute(statement, RESULTS.values(row))

    def results(
        self,
        *,
        suite: str | None = None,
        task: str | None = None,
        target: str | None = None,
        metric: str | None = None,
        since: datetime | None = None,
    ) -> list[ResultRow]:
        """Those that match, the oldest first."""
        statement = select(*RESULTS.columns).order_by(results.c.at, results.c.run_id, results.c.metric)
        wanted = {"suite": suite, "task": task, "target": target, "metric": metric}
        for name, value in wanted.items():
            if value is not None:
                statement = statement.where(results.c[name] == value)
        if since is not None:
            statement = statement.where(results.c.at >= since)
        with self._database.read() as connection:
            return [RESULTS.record(row) for row in connection.execute(statement)]

    def add_change(self, change: ChangeRow) -> None:
        statement = self._database.insert_or_update(changes).on_conflict_do_nothing()
        with self._database.transaction() as connection:
            connection.execute(statement, CHANGES.values(change))

    def changes(self, suite: str | None = None) -> list[ChangeRow]:
        """Noticed in a suite, or in all of them; the oldest first."""
        statement = select(*CHANGES.columns).order_by(changes.c.noticed_at, changes.c.run_id, changes.c.metric)
        if suite is not None:
            statement = statement.where(changes.c.suite == suite)
        with self._database.read() as connection:
            return [CHANGES.record(row) for row in connection.execute(statement)]
