"""The routes of the API: who may ask, how often, and what the request and the answer look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from providers.rehearsal.vast import account_calls, instance_calls, market_calls
from providers.rehearsal.vast.account import OTHER_KEY, Caller, not_yours
from providers.rehearsal.vast.asked import Asked
from providers.rehearsal.vast.refused import Refused, refused
from providers.rehearsal.vast.service import Vast

Answer = Callable[[Vast, Asked], Any]


@dataclass(frozen=True)
class Route:
    """One call. `own` ones an instance may make on itself, with its own key."""

    method: str
    path: str
    answer: Answer
    limit: str = ""
    own: bool = False
    public: bool = False  # needs no key
    unknown_key: int = 401  # 404 at some endpoints


_I = "/api/v0/instances"
ROUTES = (
    Route("POST", "/api/v0/bundles/", market_calls.bundles, "search", public=True, unknown_key=404),
    Route("PUT", "/api/v0/search/asks/", market_calls.search_asks, "search", public=True, unknown_key=404),
    Route("GET", "/api/v0/gpu_names/unique/", market_calls.gpu_names, public=True),
    Route("GET", "/api/v0/gpu_types/", market_calls.gpu_types, public=True),
    Route("PUT", "/api/v0/asks/<int:id>/", market_calls.create, "create"),
    Route("GET", "/api/v1/instances/", instance_calls.show_all, "list"),
    Route("GET", f"{_I}/", instance_calls.deprecated, "list"),
    Route("PUT", f"{_I}/", instance_calls.change_several, "change"),
    Route("DELETE", f"{_I}/", instance_calls.destroy_several, "destroy"),
    Route("GET", f"{_I}/filters/", instance_calls.filters),
    Route("GET", f"{_I}/pending-price-increases/", instance_calls.price_increases),
    Route("GET", f"{_I}/<int:id>/", instance_calls.show, "show", own=True),
    Route("PUT", f"{_I}/<int:id>/", instance_calls.change, "change", own=True),
    Route("DELETE", f"{_I}/<int:id>/", instance_calls.destroy, "destroy", own=True),
    Route("PUT", f"{_I}/bid_price/<int:id>/", instance_calls.bid, "bid"),
    Route("PUT", f"{_I}/reboot/<int:id>/", instance_calls.reboot, "reboot"),
    Route("PUT", f"{_I}/recycle/<int:id>/", instance_calls.recycle, "reboot"),
    Route("PUT", f"{_I}/request_logs/<int:id>/", instance_calls.request_logs),
    Route("PUT", f"{_I}/command/<int:id>/", instance_calls.command, "command"),
    Route("GET", f"{_I}/balance/<int:id>/", account_calls.deposit),
    Route("PUT", f"{_I}/prepay/<int:id>/", account_calls.prepay),
    Route("GET", f"{_I}/<int:id>/ssh/", account_calls.keys_of_instance),
    Route("POST", f"{_I}/<int:id>/ssh/", account_calls.attach_key, "ssh_create"),
    Route("DELETE", f"{_I}/<int:id>/ssh/<int:key>/", account_calls.detach_key, "ssh_detach"),
    Route("GET", "/api/v0/ssh/", account_calls.keys),
    Route("POST", "/api/v0/ssh/", account_calls.add_key, "ssh_create"),
    Route("PUT", "/api/v0/ssh/<int:key>/", account_calls.change_key),
    Route("DELETE", "/api/v0/ssh/<int:key>/", account_calls.delete_key),
    Route("GET", "/api/v0/users/current/", account_calls.user),
    Route("GET", "/api/v0/charges/", account_calls.charges, "charges", unknown_key=404),
    Route("GET", "/api/v1/invoices/", account_calls.invoices, "invoices", unknown_key=404),
    Route("POST", "/api/v0/contracts/fetch/", account_calls.contracts),
    Route("GET", "/instance_logs/<name>", instance_calls.log_file, public=True),
)


class Api:
    """The WSGI application. `url` is where it listens, for the addresses that it gives out."""

    def __init__(self, vast: Vast, *, proxy: bool) -> None:
        self.url = ""
        self._vast = vast
        self._another = vast.for_another()
        self._proxy = proxy
        rules = [Rule(route.path, methods=[route.method], endpoint=route) for route in ROUTES]
        # The SDK ends some paths with a slash and some not.
        self._map = Map(rules, strict_slashes=False, redirect_defaults=False)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._answer(request)
        except Refused as refusal:
            return _refusal(refusal)(environ, start_response)
        except HTTPException as error:
            return error(environ, start_response)
        if not isinstance(answer, Response):
            answer = Response(json.dumps(answer), mimetype="application/json")
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Any:
        route, numbers = self._map.bind_to_environ(request.environ).match()
        assert isinstance(route, Route)
        key = _key(request)
        self._vast.limits.check(route.limit, key or request.remote_addr or "", self._vast.clock())
        vast = self._another if key == OTHER_KEY else self._vast
        caller = _caller(vast, route, key)
        if caller.instance_id is not None and not (route.own and caller.may_act_on(int(numbers["id"]))):
            raise not_yours()
        asked = Asked(
            body=_body(request), query=request.args, numbers=dict(numbers), url=self.url, proxy=self._proxy, api_key=key
        )
        return route.answer(vast, asked)


def _caller(vast: Vast, route: Route, key: str) -> Caller:
    if route.public and not key:
        return Caller()
    keys = ((contract.key, contract.id) for contract in vast.contracts.alive())
    return vast.account.caller(key, keys, route.unknown_key)


def _key(request: Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind == "Bearer" else request.args.get("api_key", "")


def _body(request: Request) -> Any:
    raw = request.get_data()
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError:
        raise refused(400, "invalid_request", "Invalid json body") from None


def _refusal(refusal: Refused) -> Response:
    if isinstance(refusal.body, str):
        return Response(refusal.body, refusal.status, refusal.headers, mimetype="text/plain")
    return Response(json.dumps(refusal.body), refusal.status, refusal.headers, mimetype="application/json")
