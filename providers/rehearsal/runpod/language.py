"""GraphQL's query language, as far as clients of RunPod write it: operations, selections, arguments, fragments.

Text in, a tree out; SyntaxError for anything else. Knows no schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""
    (?P<skip>[\s,\ufeff]+|\#[^\n]*)
  | (?P<block>\"\"\"(?:[^"\\]|\\.|"(?!""))*\"\"\")
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<name>[_A-Za-z]\w*)
  | (?P<mark>\.\.\.|[!$&()\[\]{}:=|@])
    """,
    re.VERBOSE | re.DOTALL,
)
_LITERALS = {"true": True, "false": False, "null": None}


class Word(str):
    """An enum value: a name without quotes."""


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field that is asked for; `selections` is None where none were written."""

    name: str
    alias: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    selections: tuple[Field, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A variable of an operation."""

    required: bool
    default: Any = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    kind: str  # query, mutation
    name: str | None
    variables: Mapping[str, Declared]
    selections: tuple[Field, ...]


def parse(text: str) -> list[Operation]:
    """The operations of a document, with its fragments put in. Raises SyntaxError."""
    return _Parser(_tokens(text)).document()


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            what = "Unterminated string." if text[position] == '"' else f"Unexpected character: {text[position]!r}."
            raise SyntaxError(f"Syntax Error: {what} (line {line})")
        if match.lastgroup != "skip":
            found.append((str(match.lastgroup), match.group()))
        position = match.end()
    return [*found, ("end", "<EOF>")]


@dataclass(frozen=True)
class _Spread:
    fragment: str


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._fragments: dict[str, tuple[Any, ...]] = {}

    def document(self) -> list[Operation]:
        raw: list[tuple[str, str | None, dict[str, Declared], tuple[Any, ...]]] = []
        while self._kind != "end":
            if self._word == "fragment":
                self._fragment()
            else:
                raw.append(self._operation())
        if not raw:
            raise self._unexpected()
        return [
            Operation(kind=kind, name=name, variables=variables, selections=self._flat(selections))
            for kind, name, variables, selections in raw
        ]

    def _operation(self) -> tuple[str, str | None, dict[str, Declared], tuple[Any, ...]]:
        if self._word == "{":
            return "query", None, {}, self._selections()
        kind = self._word
        if kind not in ("query", "mutation"):
            raise self._unexpected()
        self._next()
        name = self._next() if self._kind == "name" else None
        variables = self._variables() if self._word == "(" else {}
        return kind, name, variables, self._selections()

    def _fragment(self) -> None:
        self._next()
        name = self._name()
        self._expect("on")
        self._name()
        self._fragments[name] = self._selections()

    def _variables(self) -> dict[str, Declared]:
        found = {}
        self._expect("(")
        while self._word != ")":
            self._expect("$")
            name = self._name()
            self._expect(":")
            required = self._type()
            default = None
            if self._word == "=":
                self._next()
                default = self._value()
            found[name] = Declared(required=required and default is None, default=default)
        self._next()
        return found

    def _type(self) -> bool:
        """Whether a value must be given. What type it is, the argument says where it is used."""
        if self._word == "[":
            self._next()
            self._type()
            self._expect("]")
        else:
            self._name()
        if self._word != "!":
            return False
        self._next()
        return True

    def _selections(self) -> tuple[Any, ...]:
        found: list[Any] = []
        self._expect("{")
        while self._word != "}":
            found.append(self._spread() if self._word == "..." else self._field())
        if not found:
            raise self._unexpected()
        self._next()
        return tuple(found)

    def _spread(self) -> Any:
        self._next()
        if self._kind == "name" and self._word != "on":
            return _Spread(self._next())
        if self._word == "on":
            self._next()
            self._name()
        return self._selections()

    def _field(self) -> Field:
        name = alias = self._name()
        if self._word == ":":
            self._next()
            name = self._name()
        arguments = self._arguments() if self._word == "(" else {}
        selections = self._selections() if self._word == "{" else None
        return Field(name=name, alias=alias, arguments=arguments, selections=selections)

    def _arguments(self) -> dict[str, Any]:
        self._expect("(")
        found = self._pairs(")")
        if not found:
            raise self._unexpected()
        return found

    def _pairs(self, end: str) -> dict[str, Any]:
        found = {}
        while self._word != end:
            name = self._name()
            self._expect(":")
            found[name] = self._value()
        self._next()
        return found

    def _value(self) -> Any:
        kind, word = self._kind, self._word
        if kind in ("string", "block", "number", "name"):
            self._next()
            return self._scalar(kind, word)
        if word == "$":
            self._next()
            return Variable(self._name())
        if word == "{":
            self._next()
            return self._pairs("}")
        if word != "[":
            raise self._unexpected()
        self._next()
        found = []
        while self._word != "]":
            found.append(self._value())
        self._next()
        return found

    def _scalar(self, kind: str, word: str) -> Any:
        if kind == "name":
            return _LITERALS[word] if word in _LITERALS else Word(word)
        if kind == "block":
            return word[3:-3].replace('\\"""', '"""').strip()
        try:
            return json.loads(word)
        except ValueError as error:
            raise SyntaxError(f"Syntax Error: Invalid {kind}: {word}.") from error

    def _flat(self, selections: tuple[Any, ...], depth: int = 0) -> tuple[Field, ...]:
        """Fields only: fragments put in where they are spread."""
        if depth > 20:
            raise SyntaxError("Syntax Error: fragments within fragments within fragments.")
        found: list[Field] = []
        for each in selections:
            if isinstance(each, _Spread):
                if each.fragment not in self._fragments:
                    raise SyntaxError(f'Unknown fragment "{each.fragment}".')
                found += self._flat(self._fragments[each.fragment], depth + 1)
            elif isinstance(each, tuple):
                found += self._flat(each, depth + 1)
            else:
                inner = None if each.selections is None else self._flat(each.selections, depth + 1)
                found.append(Field(name=each.name, alias=each.alias, arguments=each.arguments, selections=inner))
        return tuple(found)

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _word(self) -> str:
        """The next token. A string keeps its quotes, so it is never taken for a mark or a keyword."""
        return self._tokens[self._at][1]

    def _next(self) -> str:
        word = self._tokens[self._at][1]
        if self._kind == "end":
            raise self._unexpected()
        self._at += 1
        return word

    def _name(self) -> str:
        if self._kind != "name":
            raise self._unexpected()
        return self._next()

    def _expect(self, word: str) -> None:
        if self._word != word:
            raise self._unexpected()
        self._next()

    def _unexpected(self) -> SyntaxError:
        return SyntaxError(f"Syntax Error: Unexpected {self._tokens[self._at][1]}.")
