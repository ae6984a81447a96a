"""The JSON of `gpujob bench`, and the texts that are the same in several places. Pure: rows in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator import ledger
from orchestrator.benchmarks import claims as claimed
from orchestrator.benchmarks import comparing
from orchestrator.benchmarks import series as all_series
from orchestrator.benchmarks.change_points import TELLING
from orchestrator.benchmarks.gate import Verdict
from orchestrator.cli.documents import utc_text
from orchestrator.records import Json
from orchestrator.reports import words
from orchestrator.store.rows import CellRow, ChangeRow, ResultRow, SweepRow
from orchestrator.together import Together


def sweep(
    row: SweepRow,
    cells: Sequence[CellRow],
    its: Together,
    results: Mapping[str, Sequence[ResultRow]],
) -> Json:
    """A suite that was run once, with its runs and what they measured."""
    return {
        "id": row.id,
        "suite": row.suite,
        "created_at": utc_text(row.created_at),
        "commit": row.commit,
        "cap_usd": None if row.cap_usd is None else ledger.plain(row.cap_usd),
        "cost_usd": ledger.plain(its.usd),
        "runs": [_cell(cell, its, results.get(cell.run_id, ())) for cell in cells],
    }


def result(row: ResultRow) -> Json:
    """What one metric of one run came to."""
    return {
        "metric": row.metric,
        "value": row.value,
        "repeats": list(row.repeats),
        "unit": row.unit,
        "better": row.better,
        "is_main": row.is_main,
        "at": utc_text(row.at),
        "machine": machine(row),
    }


def machine(row: ResultRow) -> Json:
    """Where it was measured."""
    return {
        "provider": row.provider,
        "type": row.machine or None,
        "gpu": row.gpu,
        "gpu_count": row.gpu_count,
        "simulated": row.is_simulated,
        "usd_per_hour": ledger.plain(row.usd_per_hour),
        **row.testbed,
    }


def comparison(pairs: Sequence[comparing.Pair], claims: Sequence[claimed.Claim]) -> Json:
    """Machines side by side; what others claim stands apart."""
    return {
        "measured": [
            {
                "task": pair.task,
                "speed_up": pair.speed_up,
                **{name: _side(one) for name, one in (("first", pair.first), ("second", pair.second))},
            }
            for pair in pairs
        ],
        "claimed": [
            {
                "task": claim.task,
                "source": claim.source,
                "speed_up": claim.speed_up,
                **{
                    name: {"machine": side.machine, "seconds": side.time.total_seconds()}
                    for name, side in (("first", claim.first), ("second", claim.second))
                },
            }
            for claim in claims
        ],
    }


def series(one: all_series.Series, changes: Sequence[ChangeRow]) -> Json:
    """A metric on one testbed over time."""
    newest, name = one.newest, all_series.key(one.newest)
    return {
        "suite": newest.suite,
        "task": all_series.task(newest),
        "target": newest.target,
        "metric": newest.metric,
        "unit": newest.unit,
        "better": newest.better,
        "machine": machine(newest),
        "noise": all_series.noise(one),
        "values": [{"at": utc_text(row.at), "run_id": row.run_id, "value": row.value} for row in one.rows],
        "changes": [change(row) for row in changes if row.series == name and row.metric == newest.metric],
    }


def change(row: ChangeRow) -> Json:
    """A series that went to another level."""
    return {
        "since_run_id": row.run_id,
        "noticed_by": row.noticed_by,
        "noticed_at": utc_text(row.noticed_at),
        "metric": row.metric,
        "before": row.before,
        "after": row.after,
        "p_value": row.p_value,
        "is_worse": row.is_worse,
        "differs": row.differs,
    }


def verdict(judged: Verdict) -> Json:
    """Whether a sweep may pass."""
    return {
        "sweep": judged.sweep.id,
        "suite": judged.sweep.suite,
        "passes": not judged.worse and not judged.missing and not judged.still_going,
        "changes": [
            {"task": all_series.task(row), "target": row.target, "machine": machine(row), **change(found)}
            for found, row in judged.changes
        ],
        "missing": [
            {"task": one.cell.task, "target": one.cell.target, "run_id": one.cell.run_id, "why": one.why}
            for one in judged.missing
        ],
        "still_going": judged.still_going,
        "series": judged.series,
        "young": judged.young,
    }


def markdown(judged: Verdict) -> str:
    """A short table for a pull request."""
    lines = [f"### {judged.sweep.suite}: {_sentence(judged)}"]
    if judged.changes:
        lines += ["", "| task | metric | machine | before | now | change | since | differs |"]
        lines.append("| --- | --- | --- | ---: | ---: | ---: | --- | --- |")
        lines += [_change_line(found, row) for found, row in judged.changes]
    lines += [f"- {_inline(all_series.cell_words(one.cell))}: {_inline(one.why)}" for one in judged.missing]
    if judged.young:
        few = f"fewer than {TELLING} results, so that a change there is told late or not yet"
        lines.append(f"- {judged.young} of {judged.series} series: {few}")
    return "\n".join(lines)


def machine_in_detail(row: ResultRow) -> str:
    """aws g5.xlarge A10G, EPYC 7R32, driver 570.86."""
    cpu = row.testbed.get("cpu_model")
    driver = row.testbed.get("driver")
    parts = [all_series.machine_words(row), f"{row.testbed.get('cpus'):g} x {cpu}" if cpu else None]
    return words.one_line(", ".join([part for part in parts if part] + ([f"driver {driver}"] if driver else [])))


def _sentence(judged: Verdict) -> str:
    better = len(judged.changes) - len(judged.worse) - len(judged.dearer)
    parts = [f"{len(judged.worse)} worse" if judged.worse else "nothing got worse"]
    parts += [f"{better} better"] if better else []
    parts += [f"{len(judged.dearer)} dearer"] if judged.dearer else []
    parts += [f"{words.plural(len(judged.missing), 'run')} without all results"] if judged.missing else []
    parts += [f"{judged.still_going} still going"] if judged.still_going else []
    return ", ".join(parts) + f" ({judged.sweep.id})"


def _change_line(found: ChangeRow, row: ResultRow) -> str:
    before, after = (f"{words.number(value)} {row.unit}".rstrip() for value in (found.before, found.after))
    share = f"{found.after / found.before - 1:+.1%}" if found.before else "from 0"
    which = "worse" if found.is_worse else "better"
    task, where = all_series.task(row) or "-", all_series.machine_words(row)
    cells = (
        task,
        found.metric,
        where,
        before,
        after,
        f"{share} ({which})",
        f"{row.at:%Y-%m-%d}",
        all_series.differences(found) or "-",
    )
    return "| " + " | ".join(_inline(cell) for cell in cells) + " |"


def _inline(text: str) -> str:
    return words.one_line(text).replace("|", "\\|")


def _cell(cell: CellRow, its: Together, results: Sequence[ResultRow]) -> Json:
    run = its.by_id[cell.run_id]
    return {
        "run_id": run.id,
        "task": cell.task,
        "target": cell.target,
        "gpu": cell.gpu or None,
        "provider": cell.provider or None,
        "phase": run.phase.value,
        "outcome": run.outcome.value if run.outcome else None,
        "error": run.error,
        "cost_usd": ledger.plain(its.costs[run.id]),
        "results": [result(row) for row in results],
    }


def _side(one: comparing.Measured) -> Json:
    return {
        "seconds": one.seconds,
        "cost_usd": None if one.usd is None else ledger.plain(one.usd),
        "work": one.main.work,
        "run_id": one.main.run_id,
        **result(one.main),
    }
