"""gpujob bench run: from a suite's file to a sweep that is over."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from jobs import suite as suites
from jobs.spec import Spec
from jobs.suite_keys import LEAST_FILE
from orchestrator.benchmarks import gate, series, sweeps
from orchestrator.benchmarks.sweeps import Ready, Sweep
from orchestrator.cli import bench_views, exit_codes, job_options
from orchestrator.cli.attend import heard_ctrl_c
from orchestrator.cli.budget import check_budgets
from orchestrator.cli.errors import Stop
from orchestrator.cli.output import can_ask, data, say
from orchestrator.cli.session import Session
from orchestrator.records import Run
from orchestrator.reports import words

LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Ways:
    """What of the suite is run, and how the person wants to be told."""

    only: Sequence[str]
    dry_run: bool
    detach: bool
    any_size: bool
    as_json: bool


def run(session: Session, file: Path, options: Sequence[str], ways: Ways) -> int:
    """Submit all of it, and stay until it is over unless detached."""
    if not suites.is_suite(file, least=LEAST_FILE):
        raise Stop(f"{file} has no tasks: it is a job, for `gpujob submit`; a suite begins with {LEAST_FILE}")
    changes = job_options.changes(options, of="bench run")
    ready = sweeps.prepare(file, home=session.home, env=session.env, overrides=changes, only=ways.only)
    _check_budgets(session, ready)
    if ways.dry_run:
        from orchestrator.cli.bench_plan import show_plan

        return show_plan(session, ready, as_json=ways.as_json)
    sweep = sweeps.enter(
        ready,
        store=session.store,
        home=session.home,
        env=session.env,
        any_size=ways.any_size or _agrees(ready),
        say=say,
    )
    session.ensure_controller()
    _say_what_comes(ready, sweep)
    if ways.detach:
        data(sweep.row.id)
        return exit_codes.DONE
    try:
        with heard_ctrl_c() as heard:
            over = _follow(session, sweep, heard)
    except KeyboardInterrupt:
        lines = [f"  gpujob {command} {sweep.row.id}" for command in ("bench show", "wait", "cancel")]
        say("\n".join(["\nDetached: the sweep goes on.", *lines]))
        return exit_codes.INTERRUPTED
    verdict = gate.judge(session.store, sweep.row)
    bench_views.show_sweep(session, verdict, as_json=ways.as_json)
    codes = [exit_codes.exit_code(one) for one in over]
    lacks = exit_codes.INCOMPLETE if verdict.missing else exit_codes.DONE
    return next((code for code in codes if code != exit_codes.DONE), lacks)


def _check_budgets(session: Session, ready: Ready) -> None:
    """Of each project and the clouds of its jobs, by the job that may cost the most."""
    dearest: dict[tuple[str, tuple[str, ...]], Spec] = {}
    for spec in sorted((job.spec for _, job in ready.jobs), key=lambda spec: spec.limits.max_cost):
        dearest[spec.project, tuple(spec.place.providers)] = spec
    for spec in dearest.values():
        check_budgets(session, spec)


def _agrees(ready: Ready) -> bool:
    if ready.objection is None or not can_ask():
        return False
    say(ready.objection)
    return click.confirm("Ship all of it?", err=True)


def _say_what_comes(ready: Ready, sweep: Sweep) -> None:
    at_most = words.money(ready.most_usd)
    warmup = f" after {ready.suite.warmup} to warm up" if ready.suite.warmup else ""
    each = f"each {words.plural(ready.suite.repeats, 'time')}{warmup}"
    say(f"{sweep.row.id}  {sweep.row.suite}  {words.plural(len(sweep.cells), 'run')}, {each}, at most {at_most} in all")


def _follow(session: Session, sweep: Sweep, interrupted: threading.Event) -> list[Run]:
    """Say of each run when it gets a machine and how it ended."""
    names = {cell.run_id: series.cell_words(cell) for cell in sweep.cells}
    attempts = dict.fromkeys(names, 0)
    over: dict[str, Run] = {}
    while len(over) < len(names):
        if interrupted.is_set():
            raise KeyboardInterrupt
        for one in session.store.some_runs([run_id for run_id in names if run_id not in over]):
            if one.attempt > attempts[one.id] and not one.is_over:
                attempts[one.id] = one.attempt
                say(f"{one.id}  {names[one.id]}  begins{_again(session, one)}")
            if one.is_over:
                over[one.id] = one
                why = f": {words.one_line(one.error)}" if one.error else ""
                say(f"{one.id}  {names[one.id]}  {words.state(one)}{why}  ({len(over)} of {len(names)})")
        if len(over) < len(names):
            session.ensure_controller()
            session.sleep(LOOK_SECONDS)
    return [over[cell.run_id] for cell in sweep.cells]


def _again(session: Session, run: Run) -> str:
    """Of a second attempt, why there is one."""
    if run.attempt < 2:
        return ""
    lost = next((one for one in session.store.attempts(run.id) if one.number == run.attempt - 1), None)
    how = words.outcome(lost.outcome) if lost and lost.outcome else "another one"
    why = f": {words.one_line(lost.error)}" if lost and lost.error else ""
    return f" again, attempt {run.attempt} after {how}{why}"
