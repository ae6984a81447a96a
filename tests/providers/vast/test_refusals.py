"""The table of errors: every answer that is no yes, as it is documented or was seen, and what the caller does next."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

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
from providers.transport import Answer
from providers.vast.pace import CREATE, DESTROY, LIST, SEARCH, SHOW
from providers.vast.refusals import translate
from tests.fakes.clock import START

HTML = "<html><head><title>503 Service not available</title></head><body>no_such_ask</body></html>"
TOO_FREQUENT = "API requests too frequent"
GONE = "error 410/3907: no_such_ask Instance type 7 is no longer available."
UNKNOWN = "error 404/3603: no_such_ask Instance type by id 7 is not available."


def said(status: int, error: str = "", msg: str = "", **more: Any) -> Answer:
    body = {"success": False, "error": error, "msg": msg, **more}
    return Answer(status, json.dumps({name: value for name, value in body.items() if value != ""}), {})


def text(status: int, body: str, **headers: str) -> Answer:
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def dropped() -> requests.ConnectionError:
    return requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError(104, "reset")))


def refused_connection() -> requests.ConnectionError:
    reason = NewConnectionError(HTTPSConnection("console.vast.ai"), "refused")
    return requests.ConnectionError(MaxRetryError(None, "/", reason))  # type: ignore[arg-type]


Problem = Answer | requests.RequestException

# What came back, what it is on a create, what it is on a call that looks (None: the same).
TABLE: list[tuple[str, Problem, type[ProviderError], type[ProviderError] | None]] = [
    ("no key", said(403, "auth_error", "This action requires login."), AuthFailed, None),
    ("unknown key, 404", said(404, "auth_error", "Invalid user key"), AuthFailed, None),
    ("unknown key, 401", said(401, "auth_error", "Invalid user key"), AuthFailed, None),
    ("missing scope", said(403, "forbidden", "not permitted"), AuthFailed, None),
    ("missing scope, 401", said(401, "", "not permitted"), AuthFailed, None),
    ("auth error with status 200", said(200, "auth_error", "Invalid user key"), AuthFailed, None),
    ("ask unknown", said(404, "invalid_args", UNKNOWN, ask_id=7), OfferGone, Rejected),
    ("ask gone", said(410, "no_such_ask", GONE, ask_id=7), OfferGone, None),
    ("ask gone, as 400", said(400, "no_such_ask", GONE), OfferGone, None),
    ("ask gone, by its word alone", said(400, "invalid_args", "error 400/3603: no_such_ask"), OfferGone, Rejected),
    ("ask gone, by its text alone", said(400, "invalid_args", GONE), OfferGone, Rejected),
    ("ask gone, with status 200", said(200, "no_such_ask", GONE), OfferGone, None),
    ("ask gone, without its code", said(400, "", "Instance type 7 is no longer available."), OfferGone, Rejected),
    ("no credit", said(400, "insufficient_credit", "Your account lacks credit; see the billing page."), NoFunds, None),
    ("no credit, as 411", said(411, "insufficient_credit", "Your account lacks credit"), NoFunds, None),
    ("new account's limit", said(400, "spend_rate_limit", "spending limit"), QuotaExceeded, None),
    ("bad arguments", said(400, "invalid_args", "error 400/3467: Invalid args: 'disk'"), Rejected, None),
    ("bad price", said(400, "invalid_price", "Please set a bid price >= 0.3."), OfferGone, Rejected),
    ("bid too low, and made", said(400, "invalid_price", "Please set a bid", new_contract=101), Ambiguous, None),
    ("no credit, and made", said(400, "insufficient_credit", "lacks credit", new_contract=101), Ambiguous, None),
    ("no room", said(200, "resources_unavailable", "Required resources are currently unavailable"), NoCapacity, None),
    ("no instance", said(404, "no_such_instance", "Instance 101 not found."), NotFound, None),
    ("no instance, as documented", said(404, "not_found", "not found"), Rejected, NotFound),
    ("retired list", said(410, "deprecated_endpoint", "Use /api/v1/instances/ instead."), Rejected, None),
    ("not a filter", said(400, "invalid_args", "dph_total is not a valid search key"), Rejected, None),
    ("too early, text", text(429, TOO_FREQUENT), Throttled, None),
    ("too early, text with threshold", text(429, f"{TOO_FREQUENT}: endpoint threshold=4.5"), Throttled, None),
    ("too early, detail", text(429, json.dumps({"detail": f"{TOO_FREQUENT} endpoint threshold=4.5"})), Throttled, None),
    ("too early, code", said(429, "rate_limit_exceeded", TOO_FREQUENT), Throttled, None),
    ("too early, retry_after", said(429, "HTTPTooManyRequests", TOO_FREQUENT, retry_after=1), Throttled, None),
    ("searches of the day", said(429, "search_quota_exceeded", "daily search quota"), Throttled, None),
    ("burst", text(403, "<html><h1>403 Forbidden</h1></html>"), Throttled, None),
    ("server error", said(500, "server_error", "Something went wrong on the server"), Ambiguous, Unreachable),
    ("server error with a known word", said(503, "", "The server is not available."), Ambiguous, Unreachable),
    ("gateway", text(502, "<html>502 Bad Gateway</html>"), Ambiguous, Unreachable),
    ("gateway that speaks of offers", text(503, HTML), Ambiguous, Unreachable),
    ("gateway's 404", text(404, "<html>404 Not Found</html>"), Ambiguous, Unreachable),
    ("time-out at the gateway", text(504, ""), Ambiguous, Unreachable),
    ("request time-out", said(408, "", "timeout"), Ambiguous, Unreachable),
    ("broken JSON", text(200, '{"success": true, "new_contr'), Ambiguous, Unreachable),
    ("redirect", text(302, ""), Ambiguous, Unreachable),
    ("success false and nothing else", said(200), Rejected, None),
    ("read time-out", requests.ReadTimeout("read timed out"), Ambiguous, Unreachable),
    ("dropped", dropped(), Ambiguous, Unreachable),
    ("answer cut off", requests.exceptions.ChunkedEncodingError("incomplete read"), Ambiguous, Unreachable),
    ("an answer with two lengths", requests.exceptions.InvalidHeader("Content-Length"), Ambiguous, Unreachable),
    ("connect time-out", requests.ConnectTimeout("timed out"), Unreachable, None),
    ("nobody listens", refused_connection(), Unreachable, None),
    ("no address", requests.exceptions.InvalidURL("http://"), Unreachable, None),
]


@pytest.mark.parametrize(("problem", "creating", "looking"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_every_answer_is_what_the_caller_does_next(
    problem: Problem, creating: type[ProviderError], looking: type[ProviderError] | None
) -> None:
    on_create = translate(problem, call=CREATE, now=START)
    assert type(on_create) is creating and on_create.provider == "vast" and str(on_create)
    if creating is Ambiguous and looking is None:
        return  # an instance that was made is only spoken of in a create
    on_look = translate(problem, call=SHOW, now=START)
    assert type(on_look) is (looking or creating) and on_look.provider == "vast"


def test_an_instance_that_was_made_all_the_same_is_named() -> None:
    error = translate(said(400, "invalid_price", "too low", new_contract=101), call=CREATE, now=START)
    assert isinstance(error, Ambiguous) and error.created_id == "101"


@pytest.mark.parametrize(
    ("answer", "call", "after"),
    [
        (text(429, TOO_FREQUENT, Retry_After="7"), LIST, 7),
        (text(429, f"{TOO_FREQUENT} threshold=4.5", Retry_After="7"), CREATE, 7),
        (said(429, "HTTPTooManyRequests", TOO_FREQUENT, retry_after=3), LIST, 3),
        (text(429, f"{TOO_FREQUENT}: endpoint threshold=6.5"), DESTROY, 6.5),
        (text(429, json.dumps({"detail": f"{TOO_FREQUENT} endpoint threshold=4.5"})), CREATE, 12),
        (text(429, TOO_FREQUENT), CREATE, 12),
        (text(429, TOO_FREQUENT), DESTROY, 3),
        (text(429, TOO_FREQUENT), SEARCH, 5),
        (text(429, TOO_FREQUENT, Retry_After="Sat, 21 Nov 2026 12:00:05 GMT"), LIST, 1),
        (said(429, "search_quota_exceeded", "quota"), SEARCH, 12 * 3600),
        (text(403, "<html>403</html>"), LIST, 10),
    ],
)
def test_how_long_to_wait(answer: Answer, call: str, after: float) -> None:
    error = translate(answer, call=call, now=START)
    assert isinstance(error, Throttled) and error.after == after


def test_no_secret_comes_back_in_a_message() -> None:
    answer = said(400, "invalid_args", "bad login -u me -p hunter2 with key rehearsal-key")
    error = translate(answer, call=CREATE, now=START, secrets=("rehearsal-key", "hunter2", ""))
    assert "hunter2" not in str(error) and "rehearsal-key" not in str(error) and "bad login" in str(error)


def test_an_exception_of_the_transport_is_not_quoted() -> None:
    error = translate(requests.ReadTimeout("Bearer rehearsal-key"), call=LIST, now=START)
    assert "rehearsal-key" not in str(error)


def test_a_page_of_html_is_told_in_a_line() -> None:
    told = str(translate(text(502, f"<html>\n<h1>502</h1>{'<p>x</p>' * 1000}</html>"), call=LIST, now=START))
    assert "<" not in told and "\n" not in told and len(told) < 600
