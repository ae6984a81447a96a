"""YAML text as plain values, each with the place where it is written.

Owns the YAML side of a spec: syntax errors, duplicate keys, anchors, merge keys, and what keeps a hostile file cheap.
Numbers stay as they were written (`Figure`); unquoted yes/no/on/off are booleans, as most people expect.
Must not know any key of a spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jobs.problems import Figure, shown

Path = tuple[str | int, ...]
Mark = tuple[int, int]  # line and column, from 1

KEY = "[key]"  # (*path, KEY) is the place of the key itself

_MOST_VALUES = 10_000
_MOST_LEVELS = 20
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
_NUMBER = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0x[0-9a-fA-F]+|0o[0-7]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TRUE = {"true", "yes", "on"}
_FALSE = {"false", "no", "off"}
_NULL = {"", "~", "null"}

_PLAINER = (
    (r"^mapping values are not allowed here$", "a key and its colon cannot stand here; check the indentation"),
    (r"^sequence entries are not allowed here$", "a list cannot begin here; begin it on a line of its own"),
    (r"^expected chomping or indentation indicators.*", "a value cannot begin like this"),
    (r"^found character '(.+)' that cannot start any token$", r"a value cannot begin with \1"),
    (r"^found unknown escape character '(.)'$", r"unknown escape \\\1"),
    (r"'<stream end>'", "the end of the file"),
)
_HINTS = (
    (r":\s*[>][=\s]*[0-9]", 'put a value that begins with > in quotes, such as ">=16GB"'),
    (r"^\s*\t", "indent with spaces, not with tabs"),
    (r":\s*[@`%*&!]", "put a value that begins with this character in quotes"),
    (r'"[^"]*\\', "inside double quotes a backslash begins an escape; use single quotes"),
    (r":\s*[^'\"\s].*:(\s|$)", "put a text that holds a colon and a space in quotes"),
)


class DocumentError(Exception):
    """The text cannot be read as one YAML document; line and column from 1."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@dataclass
class Document:
    """Plain values (str, Figure, bool, None, list, dict), their places, and mistakes that YAML would let pass.

    `sources` is for one that is made of parts of another: the paths that they have there.
    """

    value: Any
    marks: dict[Path, Mark] = field(default_factory=dict)
    mistakes: list[tuple[Path, Mark, str]] = field(default_factory=list)
    sources: dict[Path, Path] = field(default_factory=dict)

    def source(self, where: Path) -> Path:
        """The path as a person wrote it."""
        for size in range(len(where), -1, -1):
            if (found := self.sources.get(where[:size])) is not None:
                return (*found, *where[size:])
        return where


def parse(raw: bytes) -> Document:
    """Read one YAML document. Raises DocumentError."""
    return _place(_compose(_decode(raw)))


@dataclass(frozen=True)
class _Node:
    """A value where it is written. `weight` counts the values in it, those behind aliases as often as they are used."""

    value: Any  # a scalar, a list of nodes, or a list of (key, mark of the key, node)
    mark: Mark
    weight: int = 1
    is_mapping: bool = False
    mistake: str = ""


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        raise DocumentError("is not UTF-8 text; save the file as UTF-8", _mark_at(before)) from None


def _mark_at(before: str) -> Mark:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _compose(text: str) -> _Node:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        return _Composer(YAML(typ="safe", pure=True).parse(text)).document()
    except ReaderError as error:
        message = "holds a control character that YAML does not allow; remove it"
        raise DocumentError(message, _mark_at(text[: error.position])) from None
    except MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    except (ValueError, OverflowError):  # ruamel makes a character of any \U escape
        raise DocumentError("an escape in double quotes is no character; use single quotes", (1, 1)) from None


def _syntax_error(error: Any, text: str) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    source = lines[line - 1] if line <= len(lines) else ""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, source)), "")
    problem = str(error.problem or "cannot be read")
    for pattern, plainer in _PLAINER:
        problem = re.sub(pattern, plainer, problem)
    if "quoted scalar" in str(error.context) and "end of stream" in problem:
        opened = error.context_mark.line + 1
        problem, hint = f"the quote that opens in line {opened} is never closed", ""
    if "<" in problem or "\x00" in problem or "tag" in str(error.context):
        problem = "this does not fit what comes before it; check the indentation and the quotes"
    return DocumentError("not YAML: " + problem + (f"; {hint}" if hint else ""), (line, column))


class _Composer:
    """Builds nodes from parser events, one event at a time, so that it can stop early."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}
        self._written = 0

    def document(self) -> _Node:
        next(self._events)  # the stream
        if type(next(self._events)).__name__ == "StreamEndEvent":
            return _Node(None, (1, 1))
        node = self._node(next(self._events), 1)
        next(self._events)  # the document's end
        after = next(self._events)
        if type(after).__name__ != "StreamEndEvent":
            raise DocumentError("holds more than one YAML document; keep one", _mark(after))
        return node

    def _node(self, event: Any, level: int) -> _Node:
        mark = _mark(event)
        self._written += 1
        if level > _MOST_LEVELS:
            raise DocumentError(f"is nested more than {_MOST_LEVELS} levels deep", mark)
        if self._written > _MOST_VALUES:
            raise DocumentError(f"holds more than {_MOST_VALUES} values", mark)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event.anchor, mark)
        if kind == "ScalarEvent":
            node = _scalar(event, mark)
        elif kind == "SequenceStartEvent":
            node = self._sequence(event, mark, level)
        else:
            node = self._mapping(event, mark, level)
        if node.weight > _MOST_VALUES:
            raise DocumentError(f"its aliases expand to more than {_MOST_VALUES} values; write fewer", mark)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, mark: Mark) -> _Node:
        if anchor not in self._anchors:
            raise DocumentError(f"the alias {shown('*' + anchor)} has no anchor that is complete before it", mark)
        return self._anchors[anchor]

    def _sequence(self, event: Any, mark: Mark, level: int) -> _Node:
        items: list[_Node] = []
        while type(inner := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._node(inner, level + 1))
        return _Node(items, mark, 1 + sum(item.weight for item in items), mistake=_tag_mistake(event))

    def _mapping(self, event: Any, mark: Mark, level: int) -> _Node:
        entries: list[tuple[Any, Mark, _Node]] = []
        while type(inner := next(self._events)).__name__ != "MappingEndEvent":
            key_mark = _mark(inner)
            key = self._node(inner, level + 1)
            if isinstance(key.value, list):
                raise DocumentError("a key must be text; found a list or a mapping", key_mark)
            node = self._node(next(self._events), level + 1)
            entries.append((getattr(inner, "value", key.value), key_mark, node))
        weight = 1 + sum(1 + node.weight for _, _, node in entries)
        return _Node(entries, mark, weight, is_mapping=True, mistake=_tag_mistake(event))


def _scalar(event: Any, mark: Mark) -> _Node:
    text, is_plain = event.value, event.implicit[0]
    mistake = _tag_mistake(event)
    if not is_plain and event.tag in (None, "tag:yaml.org,2002:str", "!"):
        return _Node(_joined(text), mark)
    if text.casefold() in _TRUE:
        return _Node(True, mark, mistake=mistake)
    if text.casefold() in _FALSE:
        return _Node(False, mark, mistake=mistake)
    if text.casefold() in _NULL:
        return _Node(None, mark, mistake=mistake)
    return _Node(Figure(text) if _NUMBER.fullmatch(text) else text, mark, mistake=mistake)


def _joined(text: str) -> str:
    """JSON is YAML, but writes a character beyond U+FFFF as two escaped halves, which ruamel leaves apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _tag_mistake(event: Any) -> str:
    tag = event.tag
    return "" if tag is None or tag == "!" or tag in _PLAIN_TAGS else "YAML tags (!...) are not used here; remove it"


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _place(root: _Node) -> Document:
    document = Document(None)
    document.value = _value(root, (), root.mark, document)
    return document


def _value(node: _Node, path: Path, mark: Mark, document: Document) -> Any:
    document.marks[path] = mark
    if node.mistake:
        document.mistakes.append((path, mark, node.mistake))
    if node.is_mapping:
        return _mapping_value(node, path, document)
    if isinstance(node.value, list):
        return [_value(item, (*path, index), item.mark, document) for index, item in enumerate(node.value)]
    return node.value


def _mapping_value(node: _Node, path: Path, document: Document) -> dict[str, Any]:
    value: dict[str, Any] = {}
    first: dict[str, Mark] = {}
    for key, key_mark, inner in _merged(node, path, document):
        if key in first:
            message = f"is written twice, first in line {first[key][0]}; keep one"
            document.mistakes.append(((*path, key), key_mark, message))
        first.setdefault(key, key_mark)
        document.marks[(*path, key, KEY)] = key_mark
        # The parser puts a value that is not there at whatever comes next.
        mark = key_mark if inner.value is None else inner.mark
        value[key] = _value(inner, (*path, key), mark, document)
    return value


def _merged(node: _Node, path: Path, document: Document) -> Iterator[tuple[str, Mark, _Node]]:
    """The entries of a mapping; what `<<` brings comes first and only where it is not written here as well."""
    own = [(str(key), mark, inner) for key, mark, inner in node.value if key != "<<"]
    seen = {key for key, _, _ in own}
    for key, mark, inner in node.value:
        if key != "<<":
            continue
        sources = [inner] if inner.is_mapping or not isinstance(inner.value, list) else inner.value
        for source in sources:
            if not source.is_mapping:
                document.mistakes.append((path, mark, "`<<` takes a mapping, or a list of mappings, by its alias"))
                continue
            for entry in _merged(source, path, document):
                if entry[0] not in seen:
                    seen.add(entry[0])
                    yield entry
    yield from own
