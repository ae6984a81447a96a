"""Results in MLflow: a run there for each run here, in one experiment for each suite, through MLflow's own client.

Logs a run once, however often it is told to. mlflow is imported by the one function that needs it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from orchestrator.ledger import plain
from orchestrator.reports import words
from orchestrator.store.rows import ResultRow

_RUN = "gpujob.run"
_SWEEP = "gpujob.sweep"
_BATCH = 500  # the API takes 1,000 metrics at once, and 100 tags
_PAGE = 1000
_LONGEST = 4000
# A person who asked for one upload shall not wait minutes for a server that is down, and tells nobody else about it.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class NotLogged(Exception):
    """mlflow is not installed, or does not take the results; says why. What was logged before that stays there."""


def log_to_mlflow(rows: Iterable[ResultRow], uri: str, *, experiment: str | None = None) -> int:
    """Log what MLflow does not have yet, and return how many runs that were. Raises NotLogged.

    `uri` is a tracking URI, such as http://mlflow.example:5000; `experiment` is by default gpujob/SUITE.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        tracking, entities = import_module("mlflow.tracking"), import_module("mlflow.entities")
    except ImportError:
        raise NotLogged("MLflow needs its client: install gpujob with its extra `mlflow`") from None
    try:
        client = tracking.MlflowClient(tracking_uri=uri)
        return sum(
            _log_suite(client, entities, experiment or f"gpujob/{suite}", its) for suite, its in _by_suite(rows).items()
        )
    except ImportError as error:
        reason = f"{uri} needs more of MLflow than its client ({error}): give the address of an MLflow server"
        raise NotLogged(reason) from None
    except import_module("mlflow.exceptions").MlflowException as error:
        raise NotLogged(f"MLflow at {uri} did not take the results: {words.one_line(str(error))}") from error


def _by_suite(rows: Iterable[ResultRow]) -> dict[str, dict[str, list[ResultRow]]]:
    """By suite and run."""
    found: dict[str, dict[str, list[ResultRow]]] = {}
    for row in rows:
        found.setdefault(row.suite, {}).setdefault(row.run_id, []).append(row)
    return found


def _log_suite(client: Any, entities: Any, experiment: str, runs: Mapping[str, Sequence[ResultRow]]) -> int:
    known = client.get_experiment_by_name(experiment)
    place = client.create_experiment(experiment) if known is None else known.experiment_id
    there = _there(client, place)
    new = {run_id: rows for run_id, rows in runs.items() if there.get(run_id, ("", ""))[1] != "FINISHED"}
    for run_id, rows in new.items():
        _log_run(client, entities, place, rows, there.get(run_id, (None, ""))[0])
    return len(new)


def _there(client: Any, place: str) -> dict[str, tuple[str, str]]:
    """What was logged before, by our run: MLflow's run and its status."""
    found: dict[str, tuple[str, str]] = {}
    token = None
    while True:
        page = client.search_runs([place], max_results=_PAGE, page_token=token)
        found |= {run.data.tags.get(_RUN, ""): (run.info.run_id, run.info.status) for run in page}
        if not (token := page.token):
            return found


def _log_run(client: Any, entities: Any, place: str, rows: Sequence[ResultRow], begun: str | None) -> None:
    """Write one run; `begun` is one that an earlier call could not finish."""
    first = rows[0]
    at = round(first.at.timestamp() * 1000)
    name = words.one_line(f"{first.task} {first.provider} {first.gpu or 'cpu'} {first.run_id}")
    run_id = begun or client.create_run(place, start_time=at, tags={_RUN: first.run_id}, run_name=name).info.run_id
    names = _names([row.metric for row in rows])
    metrics = [entities.Metric(names[row.metric], row.value, at, 0) for row in rows]
    params = [entities.Param(key, value) for key, value in _params(first).items()]
    tags = [entities.RunTag(key, value) for key, value in _tags(first).items()]
    client.log_batch(run_id, params=params, tags=tags)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    client.set_terminated(run_id, status="FINISHED", end_time=at)


def _params(row: ResultRow) -> dict[str, str]:
    told: dict[str, object] = {
        "suite": row.suite,
        "task": row.task,
        "target": row.target,
        "provider": row.provider,
        "machine": row.machine,
        "gpu": row.gpu or "cpu",
        "gpu_count": row.gpu_count,
        "simulated": str(row.is_simulated).lower(),
        "usd_per_hour": plain(row.usd_per_hour),
    }
    return _texts(told)


def _tags(row: ResultRow) -> dict[str, str]:
    return _texts({_SWEEP: row.sweep_id, **{f"testbed.{name}": value for name, value in row.testbed.items()}})


def _texts(told: Mapping[str, object]) -> dict[str, str]:
    texts = {name: words.one_line(str(value))[:_LONGEST] for name, value in told.items() if value is not None}
    return {name: text for name, text in texts.items() if text}


def _names(metrics: Iterable[str]) -> dict[str, str]:
    """Names that MLflow takes: https://github.com/mlflow/mlflow/blob/master/mlflow/utils/validation.py (2026-11-21).

    Files are named after them, so one must not look like a path upwards. Two that become the same are numbered.
    """
    found: dict[str, str] = {}
    for metric in metrics:
        plain_name = re.sub(r"[^\w\-. /]", "_", metric, flags=re.ASCII)[:200]
        if plain_name.startswith((".", "/")) or posixpath.normpath(plain_name) != plain_name:
            plain_name = plain_name.replace("/", "_").replace(".", "_")
        name, number = plain_name, 2
        while name in found.values():
            name, number = f"{plain_name}_{number}", number + 1
        found[metric] = name
    return found
