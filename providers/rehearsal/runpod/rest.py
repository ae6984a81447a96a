"""REST v2 at /v2: routes, keys, rate limits, and RFC 9457 problems. The rules are elsewhere.

Written after docs.runpod.io's REST v2 specification (2.9, 2026-08), with what clients have measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from http.client import responses
from typing import Any

from werkzeug.wrappers import Request, Response

from providers.rehearsal.runpod import billing, catalog, validation
from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.belongings import Belongings
from providers.rehearsal.runpod.limits import Limits
from providers.rehearsal.runpod.orders import BrokenRule, NotAllowed, NotFound, NotNow, Order, Refused
from providers.rehearsal.runpod.pods import Pod, Pods
from providers.rehearsal.runpod.shapes import order_of, pod_document, when

Route = Callable[..., Any]
_COLLECTIONS = {"registries": "registries", "templates": "templates", "network-volumes": "volumes"}

_SETTINGS = {"image": "image", "args": "args", "disk": "disk_gb", "env": "env", "registry": "registry"}


class Problem(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, detail: str, *, errors: list[str] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers or {}


class Rest:
    """The API of version 2."""

    def __init__(self, pods: Pods, *, limits: Limits | None, billing_lag: timedelta) -> None:
        self._pods = pods
        self._market = pods.market
        self._belongings = Belongings(pods)
        self._limits = limits
        self._billing_lag = billing_lag
        self._routes: list[tuple[re.Pattern[str], dict[str, Route]]] = [
            (re.compile(f"/v2/{path}"), methods) for path, methods in self._table().items()
        ]

    def answer(self, request: Request) -> Response:
        """Every request has an answer; after the key is known, every answer has the rate limit's headers."""
        headers: dict[str, str] = {}
        try:
            key = self._key(request)
            headers = self._count()
            response = _success(self._routed(request, key))
        except Problem as problem:
            response = problem_response(problem.status, problem.detail, errors=problem.errors)
            headers = {**headers, **problem.headers}
        except Refused as refused:
            response = problem_response(refused.status, str(refused))
        response.headers.update(headers)
        return response

    def _table(self) -> dict[str, dict[str, Route]]:
        table: dict[str, dict[str, Route]] = {
            "pods": {"GET": self._list, "POST": self._create},
            "pods/([^/]+)": {"GET": self._get, "PATCH": self._patch, "DELETE": self._delete},
            "pods/([^/]+)/action": {"POST": self._act},
            "pods/([^/]+)/logs": {"GET": self._logs},
            "account/ssh-keys": {"GET": self._ssh_keys, "PUT": self._replace_ssh_keys},
            "billing/pods": {"GET": self._billing},
        }
        for name, (many, one) in {
            "gpus": (catalog.gpus, catalog.gpu),
            "cpus": (catalog.cpus, catalog.cpu),
            "datacenters": (catalog.data_centers, catalog.data_center),
        }.items():
            table[f"catalog/{name}"] = {"GET": lambda request, many=many: many(self._market, request.args)}
            table[f"catalog/{name}/([^/]+)"] = {"GET": lambda request, id, one=one: one(self._market, id, request.args)}
        for path, kind in _COLLECTIONS.items():
            table.update(self._collection(path, kind))
        return table

    def _collection(self, path: str, kind: str) -> dict[str, dict[str, Route]]:
        own = self._belongings
        one: dict[str, Route] = {
            "GET": lambda _, id: own.get(kind, id),
            "DELETE": lambda _, id: own.delete(kind, id),
        }
        if (update := own.update_schema(kind)) is not None:
            one["PATCH"] = lambda request, id: own.update(kind, id, _body(request, update))
        return {
            path: {
                "GET": lambda _: own.list(kind),
                "POST": lambda request: (201, own.create(kind, _body(request, own.create_schema(kind)))),
            },
            f"{path}/([^/]+)": one,
        }

    def _key(self, request: Request) -> Key:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem(401, "missing bearer token")
        key = self._pods.account.key(token.strip())
        if key is None:
            raise Problem(401, "invalid bearer token")
        return key

    def _count(self) -> dict[str, str]:
        if self._limits is None:
            return {}
        now = self._pods.clock()
        full = self._limits.take(now)
        headers = self._limits.headers(now)
        if full is not None:
            window, seconds = full
            detail = f"rate limit exceeded for the {window} window"
            raise Problem(429, detail, headers={**headers, "Retry-After": str(seconds)})
        return headers

    def _routed(self, request: Request, key: Key) -> Any:
        for pattern, methods in self._routes:
            if (match := pattern.fullmatch(request.path)) is None:
                continue
            if request.method not in methods:
                allow = {"Allow": ", ".join(methods)}
                raise Problem(405, "The requested method is not allowed for this path.", headers=allow)
            _may(key, request)
            return methods[request.method](request, *match.groups())
        raise NotFound("resource not found")

    def _list(self, _: Request) -> Any:
        """No filter and no page: whatever the query says is ignored."""
        return {"pods": [self._show(pod) for pod in self._pods.listed()]}

    def _create(self, request: Request) -> Any:
        body = _body(request, validation.CREATE_POD)
        template = self._template(body)
        if "image" not in {**template, **body}:
            raise Problem(422, "Request validation failed.", errors=["$: missing property 'image'"])
        _check_rules(body)
        order = order_of(body, template)
        self._check_compute(order)
        return 201, self._show(self._pods.create(order))

    def _get(self, _: Request, id: str) -> Any:
        return self._show(self._pods.get(id))

    def _patch(self, request: Request, id: str) -> Any:
        """What the container is made of makes a running pod start again."""
        pod = self._pods.get(id)
        asked = _body(request, validation.UPDATE_POD)
        template = self._template(asked)
        body = {**template, **asked, **({"env": {**template.get("env", {}), **asked["env"]}} if "env" in asked else {})}
        wishes: dict[str, Any] = {_SETTINGS[name]: body[name] for name in _SETTINGS if name in body}
        wishes["name"] = asked.get("name", pod.order.name)
        if "ports" in body:
            wishes["ports"] = tuple(body["ports"])
        if "globalNetworking" in asked:
            wishes["global_networking"] = asked["globalNetworking"]
        if persistent := asked.get("mounts", {}).get("persistent"):
            if not pod.order.volume_gb:
                raise BrokenRule("the kind of a mount is fixed at create")
            wishes.update(volume_gb=persistent["size"], volume_path=persistent["path"])
        self._pods.change(pod, wishes, locked=asked.get("locked"))
        return self._show(pod)

    def _delete(self, _: Request, id: str) -> None:
        self._pods.terminate(self._pods.get(id))

    def _act(self, request: Request, id: str) -> Any:
        pod = self._pods.get(id)
        action = _body(request, validation.POD_ACTION)["action"]
        if action not in pod.actions:
            raise NotNow(f"action '{action}' is not valid for a pod that is {pod.status}")
        if action == "terminate":
            return self._pods.terminate(pod)
        {"start": self._pods.start, "stop": self._pods.stop, "restart": self._pods.restart}[action](pod)
        return self._show(pod)

    def _logs(self, request: Request, id: str) -> Response:
        """As server-sent events: what the host has to say. What the container says is on its machine only."""
        pod = self._pods.get(id)
        lines = [(pod.created_at, "create container"), *([(pod.up_since, "start container")] if pod.up_since else [])]
        events = ""
        for at, text in lines:
            data = json.dumps({"source": "system", "line": text, "ts": when(at)})
            if request.args.get("source", "system") == "system":
                events += f"id: {when(at)}\ndata: {data}\n\n"
        return Response(events, mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})

    def _ssh_keys(self, _: Request) -> Any:
        return {"keys": list(self._pods.account.ssh_keys)}

    def _replace_ssh_keys(self, request: Request) -> Any:
        self._pods.account.ssh_keys = list(_body(request, validation.SSH_KEYS)["keys"])
        return self._ssh_keys(request)

    def _billing(self, request: Request) -> Any:
        return billing.pod_records(self._pods, request.args, lag=self._billing_lag)

    def _show(self, pod: Pod) -> dict[str, Any]:
        return pod_document(self._pods.seen(pod), self._market, self._pods.clock())

    def _template(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if "templateId" not in body:
            return {}
        found = self._pods.account.use_template(body["templateId"], self._pods.clock())
        if found is None:
            raise NotFound("template not found")
        if found.get("serverless"):
            raise Problem(422, "template is a serverless template")
        return found

    def _check_compute(self, order: Order) -> None:
        if order.cpu is None:
            return
        flavor = self._market.cpus.get(order.cpu)
        if flavor is not None and (order.vcpus & (order.vcpus - 1) or not flavor.fewest <= order.vcpus <= flavor.most):
            raise BrokenRule(f"cpu.vcpuCount must be a power of two from {flavor.fewest} to {flavor.most}")


def problem_response(status: int, detail: str, *, errors: list[str] | None = None) -> Response:
    document: dict[str, Any] = {"title": responses.get(status, "Error"), "status": status, "detail": detail}
    if errors:
        document["errors"] = errors
    return Response(json.dumps(document), status=status, content_type="application/problem+json")


def _success(found: Any) -> Response:
    if isinstance(found, Response):
        return found
    if found is None:
        return Response(status=204)
    status, document = found if isinstance(found, tuple) else (200, found)
    return Response(json.dumps(document), status=status, content_type="application/json")


def _body(request: Request, schema: validation.Schema) -> dict[str, Any]:
    try:
        body = json.loads(request.get_data())
    except ValueError as error:
        raise Problem(400, "request could not be processed") from error
    if errors := list(validation.wrong(body, schema)):
        raise Problem(422, "Request validation failed.", errors=errors)
    checked: dict[str, Any] = body
    return checked


def _may(key: Key, request: Request) -> None:
    """A pod's own key may do everything to that pod, and nothing else."""
    if key.pod is not None and not re.match(f"/v2/pods/{re.escape(key.pod)}(/|$)", request.path):
        raise NotAllowed
    if not key.may_write and request.method != "GET":
        raise NotAllowed


def _check_rules(body: Mapping[str, Any]) -> None:
    """What needs more than one field to judge: 400, as for no capacity."""
    gpu, mounts = body.get("gpu"), body.get("mounts", {})
    if ("gpu" in body) == ("cpu" in body):
        raise BrokenRule("exactly one of gpu or cpu must be set")
    if "persistent" in mounts and mounts.get("network"):
        raise BrokenRule("mounts.persistent and mounts.network are mutually exclusive")
    if "cpu" in body and "persistent" in mounts:
        raise BrokenRule("mounts.persistent is not supported for CPU pods")
    if gpu and gpu.get("allowedCudaVersions") and "minCudaVersion" in gpu:
        raise BrokenRule("gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive")
