"""ProcessMachines: for a computer without Docker, a machine is a folder and a process tree behind an SSH server.

Nothing is isolated: what a machine runs, runs on this computer as this user, with HOME in the machine's folder. A VM's
user data is not run, since it is meant for a host of its own; what it orders is read (`read_user_data`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from providers.rehearsal.machines import marks
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, MachineState
from providers.rehearsal.machines.containers import Files, gpu_files, inside
from providers.rehearsal.machines.owners import is_dead, me

_PREFIX = "gpujob-rehearsal-"
_GONE = MachineState(phase=MachinePhase.GONE)
_CLOSE_SECONDS = 30.0
_BOX = (sys.executable, "-m", "providers.rehearsal.machines.box")
_NETWORK = re.compile(r"(PIP|UV|SSL|REQUESTS|CURL)_|(http|https|no|all)_proxy$|LANG$|LC_", re.IGNORECASE)

_SUDO = '#!/bin/sh\nwhile :; do case $1 in -u) shift 2 ;; -* | *=*) shift ;; *) break ;; esac; done\nexec "$@"\n'
_CURL = """\
#!/bin/sh
# On a machine that shares its network, 169.254.169.254 would be this computer's own cloud.
for word; do
    shift
    case $word in *://169.254.169.254*) word=%s${word#*169.254.169.254} ;; esac
    set -- "$@" "$word"
done
exec %s "$@"
"""


@dataclass(frozen=True)
class UserData:
    """What a VM's user data orders, as far as a machine without a host of its own can do it."""

    host_key: str = ""
    logins: tuple[str, ...] = ()
    shutdown_minutes: int | None = None


def read_user_data(text: str) -> UserData:
    """Of a script or a #cloud-config: the private key of the host, the keys that log in, `shutdown -h +N`."""
    key = re.search(r"-----BEGIN OPENSSH PRIVATE KEY-----.*?-----END OPENSSH PRIVATE KEY-----", text, re.DOTALL)
    lines = [line.strip() for line in key[0].splitlines()] if key else []
    minutes = re.search(r"\bshutdown\b[^\n;&|]*?\+(\d+)", text)
    return UserData(
        host_key="\n".join([*lines, ""]) if lines else "",
        logins=tuple(re.findall(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-\S+) [A-Za-z0-9+/=]{40,}", text)),
        shutdown_minutes=int(minutes[1]) if minutes else None,
    )


class ProcessMachines:
    """Implements Machines. `python` is what a machine's python3 is."""

    is_real = True
    addresses: tuple[str, ...] = ()

    def __init__(self, *, python: str = sys.executable) -> None:
        self._python = python
        _remove_orphans()
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        (self._root / "owner").write_text(me())
        self._machines: dict[str, _Machine] = {}
        self._leaving: list[threading.Thread] = []
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._closed = False

    def start(self, request: MachineRequest) -> None:
        with self._lock:
            if self._closed:
                return
            if request.name in self._machines:
                raise ValueError(f"there is a machine {request.name!r} already")
            home = self._root / f"{next(self._numbers)}-{re.sub(r'[^A-Za-z0-9_.-]', '-', request.name)}"
            self._machines[request.name] = _Machine(home, request, self._python)

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
                leaving = threading.Thread(target=machine.remove, daemon=True)
                self._leaving = [each for each in self._leaving if each.is_alive()] + [leaving]
                leaving.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for name in list(self._machines):
            self.remove(name)
        until = time.monotonic() + _CLOSE_SECONDS
        for leaving in self._leaving:
            leaving.join(max(0.0, until - time.monotonic()))
        shutil.rmtree(self._root, ignore_errors=True)

    def reach(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def names(self) -> list[str]:
        return list(self._machines)

    def home(self, name: str) -> Path:
        """The machine's folder."""
        return self._machines[name].home

    def _do(self, name: str, what: Callable[[_Machine], None]) -> None:
        machine = self._machines.get(name)
        if machine is not None:
            what(machine)


class _Machine:
    """A folder, and the box that runs in it while the machine is up."""

    def __init__(self, home: Path, request: MachineRequest, python: str) -> None:
        self.home = home
        self.state = MachineState(phase=MachinePhase.STARTING)
        self._request = request
        self._python = python
        self._orders = read_user_data(request.user_data)
        self._box: subprocess.Popen[bytes] | None = None
        self._removed = False
        self._lock = threading.RLock()  # one change at a time
        self._spawn(self._make)

    def freeze(self) -> None:
        """The kernel still answers for it, nobody else does."""
        self._spawn(lambda: marks.send(self._pids(), signal.SIGSTOP))

    def isolate(self) -> None:
        """The box alone is the way in."""
        self._spawn(lambda: marks.send({self._box.pid} if self._box is not None else set(), signal.SIGSTOP))

    def thaw(self) -> None:
        self._spawn(lambda: marks.send(self._pids(), signal.SIGCONT))

    def halt(self) -> None:
        self._spawn(self._stop)

    def resume(self) -> None:
        self._spawn(self._begin)

    def remove(self) -> None:
        self._removed = True
        if (box := self._box) is not None:
            box.kill()  # one that hangs at its start would be waited for with the lock held
        with self._lock:
            self._stop()
            shutil.rmtree(self.home, ignore_errors=True)

    # -- in threads, one at a time

    def _spawn(self, what: Callable[[], None]) -> None:
        threading.Thread(target=self._locked, args=(what,), daemon=True).start()

    def _locked(self, what: Callable[[], None]) -> None:
        with self._lock:
            if self._removed:
                return
            try:
                what()
            except (OSError, ValueError) as error:
                self.state = MachineState(phase=MachinePhase.FAILED, detail=str(error))

    def _make(self) -> None:
        self.home.mkdir(mode=0o700)
        for path, (content, mode) in self._files().items():
            target = self.home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(mode)
        (self.home / "tmp").mkdir()
        self._begin()

    def _begin(self) -> None:
        if self._box is not None:
            return
        self.state = MachineState(phase=MachinePhase.STARTING)
        pipe = subprocess.PIPE
        with (self.home / ".box").open("ab") as words:
            self._box = subprocess.Popen(
                _BOX, stdin=pipe, stdout=pipe, stderr=words, cwd=_PACKAGE_ROOT, start_new_session=True
            )
        assert self._box.stdin is not None and self._box.stdout is not None
        (self.home / ".pid").write_text(str(self._box.pid))
        self._box.stdin.write(json.dumps(self._told()).encode() + b"\n")
        self._box.stdin.flush()
        port = self._box.stdout.readline()
        if not port.strip():
            code, self._box = self._box.wait(), None
            raise ValueError((self.home / ".box").read_text()[-500:] or f"the machine ended with {code}")
        self.state = MachineState(phase=MachinePhase.UP, ssh=("127.0.0.1", int(port)))
        threading.Thread(target=self._watch, args=(self._box,), daemon=True).start()

    def _watch(self, box: subprocess.Popen[bytes]) -> None:
        code = box.wait()
        with self._lock:
            if self._box is box:
                marks.end_all(str(self.home))
                self._box = None
                self.state = MachineState(phase=MachinePhase.OVER, exit_code=code)

    def _stop(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            box.kill()
            marks.end_all(str(self.home))
            box.wait()
            for stream in (box.stdin, box.stdout):
                with suppress(OSError):
                    assert stream is not None
                    stream.close()
            self.state = MachineState(phase=MachinePhase.OVER, exit_code=137)

    def _pids(self) -> set[int]:
        return marks.find(str(self.home)) | ({self._box.pid} if self._box is not None else set())

    # -- what the machine is

    def _told(self) -> Mapping[str, object]:
        request, given = self._request, self._request.env
        if request.is_vm or request.brings_sshd:
            logins = [*request.authorized_keys, *self._orders.logins]
        else:
            logins = [given.get("GPUJOB_PUBLIC_KEY", ""), given.get("PUBLIC_KEY", "")]
        return {
            "home": str(self.home),
            "user": request.user,
            "env": self._environment(),
            "host_key": self._host_key(),
            "authorized_keys": "".join(f"{key}\n" for key in logins if key),
            "command": self._command(),
        }

    def _command(self) -> list[str]:
        request = self._request
        if request.is_vm:
            minutes = self._orders.shutdown_minutes
            order = f"shutdown -h +{minutes}; " if minutes is not None else ""
            return ["/bin/sh", "-c", f"{order}while :; do sleep 3600; done"]
        if request.brings_sshd:
            shell = shutil.which("bash") or "/bin/sh"
            return ["/bin/sh", "-c", f"{shell} onstart.sh >onstart.log 2>&1 & while :; do sleep 3600; done"]
        return [*(request.entrypoint or ()), *request.command]

    def _environment(self) -> dict[str, str]:
        """Of every process of the machine. A login sees what a container's first process would have been given."""
        request = self._request
        home = str(self.home)
        path = [
            f"{home}/bin",
            str(Path(self._python).parent),
            "/usr/local/bin",
            "/usr/bin",
            "/bin",
            "/usr/sbin",
            "/sbin",
        ]
        return {
            **{name: value for name, value in os.environ.items() if _NETWORK.match(name)},
            **{name: value for name, value in request.env.items() if name not in ("HOME", "PATH")},
            marks.MARK: home,
            "HOME": home,
            "USER": request.user,
            "LOGNAME": request.user,
            "SHELL": "/bin/sh",
            "TMPDIR": f"{home}/tmp",
            "PATH": ":".join(path),
        }

    def _host_key(self) -> str:
        request = self._request
        given = self._orders.host_key if request.is_vm else request.env.get("GPUJOB_HOST_KEY", "")
        path = self.home / ".host_key"
        if not path.exists():
            path.touch(0o600)
            path.write_text(given if given and not request.brings_sshd else _new_key())
        return path.read_text()

    def _files(self) -> Files:
        """The machine's own programs: nothing of it may end or change this computer."""
        request = self._request
        python = (f'#!/bin/sh\nexec "{self._python}" "$@"\n'.encode(), 0o755)
        text, _ = inside("shutdown")
        off = text.decode().replace("first=1 #", f'first=$(cat "{self.home}/.pid") #')
        off = off.replace("/run/shutdown.order", f"{self.home}/.shutdown").replace("root=0\n", "root=$(id -u)\n")
        nothing = (b"#!/bin/sh\nexit 0\n", 0o755)
        programs: dict[str, tuple[bytes, int]] = {
            "python3": python,
            "python": python,
            "sudo": (_SUDO.encode(), 0o755),
            **{name: (off.encode(), 0o755) for name in ("shutdown", "poweroff", "reboot", "halt")},
            **dict.fromkeys(("sshd", "service", "systemctl", "apt-get", "ssh-keygen"), nothing),
        }
        if request.is_vm:
            text, mode = inside("docker")
            programs["docker"] = (text, mode)
        if request.metadata_url and (curl := shutil.which("curl")):
            programs["curl"] = ((_CURL % (request.metadata_url.rstrip("/"), curl)).encode(), 0o755)
        found = {f"bin/{name}": program for name, program in programs.items()}
        found.update(gpu_files(request.gpus, request.name, "bin/nvidia-smi"))
        if request.brings_sshd:
            found["onstart.sh"] = (request.onstart.encode(), 0o700)
        return found


def _new_key() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _remove_orphans() -> None:
    """Machines of servers of this user that no longer live."""
    for root in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = root / "owner"
        with suppress(OSError):
            if stat.S_ISDIR(root.lstat().st_mode) and root.lstat().st_uid == os.getuid() and is_dead(owner.read_text()):
                for home in root.resolve().iterdir():
                    marks.end_all(str(home))
                shutil.rmtree(root, ignore_errors=True)


_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
