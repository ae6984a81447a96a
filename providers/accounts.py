"""An account at a cloud that is asked over HTTP with one key, and the one client that is kept for it.

Owns what a key and an endpoint must look like, and when a client is made anew. Knows no cloud: where a key is found is
each cloud's own account.py. Connects nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Account:
    """`base` has no path. `problem` says why nothing can be rented with it; prices may be public all the same."""

    base: str
    key: str = field(default="", repr=False)
    problem: str | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether the endpoint is this computer's."""
        host = urlsplit(self.base).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False


def with_key(base: str, key: str, *, where: str, missing: str) -> Account:
    """The account, with its problem if `key`, which was found in `where`, is none; `missing` says that it is empty."""
    if not key:
        return Account(base, problem=missing)
    if not key.isascii() or any(sign.isspace() or not sign.isprintable() for sign in key):
        return Account(base, problem=f"{where} holds something that is no key")
    return Account(base, key)


class Closes(Protocol):
    """A client, as far as it is kept here."""

    def close(self) -> None: ...


Kept = TypeVar("Kept", bound=Closes)


class Connection(Generic[Kept]):
    """One client, for the account as it is now: a key may be set, or changed, while a controller runs.

    Safe between threads.
    """

    def __init__(self, connect: Callable[[Account], Kept]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._account: Account | None = None
        self._client: Kept | None = None

    def to(self, wanted: Account) -> Kept:
        with self._lock:
            if self._client is None or self._account != wanted:
                if self._client is not None:
                    self._client.close()
                self._account, self._client = wanted, self._connect(wanted)
            return self._client

    def close(self) -> None:
        """Let go of it; who asks again gets a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
