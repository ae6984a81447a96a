"""Sizes, durations, prices, counts and shares, from what a person writes to a number in one unit.

Sizes become bytes, durations timedelta, money Decimal US dollars. Each function also takes the finished value, as it
comes from stored JSON or from Python; a bare number in a file (`Figure`) has no unit and is refused where it needs one.
A ValueError says what is wrong and what to write instead, in words for a person. Knows no key of a spec.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from jobs.problems import Figure, found, shown

SIZE_UNITS = {
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
DURATION_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

SIZE_PATTERN = r"^\s*(>=)?\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?[bB])\s*$"
DURATION_PATTERN = r"^\s*([0-9]+(\.[0-9]+)?\s*[dhms]\s*)+$"
PRICE_PATTERN = r"^\s*\$?\s*[0-9]+(\.[0-9]+)?\s*$"
AT_LEAST_PATTERN = r"^\s*(>=)?\s*[0-9]+(\.[0-9]+)?\s*$"

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?")
_SIZE = re.compile(r"(?P<number>[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?P<unit>[A-Za-z]*)")
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]+)\s*")
_COMPARISON = re.compile(r"[<>=!~]+")

_Quantity = TypeVar("_Quantity", int, Decimal)

_MOST_BYTES = 10**15
_MOST_DAYS = 365
_MOST_DOLLARS = 1_000_000
_MOST_CPUS = 10_000


def size(value: object) -> int:
    """Bytes, of `40GB`, `>=16GB` (a size always means at least) or `512MiB`."""
    write = "write a size with its unit, such as 40GB, >=16GB or 512MiB"
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; {write}")
    match = _SIZE.fullmatch(_at_least(value, "16GB"))
    if not match:
        raise ValueError(f"{shown(value)} is not a size; {write}")
    number, unit = Decimal(match["number"]), match["unit"]
    factor = {name.casefold(): bytes_ for name, bytes_ in SIZE_UNITS.items()}.get(unit.casefold())
    if factor is None:
        raise ValueError(_wrong_size_unit(match["number"], unit))
    return _within(int(number * factor), 1, _MOST_BYTES, value, "1000TB")


def duration(value: object) -> timedelta:
    """`90s`, `5m`, `2h`, `1d`, `1h30m`; a number from JSON counts seconds."""
    units = "s, m, h or d, such as 90s, 5m, 2h, 1d or 1h30m"
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; write a duration in {units}")
    text = value.strip()
    if text.startswith("-"):
        raise ValueError(f"{shown(value)} is negative; write a duration of more than zero, such as 5m")
    if _NUMBER.fullmatch(text):
        raise ValueError(f"{shown(value)} has no unit; write {text}s, {text}m or {text}h")
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        raise ValueError(f"{shown(value)} is not a duration; write it in {units}")
    if unknown := [unit for _, unit in parts if unit not in DURATION_UNITS]:
        raise ValueError(f"unknown unit {shown(unknown[0])}; write the duration in {units}")
    seconds = sum((Decimal(number) * DURATION_UNITS[unit] for number, unit in parts), Decimal(0))
    _within(seconds, Decimal("0.001"), Decimal(_MOST_DAYS * 86400), value, f"{_MOST_DAYS}d")
    return timedelta(seconds=float(seconds))


def price(value: object) -> Decimal:
    """US dollars, of `0.80` or `$0.80`."""
    write = "write US dollars as a number, such as 0.80"
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError(f"{found(value)}; {write}")
    text = str(value).strip()
    if re.fullmatch(r"\$?[0-9]+,[0-9]+", text):
        raise ValueError(f"{shown(text)} has a comma; write {text.lstrip('$').replace(',', '.')} with a point")
    number = _number(text.removeprefix("$").strip())
    if number is None:
        raise ValueError(f"{shown(text)} is not a price; {write}")
    return _within(number, Decimal("0.000001"), Decimal(_MOST_DOLLARS), text, f"{_MOST_DOLLARS}")


def cpus(value: object) -> float:
    """`4` or `>=4`: a number of CPUs always means at least."""
    write = 'write a number, such as 4 or ">=4"'
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{found(value)}; {write}")
    number = _number(_at_least(str(value), "4"))
    if number is None:
        raise ValueError(f"{shown(str(value))} is not a number of CPUs; {write}")
    return float(_within(number, Decimal("0.01"), Decimal(_MOST_CPUS), str(value), f"{_MOST_CPUS}"))


def count(value: object, *, most: int, example: int, least: int = 1) -> int:
    """A whole number from `least`, which is 1 or 0."""
    write = f"write a whole number, such as {example}"
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{found(value)}; {write}")
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", str(value).strip()):
        raise ValueError(f"{shown(str(value))} is not a whole number; {write}")
    return _within(int(value), least, most, str(value), f"{most}")


def share(value: object) -> float:
    """A part of one, above 0 and at most 1."""
    write = "write a share above 0 and at most 1, such as 0.98"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{found(value)}; {write}")
    number = _number(str(value).strip())
    if number is None or not 0 < number <= 1:
        raise ValueError(f"{shown(str(value))} is not a share; {write}")
    return float(number)


def _at_least(text: str, example: str) -> str:
    """What follows `>=`; any other comparison is refused."""
    text = text.strip()
    sign = _COMPARISON.match(text)
    if sign and sign[0] != ">=":
        raise ValueError(f'{shown(text)} cannot be asked for; only "at least" can, such as ">={example}"')
    return text[sign.end() :].strip() if sign else text


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _within(number: _Quantity, least: _Quantity, most: _Quantity, written: str, most_written: str) -> _Quantity:
    if number < least:
        more = "0 or more" if least == 0 else "more than zero" if number <= 0 else "more"
        raise ValueError(f"{shown(written)} is too little; write {more}")
    if number > most:
        raise ValueError(f"{shown(written)} is too much; at most {most_written}")
    return number


def _wrong_size_unit(number: str, unit: str) -> str:
    if not unit:
        return f'"{number}" has no unit; write {number}GB (10**9 bytes) or {number}GiB (2**30 bytes)'
    near = {"k": "KB or KiB", "m": "MB or MiB", "g": "GB or GiB", "t": "TB or TiB"}.get(unit[0].casefold())
    return f"unknown unit {shown(unit)}; write {near or ', '.join(SIZE_UNITS)}, such as {number}GB"


__all__ = ["Figure", "count", "cpus", "duration", "price", "share", "size"]
