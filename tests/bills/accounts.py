"""Accounts at simulated clouds: a cloud and its real provider on one clock, machines on paper, both sides of the bill.

Knows no run's life and no controller; who rents is renter.py's, and the month's.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestrator import ledger
from orchestrator.store.store import Store
from providers.aws.provider import AwsProvider
from providers.base import Provider, Settings
from providers.rehearsal.aws.cloud import AwsCloud
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.runpod.cloud import RunpodCloud
from providers.rehearsal.vast.cloud import VastCloud
from providers.runpod.provider import RunpodProvider
from providers.vast.provider import VastProvider

GPUS = {"aws": "T4", "runpod": "RTX4090", "vast": "RTX3090"}
# Per machine: Vast.ai rounds each amount of a bill to a tenth of a cent, RunPod to the last digit of a double.
ROUNDING = {"aws": Decimal("0.000001"), "runpod": Decimal("0.00001"), "vast": Decimal("0.0031")}

_CLOUDS: dict[str, Any] = {"aws": AwsCloud, "runpod": RunpodCloud, "vast": VastCloud}
_INSIDE = {
    "aws": {"name": "Tesla T4", "memory_mb": 15360},
    "runpod": {"name": "NVIDIA GeForce RTX 4090", "memory_mb": 24564},
    "vast": {"name": "NVIDIA GeForce RTX 3090", "memory_mb": 24576},
}


def open_cloud(name: str, clock: SimulatedClock) -> Any:
    """A cloud in which a machine gets an address wherever it is. Whoever wants it served serves it."""
    cloud = _CLOUDS[name](PaperMachines(), clock=clock)
    if name == "runpod":
        for host in cloud.market.hosts:
            host.has_public_ip = True
    return cloud


def open_provider(cloud: Any, folder: Path) -> Provider:
    """The real one, which spends its short waits on the cloud's clock."""
    settings = Settings(home=folder, env=cloud.environment(), now=cloud.clock)
    if cloud.name == "aws":
        return AwsProvider(settings, sleep=cloud.clock.advance)
    if cloud.name == "vast":
        return VastProvider(settings, sleep=cloud.clock.advance)
    return RunpodProvider(settings)


def facts(cloud_name: str) -> dict[str, Any]:
    """What the probe of a machine with the cloud's GPU says."""
    return {"gpus": [{**_INSIDE[cloud_name], "driver": "570.1", "uuid": "0"}], "cuda": "12.8"}


def is_up(cloud: Any, name: str) -> bool:
    """Whether a machine of that name could be spoken to."""
    with cloud.lock:
        cloud.tick()
        mine = [one.id for one in cloud.everything() if one.name == name and one.alive and one.ssh]
        return any(cloud.machines.answers(paper) for each in mine for paper in (each, f"{cloud.name}-{each}"))


def alive(cloud: Any) -> list[str]:
    return [machine.name for machine in cloud.everything() if machine.alive]


def billed(cloud: Any) -> dict[str, Decimal]:
    """The cloud's own bill, for every machine that was ever made."""
    with cloud.lock:
        cloud.tick()
        return {one.id: cloud.bill.total(one.id) for one in cloud.everything()}


def differences(cloud: Any, store: Store) -> dict[str, Decimal]:
    """For every machine that was ever made: what is booked for it, less the cloud's own bill."""
    bill = billed(cloud)
    booked = dict.fromkeys(bill, Decimal(0))
    for run_id, attempts in store.attempts_of([run.id for run in store.runs()]).items():
        rows = store.charges(run_id=run_id)
        for attempt in attempts:
            if attempt.provider != cloud.name:
                continue
            mine = ledger.total(row for row in rows if row.attempt == attempt.number)
            if attempt.instance_id is None:
                assert mine == 0, f"{mine} booked for a machine that was never made"
                continue
            booked[attempt.instance_id.rpartition("/")[2]] += mine
    return {machine: booked[machine] - bill[machine] for machine in bill}


def wrong(cloud: Any, store: Store) -> dict[str, Decimal]:
    """Of these differences the ones that are none of the cloud's rounding."""
    return {machine: usd for machine, usd in differences(cloud, store).items() if abs(usd) > ROUNDING[cloud.name]}
