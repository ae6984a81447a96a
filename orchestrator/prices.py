"""What could be rented now for stated work, ranked by its total price. Rents nothing, knows no spec and no store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches

from orchestrator.clouds import ANSWER_SECONDS, UnknownName, ask_all, named, offers_of, open_all, utc_now
from orchestrator.home import Home
from orchestrator.known_prices import KnownPrices
from orchestrator.placement import Ranked, Ranking, total_usd
from orchestrator.price_history import PriceHistory
from providers import gpus
from providers.base import Now, Offer, OfferQuery, Provider
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
    return Market(wanted, work, home=home, env=env, now=now).rank(sort=sort, seconds=seconds)


class Market:
    """The clouds that one question goes to, perhaps again and again: opened once, so that they keep what they keep."""

    def __init__(self, wanted: Wanted, work: Work, *, home: Home, env: Mapping[str, str], now: Now = utc_now) -> None:
        """Asks nobody anything. Raises UnknownName."""
        self._queries = _queries(wanted, work)
        self._own = self._queries if wanted.gpus else (*self._queries, _query(wanted, work, (), 0))
        self._work, self._now = work, now
        self._opened, self._closed = open_all(named(wanted.providers), home=home, env=env, now=now)
        self._simulated = {provider.name: provider.traits.simulated for provider in self._opened}
        self._known = KnownPrices(home)
        self._note = PriceHistory(home, now=now).note

    def rank(self, *, sort: str = "total", seconds: float = ANSWER_SECONDS) -> Ranking:
        """As `rank` does, now."""
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
        key = _ORDERS[sort]
        ranked.sort(key=lambda item: (key(item), item.total_usd, item.offer.provider, item.offer.offer_id))
        return Ranking(offers=tuple(ranked), unavailable=unavailable, passed_over=passed_over)

    def _ask(self, provider: Provider) -> _Answer:
        queries = self._own if provider.traits.owned else self._queries
        heard = offers_of(provider, queries, note=self._note)
        return _Answer([offer for index, offer in heard if _answers(offer, queries[index])], provider.unusable())

    def _answered(self, provider: Provider, offers: Sequence[Offer]) -> list[Ranked]:
        is_simulated = self._simulated[provider.name]
        if not provider.traits.owned:  # its prices are what the user wrote down
            self._known.keep(provider.name, self._queries, offers, now=self._now(), is_simulated=is_simulated)
        return [_ranked(offer, self._work, is_simulated) for offer in offers]

    def _last_heard(self, name: str) -> list[Ranked]:
        is_simulated = self._simulated.get(name, False)
        once = {
            offer.offer_id: offer
            for query in self._queries
            for offer in self._known.recall(name, query, now=self._now(), is_simulated=is_simulated)
            if _answers(offer, query)
        }
        return [_ranked(offer, self._work, is_simulated, is_stale=True) for offer in once.values()]


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


def _answers(offer: Offer, query: OfferQuery) -> bool:
    """A job without a GPU may run beside one that is idle; whoever looks for machines without one looks for others."""
    return bool(offer.gpu_count) == bool(query.gpu_count)


def _ranked(offer: Offer, work: Work, is_simulated: bool, *, is_stale: bool = False) -> Ranked:
    total = total_usd(
        offer, hours=work.hours, disk_gb=work.disk_gb, egress_gb=work.egress_gb, ingress_gb=work.ingress_gb
    )
    return Ranked(offer, total, is_simulated=is_simulated, is_stale=is_stale)


_Key = tuple[bool, Decimal | float | str]


def _least(value: Decimal | None) -> _Key:
    return (value is None, value or Decimal(0))


_ORDERS: Mapping[str, Callable[[Ranked], _Key]] = {
    "total": lambda item: (False, item.total_usd),
    "hour": lambda item: (False, item.offer.usd_per_hour),
    "gpu-hour": lambda item: _least(item.offer.usd_per_gpu_hour),
    "tflop": lambda item: _least(usd_per_tflop_hour(item.offer)),
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
