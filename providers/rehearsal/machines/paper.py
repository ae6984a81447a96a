"""Machines that exist on paper only: up at once, reachable nowhere. For what is about bills and wire formats."""

from __future__ import annotations

import threading
from dataclasses import replace

from providers.rehearsal.machines.base import MachinePhase, MachineRequest, MachineState

_NOWHERE = ("127.0.0.1", 9)  # the discard port


class PaperMachines:
    """Implements Machines."""

    is_real = False
    addresses: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.requests: dict[str, MachineRequest] = {}
        self.silent: set[str] = set()
        self._states: dict[str, MachineState] = {}
        self._lock = threading.Lock()

    def start(self, request: MachineRequest) -> None:
        with self._lock:
            self.requests[request.name] = request
            self._states[request.name] = MachineState(phase=MachinePhase.UP, ssh=_NOWHERE)

    def look(self, name: str) -> MachineState:
        with self._lock:
            return self._states.get(name, MachineState(phase=MachinePhase.GONE))

    def freeze(self, name: str) -> None:
        self.silent.add(name)

    def isolate(self, name: str) -> None:
        self.silent.add(name)

    def thaw(self, name: str) -> None:
        self.silent.discard(name)

    def answers(self, name: str) -> bool:
        """Whether somebody who stands for its inside may be spoken to."""
        return name not in self.silent and self.look(name).phase is MachinePhase.UP

    def halt(self, name: str) -> None:
        self._change(name, MachinePhase.OVER)

    def resume(self, name: str) -> None:
        self._change(name, MachinePhase.UP)

    def remove(self, name: str) -> None:
        with self._lock:
            self._states.pop(name, None)

    def close(self) -> None:
        with self._lock:
            self._states.clear()

    def reach(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def end_from_inside(self, name: str) -> None:
        """As a machine that ends itself: its self-destruction, or a job's."""
        self._change(name, MachinePhase.OVER)

    def _change(self, name: str, phase: MachinePhase) -> None:
        with self._lock:
            if name in self._states:
                self._states[name] = replace(self._states[name], phase=phase)
