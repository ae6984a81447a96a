"""HTTP by `requests`, as far as every cloud has it: what came back, and what it means when nothing did.

Imported by the clouds' clients only: it needs `requests`. Knows no cloud: an answer's words are for its translate().
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from providers.errors import Ambiguous, ProviderError, Unreachable

MOST_BYTES = 32 * 2**20  # no list of a cloud's is a tenth of it
MOST_SECONDS = 120.0  # for the whole of an answer: each piece of it has its own time-out


class Bounded(HTTPAdapter):
    """Every answer comes whole and is bounded in size and time, also one that trickles in or unpacks without end.

    What is too much is a requests.ConnectionError: as if the answer had broken off. Text that names no encoding is
    UTF-8; to guess it takes requests minutes for some megabytes.
    """

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        until = time.monotonic() + MOST_SECONDS
        response = super().send(request, *args, **{**options, "stream": True})
        try:
            response._content = whole(response.iter_content(64 * 1024), until)
        except BaseException:
            response.close()
            raise
        response.encoding = response.encoding or "utf-8"
        return response


def bound(session: requests.Session) -> requests.Session:
    """The same session; what it asks for from now on is answered within bounds."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, Bounded())
    return session


def whole(chunks: Iterable[bytes], until: float) -> bytes:
    """All chunks in one, by `until` of time.monotonic(). Raises requests.ConnectionError."""
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > MOST_BYTES:
            raise requests.ConnectionError("the answer is too long")
        if time.monotonic() > until:
            raise requests.ConnectionError("the answer does not end")
    return bytes(found)


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    text: str
    headers: Mapping[str, str]

    def body(self) -> Any:
        """The JSON of it, numbers with a point as float. Raises ValueError, also for what is nested without end."""
        try:
            return json.loads(self.text)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def unanswered(error: requests.RequestException, *, cloud: str, provider: str, creating: bool) -> ProviderError:
    """Nothing came back. A create that may have been sent may have made a machine; `cloud` is the name in sentences."""
    if _never_sent(error):
        return Unreachable(f"{cloud} is not reached: {_kind(error)}", provider=provider)
    lost = Ambiguous if creating else Unreachable
    return lost(f"{cloud} did not answer: {_kind(error)}", provider=provider)


def _never_sent(error: requests.RequestException) -> bool:
    """Whether the connection was never made.

    InvalidHeader is not among these: an answer with two lengths raises it as well (requests 2.32, adapters.py).
    """
    if isinstance(error, (requests.ConnectTimeout, MissingSchema, InvalidSchema, InvalidURL)):
        return True
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else None
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))


def _kind(error: Exception) -> str:
    """Without the text: it repeats addresses and headers."""
    return "it took too long" if isinstance(error, requests.Timeout) else type(error).__name__
