"""A refusal as the API words it. Knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """The request is answered with this status and this body: JSON, or plain text where the real one is."""

    def __init__(self, status: int, body: Mapping[str, Any] | str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def refused(status: int, error: str, message: str, **more: object) -> Refused:
    """The usual shape of an error."""
    return Refused(status, {"success": False, "error": error, "msg": message, **more})
