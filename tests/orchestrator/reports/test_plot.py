"""Plots and sparklines of characters: right at the edges, whatever the numbers."""

from __future__ import annotations

import math

import pytest

from orchestrator.reports import plot


def test_a_rising_line_in_ascii() -> None:
    assert plot.line({"a": [(0, 0), (10, 100)]}, width=15, height=4, fancy=False).splitlines() == [
        "100 +        **",
        "    |     ***",
        "    |  ***",
        "  0 +**",
        "     0       10",
    ]


def test_braille_uses_all_dots_of_a_character() -> None:
    shown = plot.line({"a": [(0, 0), (10, 100)]}, width=13, height=2).splitlines()
    assert shown[0].startswith("100 ┤")
    assert any("\u2801" <= character <= "\u28ff" for character in shown[0])
    assert "⠤" not in shown[0].split("┤")[1][:2], "a rising line starts at the bottom"


@pytest.mark.parametrize("fancy", [True, False])
@pytest.mark.parametrize(
    "points",
    [
        [(1, 2.5)],
        [(1, 2.5), (2, 2.5)],
        [(1, 1.0), (1, 2.0)],
        [(1, 1e308), (2, -1e308), (3, 0.0)],
        [(1, 5e-324), (2, 1e-320)],
        [(1, math.nan), (2, 3.0), (math.inf, 1.0), (4, -math.inf)],
        [(n, math.sin(n)) for n in range(5000)],
    ],
)
@pytest.mark.parametrize("size", [(72, 12), (1, 1), (30, 3)])
def test_any_numbers_fit_the_frame(points: list[tuple[float, float]], fancy: bool, size: tuple[int, int]) -> None:
    width, height = size
    lines = plot.line({"a": points}, width=width, height=height, fancy=fancy).splitlines()
    assert len(lines) == max(height, 2) + 1
    assert max(map(len, lines)) <= max(width, 24)
    assert any(set(line) & set("*") or any("\u2801" <= c <= "\u28ff" for c in line) for line in lines)


def test_nothing_to_plot() -> None:
    assert plot.line({}) == plot.line({"a": []}) == plot.line({"a": [(1, math.nan)]}) == "nothing to plot"


def test_several_curves_are_told_apart_by_mark_or_by_colour() -> None:
    curves = {"loss": [(0, 1), (9, 0)], "val\x1b[2J": [(0, 2), (9, 1)]}
    marked = plot.line(curves, width=40, height=5)
    assert "* loss   o val" in marked
    assert "o" in marked.splitlines()[0]
    coloured = plot.line(curves, width=40, height=5, colour=True)
    assert "\x1b[36m⣿\x1b[0m loss   \x1b[33m⣿\x1b[0m val" in coloured
    assert "\x1b[2J" not in coloured


@pytest.mark.parametrize(
    ("values", "fancy", "shown"),
    [
        ([0, 50, 100], True, "▁▅█"),
        ([0, 50, 100], False, "_+@"),
        ([7, 7], True, "▅▅"),
        ([1, math.nan, 2], True, "▁ █"),
        ([math.nan], True, " "),
        ([], True, ""),
        (list(range(100)), True, "▁▃▆█"),
    ],
)
def test_sparkline(values: list[float], fancy: bool, shown: str) -> None:
    assert plot.sparkline(values, width=4, fancy=fancy) == shown


@pytest.mark.parametrize(
    ("encoding", "shows"),
    [("utf-8", True), ("UTF-8", True), ("ascii", False), ("latin-1", False), (None, False), ("x", False)],
)
def test_braille_only_where_it_can_be_shown(encoding: str | None, shows: bool) -> None:
    assert plot.can_show(encoding) is shows


def test_a_value_that_is_none_leaves_a_gap() -> None:
    points = [(0, 1.0), (4, 1.0), (5, math.nan), (6, 1.0), (10, 1.0), (10, 0.0), (10, 2.0)]
    row = plot.line({"a": points}, width=15, height=3, fancy=False).splitlines()[1]
    assert row == "  |*****  *****"


def test_spots_stand_over_the_curves_with_their_label() -> None:
    axes = plot.Axes(x_format=lambda x: f"day {x:g}", y_format=lambda y: f"${y:g}")
    drawn = plot.line({"a": [(0, 1), (9, 1)]}, width=15, height=3, fancy=False, axes=axes, spots=("paid", [(9, 3)]))
    assert drawn.splitlines() == [
        "$3 +          !",
        "   |",
        "$1 +***********",
        "    day 0 day 9",
        "    ! paid",
    ]
    assert plot.line({}, spots=("paid", [(1, 2)])) != "nothing to plot"
