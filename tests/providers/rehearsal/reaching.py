"""Waiting for a simulated cloud's machine and logging in to it, as the orchestrator does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.transport import keys
from jobs.transport.base import TransportError
from jobs.transport.ssh import SshTransport
from providers.rehearsal.machines.base import MachinePhase, Machines, MachineState

SECONDS = 60.0


@dataclass(frozen=True)
class Login:
    """The key of a run and the host key for its machine."""

    folder: Path

    @property
    def public(self) -> str:
        return keys.ensure(self.folder / "login")

    @property
    def host_private(self) -> str:
        keys.ensure(self.folder / "host")
        return keys.private_text(self.folder / "host")

    @property
    def host_public(self) -> str:
        return " ".join(keys.ensure(self.folder / "host").split()[:2])

    @contextmanager
    def into(
        self, machines: Machines, name: str, user: str = "root", *, pinned: bool = False
    ) -> Iterator[SshTransport]:
        """A transport that has run a command: the machine's server may need a moment. `pinned`: our host key only."""
        state = until(machines, name, MachinePhase.UP)
        assert state.ssh is not None
        expected = (self.host_public,) if pinned else ()
        give_up = time.monotonic() + SECONDS
        while True:
            made = SshTransport(
                *state.ssh, user, self.folder / "login",
                host_keys=expected, known_hosts=self.folder / "known.json", instance=f"{name} {time.monotonic()}",
            )  # fmt: skip
            try:
                made.run(["true"], timeout=5)
                break
            except TransportError:
                made.close()
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
        try:
            yield made
        finally:
            made.close()


def until(machines: Machines, name: str, phase: MachinePhase, seconds: float = SECONDS) -> MachineState:
    """The machine's state once it is in this phase; fails at once when it cannot get there any more."""
    give_up = time.monotonic() + seconds
    while (state := machines.look(name)).phase is not phase:
        assert time.monotonic() < give_up and state.phase is not MachinePhase.FAILED, state
        time.sleep(0.01)
    return state


def said(shell: SshTransport, command: str, timeout: float = 60) -> str:
    """What a command prints; it must succeed."""
    done = shell.run(["sh", "-c", command], timeout=timeout)
    assert done.exit_code == 0, done
    return done.stdout.decode()
