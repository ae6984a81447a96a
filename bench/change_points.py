"""How soon a change in a nightly figure is noticed, where it is placed, and how often there is none: on series made up.

Beside it the plain way: tonight against the median of the nights before. Every series is made from its own seed, so the
tables are the same anywhere. `python -m bench.change_points 400` takes 400 series for each step instead of 40.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from time import process_time

from bench.measure import spread, table
from orchestrator.benchmarks.change_points import change_points

SERIES = 40  # for each noise, step, length and kind of night
QUIET = 25  # times as many without a step: false alarms are rare
SEED = "published"  # the defaults were chosen on others
NOISES = (0.01, 0.02, 0.05, 0.10)
STEPS = (0.03, 0.05, 0.10, 0.20, 0.30)
LENGTHS = (30, 90)
MONTH = 30
AVERAGED = 7  # nights that the plain way compares with
ROUNDS = 5

Nights = Callable[[Random], float]


@dataclass(frozen=True)
class Alarm:
    """Told with the night `noticed`, as a change from the night `index` on."""

    noticed: int
    index: int


Way = Callable[[Sequence[float]], list[Alarm]]


@dataclass(frozen=True)
class Stepped:
    """A series with a step before night `at`; no step when its size is zero."""

    values: list[float]
    at: int


def report(series: int = SERIES) -> str:
    lengths = [_steps_of(length, series) for length in LENGTHS]
    return "\n".join([*lengths, _false_alarms(series * QUIET), _other_shapes(series), _speed()]).rstrip() + "\n"


def threshold_changes(values: Sequence[float], *, percent: float, window: int) -> tuple[int, ...]:
    """The nights whose value is further off than so many per cent from the median of so many nights before it."""
    middles = [median(values[night - window : night]) for night in range(window, len(values))]
    return tuple(
        night
        for night, middle in enumerate(middles, start=window)
        if abs(values[night] - middle) > percent / 100 * abs(middle)
    )


def gaussian(chance: Random) -> float:
    return chance.gauss(0, 1)


def heavy_tailed(chance: Random) -> float:
    """Student's t with four degrees of freedom; and three nights in a hundred far off, most of them above."""
    squares = sum(chance.gauss(0, 1) ** 2 for _ in range(4))
    usual = chance.gauss(0, 1) / (1.1 * math.sqrt(squares / 4))
    if chance.random() < 0.03:
        return usual + chance.choice((1, 1, 1, -1)) * chance.uniform(5, 15)
    return usual


KINDS: dict[str, Nights] = {"even": gaussian, "with outliers": heavy_tailed}


def _own(values: Sequence[float]) -> list[Alarm]:
    return [Alarm(point.noticed, point.index) for point in change_points(values)]


def _plain(percent: float) -> Way:
    """Nights in a row that are far off are one alarm."""

    def way(values: Sequence[float]) -> list[Alarm]:
        nights = threshold_changes(values, percent=percent, window=AVERAGED)
        return [Alarm(night, night) for night in nights if night - 1 not in nights]

    return way


WAYS: dict[str, Way] = {"change points": _own, "5 %": _plain(5), "10 %": _plain(10)}


def _made(seed: str, length: int, noise: float, step: float, nights: Nights) -> Stepped:
    """The step comes anywhere in the middle third."""
    chance = Random(f"{SEED} {seed}")
    at = chance.randrange(length // 3, 2 * length // 3 + 1)
    levels = [100 * (1 + (step if night >= at else 0)) for night in range(length)]
    return Stepped([level * max(0.05, 1 + noise * nights(chance)) for level in levels], at)


def _steps_of(length: int, count: int) -> str:
    rows = []
    for noise in NOISES:
        for step in STEPS:
            cells = [
                cell
                for kind, nights in KINDS.items()
                for cell in _found(
                    [
                        _made(f"{kind} {length} {noise} {step} {number}", length, noise, step, nights)
                        for number in range(count)
                    ]
                )
            ]
            rows.append([f"{noise:.0%}", f"{step:.0%}", *cells])
    columns = [f"{kind}: {name}" for kind in KINDS for name in ("change points", "placed off by", "5 %", "10 %")]
    title = f"A step in {length} nights: share noticed, and median nights until then ({count} series for each cell)"
    return table(title, ["noise", "step", *columns], rows)


def _found(series: Sequence[Stepped]) -> list[str]:
    """Of each way the share noticed and the delay; of the first also the error of the place, median and 90 %."""
    cells = []
    for name, way in WAYS.items():
        first = [(alarm, one.at) for one in series for alarm in _after(way(one.values), one.at)[:1]]
        cells.append(_share([alarm.noticed - at + 1 for alarm, at in first], len(series)))
        if name == "change points":
            cells.append(_errors([abs(alarm.index - at) for alarm, at in first]))
    return cells


def _after(alarms: Sequence[Alarm], at: int) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.noticed >= at]


def _share(delays: Sequence[int], of: int) -> str:
    return f"{len(delays) / of:.0%}, {median(delays):g}" if delays else "0%"


def _errors(errors: Sequence[int]) -> str:
    return f"{median(errors):g} ({sorted(errors)[int(0.9 * (len(errors) - 1))]})" if errors else ""


def _false_alarms(count: int) -> str:
    rows = []
    for kind, nights in KINDS.items():
        for noise in NOISES:
            series = [
                _made(f"quiet {kind} {length} {noise} {number}", length, noise, 0, nights).values
                for length in LENGTHS
                for number in range(count * LENGTHS[0] // length)
            ]
            total = sum(map(len, series))
            rows.append([kind, f"{noise:.0%}", f"{total:,}", *_rates(series, total)])
    columns = [f"{name}: per {what}" for name in WAYS for what in ("1,000 nights", "series-month")]
    return table("False alarms where nothing changes", ["nights", "noise", "measured nights", *columns], rows)


def _rates(series: Sequence[Sequence[float]], total: int) -> Iterator[str]:
    for way in WAYS.values():
        alarms = sum(len(way(values)) for values in series)
        yield f"{1000 * alarms / total:.2f}"
        yield f"{MONTH * alarms / total:.4f}"


def _other_shapes(count: int) -> str:
    """What is neither one step nor nothing: alarms for each series of 60 nights at 2 % noise."""
    rows = []
    for name, shape in SHAPES.items():
        series = [shape(Random(f"{SEED} {name} {number}")) for number in range(count)]
        rows.append([name, *(f"{sum(len(way(values)) for values in series) / count:.2f}" for way in WAYS.values())])
    return table(f"Alarms in 60 nights of 2 % noise ({count} series of each)", ["shape", *WAYS], rows)


def _noisy(levels: Sequence[float], chance: Random) -> list[float]:
    return [level * (1 + 0.02 * chance.gauss(0, 1)) for level in levels]


def _alike(chance: Random) -> list[float]:
    """Each night is half as the one before it was, which the test does not know."""
    off, values = 0.0, []
    for _ in range(60):
        off = 0.5 * off + chance.gauss(0, 0.02 * 0.75**0.5)
        values.append(100 * (1 + off))
    return values


SHAPES: dict[str, Callable[[Random], list[float]]] = {
    "a step of 10 %, right away to its end": lambda chance: _noisy([100.0] * 30 + [110.0] * 30, chance),
    "10 % more for ten nights": lambda chance: _noisy([100.0] * 30 + [110.0] * 10 + [100.0] * 20, chance),
    "one night of 50 % more": lambda chance: _noisy([100.0] * 30 + [150.0] + [100.0] * 29, chance),
    "two nights of 50 % more": lambda chance: _noisy([100.0] * 30 + [150.0] * 2 + [100.0] * 28, chance),
    "10 % in 60 nights, little by little": lambda chance: _noisy([100 + night / 6 for night in range(60)], chance),
    "nothing, but each night is half like the one before": _alike,
}


def _speed() -> str:
    rows = []
    for length in (60, 365):
        for step, name in ((0.0, "none"), (0.03, "3 %"), (0.10, "10 %")):
            seconds = []
            for number in range(ROUNDS):
                values = _made(f"speed {length} {step} {number}", length, 0.02, step, gaussian).values
                began = process_time()
                change_points(values)
                seconds.append(process_time() - began)
            rows.append([f"{length}", name, spread(seconds)])
    return table(
        f"CPU time of a look at a whole series (medians of {ROUNDS}, and range)", ["nights", "step", "s"], rows
    )


if __name__ == "__main__":
    print(report(*map(int, sys.argv[1:])))
