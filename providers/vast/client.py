"""Vast.ai by its official SDK: one request per call, at the documented pace, each answer looked at before it is used.

The SDK knows paths and bodies. It is not let to try again: it would repeat a create whose answer was lost, and call
the second one's "offer gone" the outcome while the first one's machine bills (vastai 1.9.1, api/client.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import requests

from providers import sent
from providers.accounts import Account
from providers.base import Now
from providers.errors import Ambiguous, AuthFailed, NotFound, ProviderError, Throttled, Unreachable
from providers.transport import Answer, bound
from providers.vast import sdk
from providers.vast.pace import CHARGES, CREATE, DESTROY, LIST, SEARCH, SHOW, SSH, USER, Pace
from providers.vast.refusals import translate

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
CREATE_SECONDS = 60.0  # a create that is given up early has to be looked for by its label
SSH_SECONDS = 10.0
PATIENCE = 1.5  # a turn that comes later than that is left to the caller
PAGES_PATIENCE = 4.0  # half a list is of no use

MOST_PER_PAGE = 25
MOST_PAGES = 200
CHARGES_PER_PAGE = 100

_NAME = "vast"
_SECONDS = {CREATE: CREATE_SECONDS, SSH: SSH_SECONDS}

Json = dict[str, Any]
Rows = list[Json]
Send = Callable[[str, str, Mapping[str, str], Any], requests.Response]


class Client:
    """One account. Safe between threads."""

    def __init__(
        self, account: Account, now: Now, *, sleep: Callable[[float], None] = time.sleep, patience: float = PATIENCE
    ) -> None:
        self._account = account
        self._now = now
        self._sleep = sleep
        self._patience = patience
        self._pace = Pace()
        self.session: requests.Session = bound(sdk.client.VastSession(account.base))
        self.session.auth = _as_it_is  # without it requests puts what ~/.netrc says of the host over the key
        self.session.trust_env = not account.is_simulated  # no proxy between this computer and itself

    def search(self, filters: Json, *, bid: bool, storage_gb: float, limit: int) -> Rows:
        """Cheapest first. With or without a key."""
        kind, order = "bid" if bid else "on-demand", [["dph_total", "asc"]]
        with _sensible("the offers"):
            found = sdk.offers.search_offers(
                self._one_try(SEARCH), dict(filters), offer_type=kind, order=order, limit=limit,
                storage=storage_gb, no_default=True,
            )  # fmt: skip
        if not isinstance(found, list):
            raise _senseless("the offers")
        return [row for row in found if isinstance(row, dict)]  # one that is none must not hide the others

    def create(self, ask_id: int, body: Json, secrets: tuple[str, ...] = ()) -> str:
        """The id of the new instance."""
        said = sdk.instances.create_instance_from_payload(self._one_try(CREATE, secrets=secrets), ask_id, body)
        made = sent.whole(said.get("new_contract")) if isinstance(said, dict) else 0
        if not made:
            raise Ambiguous("Vast.ai accepted a create and did not say what it made", provider=_NAME)
        return str(made)

    def instance(self, instance_id: str, *, patience: float | None = None) -> Json:
        """One instance as it is. One that is destroyed, or never was, is `null` with status 200.

        Not by the SDK's own function: it fails on an instance that has no variables or no start yet.
        """
        one_try = self._one_try(SHOW, patience=patience)
        said = one_try.get(f"/instances/{instance_id}/", query_args={"owner": "me"}).json()
        row = said.get("instances", said) if isinstance(said, dict) else {}
        if row is None:
            raise NotFound(f"Vast.ai has no instance {instance_id} (any more)", provider=_NAME)
        if not isinstance(row, dict) or str(row.get("id")) != instance_id:
            raise _senseless(f"instance {instance_id}")
        return row

    def instances(self, filters: Json | None = None) -> Rows:
        """All instances of the account, or those that a filter on stored columns finds, page by page."""
        asked: Json = {
            "select_filters": filters or {},
            "order_by": [{"col": "id", "dir": "asc"}],
            "limit": MOST_PER_PAGE,
        }
        found: Rows = []
        for _ in range(MOST_PAGES):
            said = sdk.instances.show_instances_v1(self._one_try(LIST, patience=PAGES_PATIENCE), asked)
            rows = _rows(said.get("instances") if isinstance(said, dict) else None, "the list of instances")
            if not all(sent.whole(row.get("id")) for row in rows):  # a machine without an id could not be ended
                raise _senseless("the list of instances, of which one has no id")
            found += rows
            token = said.get("next_token")
            if not token:
                return found
            if token == asked.get("after_token"):
                break
            asked["after_token"] = token
        raise _senseless("the list of instances, which does not end")

    def destroy(self, instance_id: str, *, patience: float | None = None) -> None:
        sdk.instances.destroy_instance(self._one_try(DESTROY, patience=patience), instance_id)

    def attach_key(self, instance_id: str, public_key: str) -> None:
        sdk.keys.attach_ssh(self._one_try(SSH), instance_id, public_key)

    def charges(self, since: datetime, until: datetime) -> Iterator[Json]:
        """Rows of the bill for instances, newest first, destroyed ones too."""
        asked: Json = {
            "charges": True,
            "charge_type": ["instance"],
            "start_date": int(since.timestamp()),
            "end_date": int(until.timestamp()),
            "latest_first": True,
            "limit": CHARGES_PER_PAGE,
        }
        for _ in range(MOST_PAGES):
            said = sdk.billing.show_invoices_v1(self._one_try(CHARGES, patience=PAGES_PATIENCE), asked)
            yield from _rows(said.get("results") if isinstance(said, dict) else None, "the charges")
            if not said.get("next_token"):
                return
            asked["next_token"] = said["next_token"]

    def user(self) -> Json:
        with _sensible("the account"):
            return dict(sdk.billing.show_user(self._one_try(USER)))

    def close(self) -> None:
        self.session.close()

    def _one_try(self, call: str, *, patience: float | None = None, secrets: tuple[str, ...] = ()) -> Any:
        """The SDK's client for one request."""
        if self._account.problem is not None and call != SEARCH:
            raise AuthFailed(self._account.problem, provider=_NAME)
        hidden = (self._account.key, *secrets)

        def send(method: str, url: str, headers: Mapping[str, str], body: Any) -> requests.Response:
            self._wait(call, self._patience if patience is None else max(patience, self._patience))
            try:
                return self._asked(call, method, url, headers, body, hidden)
            except Throttled as error:
                self._pace.refused(call, error.after, self._now())
                raise

        return _OneTry(self._account, send)

    def _wait(self, call: str, patience: float) -> None:
        wait = self._pace.reserve(call, self._now(), patience)
        if wait > patience:
            text = f"Vast.ai's rate limit: no {call} is sent for another {wait:.1f} s"
            raise Throttled(text, after=wait, provider=_NAME)
        if wait > 0:
            self._sleep(wait)

    def _asked(
        self, call: str, method: str, url: str, headers: Mapping[str, str], body: Any, hidden: tuple[str, ...]
    ) -> requests.Response:
        """The answer, which is JSON and no refusal. Status 200 with `success: false` is one, too."""
        if call == CREATE:
            self.session.close()  # a kept connection that the other end drops just now would cost a look-up
        try:
            response = self.session.request(
                method,
                url,
                headers=dict(headers),
                json=body,
                timeout=(CONNECT_SECONDS, _SECONDS.get(call, ANSWER_SECONDS)),
                allow_redirects=method == "GET",
            )
        except requests.RequestException as error:
            raise translate(error, call=call, now=self._now(), secrets=hidden) from None
        answer = Answer(response.status_code, response.text, response.headers)
        if not _is_yes(answer):
            raise translate(answer, call=call, now=self._now(), secrets=hidden)
        return response


class _OneTry(sdk.client.VastClient):  # type: ignore[misc, name-defined]
    """The SDK's client, whose request goes through `send`. `retry=1` is one try (0 would send nothing)."""

    def __init__(self, account: Account, send: Send) -> None:
        super().__init__(account.key or None, account.base, retry=1)
        self._send = send

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], json_data: Any = None, timeout: float | None = None
    ) -> requests.Response:
        del timeout  # each call has its own
        return self._send(method, url, headers, json_data)


def _is_yes(answer: Answer) -> bool:
    if not 200 <= answer.status < 300:
        return False
    try:
        body = answer.body()
    except ValueError:
        return False
    return not (isinstance(body, dict) and body.get("success") is False)


@contextmanager
def _sensible(what: str) -> Iterator[None]:
    """The SDK's functions take their part out of an answer without looking whether it is there."""
    try:
        yield
    except ProviderError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _senseless(what) from None


def _rows(found: Any, what: str) -> Rows:
    """A list, whole: one that lacks a row would say that something is not there."""
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise _senseless(what)
    return found


def _senseless(what: str) -> Unreachable:
    return Unreachable(f"Vast.ai's answer makes no sense: {what}", provider=_NAME)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
