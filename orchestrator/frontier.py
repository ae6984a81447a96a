"""Time against money: which offers no other beats in both. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from orchestrator.placement import Ranked

Point = tuple[float, Decimal]  # seconds, dollars


def mark(offers: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """The same offers in the same order, each saying whether it is one of the best of its kind.

    What is simulated is weighed against what is simulated only. What is not of now beats nothing and is never among
    them, and neither is an offer without a time.
    """
    best: set[int] = set()
    for is_simulated in (False, True):
        weighed = {
            number: (one.estimate.seconds, one.total_usd)
            for number, one in enumerate(offers)
            if one.is_simulated == is_simulated and one.estimate is not None and not one.is_stale
        }
        unbeaten = frontier(weighed.values())
        best |= {number for number, point in weighed.items() if point in unbeaten}
    return tuple(one._replace(is_best=number in best) for number, one in enumerate(offers))


def frontier(points: Iterable[Point]) -> set[Point]:
    """Those than which no other is better in one and not worse in the other."""
    best: set[Point] = set()
    least: Decimal | None = None
    for seconds, usd in sorted(set(points)):
        if least is None or usd < least:
            best.add((seconds, usd))
            least = usd
    return best
