"""From what a job wrote to points: JSON lines, patterns over its log, MLPerf's `:::MLLOG` lines.

Pure: blocks of whole lines in, points out, and a tally of what could not be used. Nothing here trusts the job: whatever
the bytes, it neither raises nor takes long.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

Source = Literal["json", "pattern", "mllog"]
Json = dict[str, Any]

_LONGEST_LINE = 64 * 1024
_LONGEST_MATCHED_LINE = 4 * 1024  # Python's re cannot be interrupted
_LONGEST_NAME = 200
_STEPS = ("step", "epoch")  # in this order, what a point is counted by
_MLLOG = ":::MLLOG"
_MLLOG_STEPS = ("step_num", "epoch_num", "samples_count", "step", "epoch")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][0-9A-Z]|[@-Z\\^_])")


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric. `step` is None when the job counted nothing."""

    time: float  # seconds since the epoch
    step: float | None
    name: str
    value: float
    attempt: int
    source: Source

    @property
    def is_sensible(self) -> bool:
        """Whether it is one, of the types that it says: a line on a disk may be anything."""
        numbers = (self.time, self.value, 0 if self.step is None else self.step)
        whole = isinstance(self.name, str) and isinstance(self.attempt, int) and isinstance(self.source, str)
        return whole and _is_text(self.name) and all(_finite(number) is not None for number in numbers)


@dataclass
class Tally:
    """What must be remembered between blocks."""

    ordinals: dict[str, int] = field(default_factory=dict)  # points per pattern whose lines name no step
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> how often

    def skip(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1

    def next_ordinal(self, name: str) -> float:
        self.ordinals[name] = self.ordinals.get(name, 0) + 1
        return float(self.ordinals[name])


Reader = Callable[[bytes], Iterator[Point]]


def json_reader(tally: Tally, attempt: int, now: float) -> Reader:
    """Reads blocks of $GPUJOB_METRICS."""

    report = _Report(tally, attempt, now)

    def read(block: bytes) -> Iterator[Point]:
        for line in _lines(block):
            if not line or line.isspace():
                continue
            if (row := _object(line, tally)) is not None:
                yield from _reported(row, report)

    return read


def log_reader(patterns: Mapping[str, str], tally: Tally, attempt: int, now: float) -> Reader:
    """Reads blocks of the log: MLPerf's lines always, patterns where there are any."""
    report = _Report(tally, attempt, now)
    usable = [(name, re.compile(regex).search) for name, regex in patterns.items() if pattern_problem(regex) is None]
    usable.sort(key=lambda pattern: _STEPS.index(pattern[0]) if pattern[0] in _STEPS else len(_STEPS))

    def read(block: bytes) -> Iterator[Point]:
        if _MLLOG.encode() in block:
            yield from _mllog(block, report)
        if not usable:
            return
        for line in _lines(block):
            if len(line) > _LONGEST_MATCHED_LINE:
                tally.skip("line too long for patterns")
                continue
            plain = without_escapes(line)
            found = {name: match[1] for name, search in usable if (match := search(plain)) is not None}
            if found:
                yield from _matched(found, report)

    return read


@lru_cache(maxsize=256)
def pattern_problem(regex: str) -> str | None:
    """Why this cannot be used as a pattern, in words for a person; None when it can."""
    try:
        compiled = re.compile(regex)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    if compiled.groups != 1:
        return f"has {compiled.groups} groups, exactly one is needed, around the number; write (?:...) for the others"
    if _may_explode(regex):
        return "repeats a repetition, like (a+)+, which can take forever on one line; write it without the outer repeat"
    return None


def without_escapes(text: str) -> str:
    """The text as it reads when a terminal's colours and cursor movements are taken out."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


@dataclass
class _Report:
    """What is the same for every point of one visit to one attempt."""

    tally: Tally
    attempt: int
    now: float

    def point(self, time: float | None, step: float | None, name: str, value: float, source: Source) -> Point:
        return Point(self.now if time is None else time, step, name, float(value), self.attempt, source)


def _lines(block: bytes) -> list[str]:
    # Not splitlines(): that also splits at characters that may stand inside a JSON string.
    return block.decode("utf-8", "replace").replace("\r", "\n").split("\n")


def _object(line: str, tally: Tally) -> Json | None:
    if len(line) > _LONGEST_LINE:
        tally.skip("line too long")
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        tally.skip("not a JSON object")
        return None
    return row


def _reported(row: Json, report: _Report) -> Iterator[Point]:
    """{"step": 10, "loss": 0.3, "acc": 0.9}, or {"name": "loss", "value": 0.3, "step": 10}."""
    time = _finite(row.pop("time", None))
    counted_by = next((key for key in _STEPS if _finite(row.get(key)) is not None), None)
    step = _finite(row.pop(counted_by)) if counted_by else None
    if isinstance(row.get("name"), str) and "value" in row:
        row = {row["name"]: row["value"]}
    for name, value in row.items():
        if _usable(name, value, report.tally):
            yield report.point(time, step, name, value, "json")


def _matched(found: Mapping[str, str | None], report: _Report) -> Iterator[Point]:
    values = {name: _number(text) for name, text in found.items()}
    counted_by = next((key for key in _STEPS if _finite(values.get(key)) is not None), None)
    step = values.pop(counted_by) if counted_by else None
    for name, value in values.items():
        if value is not None and _usable(name, value, report.tally):
            yield report.point(None, report.tally.next_ordinal(name) if step is None else step, name, value, "pattern")


def _mllog(block: bytes, report: _Report) -> Iterator[Point]:
    for line in _lines(block):
        _, found, told = line.rpartition(_MLLOG)
        if found and (row := _object(told, report.tally)) is not None:
            yield from _mlperf_event(row, report)


def _mlperf_event(row: Json, report: _Report) -> Iterator[Point]:
    """{"namespace", "time_ms", "event_type", "key", "value", "metadata"}, see github.com/mlcommons/logging."""
    name, value, milliseconds = row.get("key"), row.get("value"), _finite(row.get("time_ms"))
    metadata = row.get("metadata")
    steps = [_finite(metadata.get(key)) for key in _MLLOG_STEPS] if isinstance(metadata, dict) else []
    step = next((step for step in steps if step is not None), None)
    if isinstance(name, str) and _usable(name, value, report.tally):
        time = None if milliseconds is None else milliseconds / 1000
        yield report.point(time, step, name, float(str(value)), "mllog")


def _usable(name: str, value: object, tally: Tally) -> bool:
    """Whether this is a number under a name; what is a number but of no use is counted."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if _finite(value) is None:
        tally.skip("not finite")
        return False
    if not name or len(name) > _LONGEST_NAME:
        tally.skip("name too long")
        return False
    if not _is_text(name):
        tally.skip("name is no text")
        return False
    return True


def _is_text(name: str) -> bool:
    """Whether it can be written anywhere: JSON can hold half of a surrogate pair, UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _may_explode(regex: str) -> bool:
    """Whether an unbounded repetition stands inside another: on a line that does not match, time is exponential."""
    text = re.sub(r"\[\^?\]?[^\]]*\]", "x", re.sub(r"\\.", "x", regex))
    unbounded = r"[*+]|\{\d*,\}"
    while group := re.search(rf"\((?:\?[^)]*?[:=!>)])?([^()]*)\)({unbounded})?", text):
        repeats = re.search(unbounded, group[1]) is not None
        if repeats and group[2]:
            return True
        text = text[: group.start()] + ("x+" if repeats or group[2] else "x") + text[group.end() :]
    return False
