"""A controller in miniature, as a process of its own: fires whatever schedule of a home is due, until none is.

    python -m tests.orchestrator.store.firing URL HOME [HANG]

It says that it is ready, and goes when it is sent a line. With HANG it stops when it has packed its first job, before
anything is written, says so, and waits to be killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from orchestrator import schedules, submission
from orchestrator.home import Home
from orchestrator.store.store import Store
from orchestrator.world import World

LEASE_SECONDS = 2.0


def main(url: str, home: str, *, hang: bool) -> None:
    schedules.LEASE_SECONDS = LEASE_SECONDS
    store = Store.open(url)
    world = World(store=store, home=Home(Path(home)), env={}, clock=store.now)
    if hang:
        submission.pack = _hang
    print("ready", flush=True)
    sys.stdin.readline()
    while any(row.due_at and row.due_at <= store.now() for row in store.timetable.schedules()):
        schedules.fire_due(world)
        time.sleep(0.02)
    store.close()


def _hang(*_: Any, **__: Any) -> Any:
    print("holding", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], hang=len(sys.argv) > 3)
