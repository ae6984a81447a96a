"""RunPod over HTTP: REST v2 with `requests`, GraphQL where v2 has nothing, and `translate()`, the one table of errors.

Owns the transport and the pace. One request per call and none again by itself: whether a call may be repeated only the
caller knows. REST v1 is not used: it is to be retired on 2026-11-15 (https://docs.runpod.io/api-reference/overview).
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

import requests

from providers import sent
from providers.accounts import Account
from providers.base import Now
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
from providers.runpod.pace import Pace, retry_seconds
from providers.transport import Answer, bound, unanswered

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
CREATE_SECONDS = 60.0  # it waits for a place: a create that is given up early has to be looked for by its name

# Cloudflare, in front of the API, refuses the usual names of libraries with 403 "error code: 1010" (seen 2026).
USER_AGENT = "gpujob/0.1"

_NAME = "runpod"
_LONGEST_TEXT = 500
_LONGEST_READ = 20_000
_MOST_ERRORS = 10
_SDK_LOGGERS = ("urllib3", "paramiko", "uvicorn")
_environ = threading.Lock()

Json = dict[str, Any]


class NoPlace(Rejected):
    """A create refused with 400 in words that we do not know: a wrong request, or no capacity. See provider.py."""


class Client:
    """One account. Safe between threads."""

    def __init__(self, account: Account, now: Now) -> None:
        self._account = account
        self._now = now
        self._pace = Pace()
        self.session = bound(requests.Session())
        self.session.headers["User-Agent"] = USER_AGENT
        # A callable, because requests puts what ~/.netrc says of the host over a header that was set.
        self.session.auth = self._authorize
        self.session.trust_env = not account.is_simulated  # no proxy between this computer and itself

    def pods(self) -> list[Json]:
        """All pods of the account: v2 has neither filters nor pages, and ignores what it is asked for beyond that."""
        pods = _rows(self._ask("GET", "/v2/pods"), "pods")
        if not all(sent.words(pod.get("id")) for pod in pods):  # a pod without an id could not be ended
            raise _senseless("the list of pods, of which one has no id")
        return pods

    def pod(self, pod_id: str) -> Json:
        pod = self._ask("GET", f"/v2/pods/{quote(pod_id, safe='')}")
        if not isinstance(pod, dict) or pod.get("id") != pod_id:
            raise _senseless(f"GET of pod {pod_id}")
        return pod

    def create_pod(self, body: Json, secrets: Iterable[str] = ()) -> Json:
        """The pod, or what is known of it when the answer is not whole: then it is Ambiguous, with its id."""
        pod = self._ask("POST", "/v2/pods", body=body, creating=True, secrets=secrets)
        if not isinstance(pod, dict) or not sent.words(pod.get("id")) or pod["id"] != sent.words(pod["id"]):
            raise Ambiguous("RunPod accepted a pod and did not say which", provider=_NAME)
        return pod

    def delete_pod(self, pod_id: str) -> None:
        self._ask("DELETE", f"/v2/pods/{quote(pod_id, safe='')}")

    def registries(self) -> list[Json]:
        return _rows(self._ask("GET", "/v2/registries"), "registries")

    def create_registry(self, name: str, username: str, password: str) -> str:
        body = {"name": name, "username": username, "password": password}
        made = self._ask("POST", "/v2/registries", body=body, secrets=(password,))
        if not isinstance(made, dict) or not made.get("id"):
            raise _senseless("the new registry login")
        return str(made["id"])

    def delete_registry(self, registry_id: str) -> None:
        self._ask("DELETE", f"/v2/registries/{quote(registry_id, safe='')}")

    def gpus(self, *, cloud: str, count: int) -> list[Json]:
        """Both `include` and `product`, or neither; `cloud` and `count` only with them: anything else is a 400."""
        wanted = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud, "count": str(count)}
        return _sold(self._ask("GET", "/v2/catalog/gpus", params=wanted), "gpus")

    def cpus(self) -> list[Json]:
        wanted = {"include": "AVAILABILITY", "product": "POD"}
        return _sold(self._ask("GET", "/v2/catalog/cpus", params=wanted), "cpus")

    def billing(self, pod_id: str, *, start: str, end: str) -> list[Json]:
        wanted = {"podId": pod_id, "bucketSize": "hour", "startTime": start, "endTime": end}
        return _rows(self._ask("GET", "/v2/billing/pods", params=wanted), "records")

    def balance(self) -> Json:
        """clientBalance, currentSpendPerHr, spendLimit: only GraphQL has them. By the SDK's own call, as it is."""
        run_graphql_query, refusals = _sdk()
        try:
            with _sdk_base(self._account.base):
                answer = run_graphql_query(
                    "query { myself { clientBalance currentSpendPerHr spendLimit } }", api_key=self._account.key
                )
            return dict(answer["data"]["myself"])
        except refusals as error:  # of what GraphQL said the SDK passes on the first message alone
            raise translate(Answer(200, json.dumps({"errors": [{"message": str(error)}]}), {})) from None
        except requests.RequestException as error:
            raise translate(error) from None
        except (KeyError, TypeError, ValueError, RecursionError):  # a 5xx without JSON, or JSON without data
            raise _senseless("the account") from None

    def user(self) -> str:
        """The id of the account that the key belongs to: only GraphQL has it (docs of v2, 2026-08)."""
        said = self._graphql("query { myself { id } }")
        myself = said.get("myself") if isinstance(said, dict) else None
        if not isinstance(myself, dict) or not sent.words(myself.get("id")):
            raise _senseless("whose the key is")
        return sent.words(myself["id"])

    def public_gpus(self, *, secure: bool, count: int) -> list[Json]:
        """GraphQL's list of GPU types: the one that needs no account, and that knows the least vCPUs and memory."""
        query = (
            "query { gpuTypes { id displayName manufacturer memoryInGb secureCloud communityCloud securePrice "
            "communityPrice maxGpuCountSecureCloud maxGpuCountCommunityCloud "
            f"lowestPrice(input: {{gpuCount: {count}, secureCloud: {json.dumps(secure)}}}) "
            "{ uninterruptablePrice stockStatus minVcpu minMemory } } }"
        )
        return _sold(self._graphql(query, public=True), "gpuTypes")

    def close(self) -> None:
        self.session.close()

    def _graphql(self, query: str, *, public: bool = False) -> Any:
        answer = self._ask("POST", "/graphql", body={"query": query}, public=public)
        if isinstance(answer, dict) and answer.get("errors"):
            raise translate(Answer(200, json.dumps(answer, default=str), {}))
        return answer.get("data") if isinstance(answer, dict) else None

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        creating: bool = False,
        public: bool = False,
        secrets: Iterable[str] = (),
    ) -> Any:
        reading = method == "GET"
        if not public and (wait := self._pace.wait(self._now(), reading=reading)) > 0:
            text = f"RunPod's rate limit: nothing is asked for another {wait:.0f} s"
            raise Throttled(text, after=wait, provider=_NAME)
        hidden = (self._account.key, *secrets)
        try:
            answer = self._send(method, path, params, body, public=public, seconds=_seconds(creating))
        except requests.RequestException as error:
            raise translate(error, creating=creating, secrets=hidden) from None
        if answer.status == 429 and not public:
            self._pace.refused(answer.headers.get("Retry-After"), self._now())
        if not 200 <= answer.status < 300:
            raise translate(answer, creating=creating, secrets=hidden)
        return _decoded(answer, creating=creating)

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Json | None,
        *,
        public: bool,
        seconds: float,
    ) -> Answer:
        if not public:
            self._pace.sent(self._now())
        response = self.session.request(
            method,
            self._account.base + path,
            params=params,
            json=body,
            auth=_nobody if public else None,
            timeout=(CONNECT_SECONDS, seconds),
            allow_redirects=False,  # the key goes to nobody else
        )
        if not public:
            self._pace.heard(response.headers, self._now())
        return Answer(response.status_code, response.text, response.headers)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._account.key}"
        return request


def translate(
    problem: Answer | requests.RequestException, *, creating: bool = False, secrets: Iterable[str] = ()
) -> ProviderError:
    """What the caller does next about an answer that is no yes, or about none.

    `creating` is the create of a pod: there a broken answer may hide a machine that bills.
    """
    if isinstance(problem, requests.RequestException):
        return unanswered(problem, cloud="RunPod", provider=_NAME, creating=creating)
    said, code = _words(problem.text)
    for secret in filter(None, secrets):  # before it is cut: half a secret would not be found
        said = said.replace(secret, "***")
    said = said[:_LONGEST_TEXT]
    if problem.status == 429:
        after = retry_seconds(problem.headers.get("Retry-After"))
        return Throttled(f"RunPod: {said or 'too many requests'}", after=after, provider=_NAME)
    known = _BY_CODE.get(code) or next((kind for words, kind in _BY_WORDS if words in said.lower()), None)
    if known is not None and (problem.status in _SPEAKING or (creating and problem.status == 500)):
        return known(f"RunPod: {said}{_HINTS.get(known, '')}", provider=_NAME)
    if problem.status == 200 and code != "INTERNAL_SERVER_ERROR":
        return Rejected(f"RunPod: {said}", provider=_NAME)
    if problem.status < 400 or problem.status >= 500 or problem.status == 408:
        lost = Ambiguous if creating else Unreachable
        return lost(f"RunPod answered {problem.status}: {said or 'nothing'}", provider=_NAME)
    return _refusal(problem, said, creating=creating)


def _refusal(answer: Answer, said: str, *, creating: bool) -> ProviderError:
    """A 4xx that its words have not explained.

    RunPod's own are always JSON: only such a 404 says that a pod is gone, and not that the way to it is wrong.
    """
    if answer.status == 404 and not creating and not _is_problem(answer.text):
        return Unreachable(f"RunPod was not reached, and who answered found nothing: {said}", provider=_NAME)
    if answer.status == 403 and not _is_problem(answer.text):
        text = f"Cloudflare, in front of RunPod, let nothing through: {said or 'it does not say why'}"
        return Unreachable(text, provider=_NAME)
    if answer.status == 403 and creating and "pool" in said.lower():  # the documented rule: go to the next candidate
        return NoCapacity(f"RunPod: the account has no access to it: {said}", provider=_NAME)
    if answer.status == 404 and creating:
        return Rejected(f"RunPod does not know what the pod is to be made of: {said}", provider=_NAME)
    if answer.status == 400 and creating:
        return NoPlace(f"RunPod refuses the pod: {said}", provider=_NAME)
    kind, why = _BY_STATUS.get(answer.status, (Rejected, "RunPod refuses the request"))
    return kind(f"{why}: {said or f'HTTP {answer.status}'}", provider=_NAME)


_BY_STATUS: dict[int, tuple[type[ProviderError], str]] = {
    401: (AuthFailed, "RunPod does not accept the key (RUNPOD_API_KEY); it may have been switched off"),
    402: (NoFunds, "the RunPod account cannot pay for this; add credit at https://console.runpod.io"),
    403: (AuthFailed, "the RunPod key is good and lacks a permission that this needs"),
    404: (NotFound, "RunPod does not know it"),
    409: (Rejected, "RunPod refuses this in the state that it is in"),
    410: (Rejected, "this part of RunPod's API is retired; a newer gpujob is needed"),
    422: (Rejected, "RunPod finds the request malformed, which is a bug of gpujob's"),
}
# Capacity has no code of its own, in v2 either: only words. The same words come for a GPU id that does not exist.
# https://docs.runpod.io/api-reference-v2/pods/create-a-pod, seen 2026-08; texts from public reports of 2025 and 2026.
_BY_WORDS: tuple[tuple[str, type[ProviderError]], ...] = (
    ("no longer any instances available", NoCapacity),
    ("no instances currently available", NoCapacity),
    ("does not have the resources to deploy", NoCapacity),
    ("not enough free gpus", NoCapacity),
    ("balance is too low", NoFunds),
    ("insufficient balance", NoFunds),
    ("spend limit", QuotaExceeded),
    ("spending limit", QuotaExceeded),
    ("pod not found", NotFound),
    ("unauthorized", AuthFailed),
)
_BY_CODE: dict[str, type[ProviderError]] = {
    "POD_NOT_FOUND": NotFound,
    "INSUFFICIENT_BALANCE": NoFunds,
}
# Statuses whose meaning only the words tell: GraphQL's 200, v2's 400 and 402. On a create also 500, which stood for
# "no capacity", "no money" and "made, and the reply broke" in v1 alike; without known words it is Ambiguous.
_SPEAKING = frozenset({200, 400, 402})
_HINTS: dict[type[ProviderError], str] = {
    NoCapacity: " (RunPod answers a request that no machine can meet in the same words)",
    NoFunds: " (RunPod wants at least one hour's price on the account: https://console.runpod.io)",
    QuotaExceeded: " (RunPod's support raises it: https://docs.runpod.io/accounts-billing/billing)",
}


def _words(text: str) -> tuple[str, str]:
    """What a body says, and GraphQL's code if it has one."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text[:_LONGEST_READ].split()), ""
    if not isinstance(body, dict):
        return "", ""
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        extensions = errors[0].get("extensions")
        code = extensions.get("code") if isinstance(extensions, dict) else None
        return sent.words(errors[0].get("message"), _LONGEST_READ), sent.words(code)
    found = (sent.words(body.get(name), _LONGEST_READ) for name in ("detail", "message", "error", "title"))
    said = next(filter(None, found), "")
    if isinstance(errors, list) and errors:
        said = f"{said.rstrip('.')}: {'; '.join(sent.words(one, _LONGEST_READ) for one in errors[:_MOST_ERRORS])}"
    return said, ""


def _is_problem(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _decoded(answer: Answer, *, creating: bool) -> Any:
    if not answer.text.strip():
        return None
    try:
        return json.loads(answer.text, parse_float=Decimal)
    except (ValueError, RecursionError, InvalidOperation):  # the last is an exponent that Decimal has no room for
        kind = Ambiguous if creating else Unreachable
        raise kind(f"RunPod answered {answer.status} with something that is no JSON", provider=_NAME) from None


def _rows(answer: Any, key: str) -> list[Json]:
    """A list under its key, whole: one that lacks a row would say that something is not there."""
    rows = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _senseless(f"the list of {key}")
    return rows


def _sold(answer: Any, key: str) -> list[Json]:
    """What is for sale, under its key: a row that is none must not hide the others."""
    rows = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise _senseless(f"the list of {key}")
    return [row for row in rows if isinstance(row, dict)]


def _senseless(what: str) -> Unreachable:
    return Unreachable(f"RunPod's answer makes no sense: {what}", provider=_NAME)


def _seconds(creating: bool) -> float:
    return CREATE_SECONDS if creating else ANSWER_SECONDS


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers.pop("Authorization", None)
    return request


def _sdk() -> tuple[Any, tuple[type[Exception], ...]]:
    """The SDK's GraphQL call and its own errors.

    The import takes about two seconds, its parts cannot be had without the whole, and it changes the levels of other
    libraries' loggers, ours of paramiko among them (runpod 1.11, __init__.py).
    """
    loggers = [logging.getLogger(name) for name in _SDK_LOGGERS]
    levels = [logger.level for logger in loggers]
    from runpod import error
    from runpod.api.graphql import run_graphql_query

    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    return run_graphql_query, (error.AuthenticationError, error.QueryError)


@contextmanager
def _sdk_base(base: str) -> Iterator[None]:
    """The SDK reads its address from the process's environment, on every call: a key must not go anywhere else."""
    with _environ:
        before = os.environ.get("RUNPOD_API_BASE_URL")
        os.environ["RUNPOD_API_BASE_URL"] = base
        try:
            yield
        finally:
            if before is None:
                del os.environ["RUNPOD_API_BASE_URL"]
            else:
                os.environ["RUNPOD_API_BASE_URL"] = before
