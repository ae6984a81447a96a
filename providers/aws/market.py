"""EC2's offers: what each zone of each region sells, at its price on demand and on the spot market.

Regions are asked at once. Built once for what was fetched, and filtered for every query.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from providers.aws import mapping
from providers.aws.catalog import Catalog, Sold
from providers.aws.prices import PriceList, Prices, Spot
from providers.aws.spot import SOURCE as SPOT_HISTORY
from providers.base import Offer, OfferQuery, Offers
from providers.errors import AuthFailed, ProviderError

AT_ONCE = 16
_ROOM = 2  # times the spot price, for a type that is not sold on demand

T = TypeVar("T")
ByGpu = Mapping[str | None, Sequence[Offer]]

log = logging.getLogger("gpujob.aws")


class Market:
    """Safe between threads."""

    def __init__(self, catalog: Catalog, prices: Prices, home_region: Callable[[], str]) -> None:
        self._catalog = catalog
        self._home_region = home_region
        self._prices = prices
        self._built: dict[tuple[str, bool], tuple[object, ByGpu]] = {}
        self._lock = threading.Lock()

    def offers(self, query: OfferQuery) -> Offers:
        """In the regions of the query, else in all that the account has enabled."""
        enabled = self._catalog.regions()
        regions = [region for region in enabled if not query.regions or region in query.regions]
        answers = of_regions(regions, lambda region: self._of_region(region, query))
        found = heard(answers, may_miss=True)
        return Offers(offer for offers in found for offer in offers).fitting(query)

    def without_account(self, query: OfferQuery, region: str) -> Offers:
        """On-demand prices of whole regions, for who has no account: of one region when none is named."""
        answers = of_regions(query.regions or (region,), self._public)
        found = heard(answers, may_miss=not query.regions or len(query.regions) > 1)
        return Offers(offer for by_gpu in found for offer in _wanted(by_gpu, query)).fitting(query)

    def _of_region(self, region: str, query: OfferQuery) -> list[Offer]:
        sold = self._catalog.sold(region)
        found: list[Offer] = []
        listed = self._prices.listed(region, may_download=self._may_download(region, query))
        if query.spot is not True:
            found += _wanted(self._on_demand(region, sold, listed), query)
        if query.spot is not False:
            found += self._spot_or_none(region, sold, listed, query)
        return found

    def _may_download(self, region: str, query: OfferQuery) -> bool:
        """The public price file is large: it is fetched for the regions that were named, else for one."""
        return bool(query.regions) or region == self._home_region()

    def _spot_or_none(self, region: str, sold: Sold, listed: PriceList, query: OfferQuery) -> Sequence[Offer]:
        """Who may not see spot prices can still have machines on demand."""
        try:
            return _wanted(self._spot(region, sold, listed), query)
        except AuthFailed as error:
            if query.spot:
                raise
            log.warning("no spot prices: %s", error)
            return ()

    def _on_demand(self, region: str, sold: Sold, listed: PriceList) -> ByGpu:
        return self._kept(region, False, (sold, listed), lambda: _on_demand_offers(region, sold, listed))

    def _spot(self, region: str, sold: Sold, listed: PriceList) -> ByGpu:
        spot = self._prices.spot(region, sorted(sold.types))
        return self._kept(region, True, (sold, listed, spot), lambda: _spot_offers(region, sold, listed, spot))

    def _public(self, region: str) -> ByGpu:
        listed = self._prices.public(region)
        return self._kept(region, False, listed, lambda: _public_offers(region, listed))

    def _kept(self, region: str, spot: bool, made_from: object, build: Callable[[], Iterable[Offer]]) -> ByGpu:
        """What was built from these very answers before."""
        with self._lock:
            known, by_gpu = self._built.get((region, spot), (None, {}))
        if known is not None and _same(known, made_from):
            return by_gpu
        grouped: dict[str | None, list[Offer]] = defaultdict(list)
        for offer in build():
            grouped[offer.gpu].append(offer)
        with self._lock:
            self._built[region, spot] = (made_from, grouped)
        return grouped


def of_regions(regions: Iterable[str], ask: Callable[[str], T]) -> list[T | ProviderError]:
    """What each region answers, all asked at once."""

    def answer(region: str) -> T | ProviderError:
        try:
            return ask(region)
        except ProviderError as error:
            return error

    asked = list(regions)
    if not asked:
        return []
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(asked))) as pool:
        return list(pool.map(answer, asked))


def heard(answers: Sequence[T | ProviderError], *, may_miss: bool) -> list[T]:
    """The answers, without the regions that refuse our key while others take it: these are not enabled.

    With `may_miss` regions that do not answer are left out as long as one does; otherwise one that is silent is an
    error, because a list without it would lie.
    """
    good = [answer for answer in answers if not isinstance(answer, ProviderError)]
    failed = [answer for answer in answers if isinstance(answer, ProviderError)]
    lasting = [error for error in failed if not isinstance(error, AuthFailed)]
    if failed and not good:
        raise (lasting or failed)[0]
    if lasting and not may_miss:
        raise lasting[0]
    for error in lasting:
        log.warning("left out: %s", error)
    return good


def _on_demand_offers(region: str, sold: Sold, listed: PriceList) -> Iterable[Offer]:
    for name, zones in sold.zones.items():
        price = listed.on_demand.get(name)
        if price is None or "on-demand" not in sold.types[name].markets:
            continue  # p5e: only reserved
        for zone in zones:
            yield mapping.offer(
                sold.types[name],
                region=region,
                zone=zone,
                spot=False,
                usd_per_hour=price,
                disk_usd_per_gb_month=listed.gp3_usd_per_gb_month,
                fetched_at=listed.fetched_at,
                source=listed.source,
            )


def _spot_offers(region: str, sold: Sold, listed: PriceList, spot: Spot) -> Iterable[Offer]:
    for name, zones in sold.zones.items():
        if "spot" not in sold.types[name].markets:
            continue
        for zone in zones:
            if (price := spot.prices.get((name, zone))) is None:
                continue
            found = mapping.offer(
                sold.types[name],
                region=region,
                zone=zone,
                spot=True,
                usd_per_hour=price,
                disk_usd_per_gb_month=listed.gp3_usd_per_gb_month,
                fetched_at=spot.fetched_at,
                source=SPOT_HISTORY,
            )
            yield replace(found, most_usd_per_hour=_most(price, listed.on_demand.get(name)))


def _most(price: Decimal, on_demand: Decimal | None) -> Decimal:
    """What EC2 is told to bill at most for a spot machine: what it would itself take for the most, where it is known.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-spot-instances-work.html (2026-11-21)
    """
    return max(price, on_demand) if on_demand is not None else price * _ROOM


def _public_offers(region: str, listed: PriceList) -> Iterable[Offer]:
    for machine in listed.types:
        if machine.name not in listed.on_demand:
            continue
        yield mapping.offer(
            machine,
            region=region,
            zone="",
            spot=False,
            usd_per_hour=listed.on_demand[machine.name],
            disk_usd_per_gb_month=listed.gp3_usd_per_gb_month,
            fetched_at=listed.fetched_at,
            source=listed.source,
        )


def _wanted(by_gpu: ByGpu, query: OfferQuery) -> list[Offer]:
    """Those of the wanted GPUs; for no GPU those without."""
    if not query.gpu_count:
        return list(by_gpu.get(None, ()))
    kinds = query.gpus or tuple(gpu for gpu in by_gpu if gpu is not None)
    return [offer for gpu in dict.fromkeys(kinds) for offer in by_gpu.get(gpu, ())]


def _same(known: object, now: object) -> bool:
    """The very same objects, not equal ones: comparing hundreds of types takes longer than building offers."""
    if isinstance(known, tuple) and isinstance(now, tuple):
        return len(known) == len(now) and all(one is other for one, other in zip(known, now, strict=True))
    return known is now
