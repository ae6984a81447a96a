"""RunPod over HTTP: the table of errors, and what is sent and what is not.

One test imports the SDK, which starts a program (`file`) while it is imported: it is marked.
"""

from __future__ import annotations

import json
import logging
import os
from decimal import Decimal
from pathlib import Path
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
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unreachable,
)
from providers.runpod import client as module
from providers.runpod.client import NoPlace, translate
from providers.transport import Answer
from tests.fakes.clock import FakeClock
from tests.providers.runpod.wire import Wire, client, pod
from tests.providers.wire import KEY, Reply

GONE = "There are no longer any instances available with the requested specifications. Please refresh and try again."
DISK = "There are no longer any instances available with enough disk space."
NONE = "There are no instances currently available"
SMALL = "This machine does not have the resources to deploy your pod. Please try a different machine"
TAKEN = "There are not enough free GPUs on the host machine to start this pod."
POOR = "Your account balance is too low to rent a pod. Please add funds to your account."
HTML = "<html><head><title>502 Bad Gateway</title></head></html>"


def problem(status: int, detail: str, *errors: str) -> Answer:
    body: dict[str, Any] = {"title": "Something", "status": status, "detail": detail}
    return Answer(status, json.dumps({**body, "errors": list(errors)} if errors else body), {})


def graphql(message: str, code: str = "RUNPOD") -> Answer:
    error = {"message": message, "path": ["podFindAndDeployOnDemand"], "extensions": {"code": code}}
    return Answer(200, json.dumps({"errors": [error], "data": {"podFindAndDeployOnDemand": None}}), {})


# What came back, what it is on a create, what it is elsewhere (None: the same).
TABLE: list[tuple[str, Answer | requests.RequestException, type[ProviderError], type[ProviderError] | None]] = [
    ("bad key", problem(401, "missing bearer token"), AuthFailed, None),
    ("missing scope", problem(403, "access denied"), AuthFailed, None),
    ("closed pool", problem(403, "no access to this pool"), NoCapacity, AuthFailed),
    ("cloudflare", Answer(403, "error code: 1010", {}), Unreachable, None),
    ("cloudflare's page", Answer(403, HTML, {}), Unreachable, None),
    ("malformed", problem(422, "Request validation failed.", "$.gpu: missing property 'id'"), Rejected, None),
    ("no capacity", problem(400, GONE), NoCapacity, None),
    ("no disk", problem(400, DISK), NoCapacity, None),
    ("no capacity as in v1", problem(500, f"create pod: {NONE}"), NoCapacity, Unreachable),
    ("no resources as in v1", problem(500, f"create pod: {SMALL}"), NoCapacity, Unreachable),
    ("other 400", problem(400, "exactly one of gpu or cpu must be set"), NoPlace, Rejected),
    ("no money", problem(402, POOR), NoFunds, None),
    ("no money in other words", problem(402, "payment required"), NoFunds, None),
    ("no money as in v1", problem(500, f"create pod: {POOR}"), NoFunds, Unreachable),
    ("spend limit", problem(400, "You have reached your spend limit"), QuotaExceeded, None),
    ("unknown", problem(404, "pod not found"), Rejected, NotFound),
    ("conflict", problem(409, "pod belongs to a cluster"), Rejected, None),
    ("retired", problem(410, "gone"), Rejected, None),
    ("method", problem(405, "not allowed"), Rejected, None),
    ("throttled", problem(429, "rate limit exceeded for the minute window"), Throttled, None),
    ("server error", problem(500, "internal server error"), Ambiguous, Unreachable),
    ("made, and its reply broke", problem(500, "create pod: could not read the pod back"), Ambiguous, Unreachable),
    ("gateway", Answer(502, HTML, {}), Ambiguous, Unreachable),
    ("cloudflare's 5xx", Answer(524, "error code: 524", {}), Ambiguous, Unreachable),
    ("request timeout", Answer(408, "", {}), Ambiguous, Unreachable),
    ("redirect", Answer(302, "", {"Location": "https://elsewhere.example"}), Ambiguous, Unreachable),
    ("nothing", Answer(500, "", {}), Ambiguous, Unreachable),
    ("graphql no capacity", graphql(GONE), NoCapacity, None),
    ("graphql host taken", graphql(TAKEN), NoCapacity, None),
    ("graphql no money", graphql("no", "INSUFFICIENT_BALANCE"), NoFunds, None),
    ("graphql gone", graphql("pod not found to terminate", "POD_NOT_FOUND"), NotFound, None),
    ("graphql spend limit", graphql("Your spending limit of $80 per hour is reached"), QuotaExceeded, None),
    ("graphql catch-all", graphql("Something went wrong.", "INTERNAL_SERVER_ERROR"), Ambiguous, Unreachable),
    ("graphql validation", Answer(400, json.dumps({"errors": [{"message": "Syntax Error"}]}), {}), NoPlace, Rejected),
    ("graphql other", graphql("Tried to delete nonexistent network volume"), Rejected, None),
    ("read timeout", requests.ReadTimeout("HTTPSConnectionPool(...)"), Ambiguous, Unreachable),
    ("dropped", requests.ConnectionError(ProtocolError("Connection aborted.")), Ambiguous, Unreachable),
    ("half an answer", requests.exceptions.ChunkedEncodingError("0 bytes"), Ambiguous, Unreachable),
    ("two lengths", requests.exceptions.InvalidHeader("Content-Length"), Ambiguous, Unreachable),
    ("connect timeout", requests.ConnectTimeout("timed out"), Unreachable, None),
    ("no address", requests.exceptions.InvalidURL("http://"), Unreachable, None),
]  # fmt: skip


@pytest.mark.parametrize(("what", "answer", "creating", "elsewhere"), TABLE, ids=[row[0] for row in TABLE])
def test_translate(
    what: str,
    answer: Answer | requests.RequestException,
    creating: type[ProviderError],
    elsewhere: type[ProviderError] | None,
) -> None:
    for kind, on_create in ((creating, True), (elsewhere or creating, False)):
        error = translate(answer, creating=on_create)
        assert type(error) is kind and error.provider == "runpod", (what, on_create, error)


def test_a_connection_that_was_never_made_asked_for_nothing() -> None:
    refused = NewConnectionError(HTTPSConnection("api.runpod.io"), "refused")
    error = requests.ConnectionError(MaxRetryError(None, "/v2/pods", refused))  # type: ignore[arg-type]
    assert type(translate(error, creating=True)) is Unreachable


def test_what_was_wrong_is_said_field_by_field() -> None:
    answer = problem(422, "Request validation failed.", "$: additional properties 'bogus' not allowed", "$.disk: bad")
    assert "'bogus' not allowed; $.disk: bad" in str(translate(answer))


def test_words_for_a_person() -> None:
    assert "RUNPOD_API_KEY" in str(translate(problem(401, "no")))
    assert "permission" in str(translate(problem(403, "access denied")))
    assert "retired" in str(translate(problem(410, "gone")))
    assert "Cloudflare" in str(translate(Answer(403, "error code: 1010", {})))
    assert "same words" in str(translate(problem(400, GONE), creating=True))


def test_no_secret_is_repeated() -> None:
    answer = problem(422, "Request validation failed.", "$.env.TOKEN: got 'hunter2-hunter2'")
    error = translate(answer, secrets=("hunter2-hunter2", ""))
    assert "hunter2" not in str(error) and "***" in str(error)
    wire = Wire().on("POST /v2/registries", Reply(422, {"detail": f"password 'pa55' of key {KEY}"}))
    with pytest.raises(Rejected) as caught:
        client(wire).create_registry("name", "user", "pa55")
    assert "pa55" not in str(caught.value) and KEY not in str(caught.value)


class TestWire:
    def test_who_asks_and_with_which_right(self) -> None:
        wire = Wire().on("GET /v2/pods", {"pods": []})
        client(wire).pods()
        [asked] = wire.asked
        assert asked.headers["Authorization"] == f"Bearer {KEY}"
        assert asked.headers["User-Agent"].startswith("gpujob"), "Cloudflare refuses the names of libraries"

    def test_netrc_does_not_take_the_place_of_the_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine api.runpod.io login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        wire = Wire().on("GET /v2/pods", {"pods": []}).on("POST /graphql", {"data": {"gpuTypes": []}})
        asking = client(wire)
        asking.pods()
        asking.public_gpus(secure=True, count=1)
        assert wire.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        assert "Authorization" not in wire.asked[1].headers, "public prices need no account"

    def test_the_key_follows_no_redirect(self) -> None:
        wire = Wire().on("GET /v2/pods", Reply(307, headers={"Location": "https://elsewhere.example/v2/pods"}))
        with pytest.raises(Unreachable):
            client(wire).pods()
        assert len(wire.asked) == 1

    def test_between_this_computer_and_itself_there_is_no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NO_PROXY", "no_proxy", "http_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://proxy.example:3128")
        wire = Wire().on("GET /v2/pods", {"pods": []})
        client(wire, base="http://127.0.0.1:4567").pods()
        client(wire).pods()
        assert [dict(proxies).get("https") for proxies in wire.proxies] == [None, "http://proxy.example:3128"]

    def test_availability_is_asked_for_as_the_docs_demand(self) -> None:
        wire = Wire().on("GET /v2/catalog/gpus", {"gpus": []})
        client(wire).gpus(cloud="COMMUNITY", count=2)
        query = str(wire.asked[0].url).partition("?")[2]
        assert sorted(query.split("&")) == ["cloud=COMMUNITY", "count=2", "include=AVAILABILITY", "product=POD"]

    def test_an_id_cannot_lead_elsewhere(self) -> None:
        wire = Wire()
        with pytest.raises(NotFound):
            client(wire).delete_pod("../registries/x?y")
        assert wire.calls() == ["DELETE /v2/pods/..%2Fregistries%2Fx%3Fy"]

    @pytest.mark.parametrize("body", [{"pods": None}, {"pods": ["p1"]}, {}, {"pod": []}])
    def test_a_list_that_is_not_whole_is_no_list(self, body: dict[str, Any]) -> None:
        with pytest.raises(Unreachable):
            client(Wire().on("GET /v2/pods", body)).pods()

    def test_an_answer_about_another_pod_is_no_answer(self) -> None:
        with pytest.raises(Unreachable):
            client(Wire().on("GET /v2/pods/p1", pod("p2"))).pod("p1")

    @pytest.mark.parametrize("reply", [Reply(201, text="{"), Reply(201, text=""), Reply(201, {"name": "x"})])
    def test_a_create_without_a_clear_yes_is_ambiguous(self, reply: Reply) -> None:
        with pytest.raises(Ambiguous):
            client(Wire().on("POST /v2/pods", reply)).create_pod({})

    def test_nothing_is_asked_twice(self) -> None:
        wire = Wire().on("GET /v2/pods", requests.ReadTimeout())
        with pytest.raises(Unreachable):
            client(wire).pods()
        assert len(wire.asked) == 1

    def test_after_a_429_no_call_is_sent_before_its_time(self) -> None:
        clock = FakeClock()
        limited = Reply(429, {"detail": "rate limit exceeded"}, headers={"Retry-After": "12"})
        wire = Wire().on("GET /v2/pods", limited, {"pods": []}).on("DELETE /v2/pods/p1", Reply(204))
        asking = client(wire, clock)
        with pytest.raises(Throttled) as caught:
            asking.pods()
        assert caught.value.after == 12
        clock.advance(5)
        with pytest.raises(Throttled) as caught:
            asking.delete_pod("p1")
        assert caught.value.after == 7 and len(wire.asked) == 1
        clock.advance(7)
        asking.delete_pod("p1")
        assert asking.pods() == []

    def test_the_last_calls_of_a_window_are_for_ending(self) -> None:
        said = {"RateLimit": '"minute";r=3;t=20, "hour";r=2000;t=900'}
        wire = Wire().on("GET /v2/pods", Reply(200, {"pods": []}, headers=said)).on("DELETE /v2/pods/p1", Reply(204))
        asking = client(wire)
        asking.pods()
        with pytest.raises(Throttled) as caught:
            asking.pods()
        assert caught.value.after == 20
        asking.delete_pod("p1")
        assert wire.calls() == ["GET /v2/pods", "DELETE /v2/pods/p1"]

    def test_money_is_not_read_as_a_float(self) -> None:
        wire = Wire().on("GET /v2/pods", Reply(text='{"pods": [{"id": "p1", "cost": 0.1234567890123456789}]}'))
        assert client(wire).pods()[0]["cost"] == Decimal("0.1234567890123456789")

    def test_graphql_errors_come_with_200(self) -> None:
        wire = Wire().on("POST /graphql", {"errors": [{"message": "Something went wrong."}], "data": None})
        with pytest.raises(Rejected):
            client(wire).public_gpus(secure=True, count=1)


class TestSdk:
    @pytest.mark.process
    def test_importing_it_changes_nobodys_logging(self) -> None:
        loud = logging.getLogger("paramiko")
        before = loud.level
        loud.setLevel(logging.CRITICAL + 1)
        try:
            run, refusals = module._sdk()
            assert callable(run) and len(refusals) == 2
            assert loud.level == logging.CRITICAL + 1
        finally:
            loud.setLevel(before)

    def test_the_key_goes_where_ours_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The SDK takes its address from the process's environment, which need not be the one that we were given."""
        monkeypatch.setenv("RUNPOD_API_BASE_URL", "https://elsewhere.example")
        seen: list[tuple[str, str]] = []

        def run(query: str, api_key: str) -> dict[str, Any]:
            seen.append((os.environ["RUNPOD_API_BASE_URL"], api_key))
            return {"data": {"myself": {"clientBalance": 12.5}}}

        monkeypatch.setattr(module, "_sdk", lambda: (run, ()))
        asking = client(Wire(), base="http://127.0.0.1:1")
        assert asking.balance() == {"clientBalance": 12.5}
        assert seen == [("http://127.0.0.1:1", KEY)]
        assert os.environ["RUNPOD_API_BASE_URL"] == "https://elsewhere.example"

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            (KeyError("data"), Unreachable),
            (requests.JSONDecodeError("no", "<html>", 0), Unreachable),
            (requests.ReadTimeout(), Unreachable),
            (LookupError("Unauthorized request"), AuthFailed),
        ],
    )
    def test_its_errors_are_ours(
        self, monkeypatch: pytest.MonkeyPatch, said: Exception, kind: type[ProviderError]
    ) -> None:
        def run(query: str, api_key: str) -> dict[str, Any]:
            raise said

        monkeypatch.setattr(module, "_sdk", lambda: (run, (LookupError,) if type(said) is LookupError else ()))
        with pytest.raises(kind):
            client(Wire()).balance()
