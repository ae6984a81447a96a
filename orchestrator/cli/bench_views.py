"""What `gpujob bench` shows: sweeps, results, machines side by side, series and what changed in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from orchestrator import together
from orchestrator.benchmarks import claims as claimed
from orchestrator.benchmarks import comparing, keeping, series, units
from orchestrator.benchmarks import gate as gates
from orchestrator.cli import bench_documents, exit_codes
from orchestrator.cli.errors import Stop
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session
from orchestrator.records import Json
from orchestrator.reports import words
from orchestrator.reports.plot import sparkline
from orchestrator.reports.table import Cell, Column, Table
from orchestrator.reports.text import status, status_of_all
from orchestrator.store.rows import CellRow, ResultRow, SweepRow
from orchestrator.together import Together


def show_list(session: Session, suite: str | None, *, as_json: bool) -> int:
    """Every sweep, the newest first."""
    rows = session.store.benchmarks.sweeps(suite=suite)
    if as_json:
        data_json(_documents(session, rows))
        return exit_codes.DONE
    if not rows:
        say("No suite has been run yet: gpujob bench run suite.yaml")
        return exit_codes.DONE
    columns = (Column("SWEEP"), Column("SUITE"), Column("WHEN"), Column("RUNS", right=True), Column("STATUS"))
    noticed = Counter(change.noticed_by for change in session.store.benchmarks.changes(suite))
    lines: list[Sequence[Cell | str]] = []
    cells = session.store.benchmarks.cells_of([row.id for row in rows])
    for row, its in zip(rows, _together(session, cells), strict=True):
        changed = sum(noticed[run.id] for run in its.runs)
        head = (row.id, row.suite, words.moment(row.created_at), str(len(its.runs)), status_of_all(its.runs))
        lines.append((*head, words.plural(changed, "change") if changed else "-", words.money(its.usd)))
    data(Table((*columns, Column("NOTICED"), Column("COST", right=True)), lines).text(**layout()))
    return exit_codes.DONE


def show_one(session: Session, subject: str | None, *, as_json: bool) -> int:
    """One sweep with its results."""
    show_sweep(session, gates.judge(session.store, _find(session, subject)), as_json=as_json)
    return exit_codes.DONE


def show_sweep(session: Session, verdict: gates.Verdict, *, as_json: bool) -> None:
    """A sweep's results, what changed with them, and which of them are missing, and why."""
    if as_json:
        [document] = _documents(session, [verdict.sweep])
        data_json(document)
    else:
        _print_sweep(session, verdict)


def _print_sweep(session: Session, verdict: gates.Verdict) -> None:
    row, cells = verdict.sweep, session.store.benchmarks.cells(verdict.sweep.id)
    its = together.load(session.store, [cell.run_id for cell in cells])
    results = _results_by_run(session, [row])
    titles = ("TASK", "TARGET", "MACHINE", "METRIC", "RUN", "STATUS")
    columns = [Column(title) for title in titles] + [Column("VALUE", right=True), Column("COST", right=True)]
    lines: list[Sequence[Cell | str]] = []
    for cell in cells:
        run, found = its.by_id[cell.run_id], results.get(cell.run_id, [])
        for number, one in enumerate(found or [None]):
            head = (cell.task, cell.target, _machine(cell, one)) if number == 0 else ("", "", "")
            end = (run.id, status(run)) if number == 0 else ("", "")
            cost = words.money(its.costs[run.id]) if number == 0 else ""
            lines.append((*head, one.metric if one else "", *end, _value(one) if one else "", cost))
    data(Table(columns, lines).text(**layout()))
    for change, first in verdict.changes:
        data(words.one_line(f"{first.at:%Y-%m-%d}: {keeping.words(first, change)}"))
    for lack in verdict.missing:
        say(f"{lack.cell.run_id}  {series.cell_words(lack.cell)}: {words.one_line(lack.why)}")
    for line in _without_image(its):
        say(line)
    caps = f" (caps.cost: {words.money(row.cap_usd)})" if row.cap_usd is not None else ""
    say(f"{row.id}: {status_of_all(its.runs).text}, {words.money(its.usd)}{caps}")


def _without_image(its: Together) -> Iterator[str]:
    """Which jobs ran as processes although they have an image: their figures are of another PyTorch."""
    for run in its.runs:
        attempts = its.attempts[run.id]
        if attempts and (image := attempts[-1].notes.get("without_image")) is not None:
            yield words.one_line(f"{run.id}  ran as a process, not in {image}, which could not be used there")


def compare(session: Session, machines: Sequence[str], *, suite: str | None, claims: Path | None, as_json: bool) -> int:
    """Two machines side by side, by their newest results."""
    measured = comparing.newest(session.store.benchmarks.results(suite=suite))
    sides = [_side(measured, name) for name in machines]
    if not (found := comparing.pairs(*sides)):
        raise Stop(f"{machines[0]!r} and {machines[1]!r} have no task in common, or mean the same machines")
    told = claimed.load(claims) if claims is not None else ()
    if as_json:
        data_json(bench_documents.comparison(found, told))
        return exit_codes.DONE
    first, second = (name.upper() for name in machines)
    columns = [Column("TASK"), *(Column(f"{name} TIME", right=True) for name in (first, second))]
    columns += [Column(title, right=True) for title in ("SPEED-UP", f"{first} COST", f"{second} COST")]
    columns += [Column(f"{first} MACHINE", wraps=True), Column(f"{second} MACHINE", wraps=True)]
    tasks = list(dict.fromkeys(pair.task for pair in found))
    lines = [_pair_line(pair) for pair in sorted(found, key=lambda pair: tasks.index(pair.task))]
    data(Table(columns, lines).text(**layout()))
    say("Measured: medians of the newest results. COST is the machine's rate for that time, without its start.")
    if alone := sorted({one.main.task for side in sides for one in side}.difference(tasks)):
        say(f"Measured on one of them only: {', '.join(map(words.one_line, alone))}")
    if mine := [claim for claim in told if claim.task in tasks]:
        data("\nClaimed by others, and not measured here:\n" + _claims_table(mine, first, second))
    if others := sorted({claim.task for claim in told}.difference(tasks)):
        say(f"Claims of tasks that were not compared are left out: {', '.join(map(words.one_line, others))}")
    return exit_codes.DONE


def history(session: Session, suite: str | None, *, metric: str | None, as_json: bool) -> int:
    """Every series of a suite: its newest value, its noise, and its changes."""
    rows = session.store.benchmarks.results(suite=suite)
    found = [one for one in series.of(rows).values() if metric in (None, one.metric)]
    changes = session.store.benchmarks.changes(suite)
    if as_json:
        data_json([bench_documents.series(one, changes) for one in found])
        return exit_codes.DONE
    if not found:
        raise Stop(_no_series(session, suite, metric))
    columns = [Column(title) for title in ("SUITE", "TASK", "TARGET", "METRIC")]
    columns += [Column("MACHINE", wraps=True), Column("N", right=True)]
    columns += [Column("NEWEST", right=True), Column("NOISE", right=True), Column("SERIES")]
    lines = [_series_line(one) for one in found]
    if len({one.newest.suite for one in found}) == 1:
        columns, lines = columns[1:], [line[1:] for line in lines]
    data(Table(columns, lines).text(**layout()))
    its = {series.key(one.newest): one for one in found}
    told = [change for change in changes if change.series in its and change.metric == its[change.series].metric]
    for change in told:
        what = keeping.words(its[change.series].newest, change)
        data(words.one_line(f"{change.noticed_at:%Y-%m-%d}: {change.suite} {what}"))
    return exit_codes.DONE


def report(session: Session, suite: str | None, html: Path | None) -> int:
    """Everything on one page; without a file for it, what changed, what went wrong and what to rent, in words."""
    from orchestrator.benchmarks.overview import overview
    from orchestrator.reports import bench_page, bench_rent

    row = _find(session, suite)
    view = overview(session.store, row.suite)
    if html is None:
        changes = (f"{one.at:%Y-%m-%d}  {keeping.words(one.main.first, one.main.row)}" for one in view.changes)
        wrong = (f"{one.at:%Y-%m-%d}  {one.kind}: {words.one_line(one.text)}" for one in view.incidents)
        title = f"{row.suite}: {bench_page.summary(view.changes)} in {words.plural(len(view.nights), 'sweep')}"
        data("\n".join([title, *changes, *wrong, *bench_rent.sentences(view.prices)]))
    else:
        html.write_text(bench_page.page(view, now=session.store.now()), encoding="utf-8")
        say(f"written to {html}")
    return exit_codes.DONE


def export(session: Session, suite: str | None, form: str | None, *, better: str | None, to: str | None) -> int:
    """Results as other programs read them."""
    from orchestrator.reports import bench_formats

    if (to is not None) != (form == "mlflow"):
        raise click.UsageError("--format mlflow and --to URI go together")
    if (better is not None) != (form == "github"):
        raise click.UsageError("--format github and --better go together: a file has metrics of one direction")
    rows = session.store.benchmarks.results(suite=suite)
    if form == "mlflow" and to is not None:
        return _to_mlflow(rows, to)
    if form == "github":
        data(bench_formats.github_benchmark(rows, better="lower" if better == "lower" else "higher").rstrip("\n"))
    elif form == "prometheus":
        data(bench_formats.prometheus(rows).rstrip("\n"))
    else:
        data(bench_formats.csv_text(rows).rstrip("\n"))
    return exit_codes.DONE


def _to_mlflow(rows: Sequence[ResultRow], uri: str) -> int:
    from orchestrator.reports.bench_mlflow import NotLogged, log_to_mlflow

    try:
        say(f"{words.plural(log_to_mlflow(rows, uri), 'run')} logged")
    except NotLogged as error:
        raise Stop(str(error)) from None
    return exit_codes.DONE


def gate(session: Session, subject: str | None, *, as_json: bool) -> int:
    """What got worse with a sweep; the exit code says whether it may pass."""
    verdict = gates.judge(session.store, _find(session, subject))
    if as_json:
        data_json(bench_documents.verdict(verdict))
    else:
        data(bench_documents.markdown(verdict))
    if verdict.worse:
        return exit_codes.JOB_FAILED
    return exit_codes.INCOMPLETE if verdict.missing or verdict.still_going else exit_codes.DONE


def _no_series(session: Session, suite: str | None, metric: str | None) -> str:
    """What there is instead."""
    rows = session.store.benchmarks.results()
    if not rows:
        return "there are no results yet: gpujob bench run suite.yaml"
    of_suite = [row for row in rows if suite in (None, row.suite)]
    if not of_suite:
        return f"there are no results of a suite {suite!r}; there are of {_listed(row.suite for row in rows)}"
    return f"there is no metric {metric!r}; there are {_listed(row.metric for row in of_suite)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(words.one_line(name) for name in dict.fromkeys(names))


def _find(session: Session, subject: str | None) -> SweepRow:
    """By id, or the newest of a suite, or the newest of all."""
    rows = session.store.benchmarks.sweeps()
    found = next((row for row in rows if subject in (None, row.id, row.suite)), None)
    if found is not None:
        return found
    if not rows:
        raise Stop("no suite has been run yet: gpujob bench run suite.yaml")
    suites = ", ".join(dict.fromkeys(row.suite for row in rows))
    raise Stop(f"there is no sweep or suite {subject!r}; there are results of {suites}")


def _side(measured: Sequence[comparing.Measured], name: str) -> list[comparing.Measured]:
    if side := comparing.matching(measured, name):
        return side
    known = dict.fromkeys(word for one in measured for word in (one.main.target, one.main.gpu or "cpu"))
    if not known:
        raise Stop("there are no results yet: gpujob bench run suite.yaml")
    raise Stop(f"there are no results of {name!r}; there are of {', '.join(known)}")


def _together(session: Session, cells: Mapping[str, Sequence[CellRow]]) -> list[Together]:
    """The runs of each sweep."""
    return together.load_each(session.store, [[cell.run_id for cell in its] for its in cells.values()])


def _documents(session: Session, rows: Sequence[SweepRow]) -> list[Json]:
    results = _results_by_run(session, rows)
    cells = session.store.benchmarks.cells_of([row.id for row in rows])
    its = _together(session, cells)
    return [bench_documents.sweep(row, cells[row.id], runs, results) for row, runs in zip(rows, its, strict=True)]


def _results_by_run(session: Session, rows: Sequence[SweepRow]) -> dict[str, list[ResultRow]]:
    """Of these sweeps' runs and maybe of others, each run's main one first."""
    if not rows:
        return {}
    found: dict[str, list[ResultRow]] = {}
    suites = {row.suite for row in rows}
    suite = suites.pop() if len(suites) == 1 else None
    for one in session.store.benchmarks.results(suite=suite, since=min(row.created_at for row in rows)):
        found.setdefault(one.run_id, []).append(one)
    return {run_id: sorted(those, key=lambda one: not one.is_main) for run_id, those in found.items()}


def _machine(cell: CellRow, result: ResultRow | None) -> str:
    return series.machine_words(result) if result else ", ".join(part for part in (cell.gpu, cell.provider) if part)


def _value(one: ResultRow) -> str:
    return f"{words.number(one.value)} {one.unit}".rstrip()


def _pair_line(pair: comparing.Pair) -> Sequence[Cell | str]:
    both = (pair.first, pair.second)
    task = pair.task if pair.work is None else f"{pair.task} ({units.amount_words(pair.amount, pair.work)})"
    times = (_value(one.main) if one.seconds is None else words.duration(one.seconds * pair.amount) for one in both)
    speed_up = Cell("-" if pair.speed_up is None else f"{pair.speed_up:.2f}x", "strong")
    costs = (words.fine(None if one.usd is None else one.usd * pair.amount) for one in both)
    machines = (bench_documents.machine_in_detail(one.main) for one in both)
    return (task, *times, speed_up, *costs, *machines)


def _claims_table(told: Sequence[claimed.Claim], first: str, second: str) -> str:
    columns = [Column("TASK"), Column(f"{first} TIME", right=True), Column(f"{second} TIME", right=True)]
    columns += [Column("RATIO", right=True), Column("MACHINES", wraps=True), Column("SOURCE", wraps=True)]
    lines = [
        (
            *(
                one.task,
                words.duration(one.first.time.total_seconds()),
                words.duration(one.second.time.total_seconds()),
            ),
            *(f"{one.speed_up:.1f}x", f"{one.first.machine}; {one.second.machine}", one.source),
        )
        for one in told
    ]
    return Table(columns, lines).text(**layout())


def _series_line(one: series.Series) -> Sequence[str]:
    noise = series.noise(one)
    told = "-" if noise is None else f"{noise:.1%}".replace("%", " %")
    machine = series.machine_words(one.newest)
    return (
        *(one.newest.suite, series.task(one.newest) or "-", one.newest.target, one.metric, machine),
        *(str(len(one.rows)), _value(one.newest), told),
        sparkline(one.values[-40:]),
    )
