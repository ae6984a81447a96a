"""What a simulated cloud asks of the machines behind it: start, look, stop, end. Knows no wire format and no bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class SimulatedGpus:
    """What the machine's nvidia-smi shows, under names that begin with SIMULATED. `name` is as NVIDIA writes it."""

    name: str  # "NVIDIA GeForce RTX 4090"
    count: int
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class MachineRequest:
    """A machine to be started.

    A pod runs `image` with `command` in place of the image's own; a VM is a host with Docker, cloud-init's user data
    and a login `user`. `env` is what the cloud puts into a pod. `metadata_url` is what a VM reaches at 169.254.169.254.
    """

    name: str
    is_vm: bool = False
    image: str = ""
    command: tuple[str, ...] = ()  # () keeps the image's own
    entrypoint: tuple[str, ...] | None = None
    brings_sshd: bool = False  # the cloud itself puts an SSH server into the container (Vast)
    onstart: str = ""  # a script that the cloud runs in the container once it is up (Vast)
    env: Mapping[str, str] = field(default_factory=dict)
    authorized_keys: tuple[str, ...] = ()
    user: str = "root"
    user_data: str = ""
    metadata_url: str = ""
    gpus: SimulatedGpus | None = None


class MachinePhase(StrEnum):
    STARTING = "starting"  # image, container, boot
    UP = "up"
    FAILED = "failed"  # it could not be started: see `detail`
    OVER = "over"  # it ended by itself, from inside
    GONE = "gone"  # never made, or removed


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """A machine as it is. `ssh` is where port 22 of it can be reached from this computer, once it has one."""

    phase: MachinePhase
    detail: str = ""
    ssh: tuple[str, int] | None = None
    exit_code: int | None = None


class Machines(Protocol):
    """A place where machines can be had. No call waits for a machine; all are safe between threads."""

    is_real: bool  # False: they exist on paper only
    addresses: tuple[str, ...]  # where machines look for servers of this computer, other than its loopback

    def start(self, request: MachineRequest) -> None:
        """Begin to make it; what becomes of it, `look` says."""
        ...

    def look(self, name: str) -> MachineState: ...

    def freeze(self, name: str) -> None:
        """It stops answering, as a host that hangs: connections stay open and silent."""
        ...

    def isolate(self, name: str) -> None:
        """Nobody gets in any more, and who is in hears nothing; what runs there runs on."""
        ...

    def thaw(self, name: str) -> None:
        """One that was frozen or isolated goes on where it was."""
        ...

    def halt(self, name: str) -> None:
        """Take its processes away at once, as a preemption does, and keep its disk."""
        ...

    def resume(self, name: str) -> None:
        """Start a halted machine again, with its disk as it was."""
        ...

    def remove(self, name: str) -> None:
        """No process, no disk, no trace; not an error when there is none."""
        ...

    def close(self) -> None:
        """Remove all that were made; none is made any more."""
        ...

    def reach(self, port: int) -> str:
        """The URL at which machines reach a server that listens on this computer's `port`."""
        ...
