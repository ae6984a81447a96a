"""A command that is run several times on one machine, and what each time measured.

`wrapped` makes the command that does so; `read` finds the times again in the points that came back. The marks between
them travel as every metric does: one in the file of JSON lines, one in the log, since what is read from either comes
in its own order. Pure; knows no suite and no machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.reported import Point, Source

MARK, END = "gpujob.repeat", "gpujob.repeated"
# One line of the log for both that read it: it is a line of MLPerf's, and this pattern finds it.
PATTERN = r':::MLLOG \{"key": "gpujob\.repeat", "value": ([0-9]+)'
WALL_SECONDS = "wall_seconds"  # of one time, measured by the marks

_SCRIPT = """\
gpujob_mark() {{
    at=$(python3 -c 'import time; print(time.time())' 2>/dev/null || date +%s)
    printf '{{"time": %s, "%s": %s}}\\n' "$at" "$1" "$GPUJOB_REPEAT" >>"$GPUJOB_METRICS"
}}
GPUJOB_REPEAT=0
while [ "$GPUJOB_REPEAT" -lt {times} ]; do
    GPUJOB_REPEAT=$((GPUJOB_REPEAT + 1))
    export GPUJOB_REPEAT
    echo ':::MLLOG {{"key": "{mark}", "value": '"$GPUJOB_REPEAT"', "metadata": {{"of": {times}, "warmup": {warmup}}}}}'
    gpujob_mark {mark}
    (
{run}
    )
    gpujob_status=$?
    [ "$gpujob_status" -eq 0 ] || exit "$gpujob_status"
    gpujob_mark {end}
done
"""


@dataclass
class Repeat:
    """One time: the last value of each metric, and how long it took by the machine's clock."""

    values: dict[str, float] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None


def wrapped(run: str, *, warmup: int, repeats: int) -> str:
    """The command, `warmup` + `repeats` times in a row; it ends with the first one that fails."""
    return _SCRIPT.format(run=run, times=warmup + repeats, warmup=warmup, mark=MARK, end=END)


def read(points: Iterable[Point], *, attempt: int, warmup: int) -> list[dict[str, float]]:
    """What each time but the warm-up measured, by metric; only of those that came to their end."""
    repeats: dict[int, Repeat] = {}
    now: dict[Source, int] = {}
    for point in points:
        if point.attempt != attempt:
            continue
        if point.name == MARK:
            now[point.source] = int(point.value)
            if point.source == "json":
                repeats.setdefault(int(point.value), Repeat()).began = point.time
        elif point.name == END:
            repeats.setdefault(int(point.value), Repeat()).ended = point.time
        elif point.source in now:
            repeats.setdefault(now[point.source], Repeat()).values[point.name] = point.value
    return [_measured(repeats[number]) for number in sorted(repeats) if number > warmup and repeats[number].ended]


def _measured(repeat: Repeat) -> dict[str, float]:
    if repeat.began is None or repeat.ended is None:
        return repeat.values
    return {WALL_SECONDS: repeat.ended - repeat.began, **repeat.values}
