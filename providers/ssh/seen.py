"""hosts_seen.json: the host key that each computer of the inventory showed first. Trusted from then on, and no other.

Written by rename under a lock, so that several controllers may share it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from providers.errors import AuthFailed


class SeenKeys:
    """`{"tower": ["ssh-ed25519 AAAA..."]}`"""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, name: str) -> tuple[str, ...]:
        """The keys remembered for a computer; empty when it was never seen."""
        return self._all().get(name, ())

    def remember(self, name: str, key: str) -> tuple[str, ...]:
        """Remember a key unless one is remembered already; what is remembered now."""
        with self._locked():
            seen = self._all()
            if name not in seen:
                seen[name] = (key,)
                self._write(seen)
            return seen[name]

    def _all(self) -> dict[str, tuple[str, ...]]:
        try:
            rows = json.loads(self.path.read_text())
            return {str(name): tuple(map(str, keys)) for name, keys in rows.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            text = f"{self.path} is not a list of host keys; nothing is trusted until it is repaired or removed"
            raise AuthFailed(text, provider="ssh") from error

    def _write(self, seen: dict[str, tuple[str, ...]]) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        with new.open("w") as file:
            json.dump(seen, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
