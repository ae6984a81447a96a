"""GraphQL at /graphql: keys, the checking of queries, and answers with nothing but the fields that were asked for.

What RunPod's rules refuse is answered with HTTP 200 and `errors`; what its schema refuses with HTTP 400.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.checking import Invalid, check
from providers.rehearsal.runpod.language import Field, Operation, parse
from providers.rehearsal.runpod.mutations import Mutations
from providers.rehearsal.runpod.orders import Refused
from providers.rehearsal.runpod.pods import Pods
from providers.rehearsal.runpod.queries import Queries
from providers.rehearsal.runpod.schema import PUBLIC

_CREATES = {"podFindAndDeployOnDemand", "podRentInterruptable", "deployCpuPod"}
_OFFERS = {"gpuTypes", "cpuFlavors", "dataCenters", "countryCodes"}


class GraphQl:
    """Answers POST requests. Not safe between threads: the cloud's lock guards it."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._roots: Mapping[str, Queries | Mutations] = {"query": Queries(pods), "mutation": Mutations(pods)}

    def answer(self, request: Request) -> Response:
        if request.method != "POST":
            return _text(405, "Method Not Allowed")
        try:
            key = self._key(request)
        except PermissionError:
            return _text(401, "Unauthorized")
        try:
            document = json.loads(request.get_data())
            operation = _operation(document)
            fields = check(operation, document.get("variables") or {})
        except (ValueError, AttributeError, SyntaxError) as error:
            return _refused(400, str(error), "GRAPHQL_PARSE_FAILED")
        except Invalid as error:
            return _refused(400, str(error), "GRAPHQL_VALIDATION_FAILED")
        if key is None and any(field.name not in PUBLIC for field in fields):
            return _text(401, "Unauthorized")
        return self._done(operation, fields, key)

    def _key(self, request: Request) -> Key | None:
        """From the header, or from the query string, where it leaks into logs. None: none was sent."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        token = token or request.args.get("api_key", "")
        if not token:
            return None
        key = self._pods.account.key(token)
        if key is None:
            raise PermissionError
        return key

    def _done(self, operation: Operation, fields: tuple[Field, ...], key: Key | None) -> Response:
        root = self._roots[operation.kind]
        data: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        for field in fields:
            try:
                value = "Query" if field.name == "__typename" else root.resolve(field.name, field.arguments, key)
                data[field.alias] = _selected(value, field.selections)
            except Refused as refused:
                data[field.alias] = None
                errors.append({"message": str(refused), "path": [field.alias], "extensions": {"code": refused.code}})
        return _json(200, {"errors": errors, "data": data} if errors else {"data": data})


def call_of_query(body: bytes) -> str:
    """Which of faults.CALLS a request is: the most consequential of what it asks."""
    try:
        operation = _operation(json.loads(body))
    except (ValueError, AttributeError, SyntaxError):
        return "other"
    names = {field.name for field in operation.selections}
    inner = {each.name for field in operation.selections for each in field.selections or ()}
    asked = {
        "create": bool(names & _CREATES),
        "terminate": "podTerminate" in names,
        "list": "myself" in names and "pods" in inner,
        "get": "pod" in names,
        "offers": bool(names & _OFFERS),
    }
    return next((call for call, is_it in asked.items() if is_it), "other")


def about_query(body: bytes) -> tuple[str, str]:
    """The fields that are asked for, and the pod that they are about: its id, or the name that it is to have."""
    try:
        document = json.loads(body)
        operation = _operation(document)
        fields = check(operation, document.get("variables") or {})
    except (ValueError, AttributeError, SyntaxError, Invalid):
        return "", ""
    wishes = [(field.name, field.arguments.get("input") or {}) for field in fields]
    pods = [str(wish.get("podId") or (wish.get("name", "") if name in _CREATES else "")) for name, wish in wishes]
    return ",".join(name for name, _ in wishes), ",".join(filter(None, pods))


def _operation(document: Any) -> Operation:
    if not isinstance(document.get("query"), str):
        raise ValueError("GraphQL operations must contain a non-empty `query`.")
    operations = parse(document["query"])
    name = document.get("operationName")
    found = [operation for operation in operations if name in (None, "", operation.name)]
    if len(found) != 1:
        raise ValueError("Must provide operation name if query contains multiple operations.")
    return found[0]


def _selected(value: Any, selections: tuple[Field, ...] | None) -> Any:
    if value is None or selections is None:
        return value
    if isinstance(value, list):
        return [_selected(each, selections) for each in value]
    found = {}
    for field in selections:
        each = value.get(field.name)
        if callable(each):
            each = each(field.arguments.get("input") or {})
        found[field.alias] = _selected(each, field.selections)
    return found


def _refused(status: int, message: str, code: str) -> Response:
    return _json(status, {"errors": [{"message": message, "extensions": {"code": code}}]})


def _json(status: int, document: Mapping[str, Any]) -> Response:
    return Response(json.dumps(document), status=status, content_type="application/json")


def _text(status: int, words: str) -> Response:
    """The form of these answers is not published; clients have met some that are no JSON."""
    return Response(words + "\n", status=status, content_type="text/plain")
