"""The kinds of value that a spec is made of, as pydantic types: what each accepts, and its JSON Schema for editors.

Every refusal is a ValueError in words for a person: what is wrong and what to write instead. Values of `env` and
`secrets` never appear in one. Knows no key of a spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema, model_validator

from jobs import quantities
from jobs.problems import Figure, either, found, looks_secret, shown, suggestion
from jobs.reported import pattern_problem

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"
ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"

_IMAGE = re.compile(r"[A-Za-z0-9](?!.*//)[A-Za-z0-9._/:-]*(@sha256:[0-9a-f]{64})?")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_OURS = "GPUJOB_"


class Section(BaseModel):
    """A mapping of a spec. A key without a value counts as not written."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    example: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        return {key: inner for key, inner in _mapping(value, cls.example).items() if inner is not None}


def text(value: Any, *, example: str) -> str:
    """Text that is not blank."""
    if isinstance(value, (bool, Figure, int, float)):
        raise ValueError(f"{found(value)}; put it in quotes if this is meant")
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; write text, such as {example}")
    if not value.strip():
        raise ValueError(f"is empty; write text, such as {example}")
    return _usable(value)


def choice(*words: str) -> BeforeValidator:
    """One of a few words."""

    def check(value: Any) -> Any:
        if value in words and not isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{found(value)}; write {either(words)}")
        raise ValueError(f"{shown(value)} is not known; write {either(words)}")

    return BeforeValidator(check)


def _usable(value: str) -> str:
    """No text with what a command line or a file cannot hold: NUL, and halves of characters."""
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("holds a NUL or half of a character; remove it")
    return str(value)


def _plain(example: str) -> BeforeValidator:
    return BeforeValidator(lambda value: text(value, example=example))


def listed(example: str) -> BeforeValidator:
    """A list, and not the one thing that it would have had in it."""

    def check(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return value
        raise ValueError(f"{found(value)}; write a list, such as {example}")

    return BeforeValidator(check)


def _mapped(example: str) -> BeforeValidator:
    return BeforeValidator(lambda value: _mapping(value, example))


def _mapping(value: Any, example: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{found(value)}; write a mapping, such as {example}")
    if not all(isinstance(key, str) for key in value):
        raise ValueError(f"has a key that is not text; write a mapping, such as {example}")
    return value


def _name(value: Any) -> str:
    name = text(value, example="mnist-1")
    if not re.match(NAME_PATTERN, name) or name.endswith("\n"):
        raise ValueError(
            f"{shown(name)} cannot be a name; use letters, digits, dots, hyphens and underscores, "
            "begin with a letter or a digit, at most 60 characters"
        )
    return name


def _command(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        raise ValueError("found a list; write the command as one text, such as python train.py --epochs 3")
    return text(value, example="python train.py")


def _image(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value.casefold() == "none"):
        return None
    example = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime, or none"
    name = text(value, example=example)
    if not _IMAGE.fullmatch(name):
        raise ValueError(f"{shown(name)} is not the name of an image; write one such as {example}")
    return name


def _path_inside(value: Any, example: str) -> str:
    path = text(value, example=example)
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "~", "\\")) or re.match(r"[A-Za-z]:", path):
        raise ValueError(f"{shown(path)} is absolute; write a path inside workdir, such as {example}")
    if ".." in parts:
        raise ValueError(f"{shown(path)} leads out of workdir; write a path inside it, such as {example}")
    return path


def _directory_inside(value: Any) -> str:
    path = _path_inside(value, "checkpoints")
    if not path.replace("./", "").strip("./"):
        raise ValueError("is workdir itself; write a directory of its own, such as checkpoints")
    return path


def _env_name(value: Any) -> str:
    if not re.fullmatch(ENV_NAME_PATTERN[1:-1], value):
        raise ValueError("is not a name that a variable can have; use letters, digits and _, and no digit first")
    if value.startswith(_OURS):
        raise ValueError(f"names that begin with {_OURS} belong to gpujob; choose another")
    return str(value)


def _env_value(value: Any) -> str:
    if isinstance(value, bool):
        raise ValueError('found a yes/no value; write it in quotes, such as "true" or "yes"')
    if value is None:
        raise ValueError('is empty; write "" for an empty value')
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{found(value)}; write text in quotes")
    return _usable(str(value))


def _secret(value: Any) -> str:
    write = "write only the name of the variable, such as HF_TOKEN; its value is never written in this file"
    if not isinstance(value, str) or isinstance(value, Figure):
        raise ValueError(f"{found(value)}; {write}")
    if not re.fullmatch(ENV_NAME_PATTERN[1:-1], value) or looks_secret(value) or len(value) > 100:
        raise ValueError(f"this is not a name (it may be a value, so it is not shown); {write}")
    if value.startswith(_OURS):
        raise ValueError(f"names that begin with {_OURS} belong to gpujob; choose another")
    return str(value)


def _label(value: Any) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("is not a label; use letters, digits and . _ / -, at most 63 characters")
    return str(value)


def _pattern(value: Any) -> str:
    example = "'loss=([0-9.]+)'"
    pattern = text(value, example=example)
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}; write one such as {example}") from None
    if groups == 1 and (problem := pattern_problem(pattern)):
        raise ValueError(problem)
    if groups == 1:
        return pattern
    if groups == 0:
        raise ValueError(f"has no group; put parentheses around the number, such as {example}")
    raise ValueError(f"has {groups} groups; exactly one may catch the number, write (?:...) for the others")


def _flag(value: Any) -> bool:
    words = {"true": True, "yes": True, "false": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.casefold() in words:
        return words[value.casefold()]
    raise ValueError(f"{shown(value) if type(value) is str else found(value)}; write true or false")


def counted(*, most: int, example: int, least: int = 1) -> BeforeValidator:
    """A whole number from `least`."""
    return BeforeValidator(lambda value: quantities.count(value, most=most, example=example, least=least))


def unknown(what: str, name: str, known: tuple[str, ...]) -> ValueError:
    """Why a name is refused, with the nearest ones, or all of them when they are few."""
    near = suggestion(name, known, most=3)
    if not near and len(known) <= 10:
        near = f"; write {either(known)}"
    return ValueError(f"unknown {what} {shown(name)}{near}")


def _seconds(value: timedelta) -> int | float:
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _dollars(value: Decimal) -> str:
    return format(value.normalize(), "f")


def _schema(kind: str | list[str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


Text = Annotated[str, _plain("text"), _schema("string", minLength=1)]
Directory = Annotated[str, _plain("."), _schema("string", minLength=1, examples=[".", "../training"])]
Name = Annotated[str, BeforeValidator(_name), _schema("string", pattern=NAME_PATTERN, examples=["mnist"])]
Command = Annotated[str, BeforeValidator(_command), _schema("string", minLength=1, examples=["python train.py"])]
Image = Annotated[
    str | None,
    BeforeValidator(_image),
    _schema(["string", "null"], examples=["pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime", "none"]),
]
Size = Annotated[
    int,
    BeforeValidator(quantities.size),
    _schema("string", pattern=quantities.SIZE_PATTERN, examples=["40GB", ">=16GB", "512MiB"]),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(quantities.duration),
    PlainSerializer(_seconds, when_used="json"),
    _schema("string", pattern=quantities.DURATION_PATTERN, examples=["90s", "5m", "2h", "1d", "1h30m"]),
]
Dollars = Annotated[
    Decimal,
    BeforeValidator(quantities.price),
    PlainSerializer(_dollars, when_used="json"),
    _schema(["number", "string"], exclusiveMinimum=0, pattern=quantities.PRICE_PATTERN, examples=[0.80, 5]),
]
Cpus = Annotated[
    float,
    BeforeValidator(quantities.cpus),
    _schema(["number", "string"], exclusiveMinimum=0, pattern=quantities.AT_LEAST_PATTERN, examples=[4, ">=4"]),
]
Share = Annotated[
    float, BeforeValidator(quantities.share), _schema("number", exclusiveMinimum=0, maximum=1, examples=[0.98])
]
Flag = Annotated[bool, BeforeValidator(_flag), _schema("boolean")]
CheckpointPath = Annotated[
    str, BeforeValidator(_directory_inside), _schema("string", minLength=1, examples=["checkpoints"])
]
_Artifact = Annotated[
    str,
    BeforeValidator(lambda value: _path_inside(value, "outputs/**")),
    _schema("string", minLength=1, examples=["outputs/**"]),
]
Artifacts = Annotated[tuple[_Artifact, ...], listed("[outputs/**]")]
_Region = Annotated[str, _plain("us-east-1"), _schema("string", minLength=1, examples=["us-east-1"])]
Regions = Annotated[tuple[_Region, ...], listed("[us-east-1]")]
_EnvName = Annotated[str, BeforeValidator(_env_name), _schema("string", pattern=ENV_NAME_PATTERN)]
_EnvValue = Annotated[str, BeforeValidator(_env_value), _schema(["string", "number"])]
Env = Annotated[dict[_EnvName, _EnvValue], _mapped('{EPOCHS: "3"}')]
Secret = Annotated[str, BeforeValidator(_secret), _schema("string", pattern=ENV_NAME_PATTERN, examples=["HF_TOKEN"])]
Secrets = Annotated[tuple[Secret, ...], listed("[HF_TOKEN]")]
_LabelName = Annotated[str, BeforeValidator(_label), _schema("string", pattern=f"^{_LABEL.pattern}$")]
Labels = Annotated[dict[_LabelName, _EnvValue], _mapped("{team: vision}")]
_MetricPattern = Annotated[
    str, BeforeValidator(_pattern), _schema("string", minLength=1, examples=["loss=([0-9.]+)"], format="regex")
]
Patterns = Annotated[dict[Text, _MetricPattern], _mapped("{loss: 'loss=([0-9.]+)'}")]
