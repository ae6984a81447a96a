"""Who answers for what a rehearsal has made: a process of this computer, until it ends. Knows nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
from itertools import count
from pathlib import Path

_NUMBERS = count(1)


def me() -> str:
    """This process: host, pid, and when it began, since pids are used again; and a number, as it may ask twice."""
    return f"{socket.gethostname()}/{os.getpid()}/{_began(os.getpid())}/{next(_NUMBERS)}"


def is_dead(owner: str) -> bool:
    """Of another computer nothing is known, so what it made is left alone."""
    host, pid, since, *_ = (*owner.strip().split("/"), "", "", "")
    return host == socket.gethostname() and pid.isdigit() and _began(int(pid)) != since


def _began(pid: int) -> str:
    """In the system's own words; "" when there is no such process."""
    if Path("/proc/self/stat").exists():
        try:
            return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19]
        except (OSError, IndexError):
            return ""
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "-".join(done.stdout.split())
