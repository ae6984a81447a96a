"""What clouds asked for their machines over time: the lowest price of every answer, by region, GPU, number and kind.

A row is written when a price has changed, and once an hour while it has not: a silence is known as one. Simulated
clouds have files of their own. Knows no job and no store, and is never worth an error: where nothing can be written,
nothing is kept. `price_files` owns the bytes, `price_series` what is made of the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple

from orchestrator.clouds import utc_now
from orchestrator.home import Home
from orchestrator.price_files import Key, PriceFiles, Stated
from providers.base import Now, Offer, OfferQuery, Provider

AGAIN = timedelta(hours=1)  # what has not changed is written once more
HOLDS = 2 * AGAIN  # a price that was not heard for so long is not one of then
MODEST_DISK_GB = 100  # a question that wants more is not about the market

_PLACES = Decimal("0.0001")  # dollars: less is rounding
_AGAIN_SECONDS, _HOLDS_SECONDS = AGAIN.total_seconds(), HOLDS.total_seconds()
_kind_of = attrgetter("region", "gpu", "gpu_count", "spot")  # a Kind as a plain tuple: there may be thousands

Rows = dict[Key, str | None]

log = logging.getLogger("gpujob.controller")


class Kind(NamedTuple):
    """What a price is of: machines that differ in nothing that is told apart here."""

    region: str
    gpu: str | None
    gpu_count: int
    spot: bool


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The lowest price of a kind at a time; None: it was asked for, and there was none any more."""

    provider: str
    is_simulated: bool
    kind: Kind
    at: datetime
    usd_per_hour: Decimal | None


class PriceHistory:
    """Below a home. Any number of processes and threads may note and read at once."""

    def __init__(self, home: Home, *, now: Now = utc_now) -> None:
        self._files = PriceFiles(home.root / "prices")
        self._now = now

    def note(self, provider: Provider, queries: Sequence[OfferQuery], offers: Iterable[Offer]) -> None:
        """What a cloud has just answered to these queries. Takes milliseconds and never fails."""
        if provider.traits.owned:
            return  # its prices are what the user wrote down
        try:
            at, found = int(self._now().timestamp()), lowest(offers)
            self._files.write(
                _stem(provider.name, provider.traits.simulated),
                lambda stated: news(stated, found, queries, at),
                at=at,
            )
        except Exception as error:  # a quote is worth more than what is noted of it
            log.info("prices of %s are not noted: %s: %s", provider.name, type(error).__name__, error)

    def read(self, gpu: str | None, *, since: datetime, until: datetime, providers: Sequence[str] = ()) -> list[Heard]:
        """Every row of this GPU (None: of machines without one) from then to then, in the order of time."""
        begin, end = since.timestamp(), until.timestamp()
        found = {
            heard
            for stem in self._files.stems()
            if not providers or _named(stem)[0] in providers
            for at, row in self._files.rows(stem, lambda row: row[1] == gpu, since=int(begin))
            if at <= end and (heard := _heard(stem, at, row)) is not None
        }
        return sorted(found, key=lambda heard: (heard.at, heard.provider, heard.is_simulated, heard.kind.region))


def lowest(offers: Iterable[Offer]) -> dict[Key, str]:
    """The lowest price of each kind, rounded."""
    least: dict[Key, Decimal] = {}
    for offer in offers:
        kind = _kind_of(offer)
        usd = offer.usd_per_hour
        if kind not in least or usd < least[kind]:
            least[kind] = usd
    return {kind: str(usd.quantize(_PLACES)) for kind, usd in least.items()}


def news(stated: Mapping[Key, Stated], found: Mapping[Key, str], queries: Sequence[OfferQuery], at: int) -> Rows:
    """The rows that an answer is worth, given what was stated last of each kind.

    A question that wanted more than a GPU, such as much memory, says what is to be had at most: while a lower price
    holds, it is no news that such a machine is dearer. None is written when a kind was asked for by name and is gone.
    """
    is_narrow = any(_wants_more(query) for query in queries)
    rows: Rows = {}
    for kind, usd in found.items():
        last = stated.get(kind)
        if last is None or _is_news(usd, last, at, is_narrow=is_narrow):
            rows[kind] = usd
    for kind in stated.keys() - found.keys():
        if stated[kind].usd is not None and any(_covers(query, Kind(*kind)) for query in queries):
            rows[kind] = None
    return rows


def _is_news(usd: str, last: Stated, at: int, *, is_narrow: bool) -> bool:
    age = abs(at - last.at)  # a clock may have been set back
    if is_narrow and last.usd is not None and Decimal(usd) > Decimal(last.usd):
        return age >= _HOLDS_SECONDS
    return usd != last.usd or age >= _AGAIN_SECONDS


def _wants_more(query: OfferQuery) -> bool:
    more = (query.vcpus, query.memory_gb, query.gpu_memory_gb, query.reliability)
    return any(wish is not None for wish in more) or (query.disk_gb or 0) > MODEST_DISK_GB


def _covers(query: OfferQuery, kind: Kind) -> bool:
    """Whether a machine of this kind would have been among the answers."""
    return (
        query.gpus == ((kind.gpu,) if kind.gpu_count else ())
        and query.gpu_count == kind.gpu_count
        and (not query.regions or kind.region in query.regions)
        and query.spot in (None, kind.spot)
        and query.max_usd_per_hour is None
        and not _wants_more(query)
    )


def _stem(provider: str, is_simulated: bool) -> str:
    return f"{provider}.simulated" if is_simulated else provider


def _named(stem: str) -> tuple[str, bool]:
    name, _, simulated = stem.partition(".")
    return name, bool(simulated)


def _heard(stem: str, at: int, row: Sequence[Any]) -> Heard | None:
    """What a row says; None when it is damaged."""
    try:
        region, gpu, count, spot, usd = row
        price = None if usd is None else Decimal(usd)
        kind = Kind(str(region), gpu, int(count), bool(spot))
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    provider, is_simulated = _named(stem)
    return Heard(provider=provider, is_simulated=is_simulated, kind=kind, at=moment, usd_per_hour=price)
