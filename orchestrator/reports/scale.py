"""Where a number stands between two others, and the round numbers between them. Fails for no finite number."""

from __future__ import annotations

import math

Range = tuple[float, float]

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def share(value: float, scale: Range) -> float:
    """0 at the low end, 1 at the high end, a half where the scale is a point."""
    low, high = scale
    span = high / 2 - low / 2  # halves: the range of two floats may not be a float
    return min(1.0, max(0.0, (value / 2 - low / 2) / span)) if span > 0 else 0.5


def ticks(low: float, high: float, *, about: int, least: float = 0.0) -> list[float]:
    """Round numbers within a range, about so many and two where that can be, at least `least` apart."""
    span = high - low
    if not math.isfinite(span) or span <= 0 or low + span / 1000 == low:
        return [low]
    for wanted in (about, about + 1, about + 2):
        step = max(_round_step(span / wanted), least)
        found = [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        if len(found) > 1:
            break
    return found


def time_ticks(low: float, high: float, *, about: int) -> list[float]:
    """The same for seconds: whole seconds, minutes, hours, days."""
    raw = (high - low) / max(about, 1)
    step = next((step for step in _TIME_STEPS if step >= raw), math.ceil(raw / 86400) * 86400 if raw > 0 else 1)
    return [float(step * count) for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _round_step(raw: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is not below."""
    magnitude: float = 10.0 ** math.floor(math.log10(raw))
    return next((factor * magnitude for factor in (1, 2, 5) if factor * magnitude >= raw), 10 * magnitude)
