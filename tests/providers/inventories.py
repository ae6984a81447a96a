"""Writes hosts.toml for a server of tests/support/sshd.py."""

from __future__ import annotations

import json

from tests.support.sshd import Sshd


def entry(server: Sshd, *, name: str = "tower", **keys: object) -> str:
    """One [[host]]."""
    usual = {"name": name, "host": server.host, "port": server.port, "user": server.user, "key": server.key_path}
    return "\n".join(["[[host]]", *(f"{key} = {_toml(value)}" for key, value in {**usual, **keys}.items()), ""])


def _toml(value: object) -> str:
    """A JSON string is a TOML string."""
    return str(value) if isinstance(value, int) else json.dumps(str(value))
