"""Time against money as a picture: dots where they belong, labels inside and apart, nothing that commands a browser."""

from __future__ import annotations

import math
import random
from xml.etree import ElementTree

import pytest

from orchestrator.reports.scatter import Axis, Dot, scatter
from orchestrator.reports.svg import short_time

_SVG = "{http://www.w3.org/2000/svg}"
TIME, MONEY = Axis("time", short_time, is_seconds=True), Axis("cost", lambda usd: f"${usd:g}")


def drawn(*dots: Dot) -> ElementTree.Element:
    text = scatter(dots, title="a < b", x=TIME, y=MONEY)
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def circles(picture: ElementTree.Element) -> list[tuple[str, float, float]]:
    return [
        (str(dot.findtext(f"{_SVG}title")), float(dot.attrib["cx"]), float(dot.attrib["cy"]))
        for dot in picture.iter(f"{_SVG}circle")
    ]


def labels(picture: ElementTree.Element) -> list[str]:
    return [str(text.text) for text in picture.iter(f"{_SVG}text") if text.get("class") == "best"]


def test_dearer_is_higher_and_later_is_further_right() -> None:
    for most in (2.0, 200.0):  # both kinds of scale
        picture = drawn(
            Dot(60, most, "dear", 1, "H100"), Dot(60 * most, 1, "slow", 2, "L4"), Dot(60 * most, most, "bad")
        )
        places = {name: (x, y) for name, x, y in circles(picture)}
        assert places["dear"][0] < places["slow"][0] and places["dear"][1] < places["slow"][1]
        assert places["bad"] == (places["slow"][0], places["dear"][1])
        assert labels(picture) == ["1 H100", "2 L4"]


def test_the_line_goes_through_the_best_and_nothing_lies_below_it() -> None:
    best = [Dot(60, 3, "a", 1, "A"), Dot(120, 2, "b", 2, "B"), Dot(600, 1, "c", 3, "C")]
    picture = drawn(*best, Dot(300, 2.5, "d"))
    [line] = picture.iter(f"{_SVG}polyline")
    corners = [tuple(map(float, corner.split(","))) for corner in line.attrib["points"].split()]
    for _, x, y in circles(picture):
        highest = max(corner[1] for corner in corners if corner[0] <= x)  # y grows downwards
        assert y <= highest


def test_labels_stay_inside_and_apart() -> None:
    draw = random.Random(1)
    for _ in range(50):
        times = sorted(draw.uniform(10, 10_000) for _ in range(8))
        costs = sorted((draw.uniform(0.01, 9) for _ in range(8)), reverse=True)
        dots = [Dot(x, y, "t", n, "8x RTX-PRO-6000 runpod") for n, (x, y) in enumerate(zip(times, costs, strict=True))]
        picture = drawn(*dots)
        for text in picture.iter(f"{_SVG}text"):
            if text.get("class") == "best":
                assert float(text.attrib["x"]) >= 0 and 0 < float(text.attrib["y"]) < 250
                assert float(text.attrib["x"]) + 5 * len(str(text.text)) <= 360


@pytest.mark.parametrize("usd", [0.0, 1e-9, 5.0, 1e9])
def test_any_amount_can_be_drawn(usd: float) -> None:
    for seconds in (0.0, 1.0, 86400.0 * 300):
        assert len(circles(drawn(Dot(seconds, usd, "one", 1, "x"), Dot(61.0, 0.5, "two")))) == 2
        assert circles(drawn(Dot(seconds, usd, "alone", 1, "x")))


def test_nothing_is_no_picture_and_markup_is_text() -> None:
    assert scatter([Dot(math.nan, 1, "x")], title="t", x=TIME, y=MONEY) == ""
    text = scatter([Dot(1, 1, "<script>", 1, "<b>&")], title="<i>", x=TIME, y=MONEY)
    assert "<script" not in text and "<b>" not in text and "<i>" not in text
