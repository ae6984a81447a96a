"""A mistake in a spec, where it is and how it is put in words for a person.

Owns the wording that is common to all of them: what was found, which name is near, what may not be shown.
Must not know YAML, pydantic or any key of a spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches

COMMAND_LINE = "command line"

_LONGEST_SHOWN = 60
_SECRET = re.compile(
    r"""^(hf_|gh[opsur]_|github_pat_|glpat-|sk[-_]|rk_|xox[abeprs]-|rpa_|eyJ).{8}
      | ^A(KIA|SIA)[A-Z0-9]{12}
      | ^[0-9a-f]{32}
      | -----BEGIN
      | ://[^/\s]*:[^/\s]*@
      | (?i:token|key|secret|passw(or)?d)\w*\s*[=:]""",
    re.VERBOSE,
)
_LONG_WORD = re.compile(r"[A-Za-z0-9+/_=-]{20,}")


class Figure(str):
    """A number that stands in a spec without quotes, kept as it was written: `0.80`, `010`, `1e-3`."""

    __slots__ = ()


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. Line and column count from 1; both are 0 on the command line and for a file as a whole."""

    file: str
    line: int
    column: int
    path: str  # dotted, as in resources.gpu[1]
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (where, self.path, self.message) if part)


class SpecError(Exception):
    """The spec cannot be used: every mistake in it. As text, one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def found(value: object) -> str:
    """What kind of thing a value is. Never the value itself."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "found a yes/no value"),
        ((Figure, int, float), "found a number"),
        (str, "found text"),
        (Mapping, "found a mapping"),
        ((list, tuple, set, frozenset), "found a list"),
        (date, "found a date"),
    )
    if value is None:
        return "is empty"
    return next((words for kind, words in kinds if isinstance(value, kind)), "found something else")


def shown(text: str) -> str:
    """Text of the user's in quotes, unless it is long or looks like a secret."""
    if len(text) > _LONGEST_SHOWN:
        return "(too long to show)"
    if looks_secret(text):
        return "(not shown)"
    return '"' + "".join(char if char.isprintable() else "?" for char in text) + '"'


def looks_secret(text: str) -> bool:
    """Whether this may be a key, a token or a password rather than a name."""
    return bool(_SECRET.search(text)) or any(_is_random(word) for word in _LONG_WORD.findall(text))


def suggestion(text: str, known: Iterable[str], *, most: int = 1) -> str:
    """`; did you mean ...` with the nearest of the known names, or nothing when none is near."""
    spelling = {_plain(name): name for name in known}
    near = get_close_matches(_plain(text), spelling, n=most, cutoff=0.7)
    return f"; did you mean {either(spelling[name] for name in near)}?" if near else ""


def either(names: Iterable[str]) -> str:
    """`a`, `b` or `c`."""
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} or {last}" if most else last


def _is_random(word: str) -> bool:
    digits = sum(char.isdigit() for char in word)
    return digits >= 3 and any(char.islower() for char in word) and any(char.isupper() for char in word)


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]", "", text).casefold()
