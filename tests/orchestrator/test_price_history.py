"""What is noted of answers: changes and no repetitions, what is gone, nothing simulated among the real; in bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import price_files
from orchestrator.home import Home
from orchestrator.price_history import Heard, PriceHistory
from providers.base import Offer, OfferQuery, Provider, Traits
from tests.fakes.clock import START, FakeClock
from tests.fakes.memory_provider import MemoryProvider, offer
from tests.orchestrator.living import Living

ANYTHING = OfferQuery(gpu_count=1, spot=None, disk_gb=20.0)
L4 = OfferQuery(gpus=("L4",), gpu_count=1, spot=None, disk_gb=20.0)
BIG = replace(L4, memory_gb=200.0)
REAL = Traits(is_container=True)


class Market:
    """One cloud, and a history that hears what it answers."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.home = Home(root)
        self.folder = root / "prices"
        self.history = PriceHistory(self.home, now=self.clock)

    def cloud(self, traits: Traits = REAL, name: str = "vast") -> Provider:
        return MemoryProvider(self.clock, name=name, traits=traits)

    def answers(self, *offers: Offer, query: OfferQuery = ANYTHING, traits: Traits = REAL, later: float = 0) -> None:
        self.clock.advance(later)
        self.history.note(self.cloud(traits), [query], offers)

    def read(self, gpu: str | None = "L4", **limits: Any) -> list[Heard]:
        every = {"since": START - timedelta(days=4000), "until": START + timedelta(days=4000)}
        return self.history.read(gpu, **{**every, **limits})

    def prices(self, gpu: str | None = "L4") -> list[str | None]:
        return [None if one.usd_per_hour is None else str(one.usd_per_hour) for one in self.read(gpu)]


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


def l4(usd: str, region: str = "here", **facts: Any) -> Offer:
    return offer(f"{region}-{usd}", gpu="L4", usd_per_hour=usd, region=region, **facts)


def test_the_lowest_of_each_kind_with_its_time(market: Market) -> None:
    market.answers(l4("0.40"), l4("0.30"), l4("0.20", spot=True), l4("0.70", gpu_count=2), l4("0.35", region="there"))
    found = {(*one.kind[:1], *one.kind[2:]): one for one in market.read()}
    assert {kind: str(one.usd_per_hour) for kind, one in found.items()} == {
        ("here", 1, False): "0.3000",
        ("here", 1, True): "0.2000",
        ("here", 2, False): "0.7000",
        ("there", 1, False): "0.3500",
    }
    assert {(one.provider, one.at, one.is_simulated) for one in found.values()} == {("vast", START, False)}


def test_a_row_when_a_price_changed_and_once_an_hour_when_not(market: Market) -> None:
    market.answers(l4("0.30"))
    for _ in range(11):
        market.answers(l4("0.30"), later=300)
        market.answers(l4("0.300004"), later=0)  # rounding
    assert market.prices() == ["0.3000"]
    market.answers(l4("0.31"), later=60)
    market.answers(l4("0.31"), later=3600)
    assert market.prices() == ["0.3000", "0.3100", "0.3100"]


def test_what_was_asked_for_by_name_and_is_not_there_is_gone(market: Market) -> None:
    market.answers(l4("0.30"), l4("0.25", spot=True))
    market.answers(query=ANYTHING, later=60)
    market.answers(query=replace(L4, gpu_count=2), later=60)
    market.answers(query=replace(L4, regions=("there",)), later=60)
    market.answers(query=replace(L4, max_usd_per_hour=Decimal("0.10")), later=60)
    assert len(market.prices()) == 2, "none of these would have had it among the answers"
    market.answers(l4("0.30"), query=replace(L4, spot=None), later=60)
    market.answers(l4("0.30"), query=L4, later=60)
    gone = market.read()[-1]
    assert (gone.kind.spot, gone.usd_per_hour, len(market.read())) == (True, None, 3), "said once"


def test_a_question_for_more_than_a_gpu_does_not_make_it_dearer(market: Market) -> None:
    market.answers(l4("0.30"))
    market.answers(l4("0.50"), query=BIG, later=60)
    market.answers(query=BIG, later=60)
    assert market.prices() == ["0.3000"]
    market.answers(l4("0.28"), query=BIG, later=60)
    assert market.prices()[-1] == "0.2800", "a lower one is lower, whoever asks"
    market.answers(l4("0.50"), query=BIG, later=3 * 3600)
    assert market.prices()[-1] == "0.5000", "nobody knows better any more"


def test_simulated_prices_are_kept_apart(market: Market) -> None:
    market.answers(l4("0.30"))
    market.answers(l4("0.01"), traits=replace(REAL, simulated=True))
    assert [(one.is_simulated, str(one.usd_per_hour)) for one in market.read()] == [(False, "0.3000"), (True, "0.0100")]
    market.answers(query=L4, traits=replace(REAL, simulated=True), later=1)
    assert [one.usd_per_hour for one in market.read() if not one.is_simulated] == [Decimal("0.3000")]
    assert {path.name for path in market.folder.glob("*.jsonl")} == {"vast.jsonl", "vast.simulated.jsonl"}


def test_prices_that_the_user_wrote_are_not_noted(market: Market) -> None:
    market.answers(l4("0.30"), traits=Traits(is_container=False, owned=True))
    assert not market.folder.exists()


def test_a_runs_own_question_is_noted_at_its_clouds_time(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("cheap", usd_per_hour="0.10"), offer("dear", usd_per_hour="0.20")])
    living.submit()
    living.until_done()
    living.store.close()
    [one] = Market(tmp_path).read(None)
    assert (one.provider, one.usd_per_hour) == ("memory", Decimal("0.10"))
    assert START <= one.at < living.clock()


def test_only_what_is_asked_for_is_read(market: Market) -> None:
    market.answers(l4("0.30"), offer("cpu", usd_per_hour="0.05"))
    market.history.note(market.cloud(name="runpod"), [ANYTHING], [l4("0.33")])
    market.answers(l4("0.31"), later=60)
    assert market.prices(None) == ["0.0500"]
    assert market.prices("H200") == []
    assert {one.provider for one in market.read(providers=("runpod",))} == {"runpod"}
    assert [str(one.usd_per_hour) for one in market.read(since=START + timedelta(seconds=30))] == ["0.3100"]
    assert len(market.read(until=START + timedelta(seconds=30))) == 2


def test_a_quote_does_not_fail_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "prices").write_text("a file")
    market = Market(tmp_path)
    market.answers(l4("0.30"))
    assert market.read() == []


def test_a_full_disk_costs_rows_and_nothing_else(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.answers(l4("0.30"))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
        market.answers(l4("0.31"), later=60)
    market.answers(l4("0.32"), later=60)
    assert market.prices() == ["0.3000", "0.3200"], "what was torn harms no row after it"


@pytest.mark.parametrize("content", [b"", b"no json", b"[[1]]", b'[["here","L4",1,false,"x","0.3"]]', b"[[[],1,null]]"])
def test_a_damaged_file_of_what_was_stated_is_as_good_as_none(market: Market, content: bytes) -> None:
    market.answers(l4("0.30"))
    (market.folder / "vast.last.json").write_bytes(content)
    market.answers(l4("0.30"), later=60)
    assert market.prices() == ["0.3000", "0.3000"]


def test_damaged_lines_are_passed_over(market: Market) -> None:
    market.answers(l4("0.30"))
    broken = ["[1,", "{}", "[]", '["x"]', "[1,2]", '[1,["here","L4",1,false]]', '[1,["here","L4","x",false,"0.1"]]']
    broken += [
        '[1,["here","L4",1,false,"NaN"]]',
        '[99999999999999,["here","L4",1,false,"0.1"]]',
        '[1,[[],"L4",1,0,"1"]]',
    ]
    with (market.folder / "vast.jsonl").open("ab") as file:
        file.write("\n".join(broken).encode() + b"\xff\xfe\n[17")
    market.answers(l4("0.31"), later=60)
    assert market.prices() == ["0.3000", "0.3100"]


def hours(market: Market, count: int) -> Iterable[str]:
    """One price an hour; a new one each time."""
    for number in range(count):
        market.answers(l4(f"0.{3000 + number}"), later=3600)
        yield f"0.{3000 + number}"


def test_full_files_are_packed_and_read_all_the_same(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_files, "SEALED_AT", 500)
    said = list(hours(market, 100))
    assert market.prices() == said
    packed = list(market.folder.glob("*.jsonl.gz"))
    assert len(packed) >= 5 and (market.folder / "vast.jsonl").stat().st_size < 500
    assert len(market.read(since=market.clock() - timedelta(hours=9))) == 10, "also from the middle of a piece"
    packed[0].write_bytes(b"\x1f\x8b damaged")
    assert len(market.prices()) > 80


def test_there_are_at_most_so_many_bytes_and_the_oldest_are_thinned_first(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_files, "SEALED_AT", 2000)
    monkeypatch.setattr(price_files, "MOST_BYTES", 6000)
    list(hours(market, 24 * 40))
    assert sum(path.stat().st_size for path in market.folder.glob("*.jsonl*")) <= 6000 + 2100
    by_day: dict[datetime, list[Decimal]] = {}
    for one in market.read():
        assert one.usd_per_hour is not None
        by_day.setdefault(one.at.replace(hour=0), []).append(one.usd_per_hour)
    days = [len(prices) for _, prices in sorted(by_day.items())]
    assert days[0] == 1 and max(days[:5]) <= 2 and days[-2] == 24, days
    whole_day = next(prices for _, prices in sorted(by_day.items())[2:] if len(prices) == 1)
    assert int(whole_day[0] * 10000 - 3000 + 13) % 24 <= 1, "the lowest of the day stays"


def test_at_last_the_oldest_go(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_files, "SEALED_AT", 300)
    monkeypatch.setattr(price_files, "MOST_BYTES", 2500)
    said = list(hours(market, 24 * 60))
    left = market.prices()
    assert sum(path.stat().st_size for path in market.folder.glob("*.jsonl*")) <= 2500 + 400
    assert left[-1] == said[-1] and said[0] not in left and len(left) > 10


def test_what_was_stated_last_is_bounded(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_files, "MOST_KEYS", 10)
    for number in range(30):
        market.answers(l4("0.30", region=f"r{number}"), later=1)
    stated = json.loads((market.folder / "vast.last.json").read_text())
    assert len(stated) <= 10 and stated[-1][0] == "r29"
    assert len(market.prices()) == 30


_WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from orchestrator.home import Home
from orchestrator import price_files
from orchestrator.price_history import PriceHistory
from providers.base import OfferQuery, Traits
from tests.fakes.memory_provider import MemoryProvider, offer
price_files.SEALED_AT, price_files.LOCK_SECONDS = 3000, 30
now = datetime(2026, 11, 21, tzinfo=UTC)
history = PriceHistory(Home(Path(sys.argv[1])), now=lambda: now)
cloud = MemoryProvider(lambda: now, name="vast", traits=Traits(is_container=True))
for number in range(60):
    name = f"{sys.argv[2]}-{number}"
    history.note(cloud, [OfferQuery(spot=None)], [offer(name, gpu="L4", region=name, usd_per_hour="0.3")])
"""


@pytest.mark.process
def test_several_processes_write_at_once_and_no_row_is_lost(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), name]) for name in "abcd"]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    regions = [one.kind.region for one in Market(tmp_path).read()]
    assert sorted(regions) == sorted(f"{name}-{number}" for name in "abcd" for number in range(60))
    assert list((tmp_path / "prices").glob("*.gz")) and not list((tmp_path / "prices").glob("*.new"))
