"""HTTP by `requests`, as far as every cloud has it: what came back, and what it means when nothing did.

Imported by the clouds' clients only: it needs `requests`. Knows no cloud: an answer's words are for its translate().
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from providers.errors import Ambiguous, ProviderError, Unreachable


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    text: str
    headers: Mapping[str, str]

    def body(self) -> Any:
        """The JSON of it. Raises ValueError."""
        return json.loads(self.text)


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
