"""Offers as a table: every column in a pipe; on a terminal those that matter most, as many as the screen has room for.

Asks nobody. What is simulated, and what is not of now, says so in every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from orchestrator.placement import Ranked
from orchestrator.prices import usd_per_tflop_hour
from orchestrator.reports import words
from orchestrator.reports.table import Cell, Column, Table
from orchestrator.reports.words import one_line

_GAP = 2
_UNKNOWN = "-"
_NOW_SECONDS = 90.0  # a figure so young is one of now


@dataclass(frozen=True)
class Row:
    """Offers that differ in nothing but their place within the region, as the zones of a region do."""

    first: Ranked
    count: int = 1


@dataclass(frozen=True)
class _Fact:
    """One column. The lower its rank, the sooner it gets a place; 0 always has one."""

    title: str
    rank: int
    text: Callable[[Ranked, datetime], str]
    right: bool = False
    wraps: bool = False


def alike(offers: Sequence[Ranked]) -> list[Row]:
    """Offers of which one is as good as the other as one row, where the first of them was."""
    kinds: dict[Ranked, list[Ranked]] = {}
    for ranked in offers:
        kind = replace(ranked.offer, offer_id="", location="", host_id="")
        kinds.setdefault(ranked._replace(offer=kind), []).append(ranked)
    return [Row(some[0], len(some)) for some in kinds.values()]


def offers_table(
    rows: Sequence[Row | Ranked],
    *,
    now: datetime,
    sort: str = "total",
    terminal: bool = False,
    width: int | None = None,
) -> str:
    """One line per row in the order given."""
    lines = [row if isinstance(row, Row) else Row(row) for row in rows]
    offers = [line.first for line in lines]
    facts = _wanted(offers)
    texts = {fact.title: [fact.text(ranked, now) for ranked in offers] for fact in facts}
    texts[_GPU] = [f"{text}{_times(line.count)}" for text, line in zip(texts[_GPU], lines, strict=True)]
    if terminal and width is not None:
        facts = _with_room(facts, offers, texts, sort, width)
    columns = [Column(fact.title, right=fact.right, wraps=fact.wraps) for fact in facts]
    cells = [
        [_toned(fact, texts[fact.title][number], ranked) for fact in facts] for number, ranked in enumerate(offers)
    ]
    return Table(columns, cells).text(terminal=terminal, width=width)


def _wanted(offers: Sequence[Ranked]) -> Sequence[_Fact]:
    """Some columns say nothing unless a job was asked for, or an offer is passed over."""
    absent: set[str] = set()
    if not any(ranked.why_not for ranked in offers):
        absent.add(_WHY_NOT)
    if not any(ranked.estimate for ranked in offers):
        absent |= {_TIME, _RESTS_ON}
    if not any(ranked.usd_per_work is not None for ranked in offers):
        absent.add(_PER_WORK)
    return [fact for fact in _FACTS if fact.title not in absent]


def _with_room(
    facts: Sequence[_Fact], offers: Sequence[Ranked], texts: dict[str, list[str]], sort: str, width: int
) -> list[_Fact]:
    """The columns that fit, in their usual order; the one that was sorted by is always among them."""
    needed = {fact.title for fact in facts if fact.rank == 0} | {_SORTED_BY.get(sort, "TOTAL")}
    if _TIME in texts:  # of a job: what it costs in all matters more than its hour
        needed -= {"PRICE"} - {_SORTED_BY.get(sort)}
    if any(ranked.is_stale for ranked in offers):
        needed.add(_AS_OF)
    chosen: set[str] = set()
    left = width + _GAP
    for fact in sorted(facts, key=lambda fact: (fact.title not in needed, fact.rank)):
        says_nothing = set(texts[fact.title]) <= {_UNKNOWN}
        room = max(map(len, [fact.title, *texts[fact.title]])) + _GAP
        if fact.title in needed or (room <= left and not says_nothing):
            chosen.add(fact.title)
            left -= room
    return [fact for fact in facts if fact.title in chosen]


def _toned(fact: _Fact, text: str, ranked: Ranked) -> Cell:
    if fact.title == _AS_OF and ranked.is_stale:
        return Cell(text, "warn")
    if fact.title == "TOTAL":
        return Cell(text, "dim" if ranked.is_stale else "strong")
    return Cell(text, "dim" if fact.title in ("OFFER", "SOURCE", _AS_OF) else "")


def _provider(ranked: Ranked, _now: datetime) -> str:
    name = one_line(ranked.offer.provider)
    return f"{name} (simulated)" if ranked.is_simulated and "simulat" not in name.lower() else name


def _gpu(ranked: Ranked, _now: datetime) -> str:
    offer = ranked.offer
    return one_line(f"{offer.gpu_count}x {offer.gpu or 'GPU'}") if offer.gpu_count else "none"


def _times(count: int) -> str:
    return f" ({count} offers)" if count > 1 else ""


def _price(ranked: Ranked, _now: datetime) -> str:
    return words.rate(ranked.offer.usd_per_hour) + (" spot" if ranked.offer.spot else "")


def _as_of(ranked: Ranked, now: datetime) -> str:
    if ranked.is_stale:
        return f"last heard {words.ago(ranked.offer.fetched_at, now)}"
    young = (now - ranked.offer.fetched_at).total_seconds() < _NOW_SECONDS
    return "now" if young else words.ago(ranked.offer.fetched_at, now)


def _reliable(ranked: Ranked, _now: datetime) -> str:
    return _UNKNOWN if ranked.offer.reliability is None else f"{ranked.offer.reliability:.1%}"


def _rate(usd: Decimal | None, unit: str = "") -> str:
    return _UNKNOWN if usd is None else words.rate(usd, unit).rstrip("/")


def _per_gb(usd: Decimal) -> str:
    return _rate(usd) if usd else "free"


def _gb(value: float | None) -> str:
    return f"{round(value, 1):g} GB" if value else _UNKNOWN


def _total(ranked: Ranked, _now: datetime) -> str:
    """* before what no other beats in time and money."""
    return f"{'* ' if ranked.is_best else ''}{words.money(ranked.total_usd)}"


def _time(ranked: Ranked, _now: datetime) -> str:
    """~ before what is not measured on such a machine."""
    if (estimate := ranked.estimate) is None:
        return _UNKNOWN
    return f"{'~' if estimate.is_guess else ''}{words.duration(estimate.seconds)}"


def _rests_on(ranked: Ranked, _now: datetime) -> str:
    return ranked.estimate.rests_on if ranked.estimate else _UNKNOWN


_AS_OF = "AS OF"
_TIME = "TIME"
_RESTS_ON = "RESTS ON"
_PER_WORK = "PER UNIT"
_WHY_NOT = "WHY NOT"
_GPU = "GPU"
_SORTED_BY = {
    "total": "TOTAL",
    "time": _TIME,
    "hour": "PRICE",
    "gpu-hour": "PER GPU",
    "tflop": "PER TFLOP",
    "work": _PER_WORK,
    "reliability": "RELIABLE",
    "provider": "WHERE",
}
_FACTS = (
    _Fact("WHERE", 0, _provider),
    _Fact("REGION", 1, lambda ranked, _: one_line(ranked.offer.region) or _UNKNOWN, wraps=True),
    _Fact("LOCATION", 15, lambda ranked, _: one_line(ranked.offer.location) or _UNKNOWN),
    _Fact(_GPU, 0, _gpu),
    _Fact("GPU MEM", 5, lambda ranked, _: _gb(ranked.offer.gpu_memory_gb), right=True),
    _Fact("CPUS", 4, lambda ranked, _: f"{ranked.offer.vcpus:g}" if ranked.offer.vcpus else _UNKNOWN, right=True),
    _Fact("MEMORY", 3, lambda ranked, _: _gb(ranked.offer.memory_gb), right=True),
    _Fact("CUDA", 11, lambda ranked, _: one_line(ranked.offer.cuda or _UNKNOWN), right=True),
    _Fact("TOTAL", 0, _total, right=True),
    _Fact(_TIME, 0, _time, right=True),
    _Fact("PRICE", 0, _price, right=True),
    _Fact("PER GPU", 9, lambda ranked, _: _rate(ranked.offer.usd_per_gpu_hour, "h"), right=True),
    _Fact("PER TFLOP", 10, lambda ranked, _: _rate(usd_per_tflop_hour(ranked.offer), "h"), right=True),
    _Fact(_PER_WORK, 0, lambda ranked, _: words.fine(ranked.usd_per_work), right=True),
    _Fact("DISK/GB-MO", 7, lambda ranked, _: _per_gb(ranked.offer.disk_usd_per_gb_month), right=True),
    _Fact("EGRESS/GB", 6, lambda ranked, _: _per_gb(ranked.offer.egress_usd_per_gb), right=True),
    _Fact("INGRESS/GB", 12, lambda ranked, _: _per_gb(ranked.offer.ingress_usd_per_gb), right=True),
    _Fact("OTHER", 13, lambda ranked, _: _rate(ranked.offer.other_usd_per_hour or None, "h"), right=True),
    _Fact("RELIABLE", 2, _reliable, right=True),
    _Fact(_AS_OF, 8, _as_of),
    _Fact("SOURCE", 16, lambda ranked, _: one_line(ranked.offer.source)),
    _Fact("OFFER", 14, lambda ranked, _: one_line(ranked.offer.offer_id), wraps=True),
    _Fact(_RESTS_ON, 17, _rests_on, wraps=True),
    _Fact(_WHY_NOT, 0, lambda ranked, _: one_line(ranked.why_not or _UNKNOWN), wraps=True),
)
