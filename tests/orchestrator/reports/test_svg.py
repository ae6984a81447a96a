"""Charts: every extreme stays visible, every number finds its place, every name is escaped."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET

import pytest

from orchestrator.reports.scale import share, ticks, time_ticks
from orchestrator.reports.svg import Axes, Block, Curve, bar, line_chart, short_time, thinned


def test_thinning_keeps_peaks_and_both_ends() -> None:
    noise = random.Random(5)
    dots = [(float(n), noise.random()) for n in range(100_000)]
    dots[77_777] = (77_777.0, 99.0)
    dots[33_333] = (33_333.0, -99.0)
    kept = thinned(dots)
    assert len(kept) <= 500
    assert {dots[0], dots[-1], (77_777.0, 99.0), (33_333.0, -99.0)} <= set(kept)
    assert kept == sorted(kept)


@pytest.mark.parametrize("count", [0, 1, 2, 499, 500, 501, 502, 997, 1500])
def test_thinning_at_the_edges(count: int) -> None:
    dots = [(float(n), float(-n)) for n in range(count)]
    kept = thinned(dots)
    assert len(kept) <= 500
    assert kept == dots if count <= 500 else kept[0] == dots[0] and kept[-1] == dots[-1]


def test_thinning_drops_what_is_not_a_number() -> None:
    assert thinned([(1, math.nan), (2, 5.0), (math.inf, 1.0)]) == [(2, 5.0)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 50, 100]), (0, 1, [0, 0.5, 1]), (-12, 12, [-10, 0, 10]), (3, 3, [3]), (1e300, 1.5e300, None)],
)
def test_ticks_are_round_and_at_least_two(low: float, high: float, expected: list[float] | None) -> None:
    found = ticks(low, high, about=3)
    assert found == expected if expected else 2 <= len(found) <= 7
    assert all(low <= value <= high for value in found)


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [(1, (0, 4), 0.25), (3, (3, 3), 0.5), (0, (-1.7e308, 1.7e308), 0.5), (5e-324, (0, 5e-324), 0.5), (9, (0, 4), 1)],
)
def test_a_share_of_any_scale(value: float, scale: tuple[float, float], expected: float) -> None:
    assert share(value, scale) == expected


def test_ticks_of_steps_and_of_time() -> None:
    assert ticks(1, 3, about=4, least=1.0) == [1, 2, 3]
    assert time_ticks(0, 3600, about=4) == [0, 900, 1800, 2700, 3600]
    assert time_ticks(0, 0, about=4) == [0]
    assert time_ticks(0, 40 * 86400, about=4) == [n * 10 * 86400 for n in range(5)]
    assert [short_time(s) for s in (0, 45, 60, 90, 3600, 5400)] == ["0", "45s", "1m", "1m30", "1h", "1h30"]


@pytest.mark.parametrize(
    "dots",
    [
        [(1, 1.0)],
        [(1, 2.0), (2, 2.0)],
        [(1, 0.0), (2, 0.0)],
        [(1, 1e308), (2, -1e308)],
        [(1, 1e-300), (2, 1e-301)],
        [(1e18, 5.0), (1e18 + 256, 6.0)],
        [(float(n), math.sin(n)) for n in range(2000)],
    ],
)
def test_every_dot_is_inside_the_frame(dots: list[tuple[float, float]]) -> None:
    picture = ET.fromstring(line_chart([Curve("", [dots])], title="t", axes=Axes()))
    places = [
        tuple(map(float, pair.split(",")))
        for line in picture.iter("polyline")
        for pair in line.attrib["points"].split()
    ]
    places += [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in picture.iter("circle")]
    assert places
    assert all(0 <= x <= 360 and 0 <= y <= 150 for x, y in places)
    assert [label.text for label in picture.iter("text")]


def test_a_gap_is_not_bridged_and_curves_differ_in_strength() -> None:
    curves = [Curve("a", [[(0, 0), (1, 1)], [(5, 0), (6, 1)]]), Curve("b", [[(0, 1), (6, 0)]])]
    lines = list(ET.fromstring(line_chart(curves, title="t", axes=Axes())).iter("polyline"))
    assert [line.get("opacity") for line in lines] == [None, None, "0.55"]


def test_names_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>'
    shown = line_chart([Curve(hostile, [[(0, 0), (1, 1)]])], title=hostile, axes=Axes())
    shown += bar([Block(hostile, hostile, 0, 1)], seconds=2)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 4


def test_nothing_to_draw() -> None:
    assert line_chart([Curve("a", [[]])], title="t", axes=Axes()) == ""


def test_a_bar_is_to_scale_and_shows_even_the_shortest_phase() -> None:
    blocks = [Block("boot", "wait", 0, 25), Block("watch", "work", 25, 74.99), Block("settle", "end", 99.99, 0.01)]
    places = [(part.attrib["x"], part.attrib["width"]) for part in ET.fromstring(bar(blocks, seconds=100)).iter("rect")]
    assert places == [("0.000%", "25.000%"), ("25.000%", "74.990%"), ("99.600%", "0.400%")]
    (whole,) = ET.fromstring(bar([Block("quote", "wait", 0, 0)], seconds=0)).iter("rect")
    assert whole.attrib["width"] == "100.000%"
