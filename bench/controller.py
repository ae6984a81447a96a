"""What one controller needs to watch many running jobs: CPU and memory of its own process, on fake machines.

The store, the phases and the files are the real ones; the cloud and its machines are those of the tests. Each job
writes a line every five seconds, or nothing. Target at 300: a quarter of one core, 250 MB.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.measure import table
from jobs.spec import Spec
from orchestrator.controller import Controller
from orchestrator.home import Home
from orchestrator.records import Phase, Run
from orchestrator.store.store import Store
from orchestrator.world import World, steady_clock
from tests.fakes.fake_machine import FakeMachines, Script
from tests.fakes.memory_provider import MemoryProvider

COUNTS = (100, 300, 1000)
SECONDS = 20.0
TARGET = {300: "25 % and 250 MB"}
LINES = tuple((float(at), f"step {at} loss=0.1234\n".encode()) for at in range(0, 3600, 5))


def report() -> str:
    rows = []
    for talkative in (False, True):
        for count in COUNTS:
            measured = json.loads(
                subprocess.run(
                    [sys.executable, "-m", "bench.controller", str(count), str(int(talkative))],
                    check=True, stdout=subprocess.PIPE, text=True,
                ).stdout
            )  # fmt: skip
            rows.append(
                [
                    f"{count:,}",
                    "a line every 5 s" if talkative else "silent",
                    f"{measured['cpu_share']:.1%}",
                    f"{measured['memory_mb']:.0f} MB",
                    f"{measured['visits_per_second']:.0f}",
                    "" if talkative else TARGET.get(count, ""),
                ]
            )
    columns = ["runs watched", "jobs", "CPU of one core", "memory", "visits per s", "at most"]
    return table(f"One controller, SQLite, over {SECONDS:.0f} s", columns, rows)


def measure(count: int, *, talkative: bool) -> dict[str, float]:
    """Submit `count` jobs that never end, wait until all are watched, then look at this process for a while."""
    with tempfile.TemporaryDirectory() as folder:
        home, clock = Home(Path(folder)), steady_clock()
        cloud = MemoryProvider(clock)
        script = Script(seconds=math.inf, log=LINES if talkative else ())
        machines = FakeMachines(clock, cloud, script)
        store = Store.open(home.database_url({}))
        _submit(store, home, count)
        world = World(store=store, home=home, env={}, clock=clock, connect=machines.connect).use(cloud)
        stop = threading.Event()
        serving = threading.Thread(target=Controller(world, "bench").serve, args=(stop,))
        serving.start()
        try:
            _until_watched(store, count)
            return _look(machines)
        finally:
            stop.set()
            serving.join()
            store.close()


def _look(machines: FakeMachines) -> dict[str, float]:
    visits, cpu, began = _visits(machines), time.process_time(), time.monotonic()
    time.sleep(SECONDS)
    seconds = time.monotonic() - began
    return {
        "cpu_share": (time.process_time() - cpu) / seconds,
        "memory_mb": _resident_mb(),
        "visits_per_second": (_visits(machines) - visits) / seconds,
    }


def _visits(machines: FakeMachines) -> int:
    return sum(machine.visits for machine in machines)


def _submit(store: Store, home: Home, count: int) -> None:
    now = store.now()
    for number in range(count):
        run_id = f"r-{number:06d}"
        folder = home.run(run_id)
        folder.root.mkdir(parents=True)
        folder.bundle.write_bytes(b"")
        store.add_run(
            Run(
                id=run_id, name="job", owner="bench", project="default", spec=_spec(),
                created_at=now, phase_since=now, due_at=now, notes={"bundle_digest": "0"},
            )
        )  # fmt: skip


def _spec() -> dict[str, object]:
    return Spec.model_validate({"name": "job", "run": "true", "place": {"providers": ["memory"]}}).to_json()


def _until_watched(store: Store, count: int) -> None:
    deadline = time.monotonic() + 60 + count
    while sum(run.phase is Phase.WATCH for run in store.runs(active=True)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError("not all runs came to be watched")
        time.sleep(1)
    time.sleep(5)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(int(sys.argv[1]), talkative=sys.argv[2] == "1")))
    else:
        print(report())
