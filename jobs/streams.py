"""The local copies of a machine's streams: log, metrics, telemetry and events of one attempt, byte for byte.

A file's size is the offset to read from next, so that nothing else need be remembered: no line is lost and none comes
twice, whoever is killed when. Secrets are starred out on the way, byte by byte, so that the offsets stay true.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jobs import room

NAMES = ("log", "metrics", "telemetry", "events")
_REDACTED = ("log", "metrics", "events")
_SHORTEST_SECRET = 4  # of less, too much that is harmless would be starred out


class AttemptFiles:
    """The four files of one attempt in its folder. Several controllers may append; the quicker one's bytes count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def offsets(self) -> dict[str, int]:
        """Where to go on reading each stream."""
        return {name: _size(self._folder / name) for name in NAMES}

    def append(
        self,
        offsets: Mapping[str, int],
        new: Mapping[str, bytes],
        *,
        secrets: Collection[str] = (),
        final: bool = False,
    ) -> None:
        """Append each chunk that begins where its file ends now.

        A chunk's end that may be the beginning of a secret stays out, to be read again with what follows; when it is
        `final`, nothing follows. An OSError passes through, also that of `jobs/room.py`: what was written counts.
        """
        hidden = _variants(secrets)
        with self._locked():
            for name, chunk in new.items():
                shown = redact(chunk, hidden, final=final) if name in _REDACTED else chunk
                if shown:
                    room.require(self._folder, len(shown), f"the {name}")
                    _append(self._folder / name, offsets[name], shown)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def redact(chunk: bytes, hidden: Collection[bytes], *, final: bool) -> bytes:
    """As much of the chunk's beginning as can be shown, each occurrence of a hidden word as stars of its length."""
    if not hidden:
        return chunk
    found = list(_occurrences(chunk, hidden))
    end = len(chunk) if final else _cut(chunk, hidden, found)
    shown = bytearray(chunk[:end])
    for start, stop in found:
        visible = slice(start, min(stop, end))
        shown[visible] = b"*" * len(shown[visible])
    return bytes(shown)


def _variants(secrets: Collection[str]) -> tuple[bytes, ...]:
    """Each secret as it is and as it stands in a line of JSON."""
    long_enough = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    spelled = {form for secret in long_enough for form in (secret, json.dumps(secret)[1:-1])}
    return tuple(sorted(form.encode("utf-8", "surrogateescape") for form in spelled))


def _occurrences(chunk: bytes, hidden: Collection[bytes]) -> Iterator[tuple[int, int]]:
    for word in hidden:
        start = chunk.find(word)
        while start >= 0:
            yield start, start + len(word)
            start = chunk.find(word, start + 1)


def _cut(chunk: bytes, hidden: Collection[bytes], found: list[tuple[int, int]]) -> int:
    """Where the chunk must end so that no hidden word that has begun is shown, and none that is whole is cut in two."""
    cut = min(_begun(chunk, word) for word in hidden)
    across = [(stop, start) for start, stop in found if start < cut < stop]
    # The one that reaches furthest covers what others leave beyond the cut, so that going back to its start is enough.
    return max(across)[1] if across else cut


def _begun(chunk: bytes, word: bytes) -> int:
    """Where the longest proper beginning of the word stands at the chunk's end; its length when none does."""
    for length in range(min(len(word) - 1, len(chunk)), 0, -1):
        if chunk.endswith(word[:length]):
            return len(chunk) - length
    return len(chunk)


def _append(path: Path, offset: int, chunk: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(descriptor).st_size != offset:
            return
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
