"""Clouds asked at once: one that hangs, breaks or cannot be opened keeps nobody from the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import providers
from orchestrator.clouds import MOST_UNDER_WAY, UnknownName, ask_all, check_all, named, offers_of, open_all
from orchestrator.home import Home
from providers.base import OfferQuery, Provider, Settings, Traits
from providers.errors import AuthFailed, ProviderError, Throttled, Unreachable
from tests.fakes.clock import FakeClock
from tests.fakes.memory_provider import MemoryProvider, Outage, offer


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What a hanging cloud waits for: the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def cloud(name: str, **settings: object) -> MemoryProvider:
    return MemoryProvider(FakeClock(), name=name, **settings)  # type: ignore[arg-type]


def test_each_answers_or_says_why_not() -> None:
    def question(provider: Provider) -> str:
        if provider.name == "slow":
            raise Throttled("slow down", after=5, provider="slow")
        if provider.name == "broken":
            raise KeyError("machine_id")
        return provider.name.upper()

    answers = ask_all([cloud("good"), cloud("slow"), cloud("broken")], question)
    assert answers["good"] == "GOOD"
    assert isinstance(answers["slow"], Throttled)
    broken = answers["broken"]
    assert isinstance(broken, ProviderError) and broken.provider == "broken"
    assert str(broken) == "internal error: KeyError: 'machine_id'" and isinstance(broken.__cause__, KeyError)
    assert list(answers) == ["good", "slow", "broken"]


def test_an_empty_answer_is_an_answer() -> None:
    assert ask_all([cloud("empty")], lambda _: []) == {"empty": []}
    assert ask_all([], lambda _: 1) == {}


@pytest.mark.process
def test_one_that_hangs_is_not_waited_for(hang: threading.Event) -> None:
    def question(provider: Provider) -> str:
        if provider.name == "hung":
            hang.wait()
        return "here"

    answers = ask_all([cloud("hung"), cloud("good")], question, seconds=1)
    assert answers["good"] == "here"
    assert isinstance(answers["hung"], Unreachable) and "no answer within 1 s" in str(answers["hung"])


def test_they_are_asked_at_once() -> None:
    """Each waits for the other two: one after the other, nobody would ever answer."""
    together = threading.Barrier(3)
    answers = ask_all([cloud("a"), cloud("b"), cloud("c")], lambda _: together.wait(timeout=60) >= 0)
    assert answers == {"a": True, "b": True, "c": True}


def test_an_offer_is_listed_once_with_the_first_query_that_it_answers() -> None:
    two = [offer("a", gpu="RTX4090"), offer("b", gpu="L4")]
    listed = offers_of(cloud("here", offers=two), [OfferQuery(gpus=("L4",), gpu_count=1), OfferQuery()])
    assert [(index, one.offer_id) for index, one in listed] == [(0, "b"), (1, "a")]


def test_the_offers_of_a_simulated_cloud_say_so() -> None:
    simulated = cloud("vast", traits=Traits(is_container=True, simulated=True))
    [(_, only)] = offers_of(simulated, [OfferQuery()])
    assert only.source == "simulated: a cloud in memory"
    assert only.usd_per_hour == Decimal("0.36")


def test_names_are_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_REGISTER", {"a": "x:a", "b": "x:b"})
    assert named(()) == ("a", "b")
    assert named(("b", "b")) == ("b",)
    with pytest.raises(UnknownName, match="there are: a, b"):
        named(("c",))


def ready(settings: Settings) -> Provider:
    return MemoryProvider(settings.now, name="ready", traits=Traits(is_container=True, simulated=True))


def silent(settings: Settings) -> Provider:
    made = MemoryProvider(settings.now, name="silent")
    made.faults.outages.append(Outage(0, 3600))
    return made


def keyless(settings: Settings) -> Provider:
    made = MemoryProvider(settings.now, name="keyless")
    made.faults.unusable = "set CLOUD_KEY"
    return made


def closed(settings: Settings) -> Provider:
    raise ImportError("no module named cloud")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ready", "silent", "keyless", "closed")
    monkeypatch.setattr(providers, "_REGISTER", {name: f"{__name__}:{name}" for name in names})


def test_one_that_cannot_be_opened_is_named_and_the_others_are_there(registered: None, tmp_path: Path) -> None:
    opened, unavailable = open_all(("ready", "closed"), home=Home(tmp_path), env={})
    assert [provider.name for provider in opened] == ["ready"]
    assert str(unavailable["closed"]) == "internal error: ImportError: no module named cloud"


def test_check_asks_all_and_says_what_is_wrong(registered: None, tmp_path: Path) -> None:
    found = {one.provider: one for one in check_all((), home=Home(tmp_path), env={})}
    assert found["ready"].check.usable and found["ready"].simulated
    assert found["silent"].check.problems == ("silent does not answer",) and not found["silent"].simulated
    assert found["keyless"].check.problems == ("set CLOUD_KEY",)
    assert "ImportError" in found["closed"].check.problems[0]
    assert [one.provider for one in check_all(("keyless",), home=Home(tmp_path), env={})] == ["keyless"]


def test_an_error_keeps_its_kind() -> None:
    def refuse(_: Provider) -> None:
        raise AuthFailed("bad key", provider="one")

    assert isinstance(ask_all([cloud("one")], refuse)["one"], AuthFailed)


def test_a_cloud_that_is_slow_for_long_is_not_asked_more_and_more() -> None:
    slow, hung = cloud("slow"), threading.Event()
    for _ in range(MOST_UNDER_WAY):
        ask_all([slow], lambda _: hung.wait(60), seconds=0.001)
    refused = ask_all([slow, cloud("other")], lambda one: one.name, seconds=10)
    assert "not answered yet" in str(refused["slow"]) and refused["other"] == "other"
    hung.set()
    until = time.monotonic() + 10
    while ask_all([slow], lambda one: one.name, seconds=10) != {"slow": "slow"}:
        assert time.monotonic() < until
