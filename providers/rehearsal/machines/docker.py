"""DockerMachines: a pod is a container made of its image, a VM is a container that behaves like a host.

Each machine has a thread of its own that does what is asked of it in order, so no call waits for Docker. Whatever
happened to a server, its machines are found again by their label and removed when the next one starts. What stays is
the disk that VMs are copied from (golden.py), for the next rehearsal.
"""

from __future__ import annotations

import ipaddress
import json
import queue
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from providers.rehearsal.machines import containers
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, MachineState
from providers.rehearsal.machines.engine import LABEL, Engine, EngineError
from providers.rehearsal.machines.golden import Golden

VM_IMAGE = "gpujob-test:vm"
VM_HOLDS = ("gpujob-test:base", "gpujob-test:torch")

_PULL_SECONDS = 3600.0
_CLOSE_SECONDS = 60.0
_GONE = MachineState(phase=MachinePhase.GONE)
_TO_SSHD = (
    "for each in /proc/[0-9]*; do read -r name 2>/dev/null <$each/comm || continue;"
    " case $name in sshd*) kill -s %s ${each#/proc/} ;; esac; done"
)
_INSPECT = "{{json .State}}\n{{json .NetworkSettings.Ports}}"


class DockerMachines:
    """Implements Machines. Raises EngineError when Docker does not answer."""

    is_real = True

    def __init__(self, *, vm_image: str = VM_IMAGE, vm_holds: Sequence[str] = VM_HOLDS) -> None:
        self._engine = Engine()
        self._engine.remove_orphans()
        self._golden = Golden(self._engine, vm_image, vm_holds)
        self._vm_image = vm_image
        self._gateway = _gateway(self._engine)
        self.addresses: tuple[str, ...] = (self._gateway,) if _is_mine(self._gateway) else ()
        self._machines: dict[str, _Machine] = {}
        self._leaving: list[_Machine] = []
        _, pid, _, number = self._engine.owner.rsplit("/", 3)
        self._mine, self._numbers = f"{pid}-{number}", count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._ends = _Ends(self._engine, self._look_again)

    def start(self, request: MachineRequest) -> None:
        with self._lock:
            name = re.sub(r"[^A-Za-z0-9_.-]", "-", request.name)
            container = f"rehearsal-{self._mine}-{next(self._numbers)}-{name}"
            if self._closed:
                return
            if request.name in self._machines:
                raise ValueError(f"there is a machine {request.name!r} already")
            machine = self._machines[request.name] = _Machine(self._engine, container, self._told(request, container))
            machine.do(machine.make)

    def look(self, name: str) -> MachineState:
        machine = self._machines.get(name)
        return machine.state if machine is not None else _GONE

    def freeze(self, name: str) -> None:
        self._do(name, _Machine.freeze)

    def isolate(self, name: str) -> None:
        self._do(name, _Machine.isolate)

    def thaw(self, name: str) -> None:
        self._do(name, _Machine.thaw)

    def halt(self, name: str) -> None:
        self._do(name, _Machine.halt)

    def resume(self, name: str) -> None:
        self._do(name, _Machine.resume)

    def remove(self, name: str) -> None:
        with self._lock:
            machine = self._machines.pop(name, None)
            if machine is not None:
                self._leaving = [each for each in self._leaving if each.is_alive()] + [machine]
        if machine is not None:
            machine.leave()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for name in list(self._machines):
            self.remove(name)
        until = time.monotonic() + _CLOSE_SECONDS
        for machine in self._leaving:
            machine.join(max(0.0, until - time.monotonic()))
        self._ends.close()
        self._engine.remove_mine()

    def reach(self, port: int) -> str:
        """Docker on a Mac is in a VM, where this computer has a name of its own."""
        return f"http://{self._gateway if self.addresses else 'host.docker.internal'}:{port}"

    @property
    def owner(self) -> str:
        """What the label of its containers and volumes says."""
        return self._engine.owner

    def container(self, name: str) -> str:
        """What Docker calls the machine."""
        return self._machines[name].container

    def _told(self, request: MachineRequest, container: str) -> Callable[[_Machine], containers.Recipe]:
        if not request.is_vm:
            return lambda machine: _pod(machine, request)

        def vm(machine: _Machine) -> containers.Recipe:
            machine.require(self._vm_image, "tests/images/build.sh vm makes it")
            machine.volumes.append(f"{container}-docker")
            self._engine.new_volume(machine.volumes[0])
            self._golden.copy_into(machine.volumes[0])
            return containers.vm(request, self._vm_image, machine.volumes[0])

        return vm

    def _do(self, name: str, what: Callable[[_Machine], None]) -> None:
        machine = self._machines.get(name)
        if machine is not None:
            machine.do(lambda: what(machine))

    def _look_again(self, container: str | None) -> None:
        """A container has ended; None: perhaps any."""
        for machine in list(self._machines.values()):
            if container in (None, machine.container):
                machine.do(machine.notice_end)


class _Machine:
    """One container and the thread that does what is asked of it, in order."""

    def __init__(self, engine: Engine, container: str, recipe: Callable[[_Machine], containers.Recipe]) -> None:
        self.container = container
        self.volumes: list[str] = []
        self.state = MachineState(phase=MachinePhase.STARTING)
        self._engine = engine
        self._recipe = recipe
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pulling: subprocess.Popen[bytes] | None = None
        self._leaves = self._frozen = self._isolated = False
        self._thread = threading.Thread(target=self._work, name=container, daemon=True)
        self._thread.start()

    def do(self, order: Callable[[], None]) -> None:
        self._orders.put(order)

    def leave(self) -> None:
        self._leaves = True
        if self._pulling is not None:
            self._pulling.kill()
        self._orders.put(None)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    # -- in its own thread

    def make(self) -> None:
        recipe = self._recipe(self)
        if self._leaves:  # it may have taken minutes, and `close` may not have waited for it
            return
        options = ("--name", self.container, "--log-driver", "json-file", "--log-opt", "max-size=10m", *recipe.options)
        self._engine.create(options, recipe.argv, recipe.variables)
        self._engine.put(self.container, recipe.files)
        self._begin()

    def freeze(self) -> None:
        if self.state.phase is MachinePhase.UP and not self._frozen:
            self._engine.ask("pause", self.container)
            self._frozen = True

    def isolate(self) -> None:
        if self.state.phase is MachinePhase.UP and not self._frozen:
            self._engine.ask("exec", "--user", "0", self.container, "sh", "-c", _TO_SSHD % "STOP")
            self._isolated = True

    def thaw(self) -> None:
        self._thaw()
        if self._isolated and self.state.phase is MachinePhase.UP:
            self._engine.ask("exec", "--user", "0", self.container, "sh", "-c", _TO_SSHD % "CONT")
        self._isolated = False

    def halt(self) -> None:
        self._thaw()
        if self.state.phase is MachinePhase.UP:
            with suppress(EngineError):  # it may have ended at this moment
                self._engine.ask("kill", self.container)
            self.state = MachineState(phase=MachinePhase.OVER, exit_code=137)

    def resume(self) -> None:
        self._thaw()
        if self.state.phase is MachinePhase.OVER:
            self._begin()

    def notice_end(self) -> None:
        if self.state.phase is not MachinePhase.UP:
            return
        container, _ = self._inspect()
        if not container["Running"]:
            self._frozen = False
            self.state = MachineState(phase=MachinePhase.OVER, exit_code=container["ExitCode"])

    def require(self, image: str, hint: str) -> None:
        try:
            self._engine.ask("image", "inspect", image)
        except EngineError:
            raise EngineError(f"there is no image {image}: {hint}") from None

    def pull(self, image: str) -> None:
        """Have the image here; Docker's own words when that does not work."""
        with suppress(EngineError):
            self._engine.ask("image", "inspect", image)
            return
        self.state = MachineState(phase=MachinePhase.STARTING, detail=f"pulling {image}")
        try:
            self._engine.ask("pull", "--quiet", image, seconds=_PULL_SECONDS, watch=self._watch_pull)
        finally:
            self._pulling = None

    def _watch_pull(self, client: subprocess.Popen[bytes]) -> None:
        self._pulling = client
        if self._leaves:
            client.kill()

    def _begin(self) -> None:
        self.state, self._isolated = MachineState(phase=MachinePhase.STARTING), False
        self._engine.ask("start", self.container)
        container, ports = self._inspect()
        if not container["Running"]:
            self.state = MachineState(phase=MachinePhase.OVER, exit_code=container["ExitCode"])
            return
        [binding] = ports["22/tcp"][:1]
        self.state = MachineState(phase=MachinePhase.UP, ssh=(binding["HostIp"], int(binding["HostPort"])))

    def _thaw(self) -> None:
        if self._frozen:
            with suppress(EngineError):
                self._engine.ask("unpause", self.container)
            self._frozen = False

    def _inspect(self) -> tuple[dict[str, Any], dict[str, Any]]:
        state, ports = self._engine.ask("inspect", "--format", _INSPECT, self.container).splitlines()
        return json.loads(state), json.loads(ports)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None and not self._leaves:
            try:
                order()
            except (EngineError, KeyError, ValueError) as error:
                self.state = MachineState(phase=MachinePhase.FAILED, detail=str(error))
        self._thaw()
        with suppress(EngineError):  # `close` and the next server look for what is left
            self._engine.remove([self.container], self.volumes)


class _Ends:
    """Listens to Docker for containers that end; a daemon that was away may have missed some."""

    def __init__(self, engine: Engine, on_end: Callable[[str | None], None]) -> None:
        self._engine, self._on_end = engine, on_end
        self._over = threading.Event()
        self._client: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._client is not None:
            self._client.kill()
        self._thread.join(10)

    def _listen(self) -> None:
        label = f"label={LABEL}={self._engine.owner}"
        form = "{{.Actor.Attributes.name}}"
        argv = [self._engine.program, "events", "--filter", label, "--filter", "event=die", "--format", form]
        argv += ["--since", str(int(time.time()))]
        while not self._over.is_set():
            quiet = subprocess.DEVNULL
            with subprocess.Popen(argv, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True) as client:
                self._client = client
                if self._over.is_set():
                    client.kill()
                assert client.stdout is not None
                for line in client.stdout:
                    self._on_end(line.strip())
            if not self._over.wait(1):
                self._on_end(None)


def _pod(machine: _Machine, request: MachineRequest) -> containers.Recipe:
    machine.pull(request.image)
    return containers.pod(request)


def _gateway(engine: Engine) -> str:
    """This computer's address in the network of the containers. Older engines name the network only."""
    form = "{{with index .IPAM.Config 0}}{{.Subnet}} {{.Gateway}}{{end}}"
    subnet, *gateway = engine.ask("network", "inspect", "bridge", "--format", form).split()
    return gateway[0] if gateway else str(ipaddress.ip_network(subnet)[1])


def _is_mine(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
