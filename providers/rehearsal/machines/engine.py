"""The docker client as the rehearsal needs it: calls with secrets outside argv, files into containers, whose they are.

Owns the labels by which left-overs of a server that was killed are found. Knows no machine and no cloud.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from providers.rehearsal.machines.owners import is_dead, me

LABEL = "gpujob.rehearsal"  # on containers and volumes: who answers for them
ANSWER_SECONDS = 120.0
_GONE = ("no such container", "no such volume", "is already in progress")

# The client's own; a container's variable of such a name cannot come from the client's environment.
_OF_THE_CLIENT = ("DOCKER_", "BUILDKIT_", "COMPOSE_", "HTTP_", "HTTPS_", "NO_PROXY", "HOME", "PATH", "XDG_")


class EngineError(Exception):
    """Docker said no, or nothing; the message is in its words."""


class Engine:
    """One Docker Engine, by its command-line client. `owner` is this process, until it ends."""

    def __init__(self) -> None:
        found = shutil.which("docker")
        if found is None:
            raise EngineError("there is no docker in PATH")
        self.program = found
        self.owner = me()

    def ask(
        self,
        *arguments: str,
        given: bytes = b"",
        env: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
        watch: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
    ) -> str:
        """What the client prints. `watch` gets the client, which may be ended early. Raises EngineError."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [self.program, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **(env or {})}
        ) as client:
            watch(client)
            try:
                out, err = client.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                client.kill()
                raise EngineError(f"docker {arguments[0]} took more than {seconds:.0f} s") from None
        if client.returncode != 0:
            raise EngineError(_words(err) or f"docker {arguments[0]}: exit code {client.returncode}")
        return out.decode("utf-8", "replace").strip()

    def create(self, options: Sequence[str], argv: Sequence[str], variables: Mapping[str, str]) -> None:
        """A container that is not started. Values of variables are handed over by the client's environment."""
        words = [word for name, value in variables.items() for word in ("--env", _variable(name, value))]
        env = {name: value for name, value in variables.items() if not name.startswith(_OF_THE_CLIENT)}
        self.ask("create", "--label", f"{LABEL}={self.owner}", *options, *words, *argv, env=env)

    def put(self, container: str, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write files into a container that need not run: path -> (content, mode). They belong to root."""
        if files:
            self.ask("cp", "-", f"{container}:/", given=_tar(files))

    def new_volume(self, name: str) -> None:
        self.ask("volume", "create", "--label", f"{LABEL}={self.owner}", name)

    def remove(self, containers: Iterable[str], volumes: Iterable[str] = ()) -> None:
        """Containers with what they wrote, then volumes; what is gone already is no error."""
        for what, names in ((("rm", "--force", "--volumes"), containers), (("volume", "rm", "--force"), volumes)):
            if chosen := list(names):
                try:
                    self.ask(*what, *chosen)
                except EngineError as error:
                    if not all(any(word in line.lower() for word in _GONE) for line in str(error).splitlines()):
                        raise

    def remove_mine(self) -> None:
        self._remove_of(self.owner)

    def remove_orphans(self) -> None:
        """What servers on this computer left behind that no longer live."""
        form = f'{{{{.Label "{LABEL}"}}}}'
        owners = {
            *self.ask("ps", "--all", "--filter", f"label={LABEL}", "--format", form).splitlines(),
            *self.ask("volume", "ls", "--filter", f"label={LABEL}", "--format", form).splitlines(),
        }
        for owner in owners:
            if is_dead(owner):
                self._remove_of(owner)

    def _remove_of(self, owner: str) -> None:
        label = f"label={LABEL}={owner}"
        containers = self.ask("ps", "--all", "--quiet", "--filter", label).split()
        if containers:
            with suppress(EngineError):  # nobody can be killed who is frozen
                self.ask("unpause", *containers)
        self.remove(containers, self.ask("volume", "ls", "--quiet", "--filter", label).split())


def answers() -> str | None:
    """Why Docker cannot be used here; None when it can."""
    try:
        Engine().ask("version", "--format", "{{.Server.Version}}", seconds=20)
    except EngineError as error:
        return str(error)
    return None


def _variable(name: str, value: str) -> str:
    return f"{name}={value}" if name.startswith(_OF_THE_CLIENT) else name


def _words(err: bytes) -> str:
    lines = [line for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    return "\n".join(line.removeprefix("Error response from daemon: ") for line in lines)[-1000:]


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, (content, mode) in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode, member.mtime = len(content), mode, int(time.time())
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
