"""This computer's own address as AWS sees it: the only one that may log in to a machine. Asked seldom."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from providers.aws import environment
from providers.base import Now
from providers.errors import Unreachable

KEPT = timedelta(seconds=30)
SECONDS = 5.0

Ask = Callable[[str], str]


class OwnAddress:
    """`networks` are what a security group lets in. In a rehearsal nobody is asked."""

    def __init__(self, env: Mapping[str, str], now: Now, ask: Ask | None = None) -> None:
        self._env = env
        self._now = now
        self._ask = ask or _over_https
        self._known: tuple[datetime, str] | None = None
        self._lock = threading.Lock()

    def networks(self) -> tuple[str, ...]:
        """Raises Unreachable when it cannot be learnt, Rejected when what the user named is none."""
        if named := environment.ssh_from(self._env):
            return named
        if environment.is_simulated(self._env):
            return ("127.0.0.1/32",)
        with self._lock:
            if self._known is None or self._known[0] <= self._now() - KEPT:
                self._known = (self._now(), self._asked())
            return (self._known[1],)

    def _asked(self) -> str:
        url = self._env.get("GPUJOB_AWS_CHECKIP_URL") or environment.CHECKIP
        said = self._ask(url).strip()
        try:
            return f"{ipaddress.IPv4Address(said)}/32"
        except ValueError:
            text = f"{url} did not say this computer's IPv4 address; name it in GPUJOB_AWS_SSH_FROM"
            raise Unreachable(text, provider="aws") from None


def _over_https(url: str) -> str:
    import requests

    try:
        answer = requests.get(url, timeout=SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        text = f"{url} did not say this computer's address ({error}); name it in GPUJOB_AWS_SSH_FROM"
        raise Unreachable(text, provider="aws") from error
    return answer.text[:100]
