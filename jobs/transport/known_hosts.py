"""Which host keys were pinned for which instance: a small JSON file, `{instance: ["ssh-ed25519 AAAA..."]}`.

Per instance and not per address, because clouds give an address to one machine after the other. Knows no connection.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class KnownHostsDamaged(Exception):
    """The file is there but makes no sense. Nothing is trusted until a person has looked at it."""


class KnownHosts:
    """Written by rename under a lock, so that controllers may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, instance: str) -> tuple[str, ...]:
        """The keys pinned for an instance; empty when none was seen yet."""
        return self._all().get(instance, ())

    def pin(self, instance: str, key: str) -> tuple[str, ...]:
        """Pin a key unless one is pinned already, and return what is pinned now."""
        with self._locked():
            pinned = self._all()
            if instance not in pinned:
                pinned[instance] = (key,)
                self._write(pinned)
            return pinned[instance]

    def _all(self) -> dict[str, tuple[str, ...]]:
        try:
            rows = json.loads(self._path.read_text())
            return {str(instance): tuple(map(str, keys)) for instance, keys in rows.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            message = f"{self._path} is not a file of pinned host keys; look at it, then remove it"
            raise KnownHostsDamaged(message) from error

    def _write(self, pinned: dict[str, tuple[str, ...]]) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("w") as file:
            json.dump(pinned, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
