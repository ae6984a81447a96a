"""What a schedule makes: a run of its job, or a sweep of its suite, of the file as it is then or as it was kept.

Owns the folder of a schedule. Writes no row by itself: whoever asks says in which transaction it is written. Knows no
times.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from jobs import suite as suites
from jobs.spec import Spec
from orchestrator import submission
from orchestrator.home import Home, RunFolder
from orchestrator.records import Event, Json, Run
from orchestrator.store.engine import Write
from orchestrator.store.rows import ScheduleRow
from orchestrator.store.store import Store
from orchestrator.submission import Prepared, SubmissionError


@dataclass(frozen=True)
class Made:
    """One of the two."""

    run_id: str | None = None
    sweep_id: str | None = None

    @property
    def id(self) -> str:
        return self.run_id or self.sweep_id or ""


Add = Callable[[Made, Write], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """What a file asks for, checked as far as can be before it is run. `job` is None for a suite."""

    name: str
    text: bytes  # as written
    secrets: tuple[str, ...]
    objection: str | None  # why a person should agree first
    job: Prepared | None


def look(file: Path, *, home: Home, env: Mapping[str, str], overrides: Mapping[str, object]) -> Subject:
    """Read and check it; secrets need not be at hand. Raises what `submission` raises."""
    if not suites.is_suite(file):
        job = submission.prepare(file, home=home, env=env, overrides=overrides, for_later=True)
        return Subject(job.spec.name, job.text, job.spec.all_secrets, job.objection, job)
    from orchestrator.benchmarks import sweeps

    ready = sweeps.prepare(file, home=home, env=env, overrides=overrides, for_later=True)
    secrets = dict.fromkeys(name for cell, _ in ready.jobs for name in cell.spec.all_secrets)
    return Subject(ready.suite.name, file.read_bytes(), tuple(secrets), ready.objection, None)


def keep(
    schedule: ScheduleRow,
    subject: Subject,
    *,
    home: Home,
    env: Mapping[str, str],
    frozen: bool,
    say: Say = lambda _: None,
) -> ScheduleRow:
    """Make its folder, by which its home knows it. Returns it with what its runs are made of when it is frozen."""
    if frozen and subject.job is None:
        raise SubmissionError("--frozen keeps one job; a suite and its files are read anew each time")
    folder = home.schedule(schedule.id)
    folder.root.mkdir(mode=0o700, parents=True)
    if not frozen or subject.job is None:
        folder.spec.write_bytes(subject.text)
        return schedule
    notes = submission.pack(subject.job, folder, home=home, env=env, any_size=schedule.any_size, say=say)
    return replace(schedule, frozen={"spec": subject.job.spec.to_json(), "notes": notes})


def make(
    schedule: ScheduleRow,
    at: datetime,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    add: Add,
    say: Say = lambda _: None,
) -> Made:
    """For its time `at`; `add` writes it down. Raises what `submission` raises."""
    notes: Json = {"schedule": {"id": schedule.id, "name": schedule.name, "planned_at": at.isoformat()}}
    file = Path(schedule.file)
    if schedule.frozen is not None:
        return _run(*_frozen(schedule, schedule.frozen, home), notes, store=store, home=home, env=env, add=add)
    if not file.is_file():
        raise SubmissionError(f"there is no {file} any more")
    if suites.is_suite(file):
        return _sweep(schedule, file, notes, store=store, home=home, env=env, add=add, say=say)
    prepared = submission.prepare(file, home=home, env=env, overrides=schedule.overrides)

    def files(folder: RunFolder) -> Json:
        return submission.pack(prepared, folder, home=home, env=env, any_size=schedule.any_size, say=say)

    return _run(prepared.spec, files, notes, store=store, home=home, env=env, add=add)


def _frozen(schedule: ScheduleRow, frozen: Json, home: Home) -> tuple[Spec, Callable[[RunFolder], Json]]:
    """The job as it was when it was kept."""
    kept = home.schedule(schedule.id)

    def files(folder: RunFolder) -> Json:
        shutil.copyfile(kept.spec, folder.spec)
        shutil.copyfile(kept.bundle, folder.bundle)
        return dict(frozen["notes"])

    return Spec.from_json(frozen["spec"]), files


def _run(
    spec: Spec,
    files: Callable[[RunFolder], Json],
    notes: Json,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    add: Add,
) -> Made:
    def add_run(run: Run, events: Sequence[Event]) -> None:
        add(Made(run_id=run.id), store.to_write([(run, events)]))

    return Made(run_id=submission.enter(spec, files, store=store, home=home, env=env, notes=notes, add=add_run).id)


def _sweep(
    schedule: ScheduleRow,
    file: Path,
    notes: Json,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    add: Add,
    say: Say,
) -> Made:
    from orchestrator.benchmarks import sweeps

    def add_sweep(sweep: sweeps.Sweep, write: Write) -> None:
        add(Made(sweep_id=sweep.row.id), write)

    ready = sweeps.prepare(file, home=home, env=env, overrides=schedule.overrides)
    sweep = sweeps.enter(
        ready, store=store, home=home, env=env, notes=notes, any_size=schedule.any_size, say=say, add=add_sweep
    )
    return Made(sweep_id=sweep.row.id)
