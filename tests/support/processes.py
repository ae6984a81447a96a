"""The processes of this machine, as /proc has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes() -> Iterator[tuple[int, str, str]]:
    """(pid, command line, environment) of every process that we may look at."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            env = (entry / "environ").read_bytes().replace(b"\0", b"\n").decode(errors="replace")
        except OSError:
            continue
        yield int(entry.name), command, env
