"""What AWS said and says again for a day, kept as JSON files with their dates. Knows no cloud."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from providers.base import Now

Json = dict[str, Any]


class Cache:
    """Documents by name. Read from the disk once, then from memory; a damaged file is one that is not there."""

    def __init__(self, folder: Path, now: Now) -> None:
        self._folder = folder
        self._now = now
        self._documents: dict[str, Json] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, name: str, age: timedelta, make: Callable[[], Json]) -> Json:
        """The document, made anew when it is older than `age`; made once, whoever asks meanwhile."""
        with self._lock_of(name):
            document = self._documents.get(name) or self._read(name)
            if document is None or self.dated(document) <= self._now() - age:
                document = {**make(), "fetched_at": self._now().isoformat()}
                self._write(name, document)
            self._documents[name] = document
            return document

    def known(self, name: str) -> Json | None:
        """The document as it is, of whatever age; None when there is none."""
        with self._lock_of(name):
            return self._documents.get(name) or self._read(name)

    @staticmethod
    def dated(document: Json) -> datetime:
        return datetime.fromisoformat(document["fetched_at"])

    def _lock_of(self, name: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(name, threading.Lock())

    def _read(self, name: str) -> Json | None:
        try:
            document = json.loads(self._path(name).read_text(encoding="utf-8"))
            aware = self.dated(document).utcoffset() is not None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return document if aware else None

    def _write(self, name: str, document: Json) -> None:
        """A disk that is full costs the next process a question, no more."""
        path = self._path(name)
        new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(document), encoding="utf-8")
            new.replace(path)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"
