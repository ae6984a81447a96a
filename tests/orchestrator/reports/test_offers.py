"""The table of offers: whole in a pipe, within the screen on a terminal; what is simulated or old never hides."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import click
import pytest

from orchestrator.placement import Ranked
from orchestrator.prices import ORDERS
from orchestrator.reports.offers import alike, offers_table
from providers.base import Offer
from tests.orchestrator.reports.samples import START

NOW = START + timedelta(hours=3)


def offer(**changes: object) -> Offer:
    known: dict[str, object] = {
        "provider": "vast",
        "offer_id": "20931174",
        "region": "SE",
        "location": "Umeå, SE",
        "gpu": "RTX4090",
        "gpu_count": 2,
        "gpu_memory_gb": 24.0,
        "vcpus": 16.0,
        "memory_gb": 64.0,
        "disk_gb": 500.0,
        "spot": True,
        "usd_per_hour": Decimal("0.50"),
        "disk_usd_per_gb_month": Decimal("0.10"),
        "egress_usd_per_gb": Decimal("0.02"),
        "reliability": 0.991,
        "cuda": "12.8",
        "fetched_at": NOW,
        "source": "vast API",
    }
    return Offer(**(known | changes))  # type: ignore[arg-type]


def ranked(*, total: str = "1.23", **changes: object) -> Ranked:
    flags = {name: changes.pop(name) for name in ("is_stale", "is_simulated", "why_not") if name in changes}
    return Ranked(offer(**changes), Decimal(total), **flags)  # type: ignore[arg-type]


LONG = ranked(
    provider="runpod",
    region="EU-RO-1",
    gpu="RTX-PRO-6000-MaxQ",
    gpu_count=8,
    usd_per_hour=Decimal("14.123456"),
    offer_id="NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition/secure/8",
    is_simulated=True,
)


def test_a_pipe_gets_every_fact() -> None:
    shown = offers_table([ranked(), ranked(provider="local", gpu=None, gpu_count=0, reliability=None)], now=NOW)
    titles, first, second = shown.splitlines()
    facts = ("vast", "SE", "Umeå, SE", "2x RTX4090", "24 GB", "16", "64 GB", "12.8", "$1.23", "$0.50/h spot", "$0.25/h")
    for fact in (*facts, "$0.001513/h", "$0.10", "$0.02", "free", "99.1%", "now", "vast API", "20931174"):
        assert fact in first, fact
    assert titles.split()[:2] == ["WHERE", "REGION"] and "WHY NOT" not in titles
    assert "none" in second and "99.1%" not in second


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("sort", ORDERS)
def test_on_a_terminal_it_fits_and_what_was_sorted_by_is_seen(width: int, sort: str) -> None:
    shown = click.unstyle(offers_table([ranked(), LONG], now=NOW, sort=sort, terminal=True, width=width))
    assert max(map(len, shown.splitlines())) <= width
    titles = shown.splitlines()[0]
    for title in ("WHERE", "GPU", "TOTAL", "PRICE"):
        assert title in titles
    wanted = {"gpu-hour": "PER GPU", "tflop": "PER TFLOP", "reliability": "RELIABLE"}
    assert wanted.get(sort, "TOTAL") in titles
    assert "(simulated)" in shown


def test_short_rows_fit_80_columns_with_the_region_and_more() -> None:
    shown = click.unstyle(offers_table([ranked()], now=NOW, terminal=True, width=80))
    assert max(map(len, shown.splitlines())) <= 80
    for title in ("REGION", "RELIABLE", "MEMORY"):
        assert title in shown


def test_a_column_that_says_nothing_makes_room_for_others() -> None:
    bare = ranked(reliability=None, cuda=None, location="")
    shown = click.unstyle(offers_table([bare], now=NOW, terminal=True, width=120))
    assert "RELIABLE" not in shown and "CUDA" not in shown and "AS OF" in shown


@pytest.mark.parametrize("width", [None, 80])
def test_what_is_not_of_now_says_how_old_it_is(width: int | None) -> None:
    old = ranked(is_stale=True, fetched_at=NOW - timedelta(hours=3))
    shown = offers_table([old], now=NOW, terminal=width is not None, width=width)
    assert "last heard 3h ago" in shown
    catalogue = offers_table([ranked(fetched_at=NOW - timedelta(days=4))], now=NOW)
    assert "4d ago" in catalogue and "last heard" not in catalogue


def test_a_simulated_offer_never_passes_for_a_real_one() -> None:
    assert "vast (simulated)" in offers_table([ranked(is_simulated=True)], now=NOW)
    assert "simulated" not in offers_table([ranked()], now=NOW)


def test_an_unknown_gpu_is_shown_as_it_came_and_harmless() -> None:
    shown = offers_table([ranked(gpu="RTX 9090\x1b[31m Ultra", gpu_count=1)], now=NOW, terminal=True, width=200)
    assert "1x RTX 9090 Ultra" in shown and "\x1b[31m" not in shown


def test_why_not_is_a_column_where_there_is_a_reason() -> None:
    shown = offers_table([ranked(), ranked(why_not="no capacity: none left")], now=NOW)
    assert "WHY NOT" in shown and shown.splitlines()[2].endswith("no capacity: none left")


def test_the_zones_of_a_region_are_one_row() -> None:
    zones = [ranked(region="us-east-1", location=f"us-east-1{zone}", offer_id=f"{zone}/g6") for zone in "abc"]
    dearer = ranked(region="us-east-1", location="us-east-1d", offer_id="d/g6", usd_per_hour=Decimal("0.60"))
    rows = alike([*zones[:2], dearer, zones[2]])
    assert [(row.first.offer.offer_id, row.count) for row in rows] == [("a/g6", 3), ("d/g6", 1)]
    shown = offers_table(rows, now=NOW).splitlines()
    assert "2x RTX4090 (3 offers)" in shown[1] and "offers)" not in shown[2]


def test_a_live_offer_and_an_old_one_are_not_alike() -> None:
    assert len(alike([ranked(), ranked(is_stale=True)])) == 2
