"""Simulated clouds with containers as machines, and gpujob driven against them as a person would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.base import Machines
from providers.rehearsal.machines.docker import DockerMachines
from providers.rehearsal.web import Served
from tests.e2e.driver import Gpujob

CLOUDS = ("aws", "runpod", "vast")
WITH_SPOT = ("aws", "vast")
GPUS = {"aws": "T4", "runpod": "RTX4090", "vast": "RTX3090"}
_CLASSES = {"aws": "AwsCloud", "runpod": "RunpodCloud", "vast": "VastCloud"}
ROUNDING = Decimal("0.0005")
SMALL = "gpujob-test:base"


@contextmanager
def served(name: str, *, machines: Machines | None = None) -> Iterator[SimulatedCloud]:
    """One simulated cloud on loopback, its machines containers here unless others are given."""
    machines = machines or DockerMachines()
    kind: Any = getattr(import_module(f"providers.rehearsal.{name}.cloud"), _CLASSES[name])
    cloud: Any = kind(machines)
    if name == "runpod":  # half of its community hosts can never be reached; test_faults has that
        for host in cloud.market.hosts:
            host.has_public_ip = True
    with Served(cloud) as listening:
        yield listening.cloud


def alive(cloud: SimulatedCloud) -> list[str]:
    """Names of the machines that cost something now."""
    with cloud.lock:
        cloud.tick()
        return [machine.name for machine in cloud.everything() if machine.alive]


def containers(label: str = "gpujob.rehearsal") -> list[str]:
    """Containers that are machines of simulated clouds of this test session."""
    listed = ["docker", "ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}"]
    return subprocess.run(listed, check=True, capture_output=True, text=True, timeout=60).stdout.split()


def booked(gpujob: Gpujob, run: str) -> Decimal:
    return sum((Decimal(row["amount_usd"]) for row in gpujob.json("cost", run)), Decimal(0))


def spoil(cloud: SimulatedCloud, kind: str, **how: Any) -> None:
    """What goes wrong there next."""
    cloud.faults.add(Fault(kind=kind, **how))


def outcomes(run: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in run["attempts"]]


def job_on(cloud: SimulatedCloud, gpujob: Gpujob, run: str, **spec: Any) -> Path:
    """A job that can run on that cloud only."""
    resources = {"gpu": GPUS[cloud.name], "disk": "10GB"}
    return gpujob.job(run=run, **{"image": SMALL, "resources": resources, "place": {"providers": [cloud.name]}, **spec})
