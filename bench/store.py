"""How much the store grows while a job runs: bytes of the SQLite file per hour. Target: 2 KB per hour and run.

The controller, the phases, the files and the store are the real ones; the cloud and its machines are those of the
tests, and the clock is set. The machine has three meters, as many as any of the clouds' have. The job writes a line of
log every minute, and in one case a checkpoint, too, which is brought home every five minutes.
"""

from __future__ import annotations

import math
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.measure import table
from jobs.spec import Spec
from orchestrator.controller import Controller
from orchestrator.home import Home
from orchestrator.records import Phase, Run
from orchestrator.store.store import Store
from orchestrator.world import World
from providers.base import Instance, Meter
from tests.fakes.clock import FakeClock
from tests.fakes.fake_machine import FakeMachines, Script
from tests.fakes.memory_provider import MemoryProvider

HOURS = 200
STEP_SECONDS = 60.0  # of the clock; a visit that finds nothing new writes nothing that stays
AT_MOST = 2000
TABLES = ("charges", "events")  # the rest is written in place
_ALSO_BILLED = (
    Meter(name="address", unit="hour", usd_per_unit=Decimal("0.005"), source="https://aws.amazon.com/vpc/pricing/"),
    Meter(
        name="disk",
        unit="GB-month",
        usd_per_unit=Decimal("0.08"),
        units_per_hour=Decimal(40) / 720,
        source="AWS price list, gp3",
    ),
)
_CHECKPOINTED = {"checkpoint": {"path": "checkpoints", "every": "5m"}}


class ThreeMeters(MemoryProvider):
    """Rents as EC2 does: with a disk and an address."""

    def get(self, instance_id: str) -> Instance:
        return _billed(super().get(instance_id))

    def create(self, *asked: Any) -> Instance:
        return _billed(super().create(*asked))


def report() -> str:
    rows = []
    for what, spec in (("a log", {}), ("a log and a checkpoint every 5 min", _CHECKPOINTED)):
        found = grown(spec)
        kinds = ", ".join(f"{count / HOURS:.1f} {kind}" for kind, count in found.rows.items())
        rows.append([what, f"{found.bytes / HOURS:,.0f}", kinds, f"{AT_MOST:,}"])
    columns = ["a job with", "bytes per hour", "rows per hour", "at most bytes per hour"]
    return table(f"Growth of the store, one run of {HOURS} hours, three meters, SQLite", columns, rows)


@dataclass(frozen=True)
class Growth:
    """From the end of the first hour on; `rows` by table."""

    bytes: int
    rows: dict[str, int]


def grown(spec: dict[str, Any], hours: int = HOURS) -> Growth:
    """One run, looked at for so long after its first hour."""
    with tempfile.TemporaryDirectory() as folder:
        home, clock = Home(Path(folder)), FakeClock()
        cloud = ThreeMeters(clock)
        machines = FakeMachines(clock, cloud, _job(hours + 2))
        store = Store.open(home.database_url({}), clock=clock)
        file = next(home.root.glob("*.db*"))
        _submit(store, home, spec)
        world = World(store=store, home=home, env={}, clock=clock, connect=machines.connect).use(cloud)
        controller = Controller(world, "bench")
        _live(controller, clock, 1)
        before = _counted(file)
        _live(controller, clock, hours)
        if store.run("r-1").phase is not Phase.WATCH:
            raise RuntimeError("the job came to an end")
        after = _counted(file)
        store.close()
        rows = {table: after[table] - before[table] for table in TABLES}
        return Growth(after["bytes"] - before["bytes"], rows)


def _billed(instance: Instance) -> Instance:
    return replace(instance, meters=(*instance.meters, *_ALSO_BILLED))


def _job(hours: int) -> Script:
    return Script(
        seconds=math.inf,
        log=[(60.0 * minute, f"step {minute} loss=0.1234\n".encode()) for minute in range(60 * hours)],
        files=[(300.0 * turn, "checkpoints/latest", b"%d" % turn) for turn in range(12 * hours)],
    )


def _submit(store: Store, home: Home, more: dict[str, Any]) -> None:
    limits = {"max_cost": "10000", "max_duration": f"{10 * HOURS}h"}
    whole = {"name": "job", "run": "true", "place": {"providers": ["memory"]}, "limits": limits, **more}
    folder, now = home.run("r-1"), store.now()
    folder.root.mkdir(parents=True)
    folder.bundle.write_bytes(b"")
    spec = Spec.model_validate(whole).to_json()
    store.add_run(
        Run(
            id="r-1", name="job", owner="bench", project="default", spec=spec,
            created_at=now, phase_since=now, due_at=now, notes={"bundle_digest": "0"},
        )
    )  # fmt: skip


def _live(controller: Controller, clock: FakeClock, hours: float) -> None:
    for _ in range(int(hours * 3600 / STEP_SECONDS)):
        while controller.tick():
            pass
        clock.advance(STEP_SECONDS)


def _counted(file: Path) -> dict[str, int]:
    with closing(sqlite3.connect(file)) as connection:
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    return {"bytes": _size(file), **rows}


def _size(file: Path) -> int:
    """What is in use, also of what is still in the write-ahead log only."""
    names = ("page_count", "freelist_count", "page_size")
    with closing(sqlite3.connect(file)) as connection:
        pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)
