"""Calls about the market: search it, name its GPUs, rent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from providers.rehearsal.vast.asked import Asked
from providers.rehearsal.vast.forms import offer_row, searched_row
from providers.rehearsal.vast.market import KINDS, Ask
from providers.rehearsal.vast.search import offer_search
from providers.rehearsal.vast.service import Vast


def bundles(vast: Vast, asked: Asked) -> Any:
    """Filters and controls side by side in the body."""
    return _search(vast, asked.body)


def search_asks(vast: Vast, asked: Asked) -> Any:
    """The same in `q`."""
    return _search(vast, asked.said("q") or {})


def gpu_names(vast: Vast, _: Asked) -> Any:
    return {"gpu_names": sorted({host.kind.name for host in vast.market.hosts.values()})}


def gpu_types(_vast: Vast, _asked: Asked) -> Any:
    return {"gpu_types": [{"id": at, "name": kind.name, "gpu_ram": kind.memory_mb} for at, kind in enumerate(KINDS)]}


def create(vast: Vast, asked: Asked) -> Any:
    return vast.create(asked.id, asked.body)


def _search(vast: Vast, body: Any) -> Any:
    now = vast.clock()
    search = offer_search(body, _columns(vast))
    found, cut = search.pick(
        (row := offer_row(ask, search.type, search.storage_gb, now), searched_row(row), ask.host.sloppy)
        for ask in vast.market.asks(now)
    )
    return {"offers": found, "truncated": True} if cut else {"offers": found}


def _columns(vast: Vast) -> set[str]:
    """All that can be searched by: what an offer shows, and the virtual columns."""
    sample = Ask(0, next(iter(vast.market.hosts.values())), 1)
    return set(searched_row(offer_row(sample, "reserved", Decimal(0), vast.clock())))
