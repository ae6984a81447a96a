"""What money was spent on: charges told apart by what their machine did meanwhile, filtered, and summed up in any way.

Pure functions on records. Sums are exact: where a charge is divided, its parts add up to it. Knows no store, no clock
and no cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from enum import StrEnum
from typing import NamedTuple, Protocol

from orchestrator.records import Attempt, AttemptOutcome, ChargeRow, Event

LABEL = "label:"  # and the label's name: a way to sum up

_PLACES = Decimal("1E-12")
_MICROSECOND = timedelta(microseconds=1)
_ROOMY = Context(prec=60, rounding=ROUND_HALF_EVEN)
# Whoever stopped these wanted it so, and what the job had written came back.
_KEPT = (
    None,
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.CANCELLED,
    AttemptOutcome.TIMED_OUT,
    AttemptOutcome.STOPPED_BY_BUDGET,
)


class Use(StrEnum):
    """What a machine did in a time that was paid for. All but the first are for nothing."""

    WORK = "work"  # the job ran, and what it did was kept
    BOOT = "boot"  # until the machine ran
    SETUP = "setup"  # from there until the job started: the image, files, the job's own setup
    LOST = "lost"  # an attempt that never got to its job, or whose work was lost
    AFTER = "after"  # from the job's end until the machine was gone
    REAPED = "reaped"  # a machine that no run looked after


class Spent(NamedTuple):
    """An amount, and all that it can be summed up by but what belongs to its run or its attempt."""

    run_id: str
    attempt: int
    provider: str
    meter: str
    day: str  # 2026-11-21, in UTC: the one in which the charge starts
    usd: Decimal
    use: str = ""


class Point(Protocol):
    """Something that a job has measured."""

    @property
    def step(self) -> float | None: ...
    @property
    def value(self) -> float: ...


Key = tuple[str, int]  # a run and the number of its attempt


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of runs and attempts, as far as somebody asked for it."""

    projects: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gpus: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which charges are meant; None and empty mean any. The interval is that of their starts, its end not in it."""

    since: datetime | None = None
    until: datetime | None = None
    runs: frozenset[str] | None = None
    project: str | None = None
    provider: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def has(self, run_id: str, provider: str, about: About) -> bool:
        """Whether it is a charge of such a run, there. Whoever reads the ledger sees to the interval."""
        if self.runs is not None and run_id not in self.runs:
            return False
        if self.provider is not None and provider != self.provider:
            return False
        if self.project is not None and about.projects.get(run_id) != self.project:
            return False
        return not self.labels or self.labels.items() <= about.labels.get(run_id, {}).items()


def summed(items: Iterable[Spent], ways: Sequence[str], about: About) -> dict[tuple[str, ...], Decimal]:
    """Dollars for each group, in the order in which the groups first appear.

    A way is run, meter, provider, project, gpu, day, month, use, label:NAME, or attempt, which names its run, too. What
    a run or an attempt does not have is "".
    """
    words = [_word(part, about) for way in ways for part in (("run", "number") if way == "attempt" else (way,))]
    sums: dict[tuple[str, ...], Decimal] = {}
    with localcontext(_ROOMY):
        for item in items:
            group = tuple([word(item) for word in words])
            sums[group] = sums[group] + item.usd if group in sums else item.usd
    return sums


def used(
    charges: Iterable[ChargeRow], attempts: Mapping[Key, Attempt], kept: Mapping[Key, datetime]
) -> Iterator[Spent]:
    """Each charge in as many parts as it was of use for, in proportion to the times that its interval covers.

    `kept` says until when the work of an attempt was kept that ended badly, as `kept_until` finds it.
    """
    spans: dict[Key, list[_Span]] = {}
    for charge in charges:
        key = (charge.run_id, charge.attempt)
        if key not in spans:
            attempt = attempts.get(key)
            spans[key] = _spans(attempt, kept.get(key)) if attempt else [_Span(None, Use.WORK)]
        day = f"{charge.start.astimezone(UTC):%Y-%m-%d}"
        for use, usd in _divided(charge, spans[key]):
            yield Spent(charge.run_id, charge.attempt, charge.provider, charge.meter, day, usd, use)


def kept_until(events: Iterable[Event]) -> dict[Key, datetime]:
    """For the attempts of a run from whose checkpoint a later attempt went on: when that checkpoint came home."""
    came: dict[str, tuple[Key, datetime]] = {}
    kept: dict[Key, datetime] = {}
    for event in events:
        if event.kind == "checkpoint":
            came[event.text] = ((event.run_id, event.attempt), event.at)
        elif snapshot := event.details.get("snapshot"):
            text = f"checkpoint {snapshot} is here"
            if text in came:
                key, at = came[text]
                kept[key] = max(at, kept.get(key, at))
    return kept


def ended(attempt: Attempt) -> datetime | None:
    """When the job ended, or its machine did under it."""
    if attempt.exited_at is not None:
        return attempt.exited_at
    ends = (attempt.running_until, attempt.terminate_asked_at, attempt.gone_at)
    return min((end for end in ends if end is not None), default=None)


def reached(measured: Mapping[str, Sequence[Point]], metric: str) -> float | None:
    """How far a job got: its last value of the metric; with "step", where none has that name, its highest step."""
    if points := measured.get(metric):
        return points[-1].value
    if metric != "step":
        return None
    return max((point.step for points in measured.values() for point in points if point.step is not None), default=None)


def per(usd: Decimal, value: float) -> Decimal | None:
    """Dollars for each of so many; None for none."""
    if value <= 0:
        return None
    with localcontext(_ROOMY):
        return (usd / Decimal(repr(value))).normalize(Context(prec=12))


class _Span(NamedTuple):
    """Until when a machine was of which use; None: for ever."""

    until: datetime | None
    use: Use


def _word(way: str, about: About) -> Callable[[Spent], str]:
    if way.startswith(LABEL):
        name = way.removeprefix(LABEL)
        return lambda item: about.labels.get(item.run_id, {}).get(name, "")
    words: dict[str, Callable[[Spent], str]] = {
        "run": lambda item: item.run_id,
        "number": lambda item: str(item.attempt),
        "meter": lambda item: item.meter,
        "provider": lambda item: item.provider,
        "project": lambda item: about.projects.get(item.run_id, ""),
        "gpu": lambda item: about.gpus.get((item.run_id, item.attempt), ""),
        "day": lambda item: item.day,
        "month": lambda item: item.day[:7],
        "use": lambda item: item.use,
    }
    return words[way]


def _spans(attempt: Attempt, kept: datetime | None) -> list[_Span]:
    """The uses of an attempt's machine, one after the other."""
    if attempt.outcome is AttemptOutcome.REAPED:
        return [_Span(None, Use.REAPED)]
    lost = attempt.outcome not in _KEPT
    if lost and attempt.started_at is None:
        return [_Span(None, Use.LOST)]
    spans = []
    if attempt.running_from is not None:
        spans.append(_Span(attempt.running_from, Use.BOOT))
    # Nobody saw it run before the job did: then what was before the job cannot be told apart.
    before = Use.BOOT if attempt.running_from is None else Use.SETUP
    end = ended(attempt)
    if attempt.started_at is None:
        return [*spans, _Span(end, before), *([_Span(None, Use.AFTER)] if end else [])]
    spans.append(_Span(attempt.started_at, before))
    if lost and kept is not None:
        spans.append(_Span(min(kept, end or kept), Use.WORK))
    spans.append(_Span(end, Use.LOST if lost else Use.WORK))
    return [*spans, _Span(None, Use.AFTER)] if end else spans


def _divided(charge: ChargeRow, spans: Sequence[_Span]) -> Iterator[tuple[Use, Decimal]]:
    """The charge's amount by use; where its interval has no length, all of it goes where it starts."""
    lasted = (charge.end - charge.start) // _MICROSECOND
    since, left = charge.start, charge.amount_usd
    for until, use in spans:
        if until is None or until >= charge.end:
            yield use, left
            return
        if until > since:
            with localcontext(_ROOMY):
                part = charge.amount_usd * ((until - since) // _MICROSECOND) / lasted
                part = part.quantize(_PLACES)
                left -= part
            yield use, part
            since = until
