"""Lines in files of bounded size, written by many processes at once: what lies below a home's folder `prices`.

NAME.jsonl grows line by line; when it is large it becomes NAME.FIRST-LAST.jsonl.gz (times of its rows). When all of it
is too large, the oldest pieces keep only each day's lowest prices (`.days`), and go at last. NAME.last.json says what
was stated last of each key, so that nobody reads a history to know what is new. Knows rows and times, no clouds.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

MOST_BYTES = 45_000_000  # of all rows; with what was stated last it is less than 50 MB
SEALED_AT = 1_000_000  # bytes of lines
MOST_KEYS = 10_000  # of one name; when there are more, the half that was not stated for longest is forgotten
LOCK_SECONDS = 0.1  # longer than that nobody waits: there will be another answer
_DAY = 86400
_LEVEL = 3  # gzip's: a quote waits for it

_NAME = re.compile(r"(?P<stem>.+?)\.(?:(?P<first>\d+)-(?P<last>\d+)(?P<days>\.days)?\.jsonl\.gz|jsonl)")

_LINE_TIME = re.compile(rb"^\[(\d{1,12}),", re.MULTILINE)
_USD = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

Key = tuple[Any, ...]
Row = list[Any]  # the key, and the price as text or None


class Stated(NamedTuple):
    """What was written last of a key."""

    at: int  # seconds since 1970
    usd: str | None


_Last = dict[Key, Stated]


class _Piece(NamedTuple):
    path: Path
    stem: str
    first: int
    last: int
    is_thinned: bool
    bytes: int


class PriceFiles:
    """One folder. Raises OSError where it cannot be written; what is damaged is passed over in reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(
        self,
        stem: str,
        choose: Callable[[Mapping[Key, Stated]], Mapping[Any, str | None]],
        *,
        at: int,
    ) -> None:
        """Append what `choose` makes of what was stated last. It is called again when somebody else was quicker."""
        seen = self._last(stem)
        rows = choose(seen)
        if not rows:
            return
        with self._alone() as is_ours:
            if not is_ours:
                return
            last = self._last(stem)
            if last is not seen:
                rows = choose(last)
            if not rows:
                return
            self._append(stem, at, rows)
            self._keep_last(stem, {**last, **{key: Stated(at, usd) for key, usd in rows.items()}})
            self._make_room()

    def stems(self) -> list[str]:
        return sorted({piece.stem for piece in self._pieces()})

    def rows(self, stem: str, is_wanted: Callable[[Row], bool], *, since: int) -> Iterator[tuple[int, Row]]:
        """(time, row) of what is wanted from then on, in no order; some twice when it is sealed meanwhile.

        `is_wanted` sees rows of at least two parts.
        """
        yield from _rows(_lines(self._growing(stem)), is_wanted, since=since)  # what is sealed later is found below
        for piece in self._pieces():
            if piece.stem == stem and piece.path.suffix == ".gz" and piece.last >= since:
                yield from _rows(_lines(piece.path), is_wanted, since=since)

    def _append(self, stem: str, at: int, rows: Mapping[Any, str | None]) -> None:
        """One write of a whole line. It begins with a line end: what was left torn before it harms nothing."""
        line = json.dumps([at, *([*key, usd] for key, usd in rows.items())], separators=(",", ":"), ensure_ascii=False)
        path = self._growing(stem)
        content = f"\n{line}\n".encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(f"{path} is written in part: the disk is full")
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if size >= SEALED_AT:
            self._seal(path, stem)

    def _seal(self, path: Path, stem: str) -> None:
        content = path.read_bytes()
        times = [int(found) for found in _LINE_TIME.findall(content)]
        if times:
            sealed = self._folder / f"{stem}.{min(times)}-{max(times)}.jsonl.gz"
            before = sealed.read_bytes() if sealed.exists() else b""  # members of gzip may follow one another
            _replace(sealed, before + gzip.compress(content, _LEVEL))
        path.unlink()

    def _make_room(self) -> None:
        """As much as is needed and no more: a quote waits for it."""
        pieces = self._pieces()
        excess = sum(piece.bytes for piece in pieces) - MOST_BYTES
        if excess <= 0:
            return
        sealed = sorted((piece for piece in pieces if piece.path.suffix == ".gz"), key=lambda piece: piece.last)
        whole = [piece for piece in sealed if not piece.is_thinned]
        while excess > 0 and whole:
            piece = whole.pop(0)
            excess -= piece.bytes - self._thin(piece)
        for piece in sorted(self._pieces(), key=lambda piece: piece.last) if excess > 0 else ():
            if piece.is_thinned and excess > 0:
                piece.path.unlink(missing_ok=True)
                excess -= piece.bytes

    def _thin(self, piece: _Piece) -> int:
        """Of each day and key the lowest price. Returns its new size."""
        least: dict[Key, tuple[int, Row]] = {}
        for at, row in _rows(_lines(piece.path)):
            if row[-1] is None:
                continue
            day = (at // _DAY, *row[:-1])
            if day not in least or float(row[-1]) < float(least[day][1][-1]):
                least[day] = (at, row)
        by_time: dict[int, list[Row]] = {}
        for at, row in least.values():
            by_time.setdefault(at, []).append(row)
        lines = "".join(f"{json.dumps([at, *rows], separators=(',', ':'))}\n" for at, rows in sorted(by_time.items()))
        thinned = self._folder / f"{piece.stem}.{piece.first}-{piece.last}.days.jsonl.gz"
        content = gzip.compress(lines.encode())
        _replace(thinned, content)
        piece.path.unlink(missing_ok=True)
        return len(content)

    def _pieces(self) -> list[_Piece]:
        try:
            with os.scandir(self._folder) as entries:
                return [piece for entry in entries if (piece := _piece(entry)) is not None]
        except OSError:
            return []

    def _growing(self, stem: str) -> Path:
        return self._folder / f"{stem}.jsonl"

    def _last(self, stem: str) -> _Last:
        """Read once for as long as nobody writes it."""
        path = self._folder / f"{stem}.last.json"
        try:
            status = path.stat()
            signature = (status.st_ino, status.st_mtime_ns, status.st_size)
            if (read := _read.get(path)) is not None and read[0] == signature:
                return read[1]
            rows = json.loads(path.read_bytes())
            last = {tuple(key): Stated(int(at), usd) for *key, at, usd in rows}
            if not all(usd is None or isinstance(usd, str) for _, usd in last.values()):
                return {}
        except (OSError, ValueError, TypeError):
            return {}
        _read[path] = (signature, last)
        return last

    def _keep_last(self, stem: str, stated: _Last) -> None:
        if len(stated) > MOST_KEYS:
            stated = dict(sorted(stated.items(), key=lambda item: item[1].at)[-MOST_KEYS // 2 :])
        path = self._folder / f"{stem}.last.json"
        _replace(path, json.dumps([(*key, *was) for key, was in stated.items()], separators=(",", ":")).encode())
        status = path.stat()
        _read[path] = ((status.st_ino, status.st_mtime_ns, status.st_size), stated)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody else writes until the end of the block."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)


_read: dict[Path, tuple[tuple[int, int, int], _Last]] = {}  # what is in it is replaced, never changed


def _locked(descriptor: int) -> bool:
    ends = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                return False
            time.sleep(0.002)
        else:
            return True


def _piece(entry: os.DirEntry[str]) -> _Piece | None:
    named = _NAME.fullmatch(entry.name)
    if named is None:
        return None
    try:
        size = entry.stat().st_size
    except FileNotFoundError:  # sealed or thinned meanwhile
        return None
    first, last = (int(named[end] or 0) for end in ("first", "last"))
    return _Piece(Path(entry.path), named["stem"], first, last, bool(named["days"]), size)


def _lines(path: Path) -> Iterator[bytes]:
    """As many as can be read: what comes before the damage in a packed file, and all but the damaged in another."""
    reading = gzip.open if path.suffix == ".gz" else open
    with suppress(OSError, EOFError, zlib.error), reading(path, "rb") as file:
        yield from file


def _rows(
    lines: Iterable[bytes], is_wanted: Callable[[Row], bool] = lambda _: True, *, since: int = 0
) -> Iterator[tuple[int, Row]]:
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if not (isinstance(content, list) and content and isinstance(content[0], int) and content[0] >= since):
            continue
        for row in content[1:]:
            if isinstance(row, list) and len(row) > 1 and is_wanted(row) and _is_whole(row):
                yield content[0], row


def _is_whole(row: Row) -> bool:
    usd = row[-1]
    if any(isinstance(part, list | dict) for part in row):
        return False
    return usd is None or (isinstance(usd, str) and _USD.fullmatch(usd) is not None)


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")  # whoever writes is alone
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
