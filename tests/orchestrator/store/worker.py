"""A controller in miniature, as a process of its own: claims runs and takes each through its phases until none is left.

    python -m tests.orchestrator.store.worker URL NAME [HANG_AFTER]

It says that it is ready, and goes when it is sent a line. With HANG_AFTER it stops after that many saves, holding what
it has claimed, says so, and waits to be killed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from orchestrator.records import Event, Phase, Run
from orchestrator.store.store import LeaseLost, Store

LEASE_SECONDS = 2.0
PHASES = list(Phase)


def main(url: str, name: str, hang_after: int | None = None) -> None:
    store = Store.open(url)
    print("ready", flush=True)
    sys.stdin.readline()
    saves = 0
    while (wait := store.next_due()) is not None:
        for lease in store.claim(name, limit=3, lease_seconds=LEASE_SECONDS):
            if hang_after is not None and saves >= hang_after:
                print("holding", lease.run.id, flush=True)
                time.sleep(600)
            run, event = _advanced(store, lease.run)
            try:
                store.save(lease, run, events=[event], due_in=None if run.is_over else 0)
            except LeaseLost:
                continue
            saves += 1
        time.sleep(min(wait, 0.02))
    store.close()


def _advanced(store: Store, run: Run) -> tuple[Run, Event]:
    phase = PHASES[PHASES.index(run.phase) + 1]
    event = Event(run_id=run.id, attempt=1, at=store.now(), phase=phase, kind="phase", text=run.lease_owner or "")
    return replace(run, phase=phase), event


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
