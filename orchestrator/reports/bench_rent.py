"""What to rent, as results say: for each task the cheapest and the fastest machine in words, a picture and a table.

Simulated machines are compared with simulated ones only, one's own computers with nothing: they have no price. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from orchestrator.benchmarks import units
from orchestrator.benchmarks.series import machine_words
from orchestrator.benchmarks.value import Price, frontier
from orchestrator.reports import words
from orchestrator.reports.page import safe
from orchestrator.reports.scatter import Axis, Dot, scatter


def section(prices: Sequence[Price]) -> str:
    """HTML for all tasks; empty when nothing is known."""
    return "".join(map(_box, _markets(prices)))


def sentences(prices: Sequence[Price]) -> list[str]:
    """mnist: the cheapest is vast RTX4090, $0.09 and 15m 49s per million samples; the fastest is ...: for each task."""
    return [sentence for market in _markets(prices) for sentence in _sentences(market)]


@dataclass(frozen=True)
class _Market:
    """The prices of one task that can be compared, each of `amount` units of work."""

    prices: Sequence[Price]
    amount: int

    @property
    def task(self) -> str:
        return words.one_line(self.prices[0].newest.task)

    @cached_property
    def rented(self) -> list[Price]:
        return [price for price in self.prices if price.is_rented]

    @cached_property
    def best(self) -> list[Price]:
        return frontier(self.rented)

    @property
    def unit(self) -> str:
        """Such as million samples."""
        if not (work := words.one_line(self.prices[0].work)):
            return "repeat"
        return units.amount_words(self.amount, work)

    def name(self, price: Price) -> str:
        """The machine; with its target where another target has the same."""
        machine = machine_words(price.newest)
        return words.one_line(machine if self._machines[machine] == 1 else f"{machine} ({price.newest.target})")

    def time(self, price: Price) -> str:
        return words.duration(price.seconds * self.amount)

    def cost(self, price: Price) -> str:
        return words.fine(price.usd * self.amount)

    @cached_property
    def _machines(self) -> Counter[str]:
        return Counter(machine_words(price.newest) for price in self.prices)


def _markets(prices: Sequence[Price]) -> Iterator[_Market]:
    ordered = sorted(prices, key=lambda price: (price.newest.task, price.newest.is_simulated))
    for _, found in groupby(ordered, key=lambda price: price.newest.task):
        of_task = list(found)
        amount = _amount(of_task)
        for _, market in groupby(of_task, key=lambda price: price.newest.is_simulated):
            yield _Market(list(market), amount)


def _amount(of_task: Sequence[Price]) -> int:
    if not of_task[0].work:
        return 1
    return units.amount((price.usd for price in of_task), (price.seconds for price in of_task))


def _sentences(market: _Market) -> Iterator[str]:
    start = f"{market.task}: "
    if best := market.best:
        cheapest, fastest = best[0], best[-1]
        said = f"{start}the cheapest is {market.name(cheapest)}, {market.cost(cheapest)} and {market.time(cheapest)}"
        more = f"the fastest is {market.name(fastest)}, {market.time(fastest)} for {market.cost(fastest)}"
        if len(best) == 1:
            more = "none is faster" if len(market.rented) > 1 else "no other was measured"
        yield f"{said} per {market.unit}; {more}."
    own = [price for price in market.prices if not price.is_rented]
    if own:
        fastest = min(own, key=lambda price: price.seconds)
        on = f"{start if not best else ''}Your own {market.name(fastest)}"
        yield f"{on} takes {market.time(fastest)} per {market.unit}."


def _box(market: _Market) -> str:
    numbered = list(enumerate(market.prices, 1))
    dots = [_dot(number, price, market) for number, price in numbered if price.is_rented]
    title = f"{market.task}: time against money"
    time, money = Axis(f"time for one {market.unit}", words.duration, is_seconds=True), Axis("money", _dollars)
    drawn = scatter(dots, title=title, x=time, y=money) if len(dots) > 1 else ""
    head = f'<th class="n">No.</th><th>Per {safe(market.unit)}</th><th class="n">Time</th>'
    head += '<th class="n">Cost</th><th class="n">By the hour</th>'
    rows = "".join(_row(number, price, market) for number, price in numbered)
    return (
        f'<div class="box told"><p>{safe(" ".join(_sentences(market)))}</p>{drawn}'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>'
    )


def _dot(number: int, price: Price, market: _Market) -> Dot:
    name, is_best = market.name(price), price in market.best
    return Dot(
        price.seconds * market.amount,
        float(price.usd) * market.amount,
        f"{name}: {market.time(price)}, {market.cost(price)}",
        number if is_best else None,
        name if is_best else "",
    )


def _row(number: int, price: Price, market: _Market) -> str:
    hourly = words.rate(price.usd_per_hour) if price.is_rented else "your own"
    cost = market.cost(price) if price.is_rented else "-"
    name = f"<b>{safe(market.name(price))}</b>" if price in market.best else safe(market.name(price))
    return (
        f'<tr><td class="n">{number}</td><td>{name}</td><td class="n">{market.time(price)}</td>'
        f'<td class="n">{cost}</td><td class="n">{hourly}</td></tr>'
    )


def _dollars(usd: float) -> str:
    return f"${usd:#.3g}".rstrip(".") if usd < 1000 else f"${usd:,.0f}"
