"""What could be rented now for stated work, ranked by its total price. Rents nothing, knows no spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches

from orchestrator.home import Home
from orchestrator.placement import Ranked, Ranking, total_usd
from orchestrator.store.store import Store
from orchestrator.submission import open_providers
from providers import gpus
from providers import names as provider_names
from providers.base import OfferQuery, Offers, Provider
from providers.errors import ProviderError


class UnknownName(Exception):
    """There is no such GPU or provider; the message says what comes near."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the price is asked for."""

    hours: Decimal = Decimal(1)
    disk_gb: Decimal = Decimal(20)
    egress_gb: Decimal = Decimal(0)


def rank(
    gpu: str | None,
    providers: Sequence[str],
    work: Work,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
) -> Ranking:
    """The offers of these providers (none named: all), cheapest first. Raises UnknownName.

    `gpu` is NAME or NAME:COUNT in any spelling; None means everything, machines without a GPU too.
    """
    query = _query(gpu, work)
    for name in providers:
        if name not in provider_names():
            raise UnknownName(f"there is no provider {name!r}; there are: {', '.join(provider_names())}")
    opened, unavailable = open_providers(providers, store=store, home=home, env=env)
    found: list[Ranked] = []
    with ThreadPoolExecutor(max_workers=max(1, len(opened))) as pool:
        for provider, answer in zip(opened, pool.map(lambda provider: _ask(provider, query), opened), strict=True):
            if isinstance(answer, ProviderError):
                unavailable[provider.name] = answer
            else:
                found += [Ranked(offer, total_usd(offer, **vars(work))) for offer in answer]
    found.sort(key=lambda item: (item.total_usd, -(item.offer.reliability or 0), item.offer.offer_id))
    return Ranking(offers=tuple(found), unavailable=unavailable)


def _query(gpu: str | None, work: Work) -> OfferQuery:
    disk = float(work.disk_gb)
    if gpu is None:
        return OfferQuery(spot=None, disk_gb=disk)
    name, _, count = gpu.partition(":")
    if count and not (count.isdecimal() and int(count) > 0):
        raise UnknownName(f"{gpu!r}: write NAME or NAME:COUNT, for example RTX4090:2")
    return OfferQuery(gpus=(_canonical(name),), gpu_count=int(count or 1), spot=None, disk_gb=disk)


def _canonical(name: str) -> str:
    if (known := gpus.canonical(name)) is not None:
        return known
    near = gpus.ambiguous(name) or get_close_matches(name.upper(), gpus.names(), n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(gpus.names())}"
    raise UnknownName(f"there is no GPU {name!r}; {meant}")


def _ask(provider: Provider, query: OfferQuery) -> Offers | ProviderError:
    try:
        return provider.offers(query)
    except ProviderError as error:
        return error
