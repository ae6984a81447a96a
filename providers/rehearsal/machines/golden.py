"""The disk of a machine image: a Docker volume with /var/lib/docker as it is once certain images have been pulled.

Made once for a set of images and kept; every VM gets a copy that shares the layers with it (hard links), in a moment.
Knows no machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from providers.rehearsal.machines.engine import Engine, EngineError

LABEL = "gpujob.rehearsal.golden"
NESTED = (
    # Docker in a container without --privileged, which a host may not be able to give. What it needs: capabilities,
    # its own system calls, a writable /proc/sys, and its mounts.
    "--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined",
    "--device-cgroup-rule=a *:* rwm",
)  # fmt: skip
_BUILD_SECONDS = 900.0

_COPY = """
cd /volumes/$1/_data 2>/dev/null && [ -e .whole ] || exit 3
for each in *; do
    if [ "$each" = overlay2 ]; then cp -al "$each" "/volumes/$2/_data/"; else cp -a "$each" "/volumes/$2/_data/"; fi
done
"""
_FILL = """
for place in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw,bind "$place" 2>/dev/null; done
dockerd --storage-driver=overlay2 --bridge=none --iptables=false >/tmp/log 2>&1 &
until docker version >/dev/null 2>&1; do kill -0 $! || { cat /tmp/log >&2; exit 1; }; sleep 0.1; done
docker load --quiet && kill $! && wait $! && touch /var/lib/docker/.whole
"""


class Golden:
    """The images that VMs have from the start: those of `names` that are on this computer when a VM is made."""

    def __init__(self, engine: Engine, vm_image: str, names: Sequence[str]) -> None:
        self._engine, self._vm_image, self._names = engine, vm_image, names

    def copy_into(self, volume: str) -> None:
        """Fill a VM's own volume. A minute the first time for a set of images, then about half a second."""
        held = self._held()
        if not held:
            return
        digest = hashlib.sha256(" ".join(sorted(held.values())).encode()).hexdigest()
        golden = f"gpujob-rehearsal-golden-{digest[:12]}"
        if not self._copied(golden, volume):
            with _only_one_at_a_time():
                if not self._copied(golden, volume):
                    self._build(golden, list(held))
                    self._copied(golden, volume)

    def _held(self) -> dict[str, str]:
        found = {}
        for name in self._names:
            with suppress(EngineError):
                found[name] = self._engine.ask("image", "inspect", "--format", "{{.Id}}", name)
        return found

    def _copied(self, golden: str, volume: str) -> bool:
        place = str(Path(self._engine.ask("volume", "inspect", "--format", "{{.Mountpoint}}", volume)).parents[1])
        try:
            self._engine.ask(
                "run", "--rm", "--network=none", "--log-driver=none", "-v", f"{place}:/volumes",
                "--entrypoint=sh", self._vm_image, "-ec", _COPY, "sh", golden, volume,
            )  # fmt: skip
        except EngineError as error:
            if "exit code 3" in str(error):
                return False
            raise
        return True

    def _build(self, golden: str, images: Sequence[str]) -> None:
        for old in self._engine.ask("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split():
            with suppress(EngineError):  # it may be in use
                self._engine.ask("volume", "rm", old)
        self._engine.ask("volume", "create", "--label", LABEL, golden)
        docker, pipe = self._engine.program, subprocess.PIPE
        with (
            subprocess.Popen([docker, "save", *images], stdout=pipe, stderr=subprocess.DEVNULL) as saving,
            subprocess.Popen(
                [docker, "run", "--rm", "-i", "--log-driver=none", *NESTED, "-v", f"{golden}:/var/lib/docker",
                 "--entrypoint=sh", self._vm_image, "-c", _FILL],
                stdin=saving.stdout, stdout=pipe, stderr=pipe,
            ) as filling,
        ):  # fmt: skip
            assert saving.stdout is not None
            saving.stdout.close()
            try:
                _, err = filling.communicate(timeout=_BUILD_SECONDS)
            except subprocess.TimeoutExpired:
                filling.kill()
                saving.kill()
                raise EngineError("the images of a VM could not be prepared in time") from None
        if filling.returncode != 0:
            raise EngineError(f"the images of a VM could not be prepared: {err.decode('utf-8', 'replace')[-500:]}")


class _only_one_at_a_time:
    """Among all servers of this user on this computer."""

    def __enter__(self) -> None:
        self._file = (Path(tempfile.gettempdir()) / f"gpujob-rehearsal-golden-{os.getuid()}.lock").open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()
