"""Metrics of a run: what its job reported, as one append-only file of points.

Owns metrics.jsonl and the promise that each thing a job reported becomes exactly one point in it, also when this
process is killed at any moment. It reads copies of a log and a metrics file that somebody else keeps growing
(`jobs/reported.py` knows what stands in them); it knows no machine, no cloud and no store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobs.reported import Point, Tally, json_reader, log_reader, pattern_problem, without_escapes

_BLOCK = 1024 * 1024


def points(path: Path) -> Iterator[Point]:
    """Every point in the order written. A line that is not one, or is only half there, is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if (point := _point(line)) is not None:
                yield point


def last(path: Path) -> dict[str, float]:
    """The newest value of each metric, in the order in which they first appeared."""
    return {point.name: point.value for point in points(path)}


def series(path: Path) -> dict[str, list[Point]]:
    """The points of each metric by step; where a later attempt did a step again, only its points count."""
    stepped: dict[str, dict[float | None, list[Point]]] = {}
    for point in points(path):
        steps = stepped.setdefault(point.name, {})
        known = steps.setdefault(point.step, [])
        if point.step is not None and known and known[0].attempt < point.attempt:
            known.clear()
        if point.step is None or not known or known[0].attempt == point.attempt:
            known.append(point)
    return {name: _in_order(steps) for name, steps in stepped.items()}


@dataclass
class _Cursor:
    """How far a file has been read. `inside`: the last byte read was in the middle of a line too long to keep."""

    offset: int = 0
    inside: bool = False


@dataclass
class _Position:
    """What metrics.jsonl holds for certain: its size, and how far each file of each attempt went into it."""

    size: int = 0
    cursors: dict[str, _Cursor] = field(default_factory=dict)  # "attempt/stream"
    tally: Tally = field(default_factory=Tally)

    def cursor(self, attempt: int, stream: str) -> _Cursor:
        return self.cursors.setdefault(f"{attempt}/{stream}", _Cursor())


class MetricsFile:
    """metrics.jsonl of one run, and beside it `metrics.position.json`: how much of each source is already in it.

    Points are appended first and the position is renamed into place after them; whatever stands behind the recorded
    size was not promised and is cut off and read again. One writer at a time (the run's lease sees to that).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position_path = path.with_suffix(".position.json")

    def advance(
        self, attempt: int, log: Path, metrics: Path, patterns: Mapping[str, str], *, final: bool, now: float
    ) -> int:
        """Take in what is new in an attempt's log and metrics file; returns how many points that was.

        `final` says that no more will come, so that a last line without its end counts too. `now` (seconds since the
        epoch) is the time of a point that carries none.
        """
        position = self._recover(attempt)
        from_metrics = json_reader(position.tally, attempt, now)
        from_log = log_reader(patterns, position.tally, attempt, now)
        added = 0
        for stream, source, read in (("metrics", metrics, from_metrics), ("log", log, from_log)):
            for block in _blocks(source, position.cursor(attempt, stream), position.tally, final=final):
                found = list(read(block))
                self._append(found, position)
                added += len(found)
        return added

    @property
    def skipped(self) -> dict[str, int]:
        """What was reported but could not be used, by reason: {"not JSON": 2, "not finite": 1}."""
        position = self._position()
        return position.tally.skipped if position else {}

    def _recover(self, attempt: int) -> _Position:
        """The recorded position, with the file cut to it; where a power cut took it, this attempt from its start."""
        position = self._position()
        size = self._path.stat().st_size if self._path.exists() else 0
        if position is None or size < position.size:
            return self._start_again(attempt)
        if size > position.size:
            os.truncate(self._path, position.size)
        return position

    def _start_again(self, attempt: int) -> _Position:
        kept = [point for point in points(self._path) if point.attempt != attempt]
        content = b"".join(_line(point) for point in kept)
        if self._path.exists():
            _write_whole(self._path, content)
        return _Position(size=len(content))

    def _position(self) -> _Position | None:
        try:
            row = json.loads(self._position_path.read_bytes())
            cursors = {key: _Cursor(int(offset), bool(inside)) for key, (offset, inside) in row["cursors"].items()}
            return _Position(int(row["size"]), cursors, Tally(dict(row["ordinals"]), dict(row["skipped"])))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _append(self, found: list[Point], position: _Position) -> None:
        content = b"".join(map(_line, found))
        if content:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(content)
        position.size += len(content)
        row = {
            "size": position.size,
            "cursors": {key: [cursor.offset, cursor.inside] for key, cursor in position.cursors.items()},
            "ordinals": position.tally.ordinals,
            "skipped": position.tally.skipped,
        }
        _write_whole(self._position_path, json.dumps(row).encode())


def _blocks(path: Path, cursor: _Cursor, tally: Tally, *, final: bool) -> Iterator[bytes]:
    """Whole lines from the cursor on, at most 1 MiB at a time; the cursor stands behind what was last given."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(cursor.offset)
        while chunk := file.read(_BLOCK):
            end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
            endless = not end and len(chunk) == _BLOCK
            if not end and not endless and not final:
                return
            block = chunk[: end or len(chunk)]
            cursor.offset += len(block)
            file.seek(cursor.offset)
            yield _without_long_line(block, cursor, tally, endless=endless)


def _without_long_line(block: bytes, cursor: _Cursor, tally: Tally, *, endless: bool) -> bytes:
    """A block without the rest of a line whose start was given up, or without anything when all of it is that line."""
    if endless:
        if not cursor.inside:
            tally.skip("line too long")
        cursor.inside = True
        return b""
    if not cursor.inside:
        return block
    cursor.inside = False
    ends = [end for end in (block.find(b"\n"), block.find(b"\r")) if end >= 0]
    return block[min(ends) + 1 :] if ends else b""


def _point(line: bytes) -> Point | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
        found = Point(row["time"], row["step"], row["name"], row["value"], row["attempt"], row["source"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if found.is_sensible else None


def _line(point: Point) -> bytes:
    row = {
        "time": point.time,
        "step": point.step,
        "name": point.name,
        "value": point.value,
        "attempt": point.attempt,
        "source": point.source,
    }
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _in_order(steps: Mapping[float | None, list[Point]]) -> list[Point]:
    if None in steps:
        every = (point for known in steps.values() for point in known)
        return sorted(every, key=lambda point: (point.attempt, point.time))
    return [point for step in sorted(steps, key=lambda step: step or 0.0) for point in steps[step]]


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)


__all__ = ["MetricsFile", "Point", "last", "pattern_problem", "points", "series", "without_escapes"]
