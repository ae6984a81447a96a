"""What is made of rows of prices: a curve for each cloud and kind of machine, and what one's own runs paid.

Pure: rows and attempts in, figures out. What is simulated never gets into the same curve as what is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from operator import attrgetter

from orchestrator.price_history import AGAIN, HOLDS, Heard
from orchestrator.records import Attempt
from orchestrator.reports import words

GAP = timedelta(hours=26)  # who asks once a day gets a line


@dataclass(frozen=True)
class Step:
    """From then on the price was this; None: there was none."""

    at: datetime
    usd_per_hour: Decimal | None


@dataclass(frozen=True, kw_only=True)
class Series:
    """The lowest price that one cloud asked anywhere, for machines that can be taken away or for others."""

    provider: str
    spot: bool
    is_simulated: bool
    steps: tuple[Step, ...]  # at least one with a price

    @property
    def least(self) -> Decimal:
        return min(self._prices())

    @property
    def most(self) -> Decimal:
        return max(self._prices())

    @property
    def heard_at(self) -> datetime:
        return self.steps[-1].at

    def now(self, now: datetime) -> Decimal | None:
        """None when nothing was heard lately, or when there was nothing."""
        return self.steps[-1].usd_per_hour if now - self.heard_at <= HOLDS else None

    def median(self, until: datetime) -> Decimal:
        """Each price counts for as long as it is known to have held: until the next row, but at most an hour."""
        ends = [*(step.at for step in self.steps[1:]), until]
        weights = sorted(
            (step.usd_per_hour, max(timedelta(seconds=1), min(end - step.at, AGAIN)))
            for step, end in zip(self.steps, ends, strict=True)
            if step.usd_per_hour is not None
        )
        half = sum((weight for _, weight in weights), timedelta(0)) / 2
        passed = timedelta(0)
        for usd, weight in weights:
            passed += weight
            if passed >= half:
                return usd
        raise AssertionError("a series has a price")

    def pieces(self) -> list[list[Step]]:
        """Neighbours without a silence, or a time without any price, between them."""
        pieces: list[list[Step]] = []
        for before, step in pairwise((None, *self.steps)):
            if step is None or step.usd_per_hour is None:
                continue
            if before is None or before.usd_per_hour is None or step.at - before.at > GAP:
                pieces.append([])
            pieces[-1].append(step)
        return pieces

    def _prices(self) -> Iterator[Decimal]:
        return (step.usd_per_hour for step in self.steps if step.usd_per_hour is not None)


@dataclass(frozen=True, kw_only=True)
class Paid:
    """What a run of one's own paid by the hour, from the time at which its machine began to cost."""

    run_id: str
    attempt: int
    provider: str
    region: str
    spot: bool
    is_simulated: bool
    at: datetime
    usd_per_hour: Decimal


def series(heard: Iterable[Heard]) -> list[Series]:
    """Curves of rows that are in the order of time, of one GPU and one number of them; by name, spot first."""
    kinds: dict[tuple[bool, str, bool], list[Heard]] = {}
    for one in heard:
        kinds.setdefault((one.is_simulated, one.provider, not one.kind.spot), []).append(one)
    made = (
        Series(provider=provider, spot=not lasting, is_simulated=is_simulated, steps=tuple(_steps(rows)))
        for (is_simulated, provider, lasting), rows in sorted(kinds.items())
    )
    return [one for one in made if any(step.usd_per_hour is not None for step in one.steps)]


def paid(attempts: Iterable[Attempt], gpu: str | None, gpu_count: int) -> list[Paid]:
    """What machines with this GPU and number of them cost in these attempts, in the order of time."""
    found = [
        Paid(
            run_id=attempt.run_id,
            attempt=attempt.number,
            provider=attempt.provider,
            region=str(attempt.offer.get("region") or ""),
            spot=bool(attempt.offer.get("spot")),
            is_simulated=words.is_simulated(attempt),
            at=attempt.billing_from,
            usd_per_hour=attempt.usd_per_hour,
        )
        for attempt in attempts
        if attempt.billing_from is not None
        and attempt.offer.get("gpu") == gpu
        and int(attempt.offer.get("gpu_count") or 0) == gpu_count
    ]
    return sorted(found, key=attrgetter("at"))


def _steps(rows: Sequence[Heard]) -> Iterator[Step]:
    """The lowest of all regions whenever something was heard. What a region said too long ago does not count."""
    last: dict[str, Heard] = {}
    told: Step | None = None
    for at, together in groupby(rows, key=attrgetter("at")):
        last.update({one.kind.region: one for one in together})
        held = [one.usd_per_hour for one in last.values() if at - one.at <= HOLDS and one.usd_per_hour is not None]
        step = Step(at, min(held, default=None))
        if told is None or step.usd_per_hour != told.usd_per_hour or at - told.at >= AGAIN:
            told = step
            yield step
