"""Opening a store: the first time, at once from many sides, and when what lies there is not a store."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, inspect

from orchestrator.store import migrations
from orchestrator.store.engine import open_database
from orchestrator.store.store import (
    Store,
    StoreBroken,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnreachable,
)
from orchestrator.store.tables import metadata
from tests.orchestrator.store.examples import a_run, an_event


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_store_is_still_there_when_it_is_opened_again(url: str) -> None:
    first = Store.open(url)
    first.add_run(a_run())
    first.close()
    again = Store.open(url)
    assert again.run("r-7k2m9x") == a_run(due_at=again.run("r-7k2m9x").due_at)
    again.close()


def test_the_databases_clock_is_right(url: str) -> None:
    store = Store.open(url)
    assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert store.now().utcoffset() == timedelta(0)
    store.add_run(a_run())
    (lease,) = store.claim("c1", limit=1, lease_seconds=30)
    assert lease.run.lease_until is not None
    assert timedelta(seconds=25) < lease.run.lease_until - datetime.now(UTC) < timedelta(seconds=35)
    store.save(lease, lease.run, due_in=100)
    assert 90 < (store.next_due() or 0) <= 100
    store.close()


def test_a_store_of_a_newer_version_is_left_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def m002_later(*_: object) -> None: ...

    with monkeypatch.context() as newer:
        newer.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m002_later))
        Store.open(url).close()
    with pytest.raises(StoreTooNew, match="upgrade"):
        Store.open(url)


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(url).close()

    def m002_broken(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (done INTEGER)")
        connection.exec_driver_sql("SELECT nonsense FROM nowhere")

    with monkeypatch.context() as broken:
        broken.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m002_broken))
        with pytest.raises(StoreError):
            Store.open(url)
    store = Store.open(url)
    with pytest.raises(StoreError), store._database.read() as connection:
        connection.exec_driver_sql("SELECT done FROM half")
    store.close()


def test_the_migrations_lead_to_the_tables_that_the_store_uses(url: str) -> None:
    store = Store.open(url)
    with store._database.read() as connection:
        made = inspect(connection)
        found = {
            name: [
                (column["name"], column["nullable"], column["type"]._type_affinity) for column in made.get_columns(name)
            ]
            for name in made.get_table_names()
        }
    store.close()
    del found["migrations"]
    assert found == {
        table.name: [(column.name, column.nullable, column.type._type_affinity) for column in table.columns]
        for table in metadata.tables.values()
    }


@pytest.mark.process
def test_many_processes_open_a_new_store_at_once(url: str) -> None:
    code = "import sys; from orchestrator.store.store import Store; s = Store.open(sys.argv[1]); print(len(s.runs()))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=60) for process in processes] == [("0\n", "")] * 4


@pytest.mark.process
def test_what_one_process_commits_another_sees_after_a_third_has_closed(tmp_path: Path) -> None:
    url = _sqlite(tmp_path / "store.db")
    code = "import sys; from orchestrator.store.store import Store; s = Store.open(sys.argv[1]); print(len(s.runs()))"

    def runs_seen_elsewhere() -> str:
        """By a process that opens, looks and closes, as `gpujob ps` does."""
        argv = [sys.executable, "-c", f"{code}; s.close()", url]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    store = Store.open(url)
    with store._database.read() as one:
        one.exec_driver_sql("SELECT id FROM runs").all()
        with store._database.read() as another:  # opened while the first is in use, as in a controller's threads
            another.exec_driver_sql("SELECT id FROM runs").all()
    assert runs_seen_elsewhere() == "0\n"
    store.add_run(a_run())
    assert runs_seen_elsewhere() == "1\n"
    store.close()


@pytest.mark.process
def test_a_sqlite_store_is_opened_with_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    code = (
        "import sys; from orchestrator.store.store import Store; s = Store.open(sys.argv[1]); s.runs();"
        "print([name for name in ('sqlalchemy.orm', 'psycopg', 'pydantic', 'rich') if name in sys.modules])"
    )
    argv = [sys.executable, "-c", code, _sqlite(tmp_path / "store.db")]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    store = Store.open(_sqlite(path))
    store.add_run(a_run())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    store.close()


def _text(path: Path) -> None:
    path.write_text("name: mnist\n" * 100)


def _directory(path: Path) -> None:
    path.mkdir()


def _other_program(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def _damaged(path: Path) -> None:
    store = Store.open(_sqlite(path))
    store.add_run(a_run())
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


@pytest.mark.parametrize("spoil", [_text, _directory, _other_program, _damaged])
def test_what_is_not_a_store_is_named_and_left_alone(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "store.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreBroken, match=str(path)):
        Store.open(_sqlite(path)).runs()
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreBroken, match=r"file/store\.db"):
        Store.open(_sqlite(tmp_path / "file" / "store.db"))


@pytest.mark.parametrize("url", ["mysql://root@localhost/x", "sqlite://", "sqlite:///:memory:", "nonsense", ""])
def test_databases_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Store.open(url)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hunter2@/postgres?host=/nowhere",
        "postgres://ada:hunter2@127.0.0.1:1/postgres",
    ],
)
def test_a_server_that_does_not_answer(url: str) -> None:
    with pytest.raises(StoreUnreachable) as raised:
        Store.open(url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.postgres
@pytest.mark.process
def test_a_database_that_does_not_exist(postgres_server: str) -> None:
    with pytest.raises(StoreError, match="nobase"):
        Store.open(postgres_server.replace("@/postgres?", "@/nobase?"))


@pytest.mark.postgres
@pytest.mark.process
def test_a_connection_that_the_server_cut_is_replaced(postgres_server: str) -> None:
    store = Store.open(postgres_server)
    with pytest.raises(StoreUnreachable), store._database.transaction() as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    assert store.runs() == []
    store.close()


def test_a_store_that_is_held_for_too_long_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(_sqlite(path)).close()
    store = Store(open_database(_sqlite(path), busy_seconds=0.01))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match=r"store\.db is held by another process"):
        store.add_run(a_run())
    assert store.runs() == []  # readers do not wait
    holder.execute("COMMIT")
    store.add_run(a_run())
    holder.close()
    store.close()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(_sqlite(path)).close()
    database = open_database(_sqlite(path))
    event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 60"))
    store = Store(database)
    store.add_run(a_run())
    (lease,) = store.claim("c1", limit=1, lease_seconds=30)
    big = [an_event(text="x" * 4000) for _ in range(100)]
    with pytest.raises(StoreFull, match=r"no space left for .*store\.db") as raised:
        store.save(lease, lease.run, events=big, due_in=0)
    assert isinstance(raised.value, OSError)
    assert store.run("r-7k2m9x") == lease.run
    assert store.events("r-7k2m9x") == []
    store.save(lease, lease.run, events=big[:1], due_in=0)
    assert len(store.events("r-7k2m9x")) == 1
    store.close()
