"""How a value becomes a column and comes back: the same on SQLite and PostgreSQL, exact, and readable without gpujob.

Times are microseconds since the epoch, money is decimal text, JSON and enums are text, flags are 0 and 1. A value that
does not decode comes back as Unreadable: whoever knows its row says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, Text, TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NONSENSE = (ValueError, TypeError, ArithmeticError)


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that does not decode."""

    reason: str
    newer: bool = False  # a word that a newer version may know


class UtcTime(TypeDecorator[datetime]):
    """A moment, to the microsecond. A naive time is a bug and raises."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value!r}")
        return (value - EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        try:
            return None if value is None else EPOCH + timedelta(microseconds=value)
        except _NONSENSE as error:
            return Unreadable(str(error))


class Seconds(TypeDecorator[float]):
    """A span that can be added to a time."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else round(value * 1_000_000)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:  # noqa: ARG002
        return None if value is None else value / 1_000_000


class Money(TypeDecorator[Decimal]):
    """An exact decimal number: an amount, a rate or a quantity."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        if not isinstance(value, Decimal) or not value.is_finite():
            raise ValueError(f"not an amount of money: {value!r}")
        return format(value, "f")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        try:
            return None if value is None else Decimal(value)
        except _NONSENSE as error:
            return Unreadable(f"{error} in {value!r}")


class JsonText(TypeDecorator[Any]):
    """Lists and mappings. Text, because PostgreSQL's own types take neither NUL nor half a surrogate pair."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        try:
            return None if value is None else json.loads(value)
        except _NONSENSE as error:
            return Unreadable(str(error))


class AnyText(TypeDecorator[str]):
    """Text as far as both databases can keep it: no NUL, no half of a surrogate pair. Machines say anything."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


class Flag(TypeDecorator[bool]):
    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: bool | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bool | None:  # noqa: ARG002
        return None if value is None else bool(value)


class Word(TypeDecorator[StrEnum]):
    """A member of an enum, by its value."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind
        self._known: dict[str, StrEnum] = {member.value: member for member in kind}

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else self.kind(value).value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        if value is None or value in self._known:
            return value if value is None else self._known[value]
        return Unreadable(f"unknown {self.kind.__name__} {value!r}", newer=True)
