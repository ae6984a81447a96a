"""The checking of GraphQL queries by the schema: fields, arguments, variables, and the types of what is sent.

A query is checked whole before anything of it is done, so a wrong one never makes a pod. Knows no state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from providers.rehearsal.runpod.language import Declared, Field, Operation, Variable, Word
from providers.rehearsal.runpod.schema import ARGUMENTS, ENUMS, INPUTS, OBJECTS

_SCALARS: Mapping[str, tuple[type, ...]] = {
    "String": (str,),
    "DateTime": (str,),
    "Int": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}


class Invalid(Exception):
    """A query that the schema does not allow."""


def check(operation: Operation, given: Mapping[str, Any]) -> tuple[Field, ...]:
    """The operation's fields with all values put in. Raises Invalid."""
    for name, declared in operation.variables.items():
        if declared.required and given.get(name) is None:
            raise Invalid(f'Variable "${name}" of required type was not provided.')
    return tuple(_checked(operation.kind, operation.selections, operation.variables, given))


def _checked(
    owner: str, fields: tuple[Field, ...], declared: Mapping[str, Declared], given: Mapping[str, Any]
) -> Iterator[Field]:
    for field in fields:
        if field.name == "__typename":
            yield field
            continue
        if field.name.startswith("__"):
            raise Invalid(f"GraphQL introspection is not allowed, but the query contained {field.name}")
        if field.name not in OBJECTS[owner]:
            raise Invalid(f'Cannot query field "{field.name}" on type "{_shown(owner)}".')
        inner = OBJECTS[owner][field.name]
        if inner and field.selections is None:
            raise Invalid(f'Field "{field.name}" of type "{inner}" must have a selection of subfields.')
        if not inner and field.selections is not None:
            raise Invalid(f'Field "{field.name}" must not have a selection since it has no subfields.')
        arguments = _arguments((owner, field.name), _filled(field.arguments, declared, given))
        selections = tuple(_checked(inner, field.selections, declared, given)) if field.selections else None
        yield Field(name=field.name, alias=field.alias, arguments=arguments, selections=selections)


def _arguments(where: tuple[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    known = ARGUMENTS.get(where, {})
    for name in values:
        if name not in known:
            raise Invalid(f'Unknown argument "{name}" on field "{_shown(where[0])}.{where[1]}".')
    return {name: _value(values.get(name), kind, name) for name, kind in known.items()}


def _filled(value: Any, declared: Mapping[str, Declared], given: Mapping[str, Any]) -> Any:
    """Variables replaced by what was sent; one that was not sent is as if it were not written."""
    if isinstance(value, Variable):
        if value.name not in declared:
            raise Invalid(f'Variable "${value.name}" is not defined.')
        return _from_json(given.get(value.name, declared[value.name].default))
    if isinstance(value, Mapping):
        return {name: _filled(each, declared, given) for name, each in value.items()}
    return [_filled(each, declared, given) for each in value] if isinstance(value, list) else value


def _from_json(value: Any) -> Any:
    """In JSON an enum's value is a string."""
    if isinstance(value, str):
        return _Sent(value)
    if isinstance(value, list):
        return [_from_json(each) for each in value]
    return {name: _from_json(each) for name, each in value.items()} if isinstance(value, dict) else value


class _Sent(Word):
    """A string from the variables: an enum's value or a text."""


def _value(value: Any, kind: str, where: str) -> Any:
    if value is None:
        if kind.endswith("!"):
            raise Invalid(f'Field "{where}" of required type "{kind}" was not provided.')
        return None
    kind = kind.removesuffix("!")
    if kind.startswith("["):
        values = value if isinstance(value, list) else [value]
        return [_value(each, kind[1:-1], where) for each in values]
    if kind in INPUTS:
        return _input(value, kind)
    if kind in ENUMS:
        if not isinstance(value, Word) or value not in ENUMS[kind]:
            raise Invalid(f'Value {_written(value)} does not exist in "{kind}" enum.')
        return str(value)
    is_text = isinstance(value, str) and (not isinstance(value, Word) or isinstance(value, _Sent))
    fits = is_text if kind in ("String", "DateTime") else isinstance(value, _SCALARS[kind])
    if not fits or (isinstance(value, bool) and kind != "Boolean"):
        raise Invalid(f"{kind} cannot represent value: {_written(value)} (at {where})")
    return str(value) if is_text else value


def _input(value: Any, kind: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f'Expected value of type "{kind}", found {_written(value)}.')
    for name in value:
        if name not in INPUTS[kind]:
            raise Invalid(f'Field "{name}" is not defined by type "{kind}".')
    found = {name: _value(value.get(name), each, f"{kind}.{name}") for name, each in INPUTS[kind].items()}
    return {name: each for name, each in found.items() if each is not None}


def _written(value: Any) -> str:
    return str(value) if isinstance(value, Word) else f'"{value}"' if isinstance(value, str) else str(value)


def _shown(owner: str) -> str:
    return owner.capitalize() if owner in ("query", "mutation") else owner
