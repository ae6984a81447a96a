"""The page of a suite: what a person reads on it, and that nothing on it can run, load or pretend."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.benchmarks.overview import overview
from orchestrator.records import AttemptOutcome, Outcome
from orchestrator.reports import bench_page, bench_rent
from tests.orchestrator.benchmarks.nights import DIGEST, L4, RTX4090, Bed, Job, Nights
from tests.orchestrator.reports.test_html import HOSTILE, Page

LOCAL = Bed("local", "local", None, "0")
H100 = Bed("clouds", "runpod", "H100-SXM", "3.60")


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    made = Nights(tmp_path)
    yield made
    made.store.close()


def job(rate: float, bed: Bed = RTX4090) -> Job:
    return Job(bed=bed, values={"samples_per_second": rate, "usd_per_hour": float(bed.usd_per_hour)})


def shown(nights: Nights) -> str:
    nights.notice()
    return bench_page.page(overview(nights.store, nights.suite), now=nights.at)


def two_series_with_a_change_and_a_preemption(nights: Nights) -> None:
    for night in range(13):
        ours = job(1200 if night < 10 else 1050)
        if night == 4:
            ours = replace(ours, lost=AttemptOutcome.PREEMPTED)
        if night >= 10:
            ours = replace(ours, testbed={"driver": "575.51", "image_digest": DIGEST.replace("0", "f")})
        nights.night(ours, job(400, L4), commit="1a2b3c4d5e6f" if night < 10 else "77aa88bb99cc")


def test_a_dearer_machine_is_told_once_for_all_tasks_and_of_none_of_them(nights: Nights) -> None:
    for night in range(13):
        bed = replace(RTX4090, usd_per_hour="0.36" if night < 10 else "0.45")
        nights.night(job(1200, bed), replace(job(800, bed), task="gpt"))
    text = Page(shown(nights)).text
    assert "3 series" in text
    assert text.count("dearer vast RTX4090 since 01 Nov 2026") == 1
    assert "What machines cost usd_per_hour" in text


def test_what_a_person_reads(nights: Nights) -> None:
    two_series_with_a_change_and_a_preemption(nights)
    text = Page(shown(nights)).text
    for told in (
        "Benchmarks nightly partly simulated 13 nights · 22 Oct 2026 to 03 Nov 2026 · 4 series",
        "On aws g6.xlarge L4 (simulated), vast RTX4090",
        "Since the first night 1 got slower",
        "All nights 26 of 26 jobs succeeded",
        "slower mnist on vast RTX4090 since 01 Nov 2026",
        "samples_per_second 1,200 samples/s → 1,050 samples/s (-12.5 %)",
        "What differs of the testbed: commit 1a2b3c4d5e6f -> 77aa88bb99cc, image_digest sha256:0123456789ab -> ",
        "driver 570.86 -> 575.51. First seen in r-0011-0.",
        "preempted 26 Oct 2026 · b-0005 · r-0005-0 mnist on clouds (RTX4090, vast): attempt 1",
        "mnist: the cheapest is vast RTX4090, $0.09524 and 15m 52s per million samples; no other was measured.",
        "mnist: the cheapest is aws g6.xlarge L4 (simulated), $0.5556 and 41m 40s per million samples",
        "1,050 vast RTX4090 · 13 results, median 1,050 samples/s · noise ±0.0 % · slower since 01 Nov 2026",
        "2026-10-22 02:00:00 UTC b-0001 1a2b3c4d5e6f 2 of 2 $0.19",
    ):
        assert told in text, told


def test_the_picture_has_a_level_before_and_after_and_a_mark_between(nights: Nights) -> None:
    two_series_with_a_change_and_a_preemption(nights)
    html = shown(nights)
    start = html.index('<svg class="chart"', html.index("slower since"))
    chart = ET.fromstring(html[start : html.index("</svg>", start) + 6])
    before, after = ([pair.split(",") for pair in line.attrib["points"].split()] for line in chart.iter("polyline"))
    assert before[0][1] == before[1][1] and after[0][1] == after[1][1], "levels are flat"
    assert float(before[0][1]) < float(after[0][1]), "1,050 stands below 1,200"
    [mark] = [line for line in chart.iter("line") if line.attrib["class"] == "mark"]
    assert float(before[1][0]) < float(mark.attrib["x1"]) <= float(after[0][0]) + 0.1
    assert len([dot for dot in chart.iter("circle") if dot.attrib["class"] == "spot"]) == 13


def test_it_needs_nothing_from_outside(nights: Nights) -> None:
    two_series_with_a_change_and_a_preemption(nights)
    page = Page(shown(nights))
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]


def test_names_from_suites_and_clouds_are_only_text(nights: Nights) -> None:
    hostile = Bed(HOSTILE[:60], "vast", HOSTILE.replace("\ud800", ""), "0.36", machine="<b>")
    measure = {"<i>rate": {"better": "higher", "unit": "<u>/s", "work": "<s>"}}
    ours = Job(bed=hostile, task="<script>", measure=measure, values={"<i>rate": 5.0})
    for night in range(13):
        changed = replace(ours, values={"<i>rate": 5.0 if night < 10 else 4.0}, testbed={"driver": f"<q>{night // 10}"})
        nights.night(changed, replace(ours, values={}, outcome=Outcome.FAILED, error="<script>\x1b[31m"), commit="<x>")
    html = shown(nights)
    page = Page(html)
    assert not {"script", "img", "i", "u", "s", "q", "x"} & set(page.tags)
    assert "\x1b" not in html and "<script> on vast" in page.text and "driver <q>0 -> <q>1" in page.text


def test_a_suite_without_results_and_one_that_changed_nothing(nights: Nights) -> None:
    assert "There are no results." in Page(shown(nights)).text
    nights.night(job(1200))
    text = Page(shown(nights)).text
    assert "No series went to another level." in text and "What did not go well" not in text
    assert "simulated" not in text


def test_many_incidents_are_folded(nights: Nights) -> None:
    for _ in range(40):
        nights.night(Job(bed=RTX4090, outcome=Outcome.FAILED, error="exit code 1"))
    assert "and 10 older ones" in Page(shown(nights)).text


def test_the_cheapest_and_the_fastest_are_named_and_ones_own_machine_has_no_price(nights: Nights) -> None:
    nights.night(job(1200), job(5000, H100), job(300, Bed("clouds", "aws", "T4", "0.50")), job(40, LOCAL))
    view = overview(nights.store, "nightly")
    rent, own = bench_rent.sentences(view.prices)
    cheapest, _, fastest = rent.partition("; ")
    assert cheapest == "mnist: the cheapest is vast RTX4090, $0.08333 and 13m 53s per million samples"
    assert fastest == "the fastest is runpod H100-SXM, 3m 20s for $0.2000."
    assert own == "Your own local CPU takes 6h 56m per million samples."
    html = bench_rent.section(view.prices)
    assert Page(html).text.count("vast RTX4090") >= 3, "in the sentence, the table and the picture"
    picture_of = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    dots = {(dot[0].text or "").split(":")[0]: dot.get("class") for dot in picture_of.iter("circle")}
    assert dots == {"vast RTX4090": "spot", "runpod H100-SXM": "spot", "aws T4": "dot"}, "the T4 is beaten in both"


def test_a_simulated_machine_is_never_what_to_rent_beside_real_ones(nights: Nights) -> None:
    nights.night(job(1200), job(900_000, replace(L4, usd_per_hour="0.01")))
    real, simulated = bench_rent.sentences(overview(nights.store, "nightly").prices)
    assert "simulated" not in real and "vast RTX4090" in real
    assert "aws g6.xlarge L4 (simulated)" in simulated
