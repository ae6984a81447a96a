"""An account at a cloud: the key that it is asked with over HTTP, the one client that is kept for it, and its name.

Owns what a key and an endpoint must look like, when a client is made anew, and how often is asked whose credentials
are. Knows no cloud: where a key is found is each cloud's own account.py. Connects nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from providers.base import Now
from providers.errors import AuthFailed, NotFound, ProviderError, Rejected

FAILURE_KEPT = timedelta(seconds=30)
_SAYS_NOTHING = (AuthFailed, NotFound, Rejected)  # of who is asking; it may answer everything else


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


class Whose:
    """Which account the credentials belong to: asked once for each, however many want to know at a time.

    What failed is remembered for a while, so that a cloud that does not say it is not asked by every visit.
    """

    def __init__(self, now: Now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._of: object = None
        self._said: str | ProviderError = ""
        self._until: datetime | None = None  # None: for as long as these credentials are used

    def account(self, credentials: object, ask: Callable[[], str]) -> str:
        """What `ask` says of these credentials; "" when they may not know it. Raises what else `ask` raises."""
        with self._lock:
            if self._of != credentials or (self._until is not None and not self._is_kept(self._until)):
                self._said, self._until = self._answer(ask)
                self._of = credentials
            if isinstance(self._said, ProviderError):
                raise self._said
            return self._said

    def _answer(self, ask: Callable[[], str]) -> tuple[str | ProviderError, datetime | None]:
        try:
            return ask(), None
        except _SAYS_NOTHING:
            return "", self._now() + FAILURE_KEPT
        except ProviderError as error:
            return error, self._now() + FAILURE_KEPT

    def _is_kept(self, until: datetime) -> bool:
        return timedelta() < until - self._now() <= FAILURE_KEPT
