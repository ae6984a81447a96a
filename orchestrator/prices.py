"""What could be rented now for stated work, ranked. Rents nothing, knows no spec and no store.

How a question about a job is asked is in `job_prices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Protocol

from orchestrator.clouds import ANSWER_SECONDS, UnknownName, ask_all, named, offers_of, open_all, utc_now
from orchestrator.frontier import mark
from orchestrator.home import Home
from orchestrator.known_prices import KnownPrices
from orchestrator.placement import Ranked, Ranking, total_usd
from orchestrator.price_history import PriceHistory
from providers import gpus
from providers.base import Now, Offer, OfferQuery, Provider, Traits
from providers.errors import ProviderError

_TFLOP_PLACES = Decimal("1E-9")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the price is asked for."""

    hours: Decimal = Decimal(1)
    disk_gb: Decimal = Decimal(20)
    egress_gb: Decimal = Decimal(0)
    ingress_gb: Decimal = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Whose prices are asked for. Empty and None mean "any".

    `gpus` are NAME or NAME:COUNT in any spelling, or "cpu" for machines without a GPU. None named: any GPU, and of
    computers of one's own those without one, too.
    """

    gpus: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    spot: bool | None = None


class Rate(Protocol):
    """How fast a machine does some work."""

    def usd_per_work(self, usd_per_hour: Decimal) -> Decimal | None: ...


Rates = Mapping[tuple[str, int], Rate]  # by GPU and how many


class Asked(Protocol):
    """A question about prices: who is asked what, and what an offer is worth to whoever asks."""

    @property
    def providers(self) -> tuple[str, ...]: ...
    @property
    def queries(self) -> tuple[OfferQuery, ...]: ...
    @property
    def own_queries(self) -> tuple[OfferQuery, ...]:
        """What computers of one's own are asked."""
        ...

    def has(self, offer: Offer, query: OfferQuery) -> bool:
        """Whether an offer that a cloud has made to this query is one that was meant."""
        ...

    def why_not_there(self, provider: Provider) -> str | None:
        """Why nothing can be rented there as things are set up."""
        ...

    def ranked(self, offer: Offer, traits: Traits | None) -> Ranked:
        """With its total. `traits` are None of a cloud that could not be opened."""
        ...


class Stated:
    """A question about stated work."""

    def __init__(self, wanted: Wanted, work: Work) -> None:
        """Raises UnknownName."""
        self.providers = wanted.providers
        self.queries = _queries(wanted, work)
        self.own_queries = self.queries if wanted.gpus else (*self.queries, _query(wanted, work, (), 0))
        self._work = work

    def has(self, offer: Offer, query: OfferQuery) -> bool:
        """A job without a GPU may run beside an idle one; whoever looks for machines without one looks for others."""
        return bool(offer.gpu_count) == bool(query.gpu_count)

    def why_not_there(self, provider: Provider) -> str | None:
        return provider.unusable()

    def ranked(self, offer: Offer, traits: Traits | None) -> Ranked:
        work = self._work
        total = total_usd(
            offer, hours=work.hours, disk_gb=work.disk_gb, egress_gb=work.egress_gb, ingress_gb=work.ingress_gb
        )
        return Ranked(offer, total, is_simulated=traits is not None and traits.simulated)


def rank(
    wanted: Wanted,
    work: Work,
    *,
    home: Home,
    env: Mapping[str, str],
    sort: str = "total",
    seconds: float = ANSWER_SECONDS,
    now: Now = utc_now,
) -> Ranking:
    """Every offer that answers, best first. Raises UnknownName.

    A cloud that does not answer is among the unavailable ones, and the last that was heard of it among the offers, as
    stale. `passed_over` are clouds that tell their prices, but at which nothing can be rented as things are set up.
    """
    return Market(Stated(wanted, work), home=home, env=env, now=now).rank(sort=sort, seconds=seconds)


class Market:
    """The clouds that one question goes to, perhaps again and again: opened once, so that they keep what they keep."""

    def __init__(
        self, asked: Asked, *, home: Home, env: Mapping[str, str], now: Now = utc_now, work: Rates | None = None
    ) -> None:
        """Asks nobody anything. `work` is what GPUs do of it, for its price. Raises UnknownName."""
        self._work = work or {}
        self._asked, self._now = asked, now
        self._opened, self._closed = open_all(named(asked.providers), home=home, env=env, now=now)
        self._traits = {provider.name: provider.traits for provider in self._opened}
        self._known = KnownPrices(home)
        self._note = PriceHistory(home, now=now).note

    def rank(self, *, sort: str = "total", seconds: float = ANSWER_SECONDS) -> Ranking:
        """As `rank` does, now. What has a time says whether any other offer beats it in time and money."""
        answers = ask_all(self._opened, self._ask, seconds=seconds)
        ranked: list[Ranked] = []
        unavailable = dict(self._closed)
        passed_over: dict[str, str] = {}
        for provider in self._opened:
            answer = answers[provider.name]
            if isinstance(answer, ProviderError):
                unavailable[provider.name] = answer
                continue
            ranked += self._answered(provider, answer.offers)
            if answer.unusable is not None and answer.offers:
                passed_over[provider.name] = answer.unusable
        ranked += [item for name in unavailable for item in self._last_heard(name)]
        ranked = [self._priced(item) for item in ranked] if self._work else ranked
        key = _ORDERS[sort]
        ranked.sort(key=lambda item: (key(item), item.total_usd, item.offer.provider, item.offer.offer_id))
        return Ranking(offers=mark(ranked), unavailable=unavailable, passed_over=passed_over)

    def _priced(self, item: Ranked) -> Ranked:
        """With what a unit of work costs there, all that runs by the hour counted."""
        offer = item.offer
        rate = self._work.get((offer.gpu or "", offer.gpu_count))
        if rate is None:
            return item
        return item._replace(usd_per_work=rate.usd_per_work(offer.usd_per_hour + offer.other_usd_per_hour))

    def _ask(self, provider: Provider) -> _Answer:
        queries = self._asked.own_queries if provider.traits.owned else self._asked.queries
        heard = offers_of(provider, queries, note=self._note)
        offers = [offer for index, offer in heard if self._asked.has(offer, queries[index])]
        return _Answer(offers, self._asked.why_not_there(provider))

    def _answered(self, provider: Provider, offers: Sequence[Offer]) -> list[Ranked]:
        traits = provider.traits
        if not traits.owned:  # its prices are what the user wrote down
            queries, now = self._asked.queries, self._now()
            self._known.keep(provider.name, queries, offers, now=now, is_simulated=traits.simulated)
        return [self._asked.ranked(offer, traits) for offer in offers]

    def _last_heard(self, name: str) -> list[Ranked]:
        traits = self._traits.get(name)
        is_simulated = traits is not None and traits.simulated
        once = {
            offer.offer_id: offer
            for query in self._asked.queries
            for offer in self._known.recall(name, query, now=self._now(), is_simulated=is_simulated)
            if self._asked.has(offer, query)
        }
        return [self._asked.ranked(offer, traits)._replace(is_stale=True) for offer in once.values()]


def usd_per_tflop_hour(offer: Offer) -> Decimal | None:
    """What an hour of one dense bf16 TFLOP/s costs there; None where the GPU's speed is not known."""
    if not offer.gpu or offer.gpu not in gpus.names():
        return None
    tflops = gpus.specification(offer.gpu).bf16_tflops
    if tflops is None or not offer.gpu_count:
        return None
    return (offer.usd_per_hour / (Decimal(str(tflops)) * offer.gpu_count)).quantize(_TFLOP_PLACES)


def gpu_and_count(text: str) -> tuple[str, int]:
    """What NAME or NAME:COUNT asks for; ("cpu", 0) for machines without a GPU. Raises UnknownName."""
    if text.strip().casefold() in ("cpu", "none"):
        return "cpu", 0
    name, _, count = text.partition(":")
    if count and not (count.isdecimal() and int(count) > 0):
        raise UnknownName(f"{text!r}: write NAME or NAME:COUNT, for example RTX4090:2")
    return _canonical(name), int(count or 1)


@dataclass(frozen=True)
class _Answer:
    offers: Sequence[Offer]
    unusable: str | None


_Key = tuple[bool, Decimal | float | str]


def _least(value: Decimal | None) -> _Key:
    return (value is None, value or Decimal(0))


_ORDERS: Mapping[str, Callable[[Ranked], _Key]] = {
    "total": lambda item: (False, item.total_usd),
    "time": lambda item: (item.estimate is None, item.estimate.seconds if item.estimate else 0.0),
    "hour": lambda item: (False, item.offer.usd_per_hour),
    "gpu-hour": lambda item: _least(item.offer.usd_per_gpu_hour),
    "tflop": lambda item: _least(usd_per_tflop_hour(item.offer)),
    "work": lambda item: _least(item.usd_per_work),
    "reliability": lambda item: (item.offer.reliability is None, -(item.offer.reliability or 0)),
    "provider": lambda item: (False, item.offer.provider),
}
ORDERS = tuple(_ORDERS)


def _queries(wanted: Wanted, work: Work) -> tuple[OfferQuery, ...]:
    """One for each number of GPUs, none last: a cloud is asked no more often than it has to be."""
    names: dict[int, list[str]] = {}
    for text in wanted.gpus:
        name, count = gpu_and_count(text)
        names.setdefault(count, []).append(name)
    if not names:
        return (_query(wanted, work, (), 1),)
    return tuple(
        _query(wanted, work, tuple(dict.fromkeys(some)) if count else (), count)
        for count, some in sorted(names.items(), reverse=True)
    )


def _query(wanted: Wanted, work: Work, names: tuple[str, ...], count: int) -> OfferQuery:
    return OfferQuery(
        gpus=names, gpu_count=count, regions=wanted.regions, spot=wanted.spot, disk_gb=float(work.disk_gb)
    )


def _canonical(name: str) -> str:
    if (known := gpus.canonical(name)) is not None:
        return known
    if several := gpus.ambiguous(name):
        raise UnknownName(f"{name!r} can be several GPUs: write {_either(several)}; --gpu may be given several times")
    near = get_close_matches(name.upper(), gpus.names(), n=3, cutoff=0.5)
    meant = f"did you mean {_either(near)}?" if near else f"there are: {', '.join(gpus.names())}"
    raise UnknownName(f"there is no GPU {name!r}; {meant}")


def _either(names: Sequence[str]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names)
