"""A rehearsal: simulated clouds that listen on loopback, the machines behind them, and the variables that lead there.

Knows the clouds by their names only, and imports one when it is asked for. It starts nothing unless every endpoint that
it hands out is this computer's and every key a throw-away.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.base import Machines

CLOUDS = {
    "aws": "providers.rehearsal.aws.cloud:AwsCloud",
    "runpod": "providers.rehearsal.runpod.cloud:RunpodCloud",
    "vast": "providers.rehearsal.vast.cloud:VastCloud",
}
MACHINES = ("docker", "process", "paper")

THROW_AWAY = "rehearsal"  # how every key begins
_EXTRA = "simulated clouds need gpujob's extra `rehearsal`; from its source: uv tool install '.[rehearsal]'"
_SECRETS = ("KEY", "SECRET", "TOKEN", "PASSWORD")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_HERE = "127.0.0.1,localhost"

Faults = Mapping[str, Sequence[Fault]]


class RehearsalError(Exception):
    """The rehearsal cannot start; the message says what to do."""


class Rehearsal:
    """Simulated clouds in this process, all on one clock. A context manager; they are there from the start."""

    def __init__(
        self,
        clouds: Iterable[str] = tuple(CLOUDS),
        *,
        machines: Machines | None = None,
        speed: float = 1.0,
        faults: Faults | None = None,
        latency_seconds: float = 0.0,
    ) -> None:
        made = {name: _cloud_class(name) for name in clouds}
        self.machines = default_machines() if machines is None else machines
        self.clock = SimulatedClock(speed=speed)
        self.clouds: dict[str, SimulatedCloud] = {}
        self._open = ExitStack()
        self._open.callback(self.machines.close)
        try:
            self._serve(made, latency_seconds)
            for name, row in (faults or {}).items():
                self._cloud(name).faults.add(*row)
            for name, cloud in self.clouds.items():
                check(name, cloud.environment())
        except BaseException:
            self._open.close()
            raise

    def environment(self) -> dict[str, str]:
        """The variables by which gpujob, the SDKs and the clouds' command lines reach all of these clouds."""
        merged = {name: value for cloud in self.clouds.values() for name, value in cloud.environment().items()}
        for name in (*_PROXIES, *(proxy.upper() for proxy in _PROXIES)):
            if os.environ.get(name):  # a proxy would be asked for 127.0.0.1, too
                merged.update(NO_PROXY=_HERE, no_proxy=_HERE)
        return merged

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing listens any more, and no machine is left."""
        self._open.close()

    def _serve(self, made: Mapping[str, Any], latency_seconds: float) -> None:
        from providers.rehearsal.web import Served

        for name, cloud_class in made.items():
            cloud = cloud_class(self.machines, clock=self.clock, latency_seconds=latency_seconds)
            self.clouds[name] = cloud
            served = Served(cloud)
            self._open.callback(served.stop)  # all of them, before the machines go: none shall see them gone
            served.start()

    def _cloud(self, name: str) -> SimulatedCloud:
        if name not in self.clouds:
            raise RehearsalError(f"faults for {name!r}, which is not rehearsed; there are {', '.join(self.clouds)}")
        return self.clouds[name]


def default_machines() -> Machines:
    """Containers where Docker answers, otherwise process trees."""
    from providers.rehearsal.machines import engine

    return machines_of_kind("process" if engine.answers() else "docker")


def machines_of_kind(kind: str) -> Machines:
    """One of MACHINES. Raises RehearsalError."""
    if kind == "docker":
        from providers.rehearsal.machines.docker import DockerMachines
        from providers.rehearsal.machines.engine import EngineError

        try:
            return DockerMachines()
        except EngineError as error:
            raise RehearsalError(f"Docker: {error}. Without Docker, machines can be processes") from error
    if kind == "process":
        try:
            from providers.rehearsal.machines.process import ProcessMachines

            importlib.import_module("asyncssh")
        except ImportError as error:
            raise RehearsalError(f"{error}: {_EXTRA}") from error
        return ProcessMachines()
    if kind == "paper":
        from providers.rehearsal.machines.paper import PaperMachines

        return PaperMachines()
    raise RehearsalError(f"no machines of kind {kind!r}; there are {', '.join(MACHINES)}")


def read_faults(path: Path, clouds: Sequence[str]) -> dict[str, list[Fault]]:
    """A JSON file: a list of faults for every cloud, or an object with a list for each. Raises RehearsalError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = found if isinstance(found, dict) else dict.fromkeys(clouds, found)
        return {name: [Fault.from_json(row) for row in listed] for name, listed in rows.items()}
    except OSError as error:
        raise RehearsalError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise RehearsalError(f"{path}: {error}") from error


def check(cloud: str, environment: Mapping[str, str], given: Mapping[str, str] | None = None) -> None:
    """Refuse variables that lead to a real cloud or hold a real key. `given` is what a client has besides them."""
    for name, value in environment.items():
        if "://" in value and not _is_loopback(value):
            raise RehearsalError(f"{cloud}: {name} leads to {value}, which is not this computer")
        if any(word in name for word in _SECRETS) and not value.startswith(THROW_AWAY):
            raise RehearsalError(f"{cloud}: {name} does not hold a throw-away key")
    for name, value in (os.environ if given is None else given).items():
        # A service's own variable goes before AWS_ENDPOINT_URL.
        if name.startswith("AWS_ENDPOINT_URL_") and not _is_loopback(value) and "AWS_ENDPOINT_URL" in environment:
            raise RehearsalError(f"{cloud}: {name} is set and leads to {value}: unset it for a rehearsal")


def _cloud_class(name: str) -> Any:
    if name not in CLOUDS:
        raise RehearsalError(f"no simulated cloud {name!r}; there are {', '.join(CLOUDS)}")
    module, _, attribute = CLOUDS[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise RehearsalError(f"{name}: {error}: {_EXTRA}") from error


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
