"""Where the values of a job's secrets come from. They are never written to the store, a log or an argument list.

Looked up in this order: what `submit` handed over, the environment, GPUJOB_HOME/secrets.env (0600), the keyring.
The hand-over is a 0600 file in memory (tmpfs) that goes with the run: the controller is another process and does not
see the submitter's environment (designs/0004).
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.home import Home


class SecretMissing(Exception):
    """A secret has no value anywhere; the message says where to put it."""

    def __init__(self, names: Iterable[str], home: Home) -> None:
        self.names = tuple(names)
        listed = ", ".join(self.names)
        super().__init__(
            f"secret{'s' if len(self.names) > 1 else ''} {listed} not set: export it in the shell that submits, "
            f"or write {self.names[0]}=VALUE into {home.secrets} (mode 0600)"
        )


class SecretsFileOpen(Exception):
    """A place for secrets can be read or changed by others."""


def check(names: Iterable[str], home: Home, env: Mapping[str, str]) -> tuple[str, ...]:
    """Which of these secrets have no value anywhere."""
    known = _known(home, env)
    return tuple(name for name in names if not known.get(name) and _from_keyring(name) is None)


def hand_over(run_id: str, names: Iterable[str], home: Home, env: Mapping[str, str]) -> None:
    """Keep the values that this process sees for the controller. Raises SecretMissing."""
    wanted = list(names)
    if missing := check(wanted, home, env):
        raise SecretMissing(missing, home)
    values = {name: env[name] for name in wanted if env.get(name)}
    if not values:
        return
    path = _handed_over(run_id, env)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise SecretsFileOpen(f"{path.parent} belongs to somebody else: remove it")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file)


def resolve(run_id: str, names: Iterable[str], home: Home, env: Mapping[str, str]) -> dict[str, str]:
    """The values of a run's secrets. Raises SecretMissing."""
    known = {**_known(home, env), **_read_handed_over(run_id, env)}
    values = {name: known.get(name) or _from_keyring(name) for name in names}
    if missing := [name for name, value in values.items() if value is None]:
        raise SecretMissing(missing, home)
    return {name: value for name, value in values.items() if value is not None}


def at_hand(run_id: str, names: Iterable[str], home: Home, env: Mapping[str, str]) -> dict[str, str]:
    """The values that can be had, for hiding them: one that is missing, or open to others, is no reason to show any."""
    known = {**_pairs(home), **env, **_read_handed_over(run_id, env)}
    values = {name: known.get(name) or _from_keyring(name) for name in names}
    return {name: value for name, value in values.items() if value}


def forget(run_id: str, env: Mapping[str, str]) -> None:
    """Remove what was handed over for a run that is over."""
    _handed_over(run_id, env).unlink(missing_ok=True)


def _known(home: Home, env: Mapping[str, str]) -> dict[str, str]:
    return {**_from_file(home), **env}


def _from_file(home: Home) -> dict[str, str]:
    if home.secrets.exists() and stat.S_IMODE(home.secrets.stat().st_mode) & 0o077:
        raise SecretsFileOpen(f"{home.secrets} can be read by others: chmod 600 {home.secrets}")
    return _pairs(home)


def _pairs(home: Home) -> dict[str, str]:
    if not home.secrets.exists():
        return {}
    pairs = (line.partition("=") for line in home.secrets.read_text().splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def _from_keyring(name: str) -> str | None:
    try:
        import keyring
    except ImportError:
        return None
    try:
        value: str | None = keyring.get_password("gpujob", name)
    except keyring.errors.KeyringError:  # a machine without a desktop has none
        return None
    return value


def _read_handed_over(run_id: str, env: Mapping[str, str]) -> dict[str, str]:
    try:
        values = json.loads(_handed_over(run_id, env).read_text())
    except FileNotFoundError:
        return {}
    return {str(name): str(value) for name, value in values.items()}


def _handed_over(run_id: str, env: Mapping[str, str]) -> Path:
    """In memory where the system has such a place; else in a folder of temporary files that only its owner can read."""
    for place in (env.get("XDG_RUNTIME_DIR"), "/dev/shm"):
        if place and os.access(place, os.W_OK):
            return Path(place) / f"gpujob-{os.getuid()}" / f"{run_id}.json"
    return Path(tempfile.gettempdir()) / f"gpujob-{os.getuid()}" / f"{run_id}.json"
