"""Where RunPod is and with which key it is asked, from the environment and RunPod's own file. Connects nowhere."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

BASE = "https://api.runpod.io"
HOW = "set RUNPOD_API_KEY, or put it into ~/.runpod/config.toml: api_key below [default]"


@dataclass(frozen=True)
class Account:
    """`base` has no path: /v2 and /graphql are below it. `problem` says why there is no key."""

    base: str
    key: str = field(default="", repr=False)
    problem: str | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether the endpoint is this computer's."""
        host = urlsplit(self.base).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False


def read(env: Mapping[str, str]) -> Account:
    """The variables are those of RunPod's own tools, and so is the file."""
    base = (env.get("RUNPOD_API_BASE_URL") or BASE).rstrip("/")
    key = env.get("RUNPOD_API_KEY", "").strip()
    where = "RUNPOD_API_KEY"
    if not key:
        try:
            key, where = _from_file(env), "~/.runpod/config.toml"
        except (OSError, ValueError) as error:
            return Account(base, problem=f"~/.runpod/config.toml cannot be read ({type(error).__name__}); {HOW}")
    if not key:
        return Account(base, problem=f"there is no key for RunPod: {HOW}")
    if not key.isascii() or any(sign.isspace() or not sign.isprintable() for sign in key):
        return Account(base, problem=f"{where} holds something that is no key")
    return Account(base, key)


def _from_file(env: Mapping[str, str]) -> str:
    """Only below the HOME of `env`: a test or a rehearsal must not come upon the person's own key."""
    if not env.get("HOME"):
        return ""
    path = Path(env["HOME"]) / ".runpod" / "config.toml"
    if not path.is_file():
        return ""
    profile = tomllib.loads(path.read_text(encoding="utf-8")).get("default")
    return str(profile.get("api_key") or "").strip() if isinstance(profile, dict) else ""
