"""Results as others read them: github-action-benchmark's JSON, CSV, and Prometheus' text. docs/benchmark-formats.md.

Pure: rows in, text out. Names come from suites, jobs and clouds; none of them can command a terminal or break a format.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from orchestrator.benchmarks import series, units
from orchestrator.benchmarks.results import TESTBED
from orchestrator.ledger import plain
from orchestrator.records import Json
from orchestrator.reports import words
from orchestrator.store.rows import ResultRow

PREFIX = "gpujob_bench_"  # of every metric of a suite; what is gpujob's own begins otherwise
_AT = "gpujob_benchmark_at_seconds"
_COLUMNS = (
    "at", "suite", "task", "target", "provider", "machine", "gpu", "gpu_count", "simulated", "metric", "value", "unit",
    "better", "main", "work", "repeats", "least", "most", "usd_per_hour", "usd_per_work", "sweep_id", "run_id",
)  # fmt: skip
COLUMNS = (*_COLUMNS, *TESTBED)


def github_benchmark(rows: Iterable[ResultRow], *, better: Literal["lower", "higher"]) -> str:
    """The newest result of each series whose metric is better so, for customSmallerIsBetter or customBiggerIsBetter.

    https://github.com/benchmark-action/github-action-benchmark (2026-11-21): one file has one direction. An entry is
    compared with earlier ones of the same name, so the name says all that a series is kept apart by, and nothing else.
    """
    found = [_entry(row) for row in _newest(rows) if row.better == better and math.isfinite(row.value)]
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def csv_text(rows: Iterable[ResultRow]) -> str:
    """A line for each result; what is not known is an empty field."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in _columns(row).items()} for row in rows)
    return file.getvalue()


def prometheus(rows: Iterable[ResultRow]) -> str:
    """A gauge for each metric, with the newest result of each series, and one for when that was.

    https://prometheus.io/docs/instrumenting/exposition_formats/ (2026-11-21). There are no timestamps: the textfile
    collector refuses files that have any.
    """
    newest = _newest(rows)
    lines: list[str] = []
    families = sorted({_metric_name(row.metric) for row in newest})
    for family in families:
        members = [row for row in newest if _metric_name(row.metric) == family]
        what = ", ".join(dict.fromkeys(words.one_line(row.metric) for row in members))
        lines += _head(family, f"Newest median of {what} in benchmarks of gpujob.")
        lines += [f"{family}{_labels(row)} {_number(row.value)}" for row in members]
    if newest:
        lines += _head(_AT, "When the newest result was kept, in seconds since 1970.")
        lines += [f"{_AT}{_labels(row)} {_number(row.at.timestamp())}" for row in newest]
    return "".join(line + "\n" for line in lines)


def title(row: ResultRow) -> str:
    """One series for ever: mnist samples_per_second on vast RTX4090 (clouds)."""
    return words.one_line(f"{series.name(row)} ({row.target})")


def _newest(rows: Iterable[ResultRow]) -> list[ResultRow]:
    ordered = sorted(rows, key=lambda row: row.at)
    return sorted((one.newest for one in series.of(ordered).values()), key=title)


def _entry(row: ResultRow) -> Json:
    entry: Json = {"name": title(row), "unit": words.one_line(row.unit) or "-", "value": row.value}
    if len(row.repeats) > 1:
        entry["range"] = f"± {(max(row.repeats) - min(row.repeats)) / 2:.4g}"
    told = {"run": row.run_id, "usd per hour": plain(row.usd_per_hour), **row.testbed}
    entry["extra"] = "\n".join(f"{name}: {words.one_line(str(value))}" for name, value in told.items() if _says(value))
    return entry


def _says(value: object) -> bool:
    return value is not None and value != ""


def _columns(row: ResultRow) -> Json:
    per_work = units.usd_each(row) if units.is_rate(row) else None
    return {
        "at": f"{row.at:%Y-%m-%dT%H:%M:%SZ}",
        "suite": row.suite,
        "task": row.task,
        "target": row.target,
        "provider": row.provider,
        "machine": row.machine,
        "gpu": row.gpu,
        "gpu_count": row.gpu_count,
        "simulated": row.is_simulated,
        "metric": row.metric,
        "value": row.value,
        "unit": row.unit,
        "better": row.better,
        "main": row.is_main,
        "work": row.work,
        "repeats": len(row.repeats),
        "least": min(row.repeats),
        "most": max(row.repeats),
        "usd_per_hour": plain(row.usd_per_hour),
        "usd_per_work": None if per_work is None else plain(per_work),
        "sweep_id": row.sweep_id,
        "run_id": row.run_id,
        **{name: row.testbed.get(name) for name in TESTBED},
    }


def _field(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return words.one_line(value) if isinstance(value, str) else value


def _metric_name(metric: str) -> str:
    return PREFIX + re.sub(r"[^a-zA-Z0-9_]", "_", metric)


def _head(name: str, text: str) -> Iterator[str]:
    told = text.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} gauge"


def _labels(row: ResultRow) -> str:
    """What a series is kept apart by, and the metric's own name: two may look alike to Prometheus."""
    labels: Sequence[tuple[str, object]] = (
        ("suite", row.suite),
        ("task", series.task(row) or ""),
        ("target", row.target),
        ("metric", row.metric),
        ("unit", row.unit),
        ("provider", row.provider),
        ("machine", row.machine),
        ("gpu", row.gpu or "cpu"),
        ("gpu_count", row.gpu_count),
        ("simulated", str(row.is_simulated).lower()),
    )
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: object) -> str:
    return words.one_line(str(value)).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
