"""The simulated spot market: what a type costs in a zone at every moment, and since when.

Every place has a wave of its own that depends on the date alone; whoever directs the cloud can move all of them. The
bill, the price history and launches ask here, so that they agree. Knows no machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256

from providers.rehearsal.aws.catalog import PRODUCTS, on_demand

LINUX = "Linux/UNIX"

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_LEAST = Decimal("0.0001")
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class SpotPrice:
    """A spot price, from `since` on."""

    instance_type: str
    zone: str
    product: str
    usd: Decimal
    since: datetime


class SpotMarket:
    """Prices of one cloud, never above those on demand. `moves` may be cleared: then all is as usual."""

    def __init__(self) -> None:
        self.moves: list[tuple[datetime, Decimal]] = []  # in order: from when on, times the usual

    def move(self, factor: Decimal, at: datetime) -> None:
        """From then on everything costs so many times what is usual, until the next move."""
        whole = at.replace(microsecond=0)  # history is told in seconds
        self.moves.append((whole if whole == at else whole + timedelta(seconds=1), factor))
        self.moves.sort(key=lambda move: move[0])

    def now(self, instance_type: str, zone: str, at: datetime, product: str = LINUX) -> SpotPrice:
        """The price in effect. The same moment always has the same price."""
        usual, since = _usual(instance_type, zone, at)
        moved_at, factor = next((move for move in reversed(self.moves) if move[0] <= at), (since, Decimal(1)))
        limit = on_demand(instance_type, zone[:-1])
        usd = min(limit, usual * factor) * Decimal(PRODUCTS[product])
        return SpotPrice(instance_type, zone, product, max(usd.quantize(_LEAST), _LEAST), max(since, moved_at))

    def history(
        self, instance_type: str, zone: str, start: datetime, end: datetime, product: str = LINUX
    ) -> Iterator[SpotPrice]:
        """Newest first: every change after `start`, and the price in effect at `start`, whose date is older."""
        price = self.now(instance_type, zone, end, product)
        while True:
            yield price
            if price.since <= start:
                return
            price = self.now(instance_type, zone, price.since - _MOMENT, product)

    def above(self, instance_type: str, zone: str, most: Decimal, start: datetime, end: datetime) -> datetime | None:
        """When, from `start` to `end`, the price was first above `most`."""
        dear = [price.since for price in self.history(instance_type, zone, start, end) if price.usd > most]
        return max(start, dear[-1]) if dear else None


def _usual(instance_type: str, zone: str, at: datetime) -> tuple[Decimal, datetime]:
    """The place's own, moving by some per cent every few hours, each place at times of its own; and since when."""
    length = 3 * 3600 + int(6 * 3600 * _fraction(f"{instance_type}/{zone}/length"))
    step = int((at - _EPOCH).total_seconds() // length)
    place = _fraction(f"{instance_type}/{zone}")
    wave = math.sin(step / 9 + 6.3 * place) + _fraction(f"{instance_type}/{zone}/{step}") - 0.5
    share = Decimal(str(round(0.3 + 0.35 * place + 0.03 * wave, 6)))
    return on_demand(instance_type, zone[:-1]) * share, _EPOCH + timedelta(seconds=step * length)


@lru_cache(maxsize=100_000)
def _fraction(seed: str) -> float:
    return int.from_bytes(sha256(seed.encode()).digest()[:6], "big") / 2**48
