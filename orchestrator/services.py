"""Notices by apprise: what address it takes, and one message to it. apprise is an extra, imported when it is needed.

What an address holds is never logged, by apprise neither. Knows no budgets. Addresses: https://github.com/caronc/apprise
(2026-11-21).
"""

from __future__ import annotations

import importlib.util
import logging
import re
from typing import Literal
from urllib.parse import urlsplit

MISSING = "apprise is not installed: install gpujob with its extra `apprise`"

_PAGE = "https://github.com/caronc/apprise/wiki"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


Kind = Literal["success", "warning", "failure"]  # apprise's own words


class NotSent(Exception):
    """Nobody has taken the message; the words say why without the address."""


def checked(url: str, *, is_whole: bool) -> str:
    """The address, when apprise knows such a one. Raises ValueError.

    Of one that names secrets, which are filled in later, only the kind of service is looked at.
    """
    if importlib.util.find_spec("apprise") is None:
        raise ValueError(MISSING)
    if not (kind := _SCHEME.match(url)):
        if not is_whole and url.startswith("${"):
            return url
        raise ValueError("write an address of apprise's, such as slack://TOKEN_A/TOKEN_B/TOKEN_C or mailto://...")
    scheme = kind[1].lower()
    if not (_makes(url) if is_whole else _knows(scheme)):
        raise ValueError(f"apprise cannot send to this {scheme}:// address; how they are written: {_PAGE}")
    return url


def place(url: str) -> str:
    """As much of an address as may be shown: what stands where a host would may be a secret."""
    return f"{urlsplit(url).scheme}://..." if _SCHEME.match(url) else "..."


def send(url: str, *, title: str, text: str, kind: Kind) -> None:
    """One message to one address, whose secrets are filled in. Raises NotSent."""
    if importlib.util.find_spec("apprise") is None:
        raise NotSent(MISSING)
    from apprise import Apprise, NotifyType

    _silence()
    service = Apprise()
    if not service.add(url):
        raise NotSent(f"apprise cannot send to this {place(url)} address")
    if not service.notify(text, title=title, notify_type=NotifyType(kind)):
        raise NotSent(f"{place(url)} has not taken it")


def _makes(url: str) -> bool:
    from apprise import Apprise

    _silence()
    return Apprise.instantiate(url, suppress_exceptions=True) is not None


def _knows(scheme: str) -> bool:
    from apprise import NotificationManager

    return scheme in NotificationManager().schemas()  # type: ignore[no-untyped-call]


def _silence() -> None:
    """Its log names addresses."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
