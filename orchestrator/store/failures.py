"""What an error of the database means to the caller: SQLite's codes and PostgreSQL's SQLSTATEs as errors of the store.

The one place where errors of SQLAlchemy and of the drivers cross. Their own texts carry statements and parameters, so
only the driver's reason is passed on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.store.errors import (
    StoreBroken,
    StoreBusy,
    StoreConflict,
    StoreError,
    StoreFull,
    StoreUnreachable,
)

Meaning = Callable[[DBAPIError], StoreError]


@contextmanager
def translated(meaning: Meaning) -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise StoreBusy("every connection to the database is in use") from error
    except DBAPIError as error:
        raise meaning(error) from error
    except StatementError as error:  # a value that no column takes: the caller's bug, by its own name
        raise error.orig or StoreError(str(error)) from None
    except SQLAlchemyError as error:
        raise StoreError(str(error)) from error


def sqlite_meaning(path: Path, busy_seconds: float) -> Meaning:
    def meaning(error: DBAPIError) -> StoreError:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        primary = code & 0xFF
        if primary == sqlite3.SQLITE_FULL or code in _FULL_IO_ERRORS:
            return StoreFull(f"no space left for {path}: make room and try again; nothing was half written")
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreBusy(f"{path} is held by another process for more than {busy_seconds:g} s")
        if isinstance(error.orig, sqlite3.IntegrityError):
            return StoreConflict(str(error.orig))
        if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return StoreBroken(f"{path} is not a SQLite database, or is damaged ({error.orig})")
        if primary in _NOT_OURS_TO_WRITE:
            return StoreBroken(f"cannot use {path}: {error.orig}")
        return StoreError(f"{path}: {error.orig}")

    return meaning


def postgres_meaning(error: DBAPIError) -> StoreError:
    state = getattr(error.orig, "sqlstate", None) or ""
    words = str(error.orig).strip().splitlines()
    reason = words[0] if words else type(error.orig).__name__
    for prefixes, kind in _SQLSTATES:
        if state.startswith(prefixes):
            return kind(reason)
    if not state:
        return StoreUnreachable(f"the database does not answer: {reason}")
    return StoreError(reason)


# What a full disk looks like when it is the log's index that cannot grow: https://www.sqlite.org/rescode.html
_FULL_IO_ERRORS = (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP)
_NOT_OURS_TO_WRITE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES: tuple[tuple[tuple[str, ...], type[StoreError]], ...] = (
    (("23", "P0001"), StoreConflict),
    (("53100",), StoreFull),
    (("40", "55P03", "57014", "53"), StoreBusy),
    (("08", "57P"), StoreUnreachable),
    (("28", "3D", "42501", "25006", "XX"), StoreBroken),
)
