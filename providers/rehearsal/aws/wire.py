"""AWS's wire formats: which call a request is, and how an answer or a refusal is written. Knows no instance.

EC2 and STS send forms and get XML; Pricing, Service Quotas, SSM and Cost Explorer send and get JSON.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4
from wsgiref.types import WSGIEnvironment
from xml.sax.saxutils import escape

EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
JSON_SERVICES = ("ce", "pricing", "servicequotas", "ssm")

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_READ = "gpujob.rehearsal.aws.call"
_JSON = "application/x-amz-json-1.1"
_XML = "text/xml;charset=UTF-8"

Answer = tuple[int, dict[str, str], bytes]


class Refused(Exception):
    """The cloud says no, in AWS's words."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. `form` is the query protocol's flat form, `body` the JSON protocol's."""

    service: str = ""
    region: str = ""
    action: str = ""
    access_key: str = ""
    form: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def listed(self, prefix: str) -> list[str]:
        """The values of `Prefix.1`, `Prefix.2`, ... in order."""
        found = ((key.removeprefix(f"{prefix}."), value) for key, value in self.form.items())
        return [value for number, value in sorted((int(n), v) for n, v in found if n.isdigit())]

    def members(self, prefix: str) -> list[dict[str, str]]:
        """The structures `Prefix.1.Name`, `Prefix.2.Name`, ... in order, each as its own flat form."""
        found: dict[int, dict[str, str]] = {}
        for key, value in self.form.items():
            if (match := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.(.+)", key)) is not None:
                found.setdefault(int(match[1]), {})[match[2]] = value
        return [found[number] for number in sorted(found)]

    def filters(self) -> dict[str, list[str]]:
        return {row.get("Name", ""): values_of(row, "Value") for row in self.members("Filter")}

    def is_true(self, name: str) -> bool:
        return self.form.get(name, "").lower() == "true"


def values_of(form: Mapping[str, str], prefix: str) -> list[str]:
    return Call(form=form).listed(prefix)


def read(environ: WSGIEnvironment) -> Call:
    """What is asked; the body is put back. Only bodies that can be a form or JSON are read."""
    if isinstance(known := environ.get(_READ), Call):
        return known
    match = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    access_key, region, service = match.groups() if match else ("", "", "")
    kind, raw = environ.get("CONTENT_TYPE", ""), b""
    if kind.startswith(("application/x-www-form-urlencoded", "application/x-amz-json")):
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(raw)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    form = {} if target else dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    if kind.startswith("application/x-www-form-urlencoded"):
        form |= dict(parse_qsl(raw.decode(), keep_blank_values=True))
    call = Call(
        service=service,
        region=region,
        action=target.rpartition(".")[2] or form.get("Action", ""),
        access_key=access_key,
        form=form,
        body=json.loads(raw) if target and raw else {},
    )
    environ[_READ] = call
    return call


def rewritten(environ: WSGIEnvironment, form: Mapping[str, str]) -> WSGIEnvironment:
    """The same request with another form."""
    raw = urlencode(form).encode()
    fresh = {key: value for key, value in environ.items() if key not in (_READ, "QUERY_STRING")}
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    return fresh | {"wsgi.input": io.BytesIO(raw), "CONTENT_LENGTH": str(len(raw)), "CONTENT_TYPE": kind}


def json_answer(document: Any, status: int = 200) -> Answer:
    headers = {"Content-Type": _JSON, "x-amzn-RequestId": str(uuid4())}
    return status, headers, json.dumps(document).encode()


def xml_answer(action: str, inside: str) -> Answer:
    """EC2's answer to `action`; `inside` is what stands in it."""
    request = uuid4()
    text = f'<{action}Response xmlns="{EC2_NAMESPACE}"><requestId>{request}</requestId>{inside}</{action}Response>'
    return 200, {"Content-Type": _XML, "x-amzn-requestid": str(request)}, _declared(text)


def xml(document: Mapping[str, Any]) -> str:
    """EC2's XML for nested mappings and lists; a list's members are items, None is left out."""
    return "".join(_element(name, value) for name, value in document.items() if value is not None)


def refused(error: Refused, call: Call) -> Answer:
    """The refusal in the form of the service that was asked."""
    request = str(uuid4())
    if call.service in JSON_SERVICES:
        return json_answer({"__type": error.code, "message": error.message}, error.status)
    what = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if call.service == "ec2":
        text = f"<Response><Errors><Error>{what}</Error></Errors><RequestID>{request}</RequestID></Response>"
    elif call.service == "s3":
        text = f"<Error>{what}<RequestId>{request}</RequestId></Error>"
    else:
        fault = "Sender" if error.status < 500 else "Receiver"
        wrapped = f"<Error><Type>{fault}</Type>{what}</Error><RequestId>{request}</RequestId>"
        text = f"<ErrorResponse>{wrapped}</ErrorResponse>"
    return error.status, {"Content-Type": _XML, "x-amzn-requestid": request}, _declared(text)


def _declared(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _element(name: str, value: Any) -> str:
    return f"<{name}>{_inside(value)}</{name}>"


def _inside(value: Any) -> str:
    if isinstance(value, Mapping):
        return xml(value)
    if isinstance(value, Sequence | Iterable) and not isinstance(value, str):
        return "".join(_element("item", member) for member in value)
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))
