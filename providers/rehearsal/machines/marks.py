"""The processes of a machine that is a process tree: all that carry its mark in their environment, and their sessions.

Knows how to find, stop and end them on Linux and macOS; knows no machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

MARK = "GPUJOB_MACHINE_HOME"  # its value is the machine's folder, which no other machine has

_END_SECONDS = 10.0


def find(home: str) -> set[int]:
    """Without the one who asks."""
    table = _linux(home) if Path("/proc/self/environ").exists() else _others(home)
    sessions = {session for pid, session, marked in table if marked and pid == session} - {os.getsid(0)}
    return {pid for pid, session, marked in table if marked or session in sessions} - {os.getpid()}


def end_all(home: str) -> None:
    """KILL until two looks find nobody: a process may hide from one while it becomes another program."""
    until = time.monotonic() + _END_SECONDS
    quiet = 0
    while quiet < 2 and time.monotonic() < until:
        found = find(home)
        quiet = 0 if found else quiet + 1
        send(found, signal.SIGKILL)
        time.sleep(0.005)


def send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _linux(home: str) -> list[tuple[int, int, bool]]:
    """(pid, session, does it carry the mark) of all that live."""
    mark, table = f"{MARK}={home}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            state, _, _, session = (process / "stat").read_bytes().rpartition(b")")[2].split()[:4]
            if state in (b"Z", b"X"):
                continue
            environ = b""
            with suppress(OSError):
                environ = (process / "environ").read_bytes()
            table.append((int(process.name), int(session), mark in environ.split(b"\0")))
    return table


def _others(home: str) -> list[tuple[int, int, bool]]:
    """ps shows environments behind commands there; the process group stands for the session."""
    done = subprocess.run(["ps", "axeww", "-o", "pid=,pgid=,command="], capture_output=True, text=True, check=False)
    rows = (line.split(None, 2) for line in done.stdout.splitlines())
    mark = f" {MARK}={home} "
    return [(int(row[0]), int(row[1]), mark in f" {row[2]} ") for row in rows if len(row) == 3]
