"""The patterns of .gitignore files, with git's meaning: each pattern judges one entry, never what lies below it.

Libraries for this match a pattern against everything below a directory, which gives other answers than git when a file
nearer to an entry takes something in again. Knows text only; reads no file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True)
class Pattern:
    """One line of an ignore file."""

    expression: re.Pattern[str]
    takes_in: bool  # it began with "!"
    directories_only: bool
    whole_path: bool  # else the entry's own name, at any depth

    def matches(self, path: str, *, directory: bool) -> bool:
        if self.directories_only and not directory:
            return False
        return self.expression.fullmatch(path if self.whole_path else path.rpartition("/")[2]) is not None


@dataclass(frozen=True)
class IgnoreFile:
    """The patterns of one file, in its order."""

    patterns: tuple[Pattern, ...]

    @classmethod
    def parse(cls, text: str) -> IgnoreFile:
        lines = text.removeprefix("\ufeff").split("\n")
        return cls(tuple(pattern for line in lines if (pattern := _pattern(line))))

    def verdict(self, path: str, *, directory: bool) -> bool | None:
        """True: left out, False: taken in again, None: not mentioned. `path` is relative to the file's directory."""
        for pattern in reversed(self.patterns):
            if pattern.matches(path, directory=directory):
                return not pattern.takes_in
        return None


def _pattern(line: str) -> Pattern | None:
    text = _without_trailing_spaces(line.removesuffix("\r"))
    if text.startswith("#"):
        return None
    takes_in = text.startswith("!")
    text = text[takes_in:]
    directories_only = text.endswith("/")
    text = text[: len(text) - directories_only]
    whole_path = "/" in text
    expression = _expression(text.removeprefix("/"), whole_path=whole_path)
    if not text or expression is None:
        return None
    return Pattern(re.compile(expression, re.DOTALL), takes_in, directories_only, whole_path)


def _without_trailing_spaces(line: str) -> str:
    kept = line.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and kept != line else kept


def _expression(glob: str, *, whole_path: bool) -> str | None:
    """The glob as a regular expression; None for one that git can never match."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        if glob[at] == "*":
            part, at = _stars(glob, at, whole_path=whole_path)
        elif glob[at] == "[":
            bracket = _bracket(glob, at)
            if bracket is None:
                return None
            part, at = bracket
        elif glob[at] == "?":
            part, at = "[^/]", at + 1
        elif glob[at] == "\\":
            if at + 1 == len(glob):
                return None
            part, at = re.escape(glob[at + 1]), at + 2
        else:
            part, at = re.escape(glob[at]), at + 1
        parts.append(part)
    return "".join(parts)


def _stars(glob: str, at: int, *, whole_path: bool) -> tuple[str, int]:
    end = at
    while end < len(glob) and glob[end] == "*":
        end += 1
    begins = at == 0 or glob[at - 1] == "/"
    if not (whole_path and end - at >= 2 and begins and (end == len(glob) or glob[end] == "/")):
        return "[^/]*", end
    if end == len(glob):
        return ".*", end
    return "(?:.*/)?", end + 1


def _bracket(glob: str, at: int) -> tuple[str, int] | None:
    at += 1
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    while at < len(glob) and (glob[at] != "]" or not members):
        if glob.startswith("[:", at) and (end := glob.find(":]", at)) > 0:
            members.append(_CLASSES.get(glob[at + 2 : end], ""))
            at = end + 2
            continue
        low, at = _character(glob, at)
        high = low
        if glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in ("", "]"):
            high, at = _character(glob, at + 1)
        members.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    if at >= len(glob):
        return None
    inside = "".join(members)
    if negated:
        return (f"[^/{inside}]", at + 1)
    return (f"(?!/)[{inside}]" if inside else "(?!)", at + 1)


def _character(glob: str, at: int) -> tuple[str, int]:
    if glob[at] == "\\" and at + 1 < len(glob):
        return glob[at + 1], at + 2
    return glob[at], at + 1
