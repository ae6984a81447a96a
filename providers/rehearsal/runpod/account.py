"""The account: who may do what with which key, its money's frame, and the small things that it keeps.

Knows no wire and no pod but by its id.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

ACCOUNT_KEY = "rehearsal-runpod-account"
OTHER_KEY = "rehearsal-runpod-somebody-else"
PUBLIC_TEMPLATES: Mapping[str, Mapping[str, Any]] = {
    "runpod-ubuntu": {
        "name": "Runpod Ubuntu",
        "image": "runpod/base:1.0.2-ubuntu2404",
        "ports": ["8888/http", "22/tcp"],
    }
}


@dataclass(kw_only=True)
class Key:
    """An API key. A pod's own key may act on that pod and nothing else."""

    may_write: bool = True
    pod: str | None = None
    enabled: bool = True


@dataclass(kw_only=True)
class Account:
    """Everything that belongs to the user but pods."""

    credit: Decimal = Decimal(1000)  # paid in; the balance is this less the bill
    spend_limit: Decimal = Decimal(80)  # USD per hour, the default (docs.runpod.io/pods/pricing, 2026-08)
    id: str = "user_rehearsal"
    email: str = "rehearsal@example.invalid"
    ssh_keys: list[str] = field(default_factory=list)
    keys: dict[str, Key] = field(default_factory=lambda: {ACCOUNT_KEY: Key()})
    registries: dict[str, dict[str, Any]] = field(default_factory=dict)  # with username and password
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates_used: dict[str, datetime] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)  # id, name, size, dataCenter, type

    def key(self, text: str) -> Key | None:
        """The key that this is, unless it is unknown or has been switched off."""
        found = self.keys.get(text)
        return found if found is not None and found.enabled else None

    def pod_key(self, pod: str, dice: random.Random) -> str:
        """A new key that is this pod's own."""
        text = f"rehearsal-runpod-pod-{dice.getrandbits(64):016x}"
        self.keys[text] = Key(pod=pod)
        return text

    def forget_pod(self, pod: str) -> None:
        """A pod's key ends with the pod."""
        self.keys = {text: key for text, key in self.keys.items() if key.pod != pod}

    def use_template(self, id: str, now: datetime) -> Mapping[str, Any] | None:
        """A template of the account's or a public one; that it was used is remembered for a while."""
        found = self.templates.get(id) or PUBLIC_TEMPLATES.get(id)
        if found is not None:
            self.templates_used[id] = now
        return found
