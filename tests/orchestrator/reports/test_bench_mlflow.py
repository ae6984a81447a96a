"""Results in MLflow, by its own client in a folder: what is there afterwards, once however often it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from orchestrator.reports import bench_mlflow
from orchestrator.reports.bench_mlflow import NotLogged, log_to_mlflow
from tests.orchestrator.benchmarks.nights import L4, START, result

pytestmark = pytest.mark.process  # mlflow asks the system what it is when it is imported

SECONDS = result(metric="wall_seconds", unit="s", better="lower", work=None, value=50.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {**bench_mlflow._DEFAULTS, "MLFLOW_ALLOW_FILE_STORE": "true"}.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("mlflow", reason="needs mlflow-skinny, the extra `mlflow`")
    return (tmp_path / "mlruns").as_uri()


def logged(uri: str, experiment: str = "gpujob/nightly") -> list[Any]:
    client = import_module("mlflow.tracking").MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name(experiment)
    return list(client.search_runs([place.experiment_id], order_by=["start_time"]))


def test_a_run_here_is_a_run_there(folder: str) -> None:
    later = result(run_id="r-0002-0", bed=L4, value=400.0, at=START + timedelta(days=1))
    assert log_to_mlflow([result(), SECONDS, later], folder) == 2
    first, second = logged(folder)
    assert first.data.metrics == {"samples_per_second": 1200.0, "wall_seconds": 50.0}
    assert first.data.params["gpu"] == "RTX4090" and first.data.params["simulated"] == "false"
    assert first.data.params["usd_per_hour"] == "0.36"
    assert first.data.tags["gpujob.run"] == "r-0001-0" and first.data.tags["testbed.driver"] == "570.86"
    assert first.info.status == "FINISHED"
    assert first.info.start_time == (START + timedelta(minutes=9)).timestamp() * 1000
    assert second.data.params["simulated"] == "true"


def test_what_is_there_is_not_logged_again(folder: str) -> None:
    assert log_to_mlflow([result()], folder) == 1
    assert log_to_mlflow([result(), result(run_id="r-0002-0")], folder) == 1
    assert len(logged(folder)) == 2


def test_what_broke_off_is_finished_and_not_doubled(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = import_module("mlflow.exceptions").MlflowException("the server is gone\x1b[31m")
    with (
        fails(monkeypatch, import_module("mlflow.tracking").MlflowClient, "log_batch", gone),
        pytest.raises(NotLogged, match=r"did not take the results: the server is gone$"),
    ):
        log_to_mlflow([result()], folder)
    assert [run.info.status for run in logged(folder)] == ["RUNNING"]
    assert log_to_mlflow([result()], folder) == 1
    [run] = logged(folder)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"samples_per_second": 1200.0})


@contextmanager
def fails(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, error: Exception) -> Iterator[None]:
    def failing(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, failing)
        yield


def test_any_name_of_a_metric_is_taken(folder: str) -> None:
    names = ["a:b", "a;b", "../up", "/root", "tokens/s", "größe", "x//y"]
    assert log_to_mlflow([result(metric=name, value=float(number)) for number, name in enumerate(names)], folder) == 1
    [run] = logged(folder)
    assert sorted(run.data.metrics.values()) == [float(number) for number in range(len(names))]
    assert run.data.metrics["tokens/s"] == 4.0 and run.data.metrics["a_b_2"] == 1.0


def test_an_experiment_can_be_named(folder: str) -> None:
    log_to_mlflow([result()], folder, experiment="ours")
    assert len(logged(folder, "ours")) == 1


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    for name, value in bench_mlflow._DEFAULTS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotLogged, match="extra `mlflow`"):
        log_to_mlflow([result()], "http://127.0.0.1:1")


def test_a_store_that_needs_more_than_the_client_is_told(folder: str, tmp_path: Path) -> None:
    with pytest.raises(NotLogged, match="give the address of an MLflow server"):
        log_to_mlflow([result()], f"sqlite:///{tmp_path / 'm.db'}")
    with pytest.raises(NotLogged, match="nonsense://x"):
        log_to_mlflow([result()], "nonsense://x")
