"""A cloud's API over `requests` as a script: what was asked, and what is answered. Opens no socket, knows no cloud."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from providers.base import LaunchRequest
from tests.fakes.clock import START

KEY = "rehearsal-unit-key"

Json = dict[str, Any]


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ScriptedWire(BaseAdapter):
    """Answers by "METHOD /path": the first of several answers is used up, the last one stays.

    An answer is a Reply, the body of a 200, an exception, or called with the request. `unknown` answers all else.
    """

    def __init__(self, unknown: Reply) -> None:
        super().__init__()
        self.unknown = unknown
        self.answers: dict[str, list[Any]] = {}
        self.asked: list[requests.PreparedRequest] = []
        self.proxies: list[Mapping[str, str]] = []  # by which each request would have gone
        self.timeouts: list[Any] = []
        self.closed = 0

    def on(self, call: str, *answers: Any) -> Self:
        """A dict is the body of a 200."""
        self.answers[call] = [Reply(body=answer) if isinstance(answer, dict) else answer for answer in answers]
        return self

    def calls(self, call: str = "") -> list[str]:
        found = [f"{request.method} {path_of(request)}" for request in self.asked]
        return [each for each in found if call in each]

    def body(self, call: str) -> Json:
        """The body of the newest such request."""
        request = [each for each in self.asked if f"{each.method} {path_of(each)}" == call][-1]
        body: Json = json.loads(request.body or b"{}")
        return body

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        self.asked.append(request)
        self.proxies.append(options.get("proxies") or {})
        self.timeouts.append(options.get("timeout"))
        left = self.answers.get(f"{request.method} {path_of(request)}", [self.unknown])
        answer: Any = left.pop(0) if len(left) > 1 else left[0]
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return _response(request, answer if isinstance(answer, Reply) else Reply(body=answer))

    def close(self) -> None:
        self.closed += 1


class HasSession(Protocol):
    """A client, as far as it is put on a wire."""

    session: requests.Session


Mounted = TypeVar("Mounted", bound=HasSession)


def mounted(made: Mounted, wire: ScriptedWire) -> Mounted:
    made.session.mount("https://", wire)
    made.session.mount("http://", wire)
    return made


def path_of(request: requests.PreparedRequest) -> str:
    return str(request.path_url).partition("?")[0]


def request(**changes: Any) -> LaunchRequest:
    made: Json = {
        "name": "gpujob-r-abc123-1-1",
        "owner": "alice",
        "run_id": "r-abc123",
        "attempt": 1,
        "deadline": START.replace(hour=13),
        "disk_gb": 19.5,
        "image": "python:3.12",
        "public_key": "ssh-ed25519 AAAApublic",
    }
    return LaunchRequest(**{**made, **changes})


def _response(asked: requests.PreparedRequest, reply: Reply) -> requests.Response:
    response = requests.Response()
    response.status_code = reply.status
    response.headers = CaseInsensitiveDict(reply.headers)
    text = reply.text if reply.text is not None else "" if reply.body is None else json.dumps(reply.body)
    response._content = text.encode()
    response.encoding = "utf-8"
    response.url = str(asked.url)
    response.request = asked
    return response
