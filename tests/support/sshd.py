"""A real OpenSSH server on a free loopback port, with its own host key and one key that is let in.

It runs as the user of the tests and gives no isolation: what it runs, runs on this computer, with an empty HOME.
Its sessions can be hung and cut, which is what networks and machines do.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobs.transport import keys

_PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass
class Sshd:
    """A running server. `host_key` is its public key ("ssh-ed25519 AAAA..."), `key_path` a key that it lets in."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    user: str = field(default_factory=getpass.getuser)
    process: subprocess.Popen[bytes] | None = None
    more: str = ""  # further lines for sshd_config, taken at the next start

    @property
    def key_path(self) -> Path:
        return self.folder / "client_key"

    @property
    def host_key(self) -> str:
        return _public(self.folder / "host_key")

    @property
    def log(self) -> Path:
        return self.folder / "sshd.log"

    def start(self) -> None:
        """Start it, on the same port and with the same keys when it ran before."""
        _ensure_host_key(self.folder / "host_key")
        public = keys.ensure(self.key_path)
        (self.folder / "authorized_keys").write_text(public + "\n")
        (self.folder / "home").mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(_config(self))
        command = [_program(), "-D", "-f", str(config), "-E", str(self.log)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._wait_until_listening()

    def stop(self) -> None:
        """End the server, its sessions and what they run, also when they are hung."""
        if self.process is None:
            return
        self._signal([self.process.pid, *self._family()], signal.SIGKILL)
        self.process.wait()
        self.process = None

    def cut(self) -> None:
        """Break every connection; the server goes on listening."""
        self._signal(self.sessions(), signal.SIGKILL)

    def hang(self) -> None:
        """Stop the server and its sessions: the kernel still answers, nobody else does."""
        assert self.process is not None
        self._signal([self.process.pid, *self.sessions()], signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self._signal([self.process.pid, *self.sessions()], signal.SIGCONT)

    def new_host_key(self) -> None:
        """Be another machine at the same address: end, take a new host key, start."""
        self.stop()
        (self.folder / "host_key").unlink()
        self.start()

    def sessions(self) -> list[int]:
        """Processes of the server that serve one connection each, the commands that they run left out."""
        return [pid for pid, name in self._family().items() if name.startswith("sshd")]

    def _family(self) -> dict[int, str]:
        assert self.process is not None
        parents = _parents()
        return {pid: name for pid, (_, name) in parents.items() if _descends(pid, self.process.pid, parents)}

    def _signal(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_until_listening(self) -> None:
        assert self.process is not None
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up and self.process.poll() is None:
            with suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
                return
            time.sleep(0.01)
        raise RuntimeError(f"sshd does not listen: {self.log.read_text() if self.log.exists() else 'no log'}")


@contextmanager
def running_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server whose files are in a new folder below `tmp_path`. Skips the test where OpenSSH's server is missing."""
    _program()
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
    port = _free_port()
    folder = tmp_path / f"sshd-{port}"
    folder.mkdir(mode=0o700, parents=True)
    server = Sshd(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _program() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("OpenSSH's server sshd is not installed")
    return found


def _config(server: Sshd) -> str:
    return "\n".join(
        [
            f"ListenAddress {server.host}",
            f"Port {server.port}",
            f"HostKey {server.folder / 'host_key'}",
            f"AuthorizedKeysFile {server.folder / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin yes",
            "PubkeyAuthentication yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 100",
            "LoginGraceTime 60",
            # Without what the shell's files of this user print and do; with the programs that the tests find.
            f'SetEnv HOME={server.folder / "home"} "PATH={os.environ["PATH"]}"',
            server.more,
            "",
        ]
    )


def _ensure_host_key(path: Path) -> None:
    keys.ensure(path, comment="host")


def _public(path: Path) -> str:
    return " ".join(keys.public_text(path).split()[:2])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _parents() -> dict[int, tuple[int, str]]:
    """Every process here: its parent and the name of its program."""
    lines = subprocess.run(["ps", "-axo", "pid=,ppid=,comm="], check=True, capture_output=True, text=True).stdout
    rows = (line.split(None, 2) for line in lines.splitlines())
    return {int(pid): (int(parent), Path(name.split(":")[0]).name) for pid, parent, name in rows}


def _descends(pid: int, ancestor: int, parents: dict[int, tuple[int, str]]) -> bool:
    while pid in parents:
        pid = parents[pid][0]
        if pid == ancestor:
            return True
    return False
