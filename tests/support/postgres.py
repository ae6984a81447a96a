"""A real PostgreSQL server for the length of a test, from the programs that the system's package installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 20


@contextmanager
def running_postgres(tmp_path: Path) -> Iterator[str]:
    """A server of its own, empty, on a unix socket; yields the SQLAlchemy URL of its database `postgres`.

    Its log is `tmp_path/postgres.log`. Its files lie elsewhere: a socket's path must be short, and the server, which
    refuses to run as root, must reach them.
    """
    programs = server_programs()
    user = _unprivileged_user()
    with (
        tempfile.TemporaryDirectory(prefix="gpujob-pg-", ignore_cleanup_errors=True) as root,
        (tmp_path / "postgres.log").open("wb") as log,
    ):
        if user is not None:
            os.chown(root, user.pw_uid, user.pw_gid)
        _make_cluster(programs, Path(root), user)
        server = _spawn(
            [
                str(programs / "postgres"),
                *("-D", f"{root}/files", "-k", root, "-c", "listen_addresses=", "-c", "max_connections=200"),
                *("-c", "fsync=off", "-c", "shared_buffers=16MB"),
            ],
            user,
            log.fileno(),
        )
        try:
            url = f"postgresql+psycopg://postgres@/postgres?host={root}"
            _wait_until_it_answers(server, root, tmp_path / "postgres.log")
            yield url
        finally:
            _stop(server)


def server_programs() -> Path:
    """The directory with initdb and postgres; FileNotFoundError says how to get them."""
    found = [Path(initdb).resolve().parent for initdb in [shutil.which("initdb")] if initdb]
    roots = [Path("/usr/lib/postgresql"), Path("/opt/homebrew/opt"), Path("/usr/local/opt")]
    for root in roots:
        found += sorted(root.glob("*/bin"), key=_version, reverse=True)
    for programs in [*found, Path("/usr/pgsql/bin")]:
        if (programs / "initdb").exists() and (programs / "postgres").exists():
            return programs
    raise FileNotFoundError("no PostgreSQL server programs: install the package postgresql")


def _version(programs: Path) -> int:
    digits = "".join(letter for letter in programs.parent.name if letter.isdigit())
    return int(digits or 0)


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise FileNotFoundError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _make_cluster(programs: Path, root: Path, user: pwd.struct_passwd | None) -> None:
    argv = [str(programs / "initdb"), "-D", str(root / "files"), "-U", "postgres", "-A", "trust"]
    argv += ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    process = _spawn(argv, user, subprocess.PIPE)
    output, _ = process.communicate(timeout=_START_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"initdb failed: {output.decode(errors='replace')}")


def _spawn(argv: list[str], user: pwd.struct_passwd | None, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd="/",
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def _wait_until_it_answers(server: subprocess.Popen[bytes], root: str, log: Path) -> None:
    import psycopg

    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(host=root, user="postgres", dbname="postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}") from error
            time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Immediate shutdown: the files are thrown away anyway."""
    server.send_signal(signal.SIGQUIT)
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
