"""What a phase may touch: the store, this computer's folders, the clock, the providers and the machines.

Opens each provider and each connection once and keeps them warm. Decides nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.machine import Machine
from jobs.transport.base import Transport
from orchestrator import secrets
from orchestrator.home import Home, RunFolder
from orchestrator.records import Attempt, Json
from orchestrator.same_account import SameAccount
from orchestrator.store.store import Store
from providers import names, open_provider
from providers.base import Access, LocalAccess, Now, Offer, Provider, Settings, SshAccess

if TYPE_CHECKING:
    from orchestrator.budgets import Account

Connect = Callable[[str, Access, RunFolder], Machine]

# Linux stops CLOCK_MONOTONIC in suspend (man 2 clock_gettime); macOS does not, and has no CLOCK_BOOTTIME.
_AWAKE_OR_NOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_clock() -> Now:
    """UTC that no later step of the computer's clock can move: its time at this call plus what has really passed.

    Time that the computer slept has passed, too: machines went on to cost money.
    """
    started, origin = datetime.now(UTC), time.clock_gettime(_AWAKE_OR_NOT)
    return lambda: started + timedelta(seconds=time.clock_gettime(_AWAKE_OR_NOT) - origin)


def connect(instance_name: str, access: Access, folder: RunFolder) -> Machine:
    """The agent on a machine, by whichever way leads there. Connects when first used."""
    python = access.python if isinstance(access, SshAccess) else "python3"
    return Machine(_transport(instance_name, access, folder), access.directory, python=python)


def _transport(instance_name: str, access: Access, folder: RunFolder) -> Transport:
    if isinstance(access, LocalAccess):
        from jobs.transport.local import LocalTransport

        return LocalTransport(access.env)
    from jobs.transport.ssh import SshTransport

    return SshTransport(
        access.host,
        access.port,
        access.user,
        _key(access, folder),
        host_keys=access.host_keys,
        known_hosts=folder.known_hosts,
        instance=instance_name,
        env=access.env,
    )


def _key(access: SshAccess, folder: RunFolder) -> Path | None:
    if access.key_path is not None:
        return Path(access.key_path).expanduser()
    return None if access.user_keys else folder.key


@dataclass
class BudgetWatch:
    """What one controller has last seen of its store's budgets, and told of them. orchestrator/budgets.py writes it."""

    seen: tuple[Account, ...] = ()
    seen_at: datetime | None = None
    told: set[tuple[str, str, str]] = field(default_factory=set)  # month, project, kind
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class World:
    """Everything outside the run's own row. Safe to share between worker threads; a run has one worker at a time."""

    store: Store
    home: Home
    env: Mapping[str, str]
    clock: Now
    connect: Connect = connect
    budgets: BudgetWatch = field(default_factory=BudgetWatch)
    _providers: dict[str, Provider] = field(default_factory=dict)
    _machines: dict[str, Machine] = field(default_factory=dict)
    _pulses: dict[str, tuple[object, float]] = field(default_factory=dict)
    _secrets: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def provider(self, name: str) -> Provider:
        with self._lock:
            if name not in self._providers:
                settings = Settings(home=self.home.root, env=self.env, now=self.clock)
                self._providers[name] = open_provider(name, settings)
            return self._providers[name]

    def provider_of(self, attempt: Attempt) -> Provider:
        """The cloud of an attempt's machine, as far as what it says of that machine may be believed."""
        return SameAccount(self.provider(attempt.provider), attempt)

    def use(self, *providers: Provider) -> World:
        """Put these in place of the registered ones of their names."""
        self._providers.update({provider.name: provider for provider in providers})
        return self

    def provider_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*names(), *self._providers]))

    def machine(self, name: str, access: Access, folder: RunFolder) -> Machine:
        with self._lock:
            if name not in self._machines:
                self._machines[name] = self.connect(name, access, folder)
            return self._machines[name]

    def expect_ssh(self) -> None:
        """Import what a connection needs while there is nothing else to do: paramiko takes a tenth of a second."""
        import jobs.transport.ssh  # noqa: F401

    def forget_machine(self, name: str) -> None:
        """Let go of the connection; the next use makes another."""
        with self._lock:
            machine = self._machines.pop(name, None)
        if machine is not None:
            machine.close()

    def pulse(self, name: str, beat: object) -> timedelta:
        """For how long, by this computer's own clock, an agent's beat has stood still."""
        now = self.clock().timestamp()
        seen, at = self._pulses.get(name, (None, now))
        if beat != seen:
            at = now
        self._pulses[name] = (beat, at)
        return timedelta(seconds=now - at)

    def forget_pulse(self, name: str) -> None:
        self._pulses.pop(name, None)

    def secrets(self, run_id: str, names: Sequence[str]) -> Mapping[str, str]:
        """The values of a run's secrets as far as they were ever at hand, kept in memory: a place of theirs may go."""
        known = self._secrets.setdefault(run_id, {})
        if missing := [name for name in names if name not in known]:
            known.update(secrets.at_hand(run_id, missing, self.home, self.env))
        return known

    def keep_secrets(self, run_id: str, values: Mapping[str, str]) -> None:
        self._secrets.setdefault(run_id, {}).update(values)

    def forget_secrets(self, run_id: str) -> None:
        self._secrets.pop(run_id, None)
        secrets.forget(run_id, self.env)

    def close(self) -> None:
        for name in list(self._machines):
            self.forget_machine(name)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def access_to_json(access: Access) -> Json:
    kind = "local" if isinstance(access, LocalAccess) else "ssh"
    return {"kind": kind, **asdict(access), "env": dict(access.env)}


def access_from_json(row: Json) -> Access:
    if row["kind"] == "local":
        return LocalAccess(**_fields(LocalAccess, row))
    return SshAccess(**{**_fields(SshAccess, row), "host_keys": tuple(row["host_keys"])})


def offer_to_json(offer: Offer) -> Json:
    """Decimals as strings, times as ISO 8601."""
    return {name: _plain(value) for name, value in asdict(offer).items()}


def offer_from_json(row: Json) -> Offer:
    money = {name: Decimal(value) for name, value in row.items() if "usd_per_" in name and value}
    return Offer(**{**_fields(Offer, row), **money, "fetched_at": datetime.fromisoformat(row["fetched_at"])})


def _fields(record: type, row: Json) -> Json:
    """What the record has of the row: one that another version wrote may hold more."""
    return {field.name: row[field.name] for field in fields(record) if field.name in row}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value
