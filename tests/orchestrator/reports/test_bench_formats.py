"""Results as others read them: what github-action-benchmark compares, what a spreadsheet and Prometheus get."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.benchmarks import results
from orchestrator.reports import bench_formats
from tests.orchestrator.benchmarks.nights import L4, START, result

DOCS = Path(__file__).parents[3] / "docs" / "benchmark-formats.md"
ODD = 'a "b"\\c\n\x1b[31md'
SECONDS = result(metric="wall_seconds", unit="s", better="lower", work=None, is_main=False, repeats=[50.0], value=50.0)
ROWS = [result(), SECONDS]


def example(kind: str) -> str:
    found: list[str] = re.findall(rf"^```{kind}\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return found[0]


def test_examples_in_the_documentation_are_what_is_written() -> None:
    assert example("json") == bench_formats.github_benchmark(ROWS, better="higher")
    assert example("csv") == bench_formats.csv_text(ROWS[:1])
    assert example("prometheus") == bench_formats.prometheus(ROWS[:1])


def test_each_direction_has_a_file_of_its_own() -> None:
    [higher] = json.loads(bench_formats.github_benchmark(ROWS, better="higher"))
    [lower] = json.loads(bench_formats.github_benchmark(ROWS, better="lower"))
    assert (higher["name"], higher["value"], higher["unit"]) == (
        "mnist samples_per_second on vast RTX4090 (clouds)",
        1200.0,
        "samples/s",
    )
    assert higher["range"] == "± 12.5", "half of what lies between its repeats"
    assert "range" not in lower, "one repeat has none"
    assert lower["name"] == "mnist wall_seconds on vast RTX4090 (clouds)"


def test_a_name_stays_the_same_whatever_changes_on_the_testbed() -> None:
    later = result(testbed={"driver": "999"}, run_id="r-2", value=3.0, at=START + timedelta(days=1))
    [entry] = json.loads(bench_formats.github_benchmark([later, result()], better="higher"))
    assert entry["name"] == json.loads(bench_formats.github_benchmark([result()], better="higher"))[0]["name"]
    assert entry["value"] == 3.0, "the newest result counts, in whatever order they come"
    assert "driver: 999" in entry["extra"].splitlines()


def test_series_of_other_machines_and_targets_are_other_names() -> None:
    rows = [result(), result(bed=L4), result(target="spot"), result(gpu_count=8), result(task="resnet")]
    names = [entry["name"] for entry in json.loads(bench_formats.github_benchmark(rows, better="higher"))]
    assert len(set(names)) == 5
    assert any("(simulated)" in name for name in names)


def test_what_is_no_number_is_left_out_of_json() -> None:
    assert json.loads(bench_formats.github_benchmark([result(value=float("nan"))], better="higher")) == []


def test_csv_has_a_line_for_each_result_with_its_testbed() -> None:
    rows = list(csv.DictReader(io.StringIO(bench_formats.csv_text([*ROWS, result(gpu=None, machine="=x")]))))
    assert len(rows) == 3 and set(rows[0]) == set(bench_formats.COLUMNS)
    first, seconds, cpu = rows
    assert (first["value"], first["least"], first["most"], first["repeats"]) == ("1200.0", "1190.0", "1215.0", "3")
    assert first["at"] == "2026-10-22T02:09:00Z" and first["driver"] == "570.86" and first["spot"] == "false"
    assert first["cuda"] == "" and cpu["gpu"] == ""
    assert Decimal(first["usd_per_work"]) == pytest.approx(Decimal("0.36") / 3600 / 1200)
    assert seconds["usd_per_work"] == "", "a time has no unit of work"


def test_the_testbed_in_csv_is_all_that_is_kept_of_one() -> None:
    from tests.orchestrator.reports.samples import attempt, run

    kept = results.testbed(run(notes={"sweep": {"commit": None}}), attempt())
    assert set(kept) == set(results.TESTBED)


def test_a_job_that_ran_as_a_process_has_no_image_whatever_it_asked_for() -> None:
    from tests.orchestrator.reports.samples import attempt, run

    asked = run(notes={"sweep": {"commit": None}, "image": "pytorch/pytorch"})
    assert results.testbed(asked, attempt())["image"] == "pytorch/pytorch"
    assert results.testbed(asked, attempt(notes={"without_image": "pytorch/pytorch"}))["image"] == "none"


def test_prometheus_reads_back_what_was_measured() -> None:
    rows = [*ROWS, result(bed=L4, value=400.5), result(value=1000.0, run_id="r-0", at=START - timedelta(days=1))]
    families = {family.name: family for family in text_string_to_metric_families(bench_formats.prometheus(rows))}
    assert set(families) == {
        "gpujob_bench_samples_per_second",
        "gpujob_bench_wall_seconds",
        "gpujob_benchmark_at_seconds",
    }
    rate = families["gpujob_bench_samples_per_second"]
    assert rate.type == "gauge" and "samples_per_second" in rate.documentation
    values = {sample.labels["provider"]: sample.value for sample in rate.samples}
    assert values == {"vast": 1200.0, "aws": 400.5}, "the newest of each series"
    [aws] = [sample for sample in rate.samples if sample.labels["provider"] == "aws"]
    assert (aws.labels["simulated"], aws.labels["gpu"], aws.labels["machine"]) == ("true", "L4", "g6.xlarge")
    at = families["gpujob_benchmark_at_seconds"]
    assert {sample.value for sample in at.samples} == {(START + timedelta(minutes=9)).timestamp()}
    assert all(sample.timestamp is None for family in families.values() for sample in family.samples)


def test_a_price_is_a_machines_and_no_tasks() -> None:
    price = result(metric="usd_per_hour", unit="$/h", better="lower", work=None, is_main=False, value=0.36)
    rows = [price, replace(price, run_id="r-0001-1", task="gpt", value=0.4)]
    [family] = [
        family
        for family in text_string_to_metric_families(bench_formats.prometheus(rows))
        if family.name == "gpujob_bench_usd_per_hour"
    ]
    assert [(sample.labels["task"], sample.value) for sample in family.samples] == [("", 0.36)]
    [entry] = json.loads(bench_formats.github_benchmark(rows, better="lower"))
    assert entry["name"] == "usd_per_hour on vast RTX4090 (clouds)"


def test_names_can_be_anything() -> None:
    odd = result(metric=ODD, task=ODD, unit=ODD, gpu=ODD, target=ODD, testbed={"driver": ODD})
    rows = [odd, result(metric='a "b" c')]
    shown = bench_formats.prometheus(rows)
    samples = [sample for family in text_string_to_metric_families(shown) for sample in family.samples]
    assert {sample.labels["task"] for sample in samples} == {'a "b"\\c d', "mnist"}
    assert len({(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples}) == len(samples) == 4
    for text in (shown, bench_formats.csv_text(rows), bench_formats.github_benchmark(rows, better="higher")):
        assert "\x1b" not in text and "\\u001b" not in text


def test_nothing_is_nothing() -> None:
    assert bench_formats.prometheus([]) == ""
    assert bench_formats.github_benchmark([], better="lower") == "[]\n"
    assert bench_formats.csv_text([]).count("\n") == 1
