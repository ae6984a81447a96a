"""The database behind a URL: SQLAlchemy's engine for it, with our limits, and its three kinds of transaction.

SQLite: write-ahead log, one writer at a time, readers never wait. PostgreSQL: read committed, and every wait has an
end. Owns all that differs between them but for what `failures.py` and `migrations.py` say. Knows no table of ours.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Table,
    bindparam,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal_column,
    make_url,
    type_coerce,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from orchestrator.store.columns import UtcTime
from orchestrator.store.errors import StoreBroken, StoreBusy, StoreError
from orchestrator.store.failures import Meaning, postgres_meaning, sqlite_meaning, translated

BUSY_SECONDS = 10.0
_POOL: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 24, "pool_timeout": BUSY_SECONDS}
_OUR_NUMBER = 0x67706A62  # "gpjb": the file's application id, and the lock for migrations; the same in every version

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 30  # a server that acknowledges nothing for so long is unreachable
_SERVER_LIMITS = (
    "SET lock_timeout = '10s'; SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '60s'"
)


Write = Callable[[Connection], None]  # a part of somebody else's transaction


def joined(*parts: Write) -> Write:
    """One part that does all of these, in their order."""

    def write(connection: Connection) -> None:
        for part in parts:
            part(connection)

    return write


class Database(ABC):
    """One database; threads may share it. Methods raise StoreError and wait for no lock longer than their limit."""

    def __init__(self, engine: Engine, reading: Engine, meaning: Meaning) -> None:
        self.engine = engine
        self._reading = reading
        self._lasting = engine.execution_options(durable=True)
        self._passing = engine.execution_options(durable=False)
        self._meaning = meaning

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """For single SELECTs; each sees what was committed when it began."""
        with translated(self._meaning), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Connection]:
        """All or nothing. Not durable: a power cut may undo it as a whole, which the caller can live with."""
        with translated(self._meaning), (self._lasting if durable else self._passing).begin() as connection:
            yield connection

    @abstractmethod
    def migration(self) -> AbstractContextManager[Connection]:
        """A transaction that only one process of all is in."""

    @abstractmethod
    def now(self, clock: Callable[[], datetime]) -> ColumnElement[datetime]:
        """The time in a statement; `clock` is ours, for a database that has none of its own."""

    @abstractmethod
    def insert_or_update(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT, which is not in the SQL that all databases share."""

    def close(self) -> None:
        self.engine.dispose()


def open_database(url: str, *, busy_seconds: float = BUSY_SECONDS) -> Database:
    """The database behind a SQLAlchemy URL: sqlite:///FILE or postgresql://..."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"not a database URL: write {_URLS}") from error
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return _Sqlite(parsed.database or "", busy_seconds)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _Postgres(parsed.set(drivername="postgresql+psycopg"))
    raise StoreError(f"cannot open a {parsed.drivername!r} database: write {_URLS}")


class _Sqlite(Database):
    """A file. Without a transaction of ours each statement is its own; ours are writers from their first moment."""

    def __init__(self, name: str, busy_seconds: float) -> None:
        if name in ("", ":memory:"):
            raise StoreError("gpujob needs a SQLite file that other processes can open: write sqlite:///FILE")
        self._path = Path(name)
        self._busy_seconds = busy_seconds
        engine = create_engine(
            URL.create("sqlite", database=name),
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": busy_seconds, "check_same_thread": False},
            hide_parameters=True,
            **_POOL,
        )
        event.listen(engine, "do_connect", self._make_file)
        event.listen(engine, "connect", _set_rules)
        event.listen(engine, "begin", _begin_writing)
        super().__init__(engine, engine, sqlite_meaning(self._path, busy_seconds))

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        self._refuse_what_is_not_ours()
        self._use_write_ahead_log()
        with self.transaction() as connection:
            connection.exec_driver_sql(f"PRAGMA application_id = {_OUR_NUMBER}")
            yield connection

    def now(self, clock: Callable[[], datetime]) -> ColumnElement[datetime]:
        return clock_parameter(clock)

    def insert_or_update(self, table: Table) -> Any:
        from sqlalchemy.dialects.sqlite import insert

        return insert(table)

    def _make_file(self, *_: object) -> None:
        """For its owner only. Opened by us only when it is new: closing it would end SQLite's own locks on it.

        https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise StoreBroken(f"cannot open {self._path}: {error.strerror}") from error

    def _refuse_what_is_not_ours(self) -> None:
        with self.read() as connection:
            application, tables = connection.exec_driver_sql(
                "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"
            ).one()
        if tables and application != _OUR_NUMBER:
            raise StoreBroken(f"{self._path} is a database of another program")

    def _use_write_ahead_log(self) -> None:
        """SQLite does not wait for others when it changes the mode, so the waiting is here."""
        give_up = time.monotonic() + self._busy_seconds
        while True:
            try:
                with self.read() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = wal")
                return
            except StoreBusy:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)


class _Postgres(Database):
    """A database on a server. Always durable: controllers outlive the server, and must not find a lease forgotten."""

    def __init__(self, url: URL) -> None:
        try:
            engine = create_engine(
                url,
                isolation_level="READ COMMITTED",
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": _CONNECT_SECONDS,
                    "keepalives_idle": _SILENCE_SECONDS,
                    "tcp_user_timeout": _SILENCE_SECONDS * 1000,
                    "application_name": "gpujob",
                },
                hide_parameters=True,
                **_POOL,
            )
        except ModuleNotFoundError as error:
            raise StoreError("a PostgreSQL store needs psycopg: install gpujob[postgres]") from error
        event.listen(engine, "connect", _set_limits)
        super().__init__(engine, engine.execution_options(isolation_level="AUTOCOMMIT"), postgres_meaning)

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        with self.transaction() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OUR_NUMBER})")
            yield connection

    def now(self, clock: Callable[[], datetime]) -> ColumnElement[datetime]:  # noqa: ARG002
        seconds = extract("epoch", func.statement_timestamp())
        return type_coerce(cast(seconds * literal_column("1000000"), BigInteger), UtcTime())

    def insert_or_update(self, table: Table) -> Any:
        from sqlalchemy.dialects.postgresql import insert

        return insert(table)


def clock_parameter(clock: Callable[[], datetime]) -> ColumnElement[datetime]:
    """A parameter that has our time whenever a statement with it runs."""
    return bindparam("now", type_=UtcTime(), callable_=clock)


def _set_rules(raw: Any, _record: object) -> None:
    raw.execute("PRAGMA foreign_keys = 1")
    raw.execute("PRAGMA recursive_triggers = 1")


def _begin_writing(connection: Connection) -> None:
    """FULL: on the disk when COMMIT returns. NORMAL: in the log, and on the disk with the next FULL one."""
    durable = connection.get_execution_options().get("durable")
    if durable is None:
        return
    if connection.info.get("durable") is not durable:
        connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.info["durable"] = durable
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_limits(raw: Any, _record: object) -> None:
    """As statements, because a connection pooler in between refuses start-up options."""
    raw.execute(_SERVER_LIMITS)
    raw.commit()


_URLS = "sqlite:///FILE or postgresql://USER@HOST/NAME"
