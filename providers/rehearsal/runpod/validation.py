"""Strict checking of REST v2's bodies: the schemas as data, and the words in which RunPod lists what is wrong.

A property that the schema does not name is refused. What needs more than one field to judge is a rule, not validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
}
_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_CUDA: Schema = {"type": "string", "pattern": r"^\d+\.\d+$"}
_COUNT: Schema = {"type": "integer", "minimum": 1}


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


_MOUNTS = _object(
    persistent=_object(("size", "path"), size={"type": "integer", "minimum": 10}, path=_TEXT),
    network={"type": "array", "maxItems": 1, "items": _object(("volumeId", "path"), volumeId=_TEXT, path=_TEXT)},
)
_CONTAINER: Mapping[str, Schema] = {
    "args": _TEXT,
    "disk": _COUNT,
    "env": {"type": "object", "values": _TEXT},
    "image": _TEXT,
    "ports": _TEXTS,
    "registry": {"type": "string", "or_null": True},
}
_GPU = _object(
    ("id",),
    id=_TEXT,
    count=_COUNT,
    allowedCudaVersions={"type": "array", "items": _CUDA},
    minCudaVersion=_CUDA,
    # Newer than the published schema, sent by the SDK after 1.12 (github.com/runpod/runpod-python/pull/584).
    minRamPerGpu=_COUNT,
    minVcpuCountPerGpu=_COUNT,
)
CREATE_POD = _object(
    ("name",),
    name=_NAME,
    cloud={"type": "string", "enum": ("SECURE", "COMMUNITY")},
    cpu=_object(("id", "vcpuCount"), id=_NAME, vcpuCount={"type": "integer", "minimum": 2}),
    dataCenterIds=_TEXTS,
    globalNetworking=_FLAG,
    gpu=_GPU,
    mounts=_MOUNTS,
    startJupyter=_FLAG,
    startSsh=_FLAG,
    templateId=_NAME,
    **_CONTAINER,
)
UPDATE_POD = _object(name=_NAME, globalNetworking=_FLAG, locked=_FLAG, mounts=_MOUNTS, templateId=_TEXT, **_CONTAINER)
POD_ACTION = _object(("action",), action={"type": "string", "enum": ("start", "stop", "restart", "terminate")})
CREATE_REGISTRY = _object(("name", "username", "password"), name=_NAME, username=_NAME, password=_NAME)
CREATE_VOLUME = _object(
    ("name", "size", "dataCenter"),
    name=_NAME,
    size={"type": "integer", "minimum": 10, "maximum": 4096},
    dataCenter=_NAME,
    type={"type": "string", "enum": ("STANDARD", "HIGH_PERFORMANCE")},
)
UPDATE_VOLUME = _object(name=_NAME, size={"type": "integer", "minimum": 10, "maximum": 4096})
TEMPLATE_FIELDS: Mapping[str, Schema] = {
    "name": _NAME,
    "allowedCudaVersions": {"type": "array", "items": _CUDA},
    "category": {"type": "string", "enum": ("CPU", "NVIDIA", "AMD")},
    "mounts": _object(persistent=_MOUNTS["properties"]["persistent"]),
    "public": _FLAG,
    "serverless": _FLAG,
    "startJupyter": _FLAG,
    "startSsh": _FLAG,
    **_CONTAINER,
}
CREATE_TEMPLATE = _object(("name", "image"), **TEMPLATE_FIELDS)
UPDATE_TEMPLATE = _object(**TEMPLATE_FIELDS)
SSH_KEYS = _object(
    ("keys",),
    keys={
        "type": "array",
        "items": {"type": "string", "pattern": r"^(ssh|ecdsa|sk)-[^\s]+ [^\s]+([ \t][^\n\r]*)?$"},
    },
)


def wrong(value: Any, schema: Schema, path: str = "$") -> Iterator[str]:
    """What is wrong with a body, one sentence each; nothing when it is right."""
    if value is None and schema.get("or_null"):
        return
    kind = schema["type"]
    if not _is(value, kind):
        yield f"{path}: got {_NAMES.get(type(value), 'null')}, want {kind}"
    elif kind == "object":
        yield from _wrong_object(value, schema, path)
    elif kind == "array":
        yield from _wrong_array(value, schema, path)
    else:
        yield from _wrong_scalar(value, schema, path)


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[kind])


def _wrong_object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    if (values := schema.get("values")) is not None:
        for name, each in value.items():
            yield from wrong(each, values, f"{path}.{name}")
        return
    properties = schema["properties"]
    for name in schema["required"]:
        if name not in value:
            yield f"{path}: missing property '{name}'"
    if unknown := [name for name in value if name not in properties]:
        yield f"{path}: additional properties {', '.join(map(repr, unknown))} not allowed"
    for name, each in value.items():
        if name in properties:
            yield from wrong(each, properties[name], f"{path}.{name}")


def _wrong_array(value: list[Any], schema: Schema, path: str) -> Iterator[str]:
    if (most := schema.get("maxItems")) is not None and len(value) > most:
        yield f"{path}: maxItems: got {len(value)}, want {most}"
    for number, each in enumerate(value):
        yield from wrong(each, schema["items"], f"{path}[{number}]")


def _wrong_scalar(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if (words := schema.get("enum")) is not None and value not in words:
        yield f"{path}: value must be one of {', '.join(map(repr, words))}"
    if (least := schema.get("minimum")) is not None and value < least:
        yield f"{path}: minimum: got {value}, want {least}"
    if (most := schema.get("maximum")) is not None and value > most:
        yield f"{path}: maximum: got {value}, want {most}"
    if (length := schema.get("minLength")) is not None and len(value) < length:
        yield f"{path}: minLength: got {len(value)}, want {length}"
    if (pattern := schema.get("pattern")) is not None and not re.search(pattern, value):
        yield f"{path}: {value!r} does not match pattern {pattern!r}"
