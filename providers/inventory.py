"""What the user wrote in TOML about computers of his own: every mistake is named with its file, entry and key.

Knows TOML, units and GPU names. Knows no provider's keys: each reads its own table, key by key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from providers import gpus
from providers.errors import Rejected

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)", re.IGNORECASE)
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_GPUS = re.compile(r"\s*(.*?)\s*(?::\s*(\d+)\s*)?")


def read_toml(path: Path, *, provider: str) -> dict[str, Any]:
    """The file's content, numbers with a point as Decimal; empty when there is no such file. Raises Rejected."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise Rejected(f"{path}: not UTF-8 text: {error.reason}", provider=provider) from error
    except tomllib.TOMLDecodeError as error:
        raise Rejected(f"{path}: not TOML: {error}", provider=provider) from error
    except OSError as error:
        raise Rejected(f"{path}: cannot be read: {error.strerror}", provider=provider) from error


class Table:
    """One table of such a file. Each getter takes a key, checks it and notes what is wrong in `problems`."""

    def __init__(self, content: object, *, where: str, problems: list[str]) -> None:
        self._where = where
        self._problems = problems
        self._asked: list[str] = []
        self._content: Mapping[str, Any] = {}
        if isinstance(content, dict):
            self._content = content
        else:
            self.problem("", f"must be a table of keys, not {_kind(content)}")

    def problem(self, key: str, message: str) -> None:
        self._problems.append(": ".join(part for part in (self._where, key, message) if part))

    def text(self, key: str, default: str | None = None, *, pattern: str = r".+", form: str = "") -> str | None:
        """A string that matches `pattern`; `form` says in words what that is."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        self.problem(key, f"must be {form or 'a text that is not empty'}, not {_shown(value)}")
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        """A string, or a list of strings."""
        value = self._take(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        wrong = [item for item in values if not isinstance(item, str) or not item.strip()]
        for item in wrong:
            self.problem(key, f"must be a text or a list of texts, not {_shown(item)}")
        return () if wrong else tuple(item.strip() for item in values)

    def integer(self, key: str, default: int, *, least: int, most: int) -> int:
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problem(key, f"must be a whole number from {least} to {most}, not {_shown(value)}")
        return default

    def number(self, key: str) -> float | None:
        """A number above 0."""
        value = self._take(key)
        if value is None:
            return None
        if (
            isinstance(value, (int, Decimal))
            and not isinstance(value, bool)
            and Decimal(value).is_finite()
            and value > 0
        ):
            return float(value)
        self.problem(key, f"must be a number above 0, not {_shown(value)}")
        return None

    def money(self, key: str) -> Decimal:
        """US dollars, as a string or a number; 0 when it is not given."""
        value = self._take(key)
        if value is None:
            return Decimal(0)
        try:
            amount = Decimal(value) if isinstance(value, (str, int, Decimal)) and not isinstance(value, bool) else None
        except InvalidOperation:
            amount = None
        if amount is not None and amount.is_finite() and amount >= 0:
            return amount
        self.problem(key, f'must be US dollars, such as "0.25", not {_shown(value)}')
        return Decimal(0)

    def size(self, key: str) -> int | None:
        """Bytes, from a string with a unit."""
        value = self._take(key)
        if value is None:
            return None
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is not None and (size := int(Decimal(match[1]) * _UNITS[match[2].upper()])) > 0:
            return size
        self.problem(key, f'must be a size with its unit, such as "64GB" or "64GiB", not {_shown(value)}')
        return None

    def gpus(self, key: str) -> tuple[tuple[str, int], ...]:
        """NAME:COUNT, or a list of them, in the order in which nvidia-smi lists them; names become canonical."""
        found = []
        for text in self.texts(key):
            match = _GPUS.fullmatch(text)
            name, count = (match[1], int(match[2] or 1)) if match else (text, 1)
            canonical = gpus.canonical(name)
            if canonical is None:
                self.problem(key, f"{_shown(name)} is no GPU that is known{_gpu_hint(name)}")
            elif count == 0:
                self.problem(key, f'{_shown(text)} has no GPU: leave "{key}" out when there is none')
            else:
                found.append((canonical, count))
        return tuple(found)

    def refuse_others(self) -> None:
        """Call it last: every key that no getter asked for is a mistake."""
        for key in self._content:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1, cutoff=0.5)
                self.problem(key, f"unknown key; {f'did you mean {near[0]}?' if near else _one_of(self._asked)}")

    def _take(self, key: str) -> Any:
        self._asked.append(key)
        return self._content.get(key)


def _gpu_hint(name: str) -> str:
    meant = gpus.ambiguous(name)
    if meant:
        return f": it may be {' or '.join(meant)}"
    near = difflib.get_close_matches(name.upper(), gpus.names(), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _one_of(keys: list[str]) -> str:
    return f"the keys here are {', '.join(sorted(keys))}"


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else _shown(value)
