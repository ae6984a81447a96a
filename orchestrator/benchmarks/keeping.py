"""What becomes of a benchmark's run when it is over: its results are kept, and changes that they show are noted.

May be done twice for one run: results and changes that are there already stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from jobs.metrics import points
from orchestrator.benchmarks import results, series
from orchestrator.benchmarks.results import USD_PER_HOUR
from orchestrator.home import RunFolder
from orchestrator.records import Attempt, Run
from orchestrator.store.rows import ChangeRow, ResultRow
from orchestrator.store.store import Store


def keep(
    store: Store, run: Run, attempt: Attempt, folder: RunFolder, is_simulated: bool, now: datetime
) -> Iterator[str]:
    """Write down what the run measured; yields in words what a person should know of it. Raises StoreError."""
    rows = results.of_run(run, attempt, points(folder.metrics), is_simulated=is_simulated, at=now)
    yield from results.shortfalls(run, rows)
    store.benchmarks.add_results(rows)
    if not rows:
        return
    first = rows[0]
    of_task = store.benchmarks.results(suite=first.suite, task=first.task, target=first.target)
    of_machines = store.benchmarks.results(suite=first.suite, target=first.target, metric=USD_PER_HOUR)
    others = [row for row in of_task if row.metric != USD_PER_HOUR]
    known = {(change.run_id, change.metric) for change in store.benchmarks.changes(first.suite)}
    mine = {series.key(row) for row in rows}
    for name, one in series.of([*others, *of_machines]).items():
        for change in series.changes(one, now) if name in mine else ():
            if (change.run_id, change.metric) not in known:
                store.benchmarks.add_change(change)
                yield words(one.newest, change)


def words(row: ResultRow, change: ChangeRow) -> str:
    """mnist samples_per_second on vast RTX4090: 1200 -> 1050 samples/s (-12.5 %, worse) since r-1234"""
    share = f"{change.after / change.before - 1:+.1%}".replace("%", " %") if change.before else "from 0"
    unit = f" {row.unit}" if row.unit else ""
    which = "worse" if change.is_worse else "better"
    differs = series.differences(change)
    level = f"{change.before:.6g} -> {change.after:.6g}{unit} ({share}, {which})"
    what = f"{series.name(row)}: {level} since {change.run_id}"
    return f"{what}; {differs}" if differs else what
