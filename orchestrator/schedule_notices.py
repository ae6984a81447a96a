"""Tells people what came of a time of a schedule, once all its runs are over: in what words, and by whose controller.

At least once, as notices.py does it; twice only where a controller dies in between. A schedule's own home tells: its
secrets are there. Fires nothing, and judges no benchmark.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC

from orchestrator import ledger, notices
from orchestrator.firings import fired
from orchestrator.notices import NotDelivered, Notice
from orchestrator.records import FiringKind, Json
from orchestrator.reports import words
from orchestrator.reports.words import money, one_line, plural
from orchestrator.services import Kind
from orchestrator.store.errors import StoreError
from orchestrator.store.rows import FiringRow, ScheduleRow, Told
from orchestrator.store.store import Store
from orchestrator.together import Together
from orchestrator.world import World

MOST_LINES = 20  # of changes, of missing results, and of what to rent; the rest is counted

log = logging.getLogger("gpujob.controller")


def deliver_beside(world: World) -> None:
    """See to it that what is due is told, in a thread of its own; nothing happens while one is at work."""
    if _due(world):
        notices.beside("notices of schedules", lambda: deliver_due(world))


def deliver_due(world: World, send: Callable[[Told, Notice, World], None] = notices.send) -> None:
    """One try for each time that is to be told."""
    timetable = world.store.timetable
    for schedule, firing in _due(world):
        claimed = timetable.claim_telling(firing, notices.AGAIN_SECONDS)
        if claimed is None:
            continue  # another controller's
        try:
            send(schedule, notice(world.store, schedule, claimed), world)
        except StoreError:
            raise
        except Exception as error:
            expected = isinstance(error, NotDelivered)
            text = str(error) if expected else f"a bug in gpujob: {type(error).__name__}: {error}"
            log.warning("schedule %s: nobody was told (try %d): %s", schedule.name, claimed.tries, text)
            if claimed.tries < notices.MOST_TRIES:
                continue
        timetable.told(claimed)


def notice(store: Store, schedule: ScheduleRow, firing: FiringRow) -> Notice:
    """What came of it, of the runs as they are now."""
    [made] = fired(store, [firing])
    if firing.kind is FiringKind.FAILED:
        planned = f"{firing.planned_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        told = _Words(f"{schedule.name}: no run was made for {planned}: {one_line(firing.text)}", "failure")
    elif firing.sweep_id is None:
        told = _of_job(schedule, made)
    else:
        told = _of_sweep(store, schedule, firing.sweep_id, made)
    return Notice("\n".join([told.head, *told.lines]), told.kind, _document(schedule, firing, made, told))


class _Words:
    """One line that says it all, and what is behind it."""

    def __init__(
        self,
        head: str,
        kind: Kind,
        *,
        changes: Sequence[str] = (),
        missing: Sequence[str] = (),
        rent: Sequence[str] = (),
    ) -> None:
        self.head = head
        self.kind = kind
        self.changes = changes
        self.missing = missing
        self.rent = rent

    @property
    def lines(self) -> list[str]:
        missing = [f"missing: {text}" for text in self.missing]
        return [line for part in (self.changes, missing, self.rent) for line in _bounded(part)]


def _due(world: World) -> list[tuple[ScheduleRow, FiringRow]]:
    firings = world.store.timetable.to_tell()
    if not firings:
        return []
    rows = world.store.timetable.schedules()
    ours = {row.id: row for row in rows if world.home.schedule(row.id).root.exists()}
    return [(ours[firing.schedule_id], firing) for firing in firings if firing.schedule_id in ours]


def _of_job(schedule: ScheduleRow, made: Together) -> _Words:
    run = made.runs[0]
    why = f": {one_line(run.error)}" if run.error else ""
    head = f"{schedule.name} {run.id}: {words.state(run)}, {money(made.usd)}{_billing(made)}{why}"
    return _Words(head, "failure" if made.failed or run.possibly_billing else "success")


def _of_sweep(store: Store, schedule: ScheduleRow, sweep_id: str, made: Together) -> _Words:
    from orchestrator.benchmarks import gate, keeping
    from orchestrator.benchmarks.overview import overview
    from orchestrator.benchmarks.series import cell_words
    from orchestrator.reports import bench_rent

    sweep = next(row for row in store.benchmarks.sweeps() if row.id == sweep_id)
    verdict = gate.judge(store, sweep)
    count = plural(len(made.runs), "run")
    parts = [f"{len(made.failed)} of {count} did not succeed" if made.failed else f"{count}, all succeeded"]
    parts += [f"results of {plural(len(verdict.missing), 'run')} are missing"] if verdict.missing else []
    parts += [plural(len(verdict.changes), "change") if verdict.changes else "nothing changed", money(made.usd)]
    named = f" (schedule {schedule.name})" if schedule.name != sweep.suite else ""
    is_bad = made.failed or verdict.missing or verdict.worse or made.is_possibly_billing
    return _Words(
        f"{sweep.suite} {sweep.id}{named}: {', '.join(parts)}{_billing(made)}",
        "failure" if is_bad else "warning" if verdict.changes else "success",
        changes=[one_line(keeping.words(row, change)) for change, row in verdict.changes],
        missing=[one_line(f"{cell_words(one.cell)}: {one.why}") for one in verdict.missing],
        rent=bench_rent.sentences([price for price in overview(store, sweep.suite).prices if price.is_rented]),
    )


def _billing(made: Together) -> str:
    return ", possibly still billing" if made.is_possibly_billing else ""


def _bounded(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"and {rest} more"] if rest > 0 else list(lines)


def _document(schedule: ScheduleRow, firing: FiringRow, made: Together, told: _Words) -> Json:
    return {
        "schedule": schedule.name,
        "planned_at": firing.planned_at.isoformat(),
        "is_fine": told.kind == "success",
        "run_id": firing.run_id,
        "sweep_id": firing.sweep_id,
        "runs": len(made.runs),
        "did_not_succeed": len(made.failed),
        "cost_usd": ledger.plain(made.usd),
        "changes": list(told.changes),
        "missing": list(told.missing),
        "rent": list(told.rent),
    }
