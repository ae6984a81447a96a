"""Waiting for a price: each offer is told once, a silent cloud tells nothing, and no cloud is asked too often."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from orchestrator.placement import Ranked, Ranking
from orchestrator.price_watch import watch
from providers.errors import ProviderError, Throttled, Unreachable
from tests.fakes.memory_provider import offer


def ranking(*prices: tuple[str, str], stale: bool = False, unavailable: ProviderError | None = None) -> Ranking:
    offers = (offer(name, usd_per_hour=usd, gpu="L4") for name, usd in prices)
    ranked = tuple(Ranked(one, Decimal(9), is_stale=stale) for one in offers)
    return Ranking(ranked, {"memory": unavailable} if unavailable else {})


def told(*looks: Ranking, under: str = "0.30") -> tuple[list[list[str]], list[float]]:
    """What appeared at each look, and how long was slept after it."""
    coming: Iterator[Ranking] = iter(looks)
    slept: list[float] = []
    watching = watch(lambda: next(coming), under=Decimal(under), every=timedelta(minutes=5), sleep=slept.append)
    appeared = [[one.offer.offer_id for one in next(watching).appeared] for _ in looks]
    return appeared, slept


def test_each_is_told_once_the_cheapest_first() -> None:
    appeared, slept = told(
        ranking(("a", "0.29"), ("b", "0.10"), ("c", "0.30")),
        ranking(("a", "0.29"), ("b", "0.10"), ("c", "0.29")),
        ranking(),
    )
    assert appeared == [["b", "a"], ["c"], []]
    assert slept == [300.0, 300.0]


def test_one_that_comes_back_or_gets_cheaper_is_told_again() -> None:
    appeared, _ = told(ranking(("a", "0.29")), ranking(("a", "0.31")), ranking(("a", "0.29")), ranking(("a", "0.25")))
    assert appeared == [["a"], [], ["a"], ["a"]]


def test_a_cloud_that_was_silent_for_a_while_has_nothing_new() -> None:
    silent = ranking(("a", "0.20"), stale=True, unavailable=Unreachable("no answer", provider="memory"))
    appeared, _ = told(silent, ranking(("a", "0.29")), silent, ranking(("a", "0.29")))
    assert appeared == [[], ["a"], [], []]


def test_a_cloud_that_asks_for_rest_gets_it_within_bounds() -> None:
    def throttled(seconds: float) -> Ranking:
        return ranking(unavailable=Throttled("slow down", after=seconds, provider="memory"))

    _, slept = told(throttled(10), throttled(900), throttled(10**9), ranking())
    assert slept == [300.0, 900.0, 3600.0]
