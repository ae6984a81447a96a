"""Where Vast.ai is and with which key it is asked, from the environment and Vast's own files. Connects nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from providers.accounts import Account, with_key

BASE = "https://console.vast.ai"
HOW = "set VAST_API_KEY, or run `vastai set api-key`; keys are at https://cloud.vast.ai/manage-keys/"


def read(env: Mapping[str, str]) -> Account:
    """By the SDK's own rule: VAST_API_KEY, then the file of the XDG directory, then ~/.vast_api_key."""
    base = (env.get("VAST_URL") or BASE).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        return Account(base, problem="VAST_URL is no address: it begins with https://")
    where, key = "VAST_API_KEY", env.get("VAST_API_KEY", "").strip()
    if not key:
        for path in _files(env):
            try:
                if path.is_file() and (key := path.read_text(encoding="utf-8").strip()):
                    where = str(path)
                    break
            except (OSError, ValueError) as error:
                return Account(base, problem=f"{path} cannot be read ({type(error).__name__}); {HOW}")
    return with_key(base, key, where=where, missing=f"there is no key for Vast.ai: {HOW}")


def _files(env: Mapping[str, str]) -> Iterable[Path]:
    """Only below the HOME of `env`: a test or a rehearsal must not come upon the person's own key."""
    home = env.get("HOME")
    if config := env.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else ""):
        yield Path(config) / "vastai" / "vast_api_key"
    if home:
        yield Path(home) / ".vast_api_key"
