"""What a job reports and a machine measures: metrics of every kind, telemetry. Never an exception."""

from __future__ import annotations

import json
import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs import telemetry
from jobs.metrics import MetricsFile, last, series
from jobs.reported import Point, Tally, json_reader, log_reader, pattern_problem
from jobs.telemetry import samples, summary
from tests.fuzz.nonsense import DEEP, WORDS, examples, mutated, replies

Json = dict[str, Any]

ROW: Json = {"time": 1795262400.0, "step": 10, "loss": 0.3, "accuracy": 0.9}
NAMED: Json = {"name": "loss", "value": 0.3, "epoch": 2}
MLPERF: Json = {"namespace": "", "time_ms": 1, "event_type": "POINT_IN_TIME", "key": "eval_accuracy", "value": 0.7,
                "metadata": {"epoch_num": 2}}  # fmt: skip
SAMPLE: Json = {
    "time": 1795262400.0,
    "cpu_percent": 12.0,
    "memory_used_bytes": 1,
    "memory_total_bytes": 2,
    "disk_free_bytes": 3,
    "load1": 0.1,
    "network_rx_bytes": 4,
    "network_tx_bytes": 5,
    "gpus": [{"index": 0, "utilization": 99, "memory_used_mb": 1, "memory_total_mb": 2, "power_watts": 60,
              "temperature_c": 50, "power_limit_watts": 400}],
}  # fmt: skip
PATTERNS = {"loss": r"loss[=: ]+([-0-9.eE+naif]+)", "step": r"step (\d+)", "wide": r"(.*)"}

lines = st.lists(
    st.one_of(replies(ROW), replies(NAMED), replies(MLPERF).map(":::MLLOG {}".format), st.sampled_from(WORDS)),
    max_size=6,
)


@given(lines)
@example([":::MLLOG" * 100_000])
@example([":::MLLOG\r" * 100_000])
@example([json.dumps({"loss": 10**4000, "time": 10**4000})])
@example(["loss: nan", "loss: 1e999", "loss: 1_0"])
@example(["\ud800", json.dumps({"\ud800": 1.0})])
@examples(400)
def test_whatever_a_job_reports_it_is_points(written: list[str]) -> None:
    block = "\n".join(written).encode("utf-8", "surrogatepass")
    tally = Tally()
    readers = (json_reader(tally, 1, 7.0), log_reader(PATTERNS, tally, 1, 7.0))
    for point in (point for read in readers for point in read(block)):
        _sensible(point)
    json.dumps(tally.skipped), json.dumps(tally.ordinals)
    assert len(tally.skipped) < 20


@given(lines, st.binary(max_size=200))
@example([], b"\x00\xff\xfe" * 50)
@example([DEEP], b'{"a":1}\r{"a":2}\n')
@examples(60)
def test_a_metrics_file_takes_everything_in_once(written: list[str], raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, reported, path = (Path(folder) / name for name in ("log", "reported", "metrics.jsonl"))
        content = raw + b"\n" + "\n".join(written).encode("utf-8", "surrogatepass") + b"\n"
        for file in (log, reported):
            file.write_bytes(content)
        metrics = MetricsFile(path)
        added = metrics.advance(1, log, reported, PATTERNS, final=True, now=7.0)
        assert metrics.advance(1, log, reported, PATTERNS, final=True, now=7.0) == 0
        found = series(path)
        assert set(last(path)) == set(found) and sum(map(len, found.values())) <= added
        for point in (point for points in found.values() for point in points):
            _sensible(point)


@given(
    st.one_of(
        st.text(max_size=40), st.sampled_from(("(a+)+", "(" * 5000, "(a{99999999999})", "[", "(?P<a>x)", "(\\1)"))
    )
)
@examples(300)
def test_every_pattern_can_be_used_or_says_why_not(regex: str) -> None:
    problem = pattern_problem(regex)
    assert problem is None or problem


@given(st.lists(replies(SAMPLE), max_size=6))
@example([DEEP])
@example([json.dumps({**SAMPLE, "gpus": [{**SAMPLE["gpus"][0], "index": number}]}) for number in range(5000)])
@example([json.dumps({**SAMPLE, "time": 10**400})])
@examples(200)
def test_whatever_a_machine_measures_it_is_samples(written: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "telemetry.jsonl"
        path.write_bytes("\n".join([*written, json.dumps(SAMPLE), ""]).encode("utf-8", "surrogatepass"))
        found, told = list(samples(path)), summary(path)
    assert found and told is not None and told.samples == len(found)
    assert len(told.gpus) <= 64 and len(told.hints) <= 128
    for sample in found:
        assert math.isfinite(sample.time) and all(0 <= gpu.index < 64 for gpu in sample.gpus)


def test_a_day_of_samples_is_summed_up_at_once() -> None:
    """At full use and low power all of it is one stretch: its power was once summed up anew for each sample."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "telemetry.jsonl"
        gpu = {**SAMPLE["gpus"][0], "power_watts": 60}
        path.write_text("".join(f"{json.dumps({'time': 5 * step, 'gpus': [gpu]})}\n" for step in range(17_280)))
        told = summary(path)
    assert told is not None and "60 W for 1440 min" in told.hints[0]


def test_samples_without_end_are_thinned_and_not_all_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(telemetry, "_MOST_ROWS", 1000)
    path = tmp_path / "telemetry.jsonl"
    gpus = [{**SAMPLE["gpus"][0], "index": index} for index in range(8)]
    path.write_text("".join(f"{json.dumps({'time': 5 * step, 'gpus': gpus})}\n" for step in range(5000)))
    kept = telemetry.evenly(path)
    assert 50 < len(kept) <= 1000 / 9 + 1
    times = [sample.time for sample in kept]
    assert times[0] == 0 and times[-1] > 0.9 * 25_000, "from its beginning to its end"
    assert {after - before for before, after in pairwise(times)} == {times[1]}, "and evenly"
    told = summary(path)
    assert told is not None and len(told.gpus) == 8 and told.gpus[0].utilization_mean == 99


@given(mutated({"time": 1.0, "step": 1, "name": "loss", "value": 0.5, "attempt": 1, "source": "json"}))
@examples(100)
def test_points_on_the_disk_that_were_spoilt_are_left_out(row: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_text(json.dumps(row) + "\n")
        for point in (point for points in series(path).values() for point in points):
            _sensible(point)
        assert all(math.isfinite(value) for value in last(path).values())


def _sensible(point: Point) -> None:
    assert math.isfinite(point.value) and math.isfinite(point.time)
    assert point.step is None or math.isfinite(point.step)
    assert isinstance(point.name, str)
    json.dumps([point.name, point.value], ensure_ascii=False).encode()
