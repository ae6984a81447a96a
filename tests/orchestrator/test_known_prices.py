"""The last known prices: every offer with the time at which it was heard, and nothing that is gone, old or damaged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import known_prices
from orchestrator.home import Home
from orchestrator.known_prices import KEPT, KnownPrices
from providers.base import Offer, OfferQuery
from tests.fakes.clock import START
from tests.fakes.memory_provider import offer

ANYTHING = (OfferQuery(spot=None),)
L4 = (OfferQuery(gpus=("L4",), gpu_count=1, spot=None),)


@pytest.fixture
def known(tmp_path: Path) -> KnownPrices:
    return KnownPrices(Home(tmp_path))


def at(offer_id: str, gpu: str = "L4", minutes: float = 0, **facts: Any) -> Offer:
    return offer(offer_id, gpu=gpu, **{"fetched_at": START + timedelta(minutes=minutes), **facts})


def keep(known: KnownPrices, *offers: Offer, queries: tuple[OfferQuery, ...] = ANYTHING, **changes: bool) -> None:
    known.keep("memory", queries, offers, now=START, is_simulated=changes.get("is_simulated", False))


def recall(known: KnownPrices, queries: tuple[OfferQuery, ...] = ANYTHING, *, minutes: float = 0) -> list[Offer]:
    [query] = queries
    return known.recall("memory", query, now=START + timedelta(minutes=minutes), is_simulated=False)


def test_an_offer_comes_back_as_it_was(known: KnownPrices) -> None:
    facts: dict[str, Any] = {
        "location": "Tromsø, NO",
        "cuda": "12.8",
        "reliability": 0.987,
        "other_usd_per_hour": Decimal("0.005"),
    }
    heard = at("a", usd_per_hour="0.149333", egress_usd_per_gb=Decimal("0.09"), spot=True, **facts)
    keep(known, heard)
    assert recall(known, minutes=60) == [heard]
    assert recall(known)[0].other_usd_per_hour == Decimal("0.005")


def test_the_query_is_asked_of_what_is_known(known: KnownPrices) -> None:
    keep(known, at("a"), at("b", gpu="T4"))
    assert [one.offer_id for one in recall(known, L4)] == ["a"]


def test_what_was_no_answer_any_more_is_gone_and_the_rest_stays(known: KnownPrices) -> None:
    keep(known, at("a"), at("b"), at("t", gpu="T4"))
    keep(known, at("b", usd_per_hour="0.20", minutes=5), queries=L4)
    assert {one.offer_id: one.usd_per_hour for one in recall(known)} == {"b": Decimal("0.20"), "t": Decimal("0.36")}


def test_machines_of_another_size_are_not_gone_because_nobody_asked_for_them(known: KnownPrices) -> None:
    keep(known, at("four", gpu_count=4), queries=(OfferQuery(gpus=("L4",), gpu_count=4),))
    keep(known, at("one"), queries=L4)
    assert {one.offer_id for one in recall(known)} == {"four", "one"}
    keep(known, at("another", gpu_count=4), queries=L4)
    assert {one.offer_id for one in recall(known)} == {"another"}, "this cloud lists larger ones, too"


def test_what_is_older_than_a_week_is_not_shown(known: KnownPrices) -> None:
    keep(known, at("a"), at("b", minutes=10))
    assert [one.offer_id for one in recall(known, minutes=KEPT / timedelta(minutes=1) + 5)] == ["b"]


def test_there_are_at_most_so_many_and_the_newest_stay(known: KnownPrices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_prices, "MOST_OFFERS", 3)
    keep(known, *(at(f"t{number}", gpu="T4", minutes=number) for number in range(3)))
    keep(known, at("a"), queries=L4)
    assert [one.offer_id for one in recall(known)] == ["a", "t2", "t1"]


def test_a_rehearsals_prices_are_never_taken_for_real_ones(known: KnownPrices) -> None:
    keep(known, at("made-up"), is_simulated=True)
    assert recall(known) == []
    keep(known, at("real"))
    assert [one.offer_id for one in recall(known)] == ["real"]


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00truncated"])
def test_a_damaged_file_is_as_good_as_none(known: KnownPrices, tmp_path: Path, content: bytes) -> None:
    keep(known, at("a"))
    [file] = (tmp_path / "cache" / "prices").iterdir()
    file.write_bytes(content)
    assert recall(known) == []
    keep(known, at("b"))
    assert [one.offer_id for one in recall(known)] == ["b"]


def test_a_file_of_another_version_is_not_read(known: KnownPrices, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(known, at("a"))
    monkeypatch.setattr(known_prices, "_FORMAT", 2)
    assert recall(known) == []


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    known = KnownPrices(Home(tmp_path))
    keep(known, at("a"))
    assert recall(known) == []


def test_nothing_half_written_is_left(known: KnownPrices, tmp_path: Path) -> None:
    for number in range(3):
        keep(known, replace(at("a"), region=str(number)))
    assert [path.name for path in (tmp_path / "cache" / "prices").iterdir()] == ["memory.json.gz"]
