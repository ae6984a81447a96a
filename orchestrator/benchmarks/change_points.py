"""Change points: from which night on the figures of a benchmark have another level.

E-divisive: the split of the present level with the greatest energy distance, and a permutation test of it (Matteson and
James 2014, https://arxiv.org/abs/1306.4933). Night after night, as the figures come: what was told once stays told.
Pure: knows no store, no clock and no unit, and not whether more is better. Why it is so: designs/0008-change-points.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from operator import mul
from random import Random
from statistics import median

LEAST_CHANGE = 0.01  # of the level: less is not worth a word
LEAST_NIGHTS = 3  # one or two bad nights are not a level
TELLING = 16  # nights with which a clear step is sure to be told with its third or fourth night
WINDOW = 40  # nights of the present level that are looked at
PERMUTATIONS = 5_999

_KNOWN = 8  # nights without which noise is not known
_FEW = 5  # values without which nothing can be said
_CLIP = 4.0  # units of noise: an outlier counts for no more
_GRAIN = 1000  # whole numbers per unit of noise, so that equal arrangements are equal on every machine
_COUNTED = 999  # shuffles for the p value of a step that is clear without them
_BY_CHANCE = 0.001  # of two values that were drawn in turn


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """A step between two levels.

    `index`: the first night of the new level. `noticed`: the night with which it could be told; it is news when that is
    the newest. `before`, `after`: medians of the two levels. `p_value`: the share of arrangements of the same nights
    that look as much like a step; few nights have few arrangements, so three after twenty cannot have less than 0.001.
    """

    index: int
    noticed: int
    before: float
    after: float
    p_value: float

    @property
    def ratio(self) -> float:
        """The change as a share of the level before: +0.1 is ten per cent more. From zero it is infinite."""
        if self.before == self.after:
            return 0.0
        if self.before == 0:
            return math.copysign(math.inf, self.after)
        return (self.after - self.before) / abs(self.before)


def change_points(
    values: Sequence[float],
    *,
    least_change: float = LEAST_CHANGE,
    least_nights: int = LEAST_NIGHTS,
    window: int = WINDOW,
    permutations: int = PERMUTATIONS,
) -> tuple[ChangePoint, ...]:
    """The changes of level in values of one night each, oldest first; the same for the same arguments, everywhere.

    A later night never takes back or moves what an earlier one told; only `after` of the last change still moves.

    What the defaults promise, for nights that do not depend on each other: whatever their noise looks like, the shuffle
    test alone passes by chance in about one of 6,000 looks at most. Both tests together were measured on noise without
    a change: one false alarm in some 600 series of a month, or in some 200 when three nights in a hundred are far off.
    A step of five times the noise is noticed with its third or fourth night, once some sixteen nights are known, and
    with its sixth after twelve. One outlier night is no change, two in a row hardly ever, three are one. A slow drift
    is told as a step each time that it has added up to one. Where values repeat exactly, a step is told with its third
    night after ten.

    Raises ValueError for a value that is not finite, and for settings that cannot work.
    """
    _check(values, least_change, least_nights, window, permutations)
    scaled, exponent = _scaled(values)
    test = _Test(least_change, least_nights, permutations)
    found: list[tuple[int, int, float]] = []
    start, former = 0, list[float]()
    for end in range(2 * least_nights, len(scaled) + 1):
        begin = max(start, end - window)
        step = test.step(scaled[begin:end], former)
        if step is not None:
            split = begin + step[0]
            former = [*former, *_residuals(scaled[start:split])][-window:]
            found.append((split, end - 1, step[1]))
            start = split
    levels = [math.ldexp(median(level), exponent) for level in _levels(scaled, [split for split, _, _ in found])]
    return tuple(
        ChangePoint(index=split, noticed=noticed, before=before, after=after, p_value=p_value)
        for (split, noticed, p_value), (before, after) in zip(found, pairwise(levels), strict=True)
    )


def noise(values: Sequence[float], points: Sequence[ChangePoint] = ()) -> float | None:
    """How much the values scatter around their levels, as a share of the level: 0.02 is two per cent.

    It is what a standard deviation would be without outliers (1.4826 times the median absolute deviation). None when
    that cannot be told: fewer than five values, or levels of zero.
    """
    _check_finite(values)
    scaled, _ = _scaled(values)
    residuals = [
        residual
        for level in _levels(scaled, [point.index for point in points])
        if len(level) >= LEAST_NIGHTS
        for residual in _residuals(level)
    ]
    return _scatter(residuals) if len(residuals) >= _FEW else None


@dataclass(frozen=True)
class _Test:
    least_change: float
    least_nights: int
    permutations: int

    def step(self, level: Sequence[float], former: Sequence[float]) -> tuple[int, float] | None:
        """Where the level falls in two, and the p value; None when it is one. `former`: residuals of former levels."""
        if len(level) < 2 * self.least_nights:
            return None
        middle = median(level)
        unit = _scatter([value - middle for value in level])
        if unit == 0:
            return None
        shuffles = _Shuffles(_grains(level, middle, unit, self.least_nights), self.least_nights)
        split = shuffles.split
        before, after = level[:split], level[split:]
        if not self._is_worth_a_word(median(before), median(after)):
            return None
        if _is_exact(before, after, former) or self._is_clear(before, after, former):
            counted = min(_COUNTED, self.permutations)
            return split, (1 + sum(islice(shuffles.as_extreme(), counted))) / (1 + counted)
        if 1 / math.comb(len(level), split) > 1 / (1 + self.permutations):
            return None  # a shuffle would soon find the same again
        if any(islice(shuffles.as_extreme(), self.permutations)):
            return None
        return split, 1 / (1 + self.permutations)

    def _is_worth_a_word(self, before: float, after: float) -> bool:
        return before != after and abs(after - before) >= self.least_change * abs(before)

    def _is_clear(self, before: Sequence[float], after: Sequence[float], former: Sequence[float]) -> bool:
        """Whether nights lie so far off that it needs no counting: the newest, or the few of a level that is over."""
        least = self.least_nights
        return _are_far(after[-least:], before, former) or (
            len(before) < _KNOWN <= len(after) and _are_far(before[-least:], after, former)
        )


class _Shuffles:
    """The energy statistic of a level at its best split, and of shuffles of it.

    The exponent is 2, at which the energy distance of two samples is that of their means: it sees levels only, not
    that nights scatter more than before, and takes O(n).
    """

    def __init__(self, grains: Sequence[int], least: int) -> None:
        self._grains = grains
        self._first, self._last = least - 1, len(grains) - least
        self._weights = [1 / (size * (len(grains) - size)) for size in range(least, len(grains) - least + 1)]
        distances = self._distances(grains)
        self._greatest = max(distances)
        self.split = least + distances.index(self._greatest)

    def as_extreme(self) -> Iterator[bool]:
        """For one shuffle after the other whether it has as great a distance. The seed is the number of nights."""
        draw = Random(len(self._grains)).random
        while True:
            shuffled = sorted(self._grains, key=lambda _: draw())
            yield max(self._distances(shuffled)) >= self._greatest

    def _distances(self, grains: Sequence[int]) -> list[float]:
        sums = list(islice(accumulate(grains), self._first, self._last))
        return list(map(mul, map(mul, sums, sums), self._weights))


def _grains(level: Sequence[float], middle: float, unit: float, least: int) -> list[int]:
    """Whole numbers that sum up to zero: outliers cut off, and every rounding done here.

    What goes further than `least` of the nights do, which no level does, counts as the last of them.
    """
    ordered = sorted((value - middle) / unit for value in level)
    low, high = max(-_CLIP, ordered[least - 1]), min(_CLIP, ordered[-least])
    cut = [round(_GRAIN * max(low, min(high, (value - middle) / unit))) for value in level]
    total = sum(cut)
    return [len(cut) * grain - total for grain in cut]


def _are_far(nights: Sequence[float], level: Sequence[float], former: Sequence[float]) -> bool:
    """Whether these nights all lie on one side of a level, and further off than its noise and that of former ones.

    A figure that flips between few values has no scatter to measure by: where all were seen before, it does.
    """
    middle = median(level)
    residuals = [*former, *_residuals(level)]
    known = min(len(residuals), 2 * len(level))  # few nights do not tell a level well, whatever was before it
    if middle == 0 or known < _KNOWN or set(nights) <= set(level):
        return False
    off = [(night - middle) / abs(middle) for night in nights]
    least = max(min(off), -max(off))
    return least > 0 and least >= _far(known) * _usual(residuals)


def _is_exact(before: Sequence[float], after: Sequence[float], former: Sequence[float]) -> bool:
    """Whether nights repeat exactly, too many of them for a figure that merely flips between two values."""
    if any(former) or len(set(before)) > 1 or len(set(after)) > 1:
        return False
    one, other = len(before) + len(former), len(after)
    return (one / (one + other)) ** one * (other / (one + other)) ** other <= _BY_CHANCE


def _far(known: int) -> float:
    """How many times the noise three nights in a row must lie off, given how many nights the noise is known from.

    By simulation: what even noise exceeds by chance in about one of 40,000 looks.
    """
    return 3.2 + 6000 / known**3


def _usual(residuals: Sequence[float]) -> float:
    """Root of the mean square without the two furthest nights: told by few nights better than by their median."""
    sizes = sorted(abs(residual) for residual in residuals)[:-2]
    return math.hypot(*sizes) / math.sqrt(len(sizes)) or _scatter(residuals)


def _levels(values: Sequence[float], splits: Sequence[int]) -> list[Sequence[float]]:
    return [values[start:end] for start, end in pairwise([0, *splits, len(values)])] if values else []


def _residuals(level: Sequence[float]) -> list[float]:
    """Around the median, as shares of it; none around zero."""
    middle = median(level)
    return [(value - middle) / abs(middle) for value in level] if middle else []


def _scatter(residuals: Sequence[float]) -> float:
    """A robust standard deviation. Where most values are the same it counts the others."""
    sizes = [abs(residual) for residual in residuals]
    return 1.4826 * median(sizes) or 1.2533 * sum(sizes) / len(sizes)


def _scaled(values: Sequence[float]) -> tuple[list[float], int]:
    """Values below one, and the exponent of two that they were divided by: no size is too great to be reckoned with."""
    exponent = math.frexp(max(map(abs, values), default=1.0))[1]
    return [math.ldexp(value, -exponent) for value in values], exponent


def _check(values: Sequence[float], least_change: float, least_nights: int, window: int, permutations: int) -> None:
    _check_finite(values)
    if not 0 <= least_change < math.inf:
        raise ValueError(f"least_change is a share of the level, such as 0.01, not {least_change}")
    if least_nights < LEAST_NIGHTS:
        raise ValueError(f"least_nights is at least {LEAST_NIGHTS}: fewer are no level; not {least_nights}")
    if window < 2 * least_nights:
        raise ValueError(f"window is at least twice least_nights ({2 * least_nights}), not {window}")
    if permutations < 1:
        raise ValueError(f"permutations is at least 1, not {permutations}")


def _check_finite(values: Sequence[float]) -> None:
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(f"value {index} is {value}: leave out nights without a figure")
