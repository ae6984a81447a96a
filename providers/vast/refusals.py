"""What an answer of Vast.ai that is no yes means for the caller: `translate()`, the one table of errors.

Pure: statuses, headers and texts. Shapes as documented and as seen by others in 2026:
https://docs.vast.ai/api-reference/rate-limits-and-errors and the API reference of each call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import requests

from providers import sent
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoCapacity,
    NoFunds,
    NotFound,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unreachable,
)
from providers.transport import Answer, unanswered
from providers.vast.pace import CREATE, usual_wait

BURST_SECONDS = 10.0  # many requests at once with one key are answered with a 403 in HTML (seen by others, 2026)

_NAME = "vast"
_LONGEST_TEXT = 500
_LONGEST_READ = 20_000  # of a page in HTML
_LONGEST_WAIT = 24 * 3600.0
_TAG = re.compile(r"<[^<>]*>")  # from one < to the next only: else a page of them takes for ever
_THRESHOLD = re.compile(r"threshold=(\d+(?:\.\d+)?)")


def translate(
    problem: Answer | requests.RequestException, *, call: str, now: datetime, secrets: Iterable[str] = ()
) -> ProviderError:
    """What to do about an answer that is no yes, or about none. `call` is one of pace.py's.

    After a create that has no clean answer there may be a machine that bills, with or without its id in the answer.
    """
    if isinstance(problem, requests.RequestException):
        return unanswered(problem, cloud="Vast.ai", provider=_NAME, creating=call == CREATE)
    said = _Said.in_answer(problem, secrets)
    if call == CREATE and said.has_made:
        # A bid that is too low leaves an instance behind, stopped, and its disk is billed.
        which = said.created_id or "(it does not say which)"
        text = f"Vast.ai refused and made instance {which} all the same: {said.text}"
        return Ambiguous(text, created_id=said.created_id, provider=_NAME)
    if problem.status == 429:
        return _too_early(problem, said, call, now)
    if problem.status == 403 and not said.is_json:
        return Throttled(f"Vast.ai lets nothing through for now: {said}", after=BURST_SECONDS, provider=_NAME)
    known = _known(problem, said, call)
    if known is not None:
        kind, why = known
        return kind(f"{why}: {said}", provider=_NAME)
    if not said.is_json or not (problem.status == 200 or 400 <= problem.status < 500) or problem.status == 408:
        lost = Ambiguous if call == CREATE else Unreachable
        return lost(f"Vast.ai answered {problem.status}: {said}", provider=_NAME)
    kind, why = _BY_STATUS.get(problem.status, (Rejected, "Vast.ai refuses the request"))
    return kind(f"{why}: {said}", provider=_NAME)


_Meaning = tuple[type[ProviderError], str]
_KEY = "Vast.ai does not accept the key (VAST_API_KEY)"
_BY_CODE: dict[str, _Meaning] = {
    "auth_error": (AuthFailed, _KEY),
    "insufficient_credit": (NoFunds, "the Vast.ai account cannot pay; add credit at https://cloud.vast.ai/billing/"),
    "spend_rate_limit": (
        QuotaExceeded,
        "Vast.ai limits what a new account may spend; the limit goes away with time, or support raises it",
    ),
    "no_such_ask": (OfferGone, "the offer is gone"),
    "no_such_instance": (NotFound, "Vast.ai does not know it"),
    "not_found": (NotFound, "Vast.ai does not know it"),
    "resources_unavailable": (NoCapacity, "the host has no room"),
    # It may have been the only list that an older client knew; that it is gone says nothing about instances.
    "deprecated_endpoint": (Rejected, "this part of Vast.ai's API is retired; a newer gpujob is needed"),
}
_BY_STATUS: dict[int, _Meaning] = {
    401: (AuthFailed, _KEY),
    403: (AuthFailed, "the Vast.ai key is good and lacks a permission that this needs"),
}


@dataclass(frozen=True)
class _Said:
    """What a body says."""

    text: str
    code: str = ""
    has_made: bool = False
    created_id: str | None = None
    retry_after: Any = None
    is_json: bool = False

    def __str__(self) -> str:
        return self.text or "it does not say why"

    @classmethod
    def in_answer(cls, answer: Answer, secrets: Iterable[str]) -> _Said:
        try:
            body = answer.body()
        except ValueError:
            return cls(_fit(answer.text, secrets, tags=True))
        if not isinstance(body, dict):
            return cls("", is_json=False)
        words = next((body[name] for name in ("msg", "message", "detail", "error") if body.get(name)), "")
        made = sent.whole(body.get("new_contract"))
        return cls(
            text=_fit(words if isinstance(words, str) else _written(words), secrets),
            code=sent.words(body.get("error")),
            has_made=bool(body.get("new_contract")),
            created_id=str(made) if made else None,
            retry_after=body.get("retry_after"),
            is_json=True,
        )


def _known(answer: Answer, said: _Said, call: str) -> _Meaning | None:
    """By the code, whatever the status: `no_such_ask` comes with 400, 404, 410 and below another code."""
    if not said.is_json:
        return None
    words = said.text.lower()
    if call == CREATE:
        gone = "not available" in words or "no longer available" in words
        if "no_such_ask" in words or (gone and answer.status < 500):
            return _BY_CODE["no_such_ask"]
        if said.code == "invalid_price":  # our bid was the least when it was offered
            return OfferGone, "the least bid has risen"
        if said.code == "not_found":
            return None
    return _BY_CODE.get(said.code)


def _too_early(answer: Answer, said: _Said, call: str, now: datetime) -> Throttled:
    if said.code == "search_quota_exceeded":
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        text = f"the searches that Vast.ai allows a day are used up, until 00:00 UTC: {said}"
        return Throttled(text, after=(midnight - now).total_seconds(), provider=_NAME)
    after = _seconds(answer.headers.get("Retry-After")) or _seconds(said.retry_after)
    if after is None:
        found = _THRESHOLD.search(answer.text[:_LONGEST_READ])
        after = max((_seconds(found[1]) if found else None) or 0.0, usual_wait(call))
    return Throttled(f"Vast.ai: {said}", after=after, provider=_NAME)


def _seconds(said: Any) -> float | None:
    """Of any size: what is more than a day is a day."""
    try:
        seconds = float(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.5, min(seconds, _LONGEST_WAIT)) if seconds >= 0 else None


def _fit(text: str, secrets: Iterable[str], *, tags: bool = False) -> str:
    """One line, without secrets, and with `tags` without those of HTML. Secrets go first: a cut could halve one."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    text = text[:_LONGEST_READ]
    return " ".join((_TAG.sub(" ", text) if tags else text).split())[:_LONGEST_TEXT]


def _written(words: Any) -> str:
    try:
        return json.dumps(words)
    except RecursionError:
        return ""
