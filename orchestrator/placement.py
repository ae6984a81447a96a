"""Which offer to try next: every provider asked at once, what fits ranked by what the job would cost there.

Knows a spec and offers. Rents nothing, writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal

from jobs.spec import GpuChoice, Spec
from providers.base import GB, Offer, OfferQuery, Offers, Provider
from providers.errors import ProviderError

log = logging.getLogger("gpujob.controller")

HOURS_PER_MONTH = Decimal(720)
EXPECTED_HOURS = Decimal(1)  # how long a job takes when nothing is known of it
_MOST_REASONS = 5
_SPOT = {"never": False, "allow": None, "only": True}


@dataclass(frozen=True)
class Ranked:
    """An offer with what the job would cost there, and why it is passed over (None: it is not)."""

    offer: Offer
    total_usd: Decimal
    preference: int = 0
    why_not: str | None = None


@dataclass(frozen=True)
class Ranking:
    """Offers, best first; and the providers that could not be asked, with their error."""

    offers: tuple[Ranked, ...]
    unavailable: Mapping[str, ProviderError]

    @property
    def eligible(self) -> tuple[Ranked, ...]:
        return tuple(ranked for ranked in self.offers if ranked.why_not is None)


def queries(spec: Spec) -> tuple[OfferQuery, ...]:
    """One query per GPU choice of the spec, in its order of preference."""
    choices: Sequence[GpuChoice | None] = spec.resources.gpu or (None,)
    return tuple(_query(spec, choice) for choice in choices)


def quote(
    spec: Spec,
    providers: Sequence[Provider],
    *,
    remembered: Mapping[tuple[str, str], str] | None = None,
    tried: Collection[str] = (),
    expected_hours: Decimal = EXPECTED_HOURS,
) -> Ranking:
    """Every fitting offer of these providers, by preference and then by expected total cost.

    `remembered` maps (provider, offer id or host id) to the reason why it is avoided for now; `tried` are the offer
    ids that this attempt has left already.
    """
    wanted = queries(spec)
    with ThreadPoolExecutor(max_workers=max(1, len(providers))) as pool:
        answers = list(pool.map(lambda provider: _ask(provider, wanted), providers))
    found = [ranked for answer in answers if not isinstance(answer, ProviderError) for ranked in answer]
    hours = min(expected_hours, Decimal(str(spec.limits.max_duration.total_seconds())) / 3600)
    ranked = [
        replace(
            item,
            total_usd=total_usd(item.offer, hours=hours, disk_gb=_disk_gb(spec)),
            why_not=_why_not(item.offer, remembered or {}, tried),
        )
        for item in found
    ]
    ranked.sort(key=lambda item: (item.preference, item.total_usd, -(item.offer.reliability or 0), item.offer.offer_id))
    return Ranking(
        offers=tuple(ranked),
        unavailable={
            provider.name: answer
            for provider, answer in zip(providers, answers, strict=True)
            if isinstance(answer, ProviderError)
        },
    )


def why_nothing_fits(spec: Spec, providers: Sequence[Provider]) -> tuple[str, ...]:
    """What the nearest offers lack, in words for a person; for when there is nothing better to say."""
    wanted = queries(spec)[0]
    reasons: list[str] = []
    for provider in providers:
        offers = _anything(provider, wanted.gpu_count) or _anything(provider, 0)
        lacks = (f"{provider.name} {offer.region} {offer.unfit(wanted)}" for offer in offers[:_MOST_REASONS])
        reasons += dict.fromkeys(lacks)
    return tuple(reasons)


def total_usd(
    offer: Offer, *, hours: Decimal, disk_gb: Decimal, egress_gb: Decimal = Decimal(0), ingress_gb: Decimal = Decimal(0)
) -> Decimal:
    """What stated work costs on an offer: compute, disk while it runs, traffic both ways."""
    return (
        offer.usd_per_hour * hours
        + offer.disk_usd_per_gb_month * disk_gb * hours / HOURS_PER_MONTH
        + offer.egress_usd_per_gb * egress_gb
        + offer.ingress_usd_per_gb * ingress_gb
    )


def _ask(provider: Provider, wanted: Sequence[OfferQuery]) -> list[Ranked] | ProviderError:
    try:
        return _first_preference([provider.offers(query) for query in wanted])
    except ProviderError as error:
        return error
    except Exception as error:  # its bug must not keep a job from the other clouds
        log.exception("%s: offers", provider.name)
        return ProviderError(f"internal error: {type(error).__name__}: {error}", provider=provider.name)


def _anything(provider: Provider, gpu_count: int) -> Sequence[Offer]:
    try:
        return provider.offers(OfferQuery(gpu_count=gpu_count, spot=None))
    except ProviderError:
        return ()


def _first_preference(answers: Sequence[Offers]) -> list[Ranked]:
    best: dict[str, Ranked] = {}
    for preference, offers in enumerate(answers):
        for offer in offers:
            best.setdefault(offer.offer_id, Ranked(offer, Decimal(0), preference))
    return list(best.values())


def _query(spec: Spec, choice: GpuChoice | None) -> OfferQuery:
    resources, place = spec.resources, spec.place
    return OfferQuery(
        gpus=(choice.name,) if choice and choice.name else (),
        gpu_count=choice.count if choice else 0,
        gpu_memory_gb=choice.memory / GB if choice and choice.memory else None,
        vcpus=resources.cpus,
        memory_gb=resources.memory / GB if resources.memory else None,
        disk_gb=resources.disk / GB if resources.disk else None,
        regions=place.regions,
        spot=_SPOT[place.spot],
        reliability=place.reliability,
        max_usd_per_hour=spec.limits.max_price_per_hour,
    )


def _disk_gb(spec: Spec) -> Decimal:
    return Decimal(spec.resources.disk) / GB


def _why_not(offer: Offer, remembered: Mapping[tuple[str, str], str], tried: Collection[str]) -> str | None:
    if offer.offer_id in tried:
        return "tried in this attempt"
    return remembered.get((offer.provider, offer.offer_id)) or remembered.get((offer.provider, offer.host_id))
