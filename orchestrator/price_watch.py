"""Looking at prices again and again until something is cheap enough: when to look, and what is new.

Knows rankings. Asks nobody itself, prints nothing, and sleeps only by what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from orchestrator.placement import Ranked, Ranking
from providers.errors import ProviderError, Throttled

LEAST_EVERY = timedelta(seconds=30)  # a cloud may allow ten questions a minute, and others of ours ask, too
MOST_EVERY = timedelta(days=1)
MOST_PATIENCE = 3600.0  # seconds, with a cloud that wants to be left alone

_Offer = tuple[str, str]  # provider, offer id


@dataclass(frozen=True)
class Look:
    """What is there, and what of it is under the price and was not at the look before (or was dearer)."""

    ranking: Ranking
    appeared: tuple[Ranked, ...]


def watch(
    look: Callable[[], Ranking], *, under: Decimal, every: timedelta, sleep: Callable[[float], object]
) -> Iterator[Look]:
    """Looks without end, `every` apart or as a cloud asks for. What was last heard of a silent cloud is never new."""
    told: dict[_Offer, Decimal] = {}
    while True:
        ranking = look()
        cheap = [one for one in ranking.offers if not one.is_stale and one.offer.usd_per_hour < under]
        cheap.sort(key=lambda one: one.offer.usd_per_hour)
        appeared = tuple(one for one in cheap if one.offer.usd_per_hour < told.get(_offer(one), under))
        silent = {known: usd for known, usd in told.items() if known[0] in ranking.unavailable}
        told = {**silent, **{_offer(one): one.offer.usd_per_hour for one in cheap}}
        yield Look(ranking, appeared)
        sleep(max(every.total_seconds(), _wanted_rest(ranking.unavailable)))


def _offer(ranked: Ranked) -> _Offer:
    return ranked.offer.provider, ranked.offer.offer_id


def _wanted_rest(unavailable: Mapping[str, ProviderError]) -> float:
    rests = (error.after for error in unavailable.values() if isinstance(error, Throttled))
    return min(max(rests, default=0.0), MOST_PATIENCE)
