"""What a client orders, and the words with which RunPod refuses. Knows no wire: both APIs speak through these.

The texts are RunPod's own, as clients have met them; a client has nothing but the text to tell refusals apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

# "Capacity exhaustion carries no machine-readable code" (docs.runpod.io, createPod, 2026-08); an unknown GPU type gets
# the same text (github.com/runpod/runpodctl/pull/260).
NO_CAPACITY = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
NO_DISK = "There are no longer any instances available with enough disk space."
NO_SPOT = "Spot pods are no longer offered"
NO_FUNDS = "Your account balance is too low to rent a pod. Please add funds to your account."
HOST_TAKEN = "There are not enough free GPUs on the host machine to start this pod."
NOT_FOUND_TO_TERMINATE = "pod not found to terminate"

MOST_ENV = 50


@dataclass(frozen=True, kw_only=True)
class Order:
    """A pod as it was asked for, whichever API it came by. Exactly one of `gpu` and `cpu` is set."""

    name: str
    image: str
    gpu: str | None = None
    gpu_count: int = 1
    cpu: str | None = None
    vcpus: int = 0
    cloud: str = "SECURE"  # SECURE, COMMUNITY; GraphQL also has ALL
    data_centers: tuple[str, ...] = ()
    country: str | None = None
    public_ip: bool | None = None  # None: not asked, and v2 cannot ask
    cuda: tuple[str, ...] = ()
    min_cuda: str | None = None
    min_vcpus: int = 0  # per pod
    min_memory_gb: int = 0
    disk_gb: int = 50
    volume_gb: int = 0
    volume_path: str = ""
    network_volume: str | None = None
    ports: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    args: str = ""
    registry: str | None = None
    start_ssh: bool = False
    start_jupyter: bool = False
    global_networking: bool = False
    stop_after: datetime | None = None
    terminate_after: datetime | None = None


class Refused(Exception):
    """RunPod says no. `code` is what GraphQL puts into extensions; `status` is REST's."""

    code = "RUNPOD"
    status = 400


class BrokenRule(Refused):
    """The request is understood and breaks a rule."""


class NoCapacity(Refused):
    """There is none; the same status as a broken rule."""

    def __init__(self, text: str = NO_CAPACITY) -> None:
        super().__init__(text)


class NoFunds(Refused):
    """The balance does not cover an hour."""

    code = "INSUFFICIENT_BALANCE"
    status = 402

    def __init__(self) -> None:
        super().__init__(NO_FUNDS)


class NotAllowed(Refused):
    """This key may not do that."""

    code = "FORBIDDEN"
    status = 403

    def __init__(self) -> None:
        super().__init__("access denied")


class NotFound(Refused):
    """There is no such thing, or no more."""

    code = "POD_NOT_FOUND"
    status = 404


class NotNow(Refused):
    """Not in this state."""

    status = 409
