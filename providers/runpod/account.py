"""Where RunPod is and with which key it is asked, from the environment and RunPod's own file. Connects nowhere."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from providers.accounts import Account, with_key

BASE = "https://api.runpod.io"
HOW = "set RUNPOD_API_KEY, or put it into ~/.runpod/config.toml: api_key below [default]"


def read(env: Mapping[str, str]) -> Account:
    """The variables are those of RunPod's own tools, and so is the file. /v2 and /graphql are below `base`."""
    base = (env.get("RUNPOD_API_BASE_URL") or BASE).rstrip("/")
    key = env.get("RUNPOD_API_KEY", "").strip()
    where = "RUNPOD_API_KEY"
    if not key:
        try:
            key, where = _from_file(env), "~/.runpod/config.toml"
        except (OSError, ValueError) as error:
            return Account(base, problem=f"~/.runpod/config.toml cannot be read ({type(error).__name__}); {HOW}")
    return with_key(base, key, where=where, missing=f"there is no key for RunPod: {HOW}")


def _from_file(env: Mapping[str, str]) -> str:
    """Only below the HOME of `env`: a test or a rehearsal must not come upon the person's own key."""
    if not env.get("HOME"):
        return ""
    path = Path(env["HOME"]) / ".runpod" / "config.toml"
    if not path.is_file():
        return ""
    profile = tomllib.loads(path.read_text(encoding="utf-8")).get("default")
    return str(profile.get("api_key") or "").strip() if isinstance(profile, dict) else ""
