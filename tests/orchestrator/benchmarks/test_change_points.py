"""When a change of level is told, and when it is not: on series with steps that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.benchmarks.change_points import ChangePoint, change_points, noise

SEEDS = range(40)
SERIES_OF_A_MONTH = 300
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def nights(*levels: tuple[int, float], noise: float = 0.02, seed: object = 0) -> list[float]:
    """So many nights of each level, with even noise that is a share of it."""
    chance = Random(f"test {seed}")
    return [level * (1 + noise * chance.gauss(0, 1)) for count, level in levels for _ in range(count)]


def with_bad_nights(count: int, seed: object) -> list[float]:
    """Noise with heavy tails, and one night in thirty that is far off."""
    chance = Random(f"bad {seed}")
    return [
        100 * (1 + 0.02 * chance.gauss(0, 1) / chance.uniform(0.4, 1) + (0.4 if chance.random() < 1 / 30 else 0))
        for _ in range(count)
    ]


def told(values: Sequence[float], **settings: Any) -> list[tuple[int, int]]:
    return [(point.index, point.noticed) for point in change_points(values, **settings)]


def point(before: float, after: float) -> ChangePoint:
    return ChangePoint(index=9, noticed=11, before=before, after=after, p_value=0.001)


def test_a_step_of_five_times_the_noise_is_noticed_with_its_third_or_fourth_night() -> None:
    delays = []
    for seed in SEEDS:
        points = change_points(nights((20, 100), (10, 110), seed=seed))
        assert len(points) == 1, f"seed {seed}: one step is told once"
        assert abs(points[0].index - 20) <= 2 and points[0].ratio == pytest.approx(0.1, abs=0.04)
        delays.append(points[0].noticed - 20 + 1)
    assert min(delays) >= 2, "a bad night just before it may count with it"
    assert median(delays) == 3
    assert sum(delay <= 4 for delay in delays) >= 0.9 * len(delays)


def test_a_small_step_is_noticed_when_enough_nights_have_shown_it() -> None:
    found = [change_points(nights((20, 100), (16, 95), seed=seed)) for seed in range(20)]
    first = [points[0] for points in found if points]
    assert len(first) >= 0.9 * len(found)
    assert all(point.after < point.before and point.p_value <= 0.01 for point in first)
    assert median(abs(point.index - 20) for point in first) <= 1


@pytest.mark.parametrize("make", [lambda seed: nights((30, 100), seed=seed), lambda seed: with_bad_nights(30, seed)])
def test_a_month_without_a_change_is_silent(make: Any) -> None:
    alarms = [seed for seed in range(SERIES_OF_A_MONTH) if change_points(make(seed))]
    assert len(alarms) <= 3, alarms


@pytest.mark.parametrize("bad", [[150.0], [150.0, 150.0], [1000.0, 60.0]])
def test_one_or_two_bad_nights_are_no_change(bad: list[float]) -> None:
    for seed in range(20):
        values = nights((36, 100), seed=seed)
        for end in (18, 20, 26, 36):
            assert not change_points([*values[:16], *bad, *values[18:end]]), f"seed {seed}, {end} nights"


def test_sixteen_nights_are_mostly_enough_to_tell_three_that_are_far_off() -> None:
    found = [seed for seed in SEEDS if told(nights((16, 100), (3, 110), seed=seed))]
    assert len(found) >= 20, "half of them, with the third night already"


@pytest.mark.parametrize(("count", "level"), [(8, 110.0), (12, 106.0)], ids=["large", "small"])
def test_a_bad_night_before_it_does_not_hide_a_step(count: int, level: float) -> None:
    found = 0
    for seed in range(20):
        values = nights((20, 100), (count, level), seed=seed)
        values[7] = 180.0
        found += any(abs(index - 20) <= 2 for index, _ in told(values))
    assert found >= 15


def test_a_step_and_the_way_back_are_two_changes() -> None:
    points = change_points(nights((30, 100), (8, 112), (8, 100)))
    assert [(point.index, round(point.ratio, 1)) for point in points] == [(30, 0.1), (38, -0.1)]
    assert points[0].after == points[1].before


def test_a_slow_drift_is_told_when_it_has_added_up_and_not_night_by_night() -> None:
    for seed in range(10):
        chance = Random(f"drift {seed}")
        points = change_points([(100 + night / 3) * (1 + 0.01 * chance.gauss(0, 1)) for night in range(60)])
        assert 1 <= len(points) <= 7
        assert all(point.ratio > 0.02 for point in points)


@pytest.mark.parametrize(
    ("before", "nights_after"), [(20, 3), (10, 3), (7, 4), (5, 5)], ids=lambda count: f"{count} nights"
)
def test_where_nights_repeat_exactly_a_step_is_told_at_once(before: int, nights_after: int) -> None:
    values = [7.5] * before + [7.7] * 8
    assert told(values) == [(before, before + nights_after - 1)]
    assert change_points(values)[0].p_value < 0.03, "what so few arrangements can say"


def test_an_exact_figure_may_step_again_soon() -> None:
    assert told([4.0] * 20 + [5.0] * 5 + [4.0] * 3) == [(20, 22), (25, 27)]


@pytest.mark.parametrize(
    "values",
    [
        [3.0] * 60,
        [0.0] * 30,
        [12, 12, 12, 13, 13, 13],
        [12, 12, 13, 12, 13, 13, 12, 12, 12, 12, 13, 12, 12, 12, 12, 13, 13, 13, 12, 12],
        [12] * 9 + [13] + [12] * 10 + [13] * 3,
        [12, 12, 12, 13, 12, 12] * 4 + [13] * 3,
    ],
)
def test_equal_nights_and_a_figure_that_flips_are_no_change(values: list[float]) -> None:
    assert change_points(values) == ()


@given(st.lists(FINITE, max_size=5))
def test_a_short_series_says_nothing(values: list[float]) -> None:
    assert change_points(values) == ()


def test_a_step_from_zero_has_a_ratio_that_can_be_compared() -> None:
    (up,) = change_points([0.0] * 12 + [4.0] * 3)
    (down,) = change_points([4.0] * 12 + [0.0] * 3)
    assert (up.ratio, down.ratio) == (math.inf, -1.0)
    assert (point(0, -1).ratio, point(0, 0).ratio) == (-math.inf, 0.0)
    assert point(-2, -1).ratio == 0.5, "less negative is more"


def test_what_is_less_than_worth_a_word_is_a_setting() -> None:
    values = [100.0] * 20 + [100.8] * 10
    assert told(values) == []
    assert told(values, least_change=0.005) == [(20, 22)]


def test_least_nights_is_how_long_a_level_lasts() -> None:
    values = nights((20, 100), (3, 120), (20, 100))
    assert [index for index, _ in told(values)] == [20, 23]
    assert told(values, least_nights=6) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_none_is_refused_by_its_place(bad: float) -> None:
    with pytest.raises(ValueError, match=r"value 2 is .*leave out"):
        change_points([1.0, 2.0, bad])
    with pytest.raises(ValueError, match="value 0"):
        noise([bad])


@pytest.mark.parametrize(
    "wrong",
    [{"least_nights": 2}, {"window": 5}, {"permutations": 0}, {"least_change": -0.1}, {"least_change": math.nan}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        change_points([1.0] * 10, **wrong)


STEPPED = st.builds(
    lambda seed, first, second, step, scatter: nights((first, 100), (second, 100 * step), noise=scatter, seed=seed),
    st.integers(0, 999),
    st.integers(5, 25),
    st.integers(0, 15),
    st.sampled_from([0.7, 1.05, 1.1, 2.0]),
    st.sampled_from([0.0, 0.01, 0.05]),
)


@settings(max_examples=30, deadline=None)
@given(STEPPED)
def test_what_was_told_once_stays_told_however_the_series_goes_on(values: list[float]) -> None:
    whole = told(values, permutations=199)
    for end in range(len(values) + 1):
        assert told(values[:end], permutations=199) == [pair for pair in whole if pair[1] < end]


@settings(max_examples=50, deadline=None)
@given(STEPPED, st.floats(1e-9, 1e9))
def test_the_unit_of_the_figures_does_not_matter(values: list[float], factor: float) -> None:
    plain = change_points(values, permutations=199)
    other = change_points([value * factor for value in values], permutations=199)
    assert [(point.index, point.noticed, point.p_value) for point in other] == [
        (point.index, point.noticed, point.p_value) for point in plain
    ]
    assert [point.after for point in other] == [pytest.approx(point.after * factor) for point in plain]
    assert told([-value for value in values], permutations=199) == [(point.index, point.noticed) for point in plain]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(FINITE, st.sampled_from([0.0, 1.0, 5e-324, 1.7e308, -1.7e308])), max_size=24))
def test_any_finite_figures_have_an_answer_and_the_same_each_time(values: list[float]) -> None:
    points = change_points(values, permutations=199)
    assert points == change_points(values, permutations=199)
    for one in points:
        assert 3 <= one.index <= one.noticed - 2 < len(values)
        assert 0 < one.p_value <= 1 and math.isfinite(one.before) and math.isfinite(one.after)
    scatter = noise(values, points)
    assert scatter is None or scatter >= 0


def test_noise_is_told_apart_from_steps_and_bad_nights() -> None:
    values = nights((60, 100), (60, 130))
    values[10] = values[70] = 400.0
    points = change_points(values)
    told_apart, together = noise(values, points), noise(values)
    assert told_apart == pytest.approx(0.02, rel=0.25)
    assert together is not None and told_apart is not None and together > 3 * told_apart


def test_noise_of_few_nights_or_of_zeros_is_unknown_and_of_equal_nights_zero() -> None:
    assert noise([]) is None
    assert noise([1.0, 1.1, 0.9, 1.0]) is None
    assert noise([0.0] * 9) is None
    assert noise([3.0] * 5) == 0.0
    assert noise([3.0] * 9 + [3.3]) == pytest.approx(0.0125, abs=0.001), "most are equal, not all"
