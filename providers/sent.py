"""Values as a cloud or a computer sends them: money, numbers, moments, words, addresses; None for what makes no sense.

Pure, and never raises: whatever JSON, TOML or XML can hold may come. What becomes of nonsense is for the caller: an
offer is left out, a machine never is. Knows no cloud.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

MOST_USD = Decimal(10**9)
LONGEST_WORDS = 500

_MOST = 1e15  # no count and no size is more
_PLACES = 12
_LONGEST_NUMBER = 100
_WHOLE = re.compile(r"[0-9]{1,18}")
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}|:[0-9A-Fa-f:.]{1,44}")


def amount(value: Any) -> Decimal | None:
    """A finite number of either sign, as a number or a text, to 12 places."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    if isinstance(value, int) and abs(value) > MOST_USD:
        return None
    try:
        found = Decimal(value) if isinstance(value, Decimal) else Decimal(str(value)[: _LONGEST_NUMBER + 1])
    except InvalidOperation:
        return None
    if (isinstance(value, str) and len(value) > _LONGEST_NUMBER) or not found.is_finite() or abs(found) > MOST_USD:
        return None
    places = found.as_tuple().exponent
    return round(found, _PLACES) if isinstance(places, int) and places < -_PLACES else found


def price(value: Any) -> Decimal | None:
    """US dollars of something that is sold: an amount that is not negative."""
    found = amount(value)
    return found if found is not None and found >= 0 else None


def number(value: Any) -> float | None:
    """A count, a size or a share, which is not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found <= _MOST else None


def whole(value: Any) -> int:
    """A whole number that is not negative, as digits or a number; 0 for what is none."""
    if isinstance(value, (float, Decimal)):
        found = number(value)
        return int(found) if found is not None and found == int(found) else 0
    text = str(value) if isinstance(value, str) or (type(value) is int and 0 <= value < 10**18) else ""
    return int(text) if _WHOLE.fullmatch(text) else 0


def moment(value: Any) -> datetime | None:
    """Seconds since 1970, as a number or a text; 0 is none."""
    seconds = number(value)
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def iso(text: Any) -> datetime | None:
    """A date and time as ISO 8601 has it; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def words(value: Any, most: int = LONGEST_WORDS) -> str:
    """A text in one line, cut, without what could command a terminal; "" for what is none. Numbers are taken, too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else ""
    if not isinstance(value, str):
        return ""
    shown = "".join(sign if sign.isprintable() else " " for sign in value[: 2 * most])
    return " ".join(shown.split())[:most]


def address(value: Any) -> str:
    """A host's name or address, alone: it may stand on a command line. "" for anything else."""
    text = value.strip() if isinstance(value, str) else ""
    return text if _ADDRESS.fullmatch(text) else ""


def port(value: Any) -> int:
    """0 for what is none."""
    found = whole(value)
    return found if found <= 65535 else 0
