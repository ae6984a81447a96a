"""A suite that is run once: all its jobs become runs at the same moment, and wait for their turn.

Owns the order: one's own computers do one job after another, of rented machines so many are there at once. The turns
themselves are a phase's (orchestrator/phases/turns.py). Knows neither results nor what a job does.
"""

from __future__ import annotations

import secrets as randomness
import shutil
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path

from jobs import suite as suites
from jobs.suite import Cell, Loaded
from jobs.suite_keys import Suite
from orchestrator import clouds, submission
from orchestrator.benchmarks import revision
from orchestrator.home import Home, RunFolder
from orchestrator.records import Event, Json, Run
from orchestrator.store.engine import Write, joined
from orchestrator.store.rows import CellRow, SweepRow
from orchestrator.store.store import Store
from orchestrator.submission import Entry, Prepared

Say = Callable[[str], None]

_SAID_BY_TARGETS = {"resources.gpu": "--gpu", "place.providers": "--provider"}


@dataclass(frozen=True)
class Ready:
    """A suite that could be run: valid, and all its jobs prepared."""

    file: Path
    suite: Suite
    jobs: tuple[tuple[Cell, Prepared], ...]
    commit: str | None

    @property
    def objection(self) -> str | None:
        """Why a person should agree first."""
        return next((job.objection for _, job in self.jobs if job.objection is not None), None)

    @property
    def most_usd(self) -> Decimal:
        """What all its runs together may cost."""
        most = sum((job.spec.limits.max_cost for _, job in self.jobs), Decimal(0))
        return most if self.suite.caps.cost is None else min(most, self.suite.caps.cost)


@dataclass(frozen=True)
class Sweep:
    """One that was written down, and its cells in the order of their turns."""

    row: SweepRow
    cells: tuple[CellRow, ...]


def prepare(
    file: Path,
    *,
    home: Home,
    env: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    for_later: bool = False,
    only: Collection[str] = (),
) -> Ready:
    """Read and check all that can be checked here; `overrides` are for every job. Raises what `submission` raises.

    `only` names tasks and targets; those that are not among the named ones of their kind are left out.
    """
    _refuse_other_machines(overrides or {})
    loaded = suites.load(file, vocabulary=submission.vocabulary(), overrides=overrides)
    cells = _chosen(loaded, only)
    folder = file.absolute().parent
    jobs = [
        (cell, submission.prepare_spec(cell.spec, cell.text, folder, home=home, env=env, for_later=for_later))
        for cell in cells
    ]
    return Ready(file.absolute(), loaded.suite, tuple(jobs), revision.of(folder))


def enter(
    ready: Ready,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    notes: Json | None = None,
    any_size: bool = False,
    say: Say = lambda _: None,
    add: Callable[[Sweep, Write], None] | None = None,
) -> Sweep:
    """Write the sweep and its runs down, due now: all or nothing. `notes` are for every run.

    `add` writes it, with what else belongs to the same transaction; by default the store does.
    """
    now, caps = store.now(), ready.suite.caps
    row = SweepRow(
        id=f"b-{randomness.token_hex(3)}",
        suite=ready.suite.name,
        file=str(ready.file),
        host=socket.gethostname(),
        created_at=now,
        commit=ready.commit,
        cap_usd=caps.cost,
        until=None if caps.time is None else now + caps.time,
    )
    written: list[Sweep] = []

    def add_all(runs: Sequence[tuple[Run, Sequence[Event]]]) -> None:
        _take_turns(row, ready, [run for run, _ in runs], _owned(ready, home, env))
        pairs = zip(ready.jobs, runs, strict=True)
        cells = [_cell(row, number, cell, run) for number, ((cell, _), (run, _)) in enumerate(pairs)]
        written.append(Sweep(row, tuple(cells)))
        write = joined(store.to_write(runs), store.benchmarks.to_write(row, cells))
        if add is None:
            store.benchmarks.write(write)
        else:
            add(written[0], write)

    entries = _entries(ready, notes or {}, home=home, env=env, any_size=any_size, say=say)
    submission.enter_all(entries, store=store, home=home, env=env, add=add_all)
    return written[0]


def _refuse_other_machines(overrides: Mapping[str, object]) -> None:
    """Results of a target are those of its machines: none may be measured on another one under its name."""
    if refused := [option for key, option in _SAID_BY_TARGETS.items() if key in overrides]:
        raise submission.SubmissionError(
            f"{' and '.join(refused)} cannot change a suite: which machines are taken is said by `gpus` and "
            "`providers` of its targets; `gpujob bench run --only TARGET` runs it on those of one target"
        )


def _chosen(loaded: Loaded, only: Collection[str]) -> list[Cell]:
    tasks, targets = loaded.suite.tasks, loaded.suite.targets
    if unknown := [name for name in only if name not in tasks and name not in targets]:
        there = ", ".join([*tasks, *targets])
        raise submission.SubmissionError(f"the suite has no task or target {unknown[0]!r}; there are {there}")
    wanted_tasks = [name for name in only if name in tasks] or [*tasks]
    wanted_targets = [name for name in only if name in targets] or [*targets]
    return [cell for cell in loaded.cells if cell.task in wanted_tasks and cell.target in wanted_targets]


def _entries(ready: Ready, notes: Json, *, home: Home, env: Mapping[str, str], any_size: bool, say: Say) -> list[Entry]:
    """Of each job; files that several jobs have are packed once, and images that several have built once."""
    packed: dict[str, tuple[RunFolder, Json]] = {}

    def entry(job: Prepared) -> Entry:
        key = f"{job.bundle.root} {job.spec.build}"

        def files(folder: RunFolder) -> Json:
            if key not in packed:
                made = submission.pack(job, folder, home=home, env=env, any_size=any_size, say=say)
                packed[key] = (folder, made)
                return dict(made)
            first, made = packed[key]
            folder.spec.write_bytes(job.text)
            shutil.copyfile(first.bundle, folder.bundle)
            return dict(made)

        return Entry(job.spec, files, notes)

    return [entry(job) for _, job in ready.jobs]


def _take_turns(row: SweepRow, ready: Ready, runs: Sequence[Run], owned: Collection[str]) -> None:
    """Tell each run its place: what it measures, and after whom its turn comes."""
    last: dict[str, str] = {}
    rented = count()
    for number, ((cell, _), run) in enumerate(zip(ready.jobs, runs, strict=True)):
        lane = cell.provider if cell.provider in owned else f"rented {next(rented) % ready.suite.at_once}"
        run.notes["sweep"] = {
            "id": row.id,
            "suite": row.suite,
            "task": cell.task,
            "target": cell.target,
            "number": number,
            "after": last.get(lane),
            "cap_usd": None if row.cap_usd is None else str(row.cap_usd),
            "until": None if row.until is None else row.until.isoformat(),
            "warmup": ready.suite.warmup,
            "repeats": ready.suite.repeats,
            "measure": {name: measure.model_dump() for name, measure in cell.measure.items()},
            "commit": row.commit,
        }
        last[lane] = run.id


def _cell(row: SweepRow, number: int, cell: Cell, run: Run) -> CellRow:
    return CellRow(
        sweep_id=row.id,
        number=number,
        run_id=run.id,
        task=cell.task,
        target=cell.target,
        gpu=cell.gpu,
        provider=cell.provider,
    )


def _owned(ready: Ready, home: Home, env: Mapping[str, str]) -> set[str]:
    """The providers that are the user's own computers."""
    named = {cell.provider for cell, _ in ready.jobs if cell.provider}
    opened, _ = clouds.open_all(sorted(named), home=home, env=env)
    return {provider.name for provider in opened if provider.traits.owned}
