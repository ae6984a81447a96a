"""From a run's events to how long each phase took in each attempt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.records import Event, Phase

ORDER = tuple(phase for phase in Phase if phase is not Phase.DONE)


@dataclass(frozen=True)
class Span:
    """One stay of one attempt in one phase. `open`: it is still there."""

    attempt: int
    phase: Phase
    start: datetime
    end: datetime
    open: bool = False

    @property
    def seconds(self) -> float:
        return max(0.0, (self.end - self.start).total_seconds())


def spans(events: Iterable[Event], *, until: datetime) -> list[Span]:
    """A phase lasts from its event to the next phase's; the last one until `until`, the run's end or now."""
    marks = [event for event in events if event.kind == "phase"]
    found: list[Span] = []
    for index, mark in enumerate(marks):
        if mark.phase is Phase.DONE:
            continue
        following = marks[index + 1] if index + 1 < len(marks) else None
        end = max(mark.at, following.at if following else until)
        found.append(Span(_attempt(marks, index), mark.phase, mark.at, end, open=following is None))
    return found


def by_phase(of_run: Iterable[Span]) -> dict[int, dict[Phase, float]]:
    """Seconds of each attempt in each phase."""
    seconds: dict[int, dict[Phase, float]] = {}
    for span in of_run:
        of_attempt = seconds.setdefault(span.attempt, {})
        of_attempt[span.phase] = of_attempt.get(span.phase, 0.0) + span.seconds
    return dict(sorted(seconds.items()))


def _attempt(marks: Sequence[Event], index: int) -> int:
    """An attempt gets its number at the end of its quote: what is quoted belongs to the attempt that follows."""
    mark = marks[index]
    if mark.phase is not Phase.QUOTE:
        return max(mark.attempt, 1)
    for later in marks[index + 1 :]:
        if later.phase is not Phase.DONE:
            return max(later.attempt, mark.attempt, 1)
    return mark.attempt + 1
