"""When a schedule's times are: cron's five fields in a time zone, right across changes of the clock, and the jitter.

A time with a fixed hour and minute that the clock skips is moved to the end of the gap; one that comes twice counts
once, the first time. Where minute or hour begin with `*`, times go by: none in the gap, both when an hour comes
twice. That is Debian's cron, as cronsim has it. Pure: knows no store and no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

_LOOKED_AT = 200  # times, for the shortest step between two
_FIRST_WINDOW = timedelta(days=1)


def zone(name: str) -> ZoneInfo:
    """The time zone of this name. ValueError says what to write."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        from difflib import get_close_matches

        near = get_close_matches(name, available_timezones(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "write a name such as Europe/Berlin or UTC"
        raise ValueError(f"there is no time zone {name!r}; {hint}") from None


def times(cron: str, tz: str, after: datetime) -> Iterator[datetime]:
    """The times after a moment, in UTC, each later than the one before. ValueError when it is no cron expression."""
    from cronsim import CronSim, CronSimError

    if len(cron.split()) != 5:
        raise ValueError(f"{cron!r}: write five fields, minute hour day month weekday, such as '0 2 * * *'")
    try:
        found = CronSim(cron, after.astimezone(zone(tz)))
    except CronSimError as error:
        raise ValueError(f"{cron!r}: {str(error).lower()}; write it such as '0 2 * * *'") from None
    # It forgets which of two equal wall times it began at, and moves several skipped times to the same moment.
    last = after
    for local in found:
        moment = local.astimezone(UTC)
        if moment > last:
            yield moment
            last = moment


def next_time(cron: str, tz: str, after: datetime) -> datetime | None:
    """None when there is none any more."""
    return next(times(cron, tz, after), None)


def jitter(schedule_id: str, planned_at: datetime, jitter_seconds: int) -> timedelta:
    """The delay of one time, below `jitter_seconds`: by chance, and the same for everybody who asks."""
    seed = hashlib.sha256(f"{schedule_id} {planned_at.astimezone(UTC).isoformat()}".encode()).digest()
    return timedelta(seconds=int.from_bytes(seed[:8]) * jitter_seconds >> 64)


def newest(cron: str, tz: str, first: datetime, until: datetime) -> datetime:
    """The last time that is not after `until`. `first` is one of the times, and not after it either.

    Looks back step by step: of a minute's schedule that nobody served for a year not every time is counted out.
    """
    window = _FIRST_WINDOW
    while True:
        start = max(first, until - window)
        last = first if start == first else None
        for moment in times(cron, tz, start):
            if moment > until:
                break
            last = moment
        if last is not None:
            return last
        window *= 8


def shortest_step(cron: str, tz: str, after: datetime) -> timedelta | None:
    """Between two of the coming times, as far as one looks; None when there are no two."""
    coming = islice(times(cron, tz, after), _LOOKED_AT)
    return min((later - earlier for earlier, later in pairwise(coming)), default=None)
