"""A request, read: what the calls of the API get. Knows no route."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.rehearsal.vast.refused import refused


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`numbers` are what the path names; `url` is where this cloud listens; `proxy`: the SSH proxy works."""

    body: Any
    query: Mapping[str, str]
    numbers: Mapping[str, Any]
    url: str
    proxy: bool
    api_key: str = field(default="", repr=False)

    @property
    def id(self) -> int:
        return int(self.numbers["id"])

    def said(self, name: str) -> Any:
        """A field of the body, None when it is not there."""
        return self.body.get(name) if isinstance(self.body, dict) else None

    def json(self, name: str, default: Any) -> Any:
        """A parameter of the query that is JSON. Raises Refused."""
        raw = self.query.get(name)
        if raw is None or raw == "":
            return default
        try:
            return json.loads(raw)
        except ValueError:
            if raw in ("True", "False"):
                return raw == "True"
            raise refused(400, "invalid_args", f"Error in query parameters: {name} is not valid JSON") from None

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.query.get(name, default))
        except ValueError:
            raise refused(400, "invalid_args", f"Error in query parameters: {name} must be a number") from None

    def after(self) -> int | None:
        """Where the page before this one ended. Raises Refused."""
        if not (token := self.query.get("after_token")):
            return None
        try:
            return int(json.loads(base64.b64decode(token, validate=True))["values"]["id"])
        except (ValueError, KeyError, TypeError):
            raise refused(400, "invalid_token", "Invalid pagination token") from None


def token(last_id: int) -> str:
    """For the next page."""
    return base64.b64encode(json.dumps({"values": {"id": last_id}}).encode()).decode()
