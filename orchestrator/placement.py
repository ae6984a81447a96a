"""Which offer to try next: every provider asked at once, what fits ranked by what the job would cost there.

Knows a spec and offers. Rents nothing, writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.clouds import ANSWER_SECONDS, Note, ask_all, offers_of
from orchestrator.estimates import Estimate, Estimates
from providers.base import GB, Offer, OfferQuery, Provider, Traits
from providers.errors import AuthFailed, ProviderError

if TYPE_CHECKING:
    from jobs.spec import GpuChoice, Spec

log = logging.getLogger("gpujob.controller")

HOURS_PER_MONTH = Decimal(720)
ROOM = Decimal("1.25")  # times its price now: what a rate that moves may rise to, however little money there is
_PRICE = Decimal("0.0001")
_MOST_REASONS = 5
_SPOT = {"never": False, "allow": None, "only": True}


class Ranked(NamedTuple):
    """An offer with what the job would cost there, and why it is passed over (None: it is not).

    `is_stale`: not of now, but the last that was heard of a cloud that does not answer. `estimate` is how long the job
    takes there, where a job is asked about; `is_best`: no other offer is both cheaper and sooner done. `usd_per_work`
    is what a unit of some work costs there, where that was asked for and such a machine has been measured.
    """

    offer: Offer
    total_usd: Decimal
    preference: int = 0
    why_not: str | None = None
    is_simulated: bool = False
    is_stale: bool = False
    estimate: Estimate | None = None
    is_best: bool = False
    usd_per_work: Decimal | None = None


@dataclass(frozen=True)
class Ranking:
    """Offers, best first; the providers that could not be asked, with their error; and those that were not asked.

    `passed_over` are providers at which nothing can be rented as things are set up, and which nobody asked for by name.
    """

    offers: tuple[Ranked, ...]
    unavailable: Mapping[str, ProviderError]
    passed_over: Mapping[str, str] = field(default_factory=dict)

    @property
    def eligible(self) -> tuple[Ranked, ...]:
        return tuple(ranked for ranked in self.offers if ranked.why_not is None)


class _Unusable(AuthFailed):
    """Nothing can be rented there as things are set up; the cloud was not asked."""


def queries(spec: Spec) -> tuple[OfferQuery, ...]:
    """One query per GPU choice of the spec, in its order of preference."""
    choices: Sequence[GpuChoice | None] = spec.resources.gpu or (None,)
    return tuple(_query(spec, choice) for choice in choices)


def quote(  # noqa: PLR0913 - what a choice depends on
    spec: Spec,
    providers: Sequence[Provider],
    *,
    remembered: Mapping[tuple[str, str], str] | None = None,
    tried: Collection[tuple[str, str]] = (),
    expected: Estimates | None = None,
    ingress_gb: Decimal = Decimal(0),
    egress_gb: Decimal | None = None,
    seconds: float = ANSWER_SECONDS,
    note: Note = lambda *_: None,
) -> Ranking:
    """Every fitting offer of these providers, by preference and then by expected total cost.

    `remembered` maps (provider, offer id or host id) to the reason why it is avoided for now; `tried` are the offers,
    as (provider, offer id), that this attempt has left already. `expected` is what is known of the job's time and of
    what it brings back; None: nothing. `ingress_gb` and `egress_gb` are the traffic; what is brought back is as
    expected when it is not said. A provider that takes longer than `seconds` is among the unavailable ones. `note` is
    told what each answers.
    """
    wanted = queries(spec)
    answers = ask_all(providers, lambda provider: _ask(provider, spec, wanted, note), seconds=seconds)
    job = _Job(
        expected=expected or Estimates(spec),
        disk_gb=Decimal(spec.resources.disk) / GB,
        ingress_gb=ingress_gb,
        egress_gb=egress_gb,
        cap=spec.limits.max_price_per_hour,
        remembered=remembered or {},
        tried=tried,
    )
    ranked: list[Ranked] = []
    unavailable: dict[str, ProviderError] = {}
    passed_over: dict[str, str] = {}
    for provider in providers:
        answer = answers[provider.name]
        if isinstance(answer, _Unusable) and provider.name not in spec.place.providers:
            passed_over[provider.name] = str(answer)
        elif isinstance(answer, ProviderError):
            unavailable[provider.name] = answer
            _log_a_bug(answer)
        else:
            ranked += job.at(provider, answer)
    _sort(ranked)
    return Ranking(offers=tuple(ranked), unavailable=unavailable, passed_over=passed_over)


def why_nothing_fits(spec: Spec, providers: Sequence[Provider], *, seconds: float = ANSWER_SECONDS) -> tuple[str, ...]:
    """What the nearest offers lack, in words for a person; for when there is nothing better to say."""
    found = what_is_lacking(spec, providers, seconds=seconds)
    return tuple(f"{name} {reason}" for name, reasons in found.items() for reason in reasons)


def what_is_lacking(
    spec: Spec, providers: Sequence[Provider], *, seconds: float = ANSWER_SECONDS
) -> dict[str, tuple[str, ...]]:
    """The same by provider."""
    wanted = queries(spec)[0]
    answers = ask_all(providers, lambda provider: tuple(_lacks(provider, wanted)), seconds=seconds)
    return {name: () if isinstance(answer, ProviderError) else answer for name, answer in answers.items()}


def at_worst(offer: Offer, cap: Decimal | None, *, affordable: Decimal | None = None) -> Offer:
    """The offer at the most that its machine may come to cost per hour, which its cloud is told to enforce.

    `cap` is the run's own limit. `affordable` is the rate at which its money lasts as long as it may: with that much a
    machine is held to it, so that it need not be ended sooner, but a price must have some room to move.
    """
    if offer.most_usd_per_hour is None:
        return offer
    most = offer.most_usd_per_hour if cap is None else min(cap, offer.most_usd_per_hour)
    if affordable is not None:
        most = min(most, max(affordable, offer.usd_per_hour * ROOM).quantize(_PRICE, rounding=ROUND_DOWN))
    return replace(offer, usd_per_hour=max(offer.usd_per_hour, most))


def total_usd(
    offer: Offer, *, hours: Decimal, disk_gb: Decimal, egress_gb: Decimal = Decimal(0), ingress_gb: Decimal = Decimal(0)
) -> Decimal:
    """What stated work costs on an offer: all that runs by the hour, disk meanwhile, traffic both ways."""
    total = (offer.usd_per_hour + offer.other_usd_per_hour) * hours
    if offer.disk_usd_per_gb_month:
        total += offer.disk_usd_per_gb_month * disk_gb * hours / HOURS_PER_MONTH
    if egress_gb:
        total += offer.egress_usd_per_gb * egress_gb
    if ingress_gb:
        total += offer.ingress_usd_per_gb * ingress_gb
    return total


def for_job(
    offer: Offer,
    traits: Traits | None,
    expected: Estimates,
    *,
    disk_gb: Decimal,
    ingress_gb: Decimal,
    egress_gb: Decimal | None = None,
) -> Ranked:
    """What a job takes and costs on an offer. What it brings back is as expected when it is not said."""
    is_simulated = traits is not None and traits.simulated
    estimate = expected.at(offer, traits)
    if egress_gb is None:
        egress_gb = expected.egress_gb(is_simulated=is_simulated)
    total = total_usd(offer, hours=estimate.hours, disk_gb=disk_gb, egress_gb=egress_gb, ingress_gb=ingress_gb)
    return Ranked(offer, total, is_simulated=is_simulated, estimate=estimate)


def why_not_there(spec: Spec, provider: Provider) -> str | None:
    """Why nothing can be rented there for this job, whatever is offered."""
    return provider.unusable() or _cannot_get_the_image(spec, provider.traits)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What an offer is weighed by."""

    expected: Estimates
    disk_gb: Decimal
    ingress_gb: Decimal
    egress_gb: Decimal | None
    cap: Decimal | None
    remembered: Mapping[tuple[str, str], str]
    tried: Collection[tuple[str, str]]

    def at(self, provider: Provider, offers: Sequence[tuple[int, Offer]]) -> list[Ranked]:
        """What the job would cost on each of these; a boot is paid like work."""
        tried = {offer_id for name, offer_id in self.tried if name == provider.name}
        remembered = {subject: why for (name, subject), why in self.remembered.items() if name == provider.name}
        return [
            for_job(
                offer,
                provider.traits,
                self.expected,
                disk_gb=self.disk_gb,
                ingress_gb=self.ingress_gb,
                egress_gb=self.egress_gb,
            )._replace(preference=preference, why_not=self._why_not(offer, tried, remembered))
            for preference, offer in offers
        ]

    def _why_not(self, offer: Offer, tried: Collection[str], remembered: Mapping[str, str]) -> str | None:
        if self.cap is not None and offer.usd_per_hour > self.cap:
            return f"costs ${offer.usd_per_hour} per hour, more than ${self.cap}"
        if offer.offer_id in tried:
            return "tried in this attempt"
        return remembered.get(offer.offer_id) or remembered.get(offer.host_id)


def _sort(ranked: list[Ranked]) -> None:
    """By preference, total, reliability, offer id. One stable sort for each: twice as fast as one by tuples."""
    ranked.sort(key=lambda item: item.offer.offer_id)
    ranked.sort(key=lambda item: -(item.offer.reliability or 0))
    ranked.sort(key=attrgetter("total_usd"))
    ranked.sort(key=attrgetter("preference"))


def _ask(provider: Provider, spec: Spec, wanted: Sequence[OfferQuery], note: Note) -> list[tuple[int, Offer]]:
    if (reason := why_not_there(spec, provider)) is not None:
        raise _Unusable(reason, provider=provider.name)
    return offers_of(provider, wanted, note=note)


def _cannot_get_the_image(spec: Spec, traits: Traits) -> str | None:
    """A rented container is made from an image that its cloud pulls: one that is on this computer only is no use."""
    if not traits.is_container or spec.build is None or spec.build.push is not None:
        return None
    return "its machines are made from an image that it pulls: name a registry in build.push, such as ghcr.io/me/job"


def _log_a_bug(error: ProviderError) -> None:
    if type(error) is ProviderError and error.__cause__ is not None:
        log.error("%s: %s", error.provider, error, exc_info=error.__cause__)


def _lacks(provider: Provider, wanted: OfferQuery) -> Iterator[str]:
    if (reason := provider.unusable()) is not None:
        yield f"cannot be used: {reason}"
        return
    anything = OfferQuery(gpu_count=wanted.gpu_count, spot=None)
    offers = provider.offers(anything) or provider.offers(OfferQuery(spot=None))
    lacking = {offer: offer.shortcomings(wanted) for offer in offers}
    named = wanted.gpus

    def distance(offer: Offer) -> tuple[bool, int, bool, Decimal]:
        return (bool(named) and offer.gpu not in named, len(lacking[offer]), offer.spot, offer.usd_per_hour)

    nearest = sorted(offers, key=distance)
    reasons = (f"{offer.region} {' and '.join(lacking[offer])}".strip() for offer in nearest[:_MOST_REASONS])
    yield from dict.fromkeys(reasons)


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
