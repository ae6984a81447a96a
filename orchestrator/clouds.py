"""Several clouds asked the same at once, each within a limit: one that hangs or breaks keeps nobody from the others.

Knows no spec and no store. The threads here are daemons: a cloud that hangs must not keep the program from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TypeVar
from weakref import WeakKeyDictionary

import providers
from orchestrator.home import Home
from providers.base import Check, Now, Offer, OfferQuery, Provider, Settings
from providers.errors import ProviderError, Unreachable

ANSWER_SECONDS = 20.0  # how long one cloud may take
MOST_UNDER_WAY = 32  # questions to one cloud

_under_way: WeakKeyDictionary[Provider, int] = WeakKeyDictionary()
_counting = threading.Lock()

T = TypeVar("T")
Note = Callable[[Provider, Sequence[OfferQuery], Sequence[Offer]], None]


class UnknownName(Exception):
    """There is no such GPU or provider; the message says what comes near."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Whether one cloud can be used."""

    provider: str
    simulated: bool
    check: Check


def named(wanted: Sequence[str]) -> tuple[str, ...]:
    """These providers, each once; none named: all that there are. Raises UnknownName."""
    for name in wanted:
        if name not in providers.names():
            raise UnknownName(f"there is no provider {name!r}; there are: {', '.join(providers.names())}")
    return tuple(dict.fromkeys(wanted)) or providers.names()


def utc_now() -> datetime:
    return datetime.now(UTC)


def open_all(
    names: Sequence[str], *, home: Home, env: Mapping[str, str], now: Now = utc_now
) -> tuple[list[Provider], dict[str, ProviderError]]:
    """These providers, and those that cannot even be opened, with the reason. Asks no cloud anything."""
    settings = Settings(home=home.root, env=env, now=now)
    opened: list[Provider] = []
    closed: dict[str, ProviderError] = {}
    for name in names:
        try:
            opened.append(providers.open_provider(name, settings))
        except Exception as error:
            closed[name] = _as_provider_error(error, name)
    return opened, closed


def ask_all(
    asked: Sequence[Provider], question: Callable[[Provider], T], *, seconds: float = ANSWER_SECONDS
) -> dict[str, T | ProviderError]:
    """Every provider's answer or error, by its name. What has not come after `seconds` is Unreachable."""
    arrived: SimpleQueue[tuple[str, T | ProviderError]] = SimpleQueue()

    def ask(provider: Provider) -> None:
        try:
            with _one_of_few(provider):
                answer: T | ProviderError = question(provider)
        except Exception as error:  # its bug must not keep a job from the other clouds
            answer = _as_provider_error(error, provider.name)
        arrived.put((provider.name, answer))

    for provider in asked:
        threading.Thread(target=ask, args=(provider,), name=f"ask {provider.name}", daemon=True).start()
    answers: dict[str, T | ProviderError] = {}
    ends = time.monotonic() + seconds
    while len(answers) < len(asked):
        try:
            name, answer = arrived.get(timeout=max(0.0, ends - time.monotonic()))
        except Empty:
            break
        answers[name] = answer
    late = {p.name: Unreachable(f"no answer within {seconds:g} s", provider=p.name) for p in asked}
    return {provider.name: answers.get(provider.name, late[provider.name]) for provider in asked}


@contextmanager
def _one_of_few(provider: Provider) -> Iterator[None]:
    """Questions that were given up go on: a cloud that is slow for long must not be asked more and more."""
    with _counting:
        if _under_way.get(provider, 0) >= MOST_UNDER_WAY:
            raise Unreachable(f"{MOST_UNDER_WAY} earlier questions are not answered yet", provider=provider.name)
        _under_way[provider] = _under_way.get(provider, 0) + 1
    try:
        yield
    finally:
        with _counting:
            _under_way[provider] -= 1


def offers_of(
    provider: Provider, queries: Sequence[OfferQuery], *, note: Note = lambda *_: None
) -> list[tuple[int, Offer]]:
    """Each offer once, with the index of the first query that it answers. `note` is told what the cloud answered.

    A simulated cloud's offers say so in their source, and so does everything that is made from them.
    """
    first: dict[str, tuple[int, Offer]] = {}
    for index, query in enumerate(queries):
        for offer in provider.offers(query):
            first.setdefault(offer.offer_id, (index, offer))
    note(provider, queries, [offer for _, offer in first.values()])
    if not provider.traits.simulated:
        return [*first.values()]
    return [(index, _labelled(offer)) for index, offer in first.values()]


def check_all(
    wanted: Sequence[str], *, home: Home, env: Mapping[str, str], seconds: float = ANSWER_SECONDS
) -> list[Checked]:
    """Whether these clouds (none named: all) can be used, in the order of their names here. Raises UnknownName."""
    names = named(wanted)
    opened, closed = open_all(names, home=home, env=env)
    answers: dict[str, Check | ProviderError] = {
        **closed,
        **ask_all(opened, lambda provider: provider.check(), seconds=seconds),
    }
    simulated = {provider.name for provider in opened if provider.traits.simulated}
    return [Checked(provider=name, simulated=name in simulated, check=_as_check(answers[name])) for name in names]


def _as_provider_error(error: Exception, provider: str) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    wrapped = ProviderError(f"internal error: {type(error).__name__}: {error}", provider=provider)
    wrapped.__cause__ = error
    return wrapped


def _as_check(answer: Check | ProviderError) -> Check:
    return Check(problems=(str(answer),)) if isinstance(answer, ProviderError) else answer


def _labelled(offer: Offer) -> Offer:
    return offer if "simulat" in offer.source.lower() else replace(offer, source=f"simulated: {offer.source}")
