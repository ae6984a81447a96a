"""The three simulated clouds of one worker, used for one round after the other, and what they know of a round.

Owns what a cloud is told and asked. Knows no controller and judges nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.rehearsal.cloud import Asked, SimulatedCloud
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.process import ProcessMachines
from providers.rehearsal.server import Rehearsal
from tests.chaos.facts import MachineFact

OnCall = Callable[[str], None]
_SETTLES_SECONDS = 20.0


class Witness(deque[Asked]):
    """A cloud's request log that tells of every call at the moment when it is done and not yet answered."""

    def __init__(self, on_call: OnCall) -> None:
        super().__init__()
        self._on_call = on_call

    def append(self, asked: Asked) -> None:
        super().append(asked)
        self._on_call(asked.call)


class Clouds:
    """A context manager. Between rounds nothing is forgotten but the faults: a round begins with `begin`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.machines = ProcessMachines()
        self._rehearsal = Rehearsal(names, machines=self.machines)
        self.clouds: dict[str, SimulatedCloud] = self._rehearsal.clouds
        for host in _runpod_hosts(self.clouds):
            host.has_public_ip = True  # half of them have none, and a pod there is given up after 90 seconds
        self._before: set[tuple[str, str]] = set()

    def environment(self, name: str) -> dict[str, str]:
        """The way to one of them only: to ask the others at every start of a controller would take half of the time."""
        return {"AWS_EC2_METADATA_DISABLED": "true", **self.clouds[name].environment()}

    def close(self) -> None:
        self._rehearsal.close()

    def begin(self, faults: dict[str, Sequence[Fault]], on_call: OnCall) -> None:
        """A new round. `on_call` is called in the cloud's own threads, before the answer goes out."""
        self._before = {(cloud.name, machine.id) for cloud in self.clouds.values() for machine in cloud.everything()}
        for name, cloud in self.clouds.items():
            cloud.requests = Witness(on_call)
            cloud.faults.struck.clear()
            cloud.faults.add(*faults.get(name, ()))

    def calm(self) -> None:
        """Nothing goes wrong any more: what waits is taken back, what has begun is waited for."""
        for cloud in self.clouds.values():
            cloud.faults.clear()
        until = max((self._out_until(cloud) for cloud in self.clouds.values()), default=None)
        while until is not None and any(cloud.clock() < until for cloud in self.clouds.values()):
            time.sleep(0.1)

    def await_lists(self) -> None:
        """No list hides a machine any more: what nobody can see, nobody can end."""
        lag = max((fault.seconds for fault in self.struck() if fault.kind == "list_lag"), default=0.0)
        while any(self._age(fact) < lag for fact in self.made() if fact.alive):
            time.sleep(0.1)

    def struck(self) -> list[Fault]:
        return [fault for cloud in self.clouds.values() for fault in cloud.faults.struck]

    def made(self) -> list[MachineFact]:
        """The machines of this round, oldest first."""
        return [fact for cloud in self.clouds.values() for fact in self._made_at(cloud)]

    def leftovers(self) -> list[str]:
        """What is there besides machines and belongs to one: it may cost something, or be in the way."""
        found = []
        if "aws" in self.clouds and self.clouds["aws"].everything():
            found += list(_left_at_aws(self.clouds["aws"]))
        if "runpod" in self.clouds:
            found += [f"runpod registry login {name}" for name in _runpod(self.clouds).account.registries]
        return found

    def requests(self) -> list[str]:
        return [
            f"{asked.at:%H:%M:%S.%f} {name} {asked.call} {asked.method} {asked.path} {asked.fault}"
            for name, cloud in self.clouds.items()
            for asked in cloud.requests
        ]

    def bill(self) -> list[str]:
        return [
            f"{name} {line.machine} {line.rate.meter} {line.start:%H:%M:%S.%f} to "
            f"{f'{line.end:%H:%M:%S.%f}' if line.end else 'now'} ${line.usd(cloud.clock()):f}"
            for name, cloud in self.clouds.items()
            for line in cloud.bill.lines()
            if (name, line.machine) not in self._before
        ]

    def await_ends(self) -> None:
        """A cloud takes a moment to shut down what it was told to end."""
        until = time.monotonic() + _SETTLES_SECONDS
        while time.monotonic() < until and any(fact.alive and fact.status == "shutting-down" for fact in self.made()):
            time.sleep(0.1)

    def _made_at(self, cloud: SimulatedCloud) -> Iterator[MachineFact]:
        with cloud.lock:
            cloud.tick()
            now = cloud.clock()
            for machine in cloud.everything():
                if (cloud.name, machine.id) in self._before:
                    continue
                lines = cloud.bill.lines(machine.id)
                timed = [line for line in lines if line.units is None]
                ends = [line.end for line in timed if line.end is not None]
                hourly = (line.rate.usd_per_unit * line.rate.units_per_hour for line in timed)
                yield MachineFact(
                    cloud=cloud.name,
                    id=machine.id,
                    name=machine.name,
                    status=machine.status,
                    alive=machine.alive or any(line.end is None for line in lines),
                    created_at=machine.created_at,
                    ended_at=machine.ended_at,
                    usd=sum((line.usd(now) for line in lines), Decimal(0)),
                    usd_per_hour=sum(hourly, Decimal(0)),
                    billed_from=max((line.start for line in timed), default=None),
                    billed_until=min(ends, default=None),
                )

    def _age(self, fact: MachineFact) -> float:
        return (self.clouds[fact.cloud].clock() - fact.created_at).total_seconds()

    def _out_until(self, cloud: SimulatedCloud) -> datetime:
        lengths = [fault.seconds for fault in cloud.faults.struck if fault.kind == "outage"]
        begun = [asked.at for asked in cloud.requests if asked.fault == "outage"]
        return (begun[-1] if begun else cloud.clock()) + timedelta(seconds=max(lengths, default=0.0))


def _runpod(clouds: dict[str, SimulatedCloud]) -> Any:
    return clouds["runpod"]


def _runpod_hosts(clouds: dict[str, SimulatedCloud]) -> Sequence[Any]:
    return list(_runpod(clouds).market.hosts) if "runpod" in clouds else []


def _left_at_aws(cloud: Any) -> Iterator[str]:
    for region in cloud.regions:
        backend = cloud.region(region)
        for group in backend.describe_security_groups():
            if group.name.startswith("gpujob"):
                yield f"aws {region} security group {group.name}"
        yield from (f"aws {region} key pair {pair.key_name}" for pair in backend.describe_key_pairs([]))
        yield from (f"aws {region} volume {volume.id}" for volume in backend.volumes.values())
