"""What a create asks for: the body read and checked by the documented limits, and the container that comes of it.

Knows neither the market nor the state of anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.rehearsal.machines.base import MachineRequest, SimulatedGpus
from providers.rehearsal.vast.refused import Refused, refused

# vast-ai/docs, create_instance.yaml (2026-11). The length of what is started is 4096 there and 16 KB in the CLI's
# guide, and a user was refused above 4048: the smallest holds here.
LONGEST_SCRIPT = 4048
LONGEST_IMAGE, LONGEST_LABEL, LONGEST_ENV = 1024, 256, 32768
LEAST_DISK_GB, USUAL_DISK_GB = Decimal(8), Decimal(8)
LEAST_BID, MOST_BID_PER_GPU = Decimal("0.001"), Decimal(32)
MOST_PORTS = 64

_SSH_MODES = ("ssh", "ssh_proxy", "ssh_direct", "ssh_direc")
_PORT = re.compile(r"-p (\d+):(\d+)(?:/(tcp|udp))?$")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A create, understood."""

    image: str
    disk_gb: Decimal
    label: str | None
    env: Mapping[str, str]  # as it was sent, port mappings and flags included
    onstart: str
    runtype: str
    args: tuple[str, ...]
    price: Decimal | None  # the bid per hour for the whole machine; None: on demand
    cancel_unavail: bool
    starts: bool

    @property
    def brings_sshd(self) -> bool:
        """Vast puts its SSH server (and Jupyter) in, in place of the image's entrypoint."""
        return self.runtype != "args"

    @property
    def is_direct(self) -> bool:
        return "direc" in self.runtype

    @property
    def is_jupyter(self) -> bool:
        return "jupyter" in self.runtype

    def ports(self) -> list[str]:
        """Ports of the container that are opened on the host: "8080/tcp"."""
        found = ["22/tcp"] if self.brings_sshd and self.is_direct else []
        found += ["8080/tcp"] if self.is_jupyter and self.is_direct else []
        for name in self.env:
            if (match := _PORT.match(name)) and (port := f"{match[2]}/{match[3] or 'tcp'}") not in found:
                found.append(port)
        return found[:MOST_PORTS]

    def variables(self) -> dict[str, str]:
        return {name: value for name, value in self.env.items() if not name.startswith("-")}

    def machine(
        self, name: str, own: Mapping[str, str], keys: Iterable[str], gpus: SimulatedGpus | None
    ) -> MachineRequest:
        """The container on the host. `own` is what Vast itself puts into its environment."""
        env = {**self.variables(), **own}
        if self.brings_sshd:
            return MachineRequest(
                name=name, image=self.image, env=env, gpus=gpus,
                brings_sshd=True, onstart=self.onstart, authorized_keys=tuple(keys),
            )  # fmt: skip
        entrypoint = tuple(shlex.split(self.onstart)) or None  # of an args instance, onstart is the entrypoint
        return MachineRequest(name=name, image=self.image, env=env, gpus=gpus, command=self.args, entrypoint=entrypoint)


def read_launch(body: Any, ask_id: int) -> Launch:
    """The body of a create. Raises Refused."""
    try:
        return _read(body)
    except _Wrong as wrong:
        message = f"error 400/3467: Invalid args: {wrong}"
        raise refused(400, "invalid_args", message, ask_id=ask_id) from None


def read_bid(price: Any, gpus: int) -> Decimal:
    """A bid for the whole machine. Raises Refused."""
    try:
        bid = Decimal(str(price))
    except InvalidOperation:
        raise refused(400, "invalid_args", "Invalid args: 'price' must be a number") from None
    if bid < LEAST_BID:
        raise invalid_price("Please set a bid price >= 0.001.")
    if bid > MOST_BID_PER_GPU * gpus:
        raise invalid_price(f"Please set a bid price <= {MOST_BID_PER_GPU * gpus}.")
    return bid


def invalid_price(message: str, **more: object) -> Refused:
    return refused(400, "invalid_price", message, **more)


class _Wrong(Exception):
    """What is wrong with the body, in the cloud's words."""


def _read(body: Any) -> Launch:
    if not isinstance(body, dict):
        raise _Wrong("the body must be a JSON object")
    if body.get("template_hash_id"):
        raise _Wrong("'template_hash_id' names no template")
    image = body.get("image")
    if not isinstance(image, str) or not image.strip():
        raise _Wrong("'image' is required")
    args = _args(body)
    onstart = body.get("onstart") or ""
    runtype = body.get("runtype") or ("args" if args else "ssh")
    price = body.get("price")
    _check_lengths(image, body.get("label"), onstart, args)
    return Launch(
        image=image,
        disk_gb=_disk(body.get("disk")),
        label=body.get("label") or None,
        env=_env(body.get("env")),
        onstart=onstart,
        runtype=_runtype(runtype),
        args=args,
        price=None if price is None else _number("price", price),
        # On demand it is true when it is not said; the SDK and the command line always say false.
        cancel_unavail=bool(body["cancel_unavail"]) if body.get("cancel_unavail") is not None else price is None,
        starts=body.get("target_state") != "stopped",
    )


def _args(body: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(args := body.get("args"), list):
        return tuple(str(word) for word in args)
    return tuple(shlex.split(str(body.get("args_str") or "")))


def _runtype(runtype: Any) -> str:
    words = str(runtype).split()
    if words == ["args"]:
        return "args"
    if not words or any(word not in _SSH_MODES and not word.startswith("jupyter") for word in words):
        raise _Wrong(f"'runtype' {runtype!r} is not one of ssh, jupyter, args")
    return " ".join(words)


def _check_lengths(image: str, label: Any, onstart: str, args: tuple[str, ...]) -> None:
    if len(image) > LONGEST_IMAGE:
        raise _Wrong(f"'image' is longer than {LONGEST_IMAGE}")
    if label is not None and len(str(label)) > LONGEST_LABEL:
        raise _Wrong(f"'label' is longer than {LONGEST_LABEL}")
    if len(onstart.encode()) + len(" ".join(args).encode()) > LONGEST_SCRIPT:
        raise _Wrong("'args', 'args_str' and 'onstart' together are too long")


def _env(env: Any) -> dict[str, str]:
    """A string of docker's flags is not applied to instances, and nothing is said about it."""
    if not isinstance(env, dict):
        return {}
    pairs = {str(name): str(value) for name, value in env.items()}
    if sum(len(name.encode()) + len(value.encode()) for name, value in pairs.items()) > LONGEST_ENV:
        raise _Wrong(f"'env' is longer than {LONGEST_ENV}")
    return pairs


def _disk(disk: Any) -> Decimal:
    if disk is None:
        return USUAL_DISK_GB
    if (size := _number("disk", disk)) < LEAST_DISK_GB:
        raise _Wrong(f"'disk' must be at least {LEAST_DISK_GB}")
    return size


def _number(name: str, value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise _Wrong(f"'{name}' must be a number") from None
