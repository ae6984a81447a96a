"""Files to a machine over SSH and back, beside rsync over ssh on the same line, at 0 and at 50 ms round trip.

Ours there: the packed bundle, sent and unpacked. Ours back: the listing with its hashes, the stream, every file hashed
again and put in its place. rsync does neither hash whole files nor place them all or none. Packing, which is done once
at submit and serves all attempts, has a table of its own. Ours goes over the connection that is kept open to a machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import spread, table
from jobs import artifacts, bundle
from jobs.machine import Machine
from jobs.transport.ssh import SshTransport
from tests.support.sshd import Sshd, running_sshd

ROUNDS = 5
MEMORY = Path("/dev/shm")
MB = 1_000_000


@dataclass(frozen=True)
class Load:
    """What is shipped, and by how much ours must be faster at 50 ms."""

    name: str
    files: int
    bytes_each: int
    times_at_50_ms: float

    def make(self, folder: Path) -> Path:
        for number in range(self.files):
            path = folder / f"{number % 40}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(self.bytes_each))
        return folder


LOADS = (Load("one file of 200 MB", 1, 200 * MB, 1.0), Load("2,000 files of 4 KB", 2000, 4096, 2.0))


def report() -> str:
    if shutil.which("rsync") is None:
        raise RuntimeError("rsync is not installed: there is nothing to compare with")
    with tempfile.TemporaryDirectory(dir=_scratch()) as name, running_sshd(Path(name)) as sshd:
        folder = Path(name)
        sources = {load: load.make(folder / f"source-{load.files}") for load in LOADS}
        packing = [_pack(folder, source, load) for load, source in sources.items()]
        rows = [
            row
            for milliseconds in (0, 50)
            for load, source in sources.items()
            for row in _compare(folder, sshd, source, load, milliseconds)
        ]
        once = [*packing, *(_first_contact(folder, sshd, milliseconds) for milliseconds in (0, 50))]
    columns = ["round trip", "what", "way", "gpujob s", "rsync s", "times rsync", "at least"]
    where = "in memory (/dev/shm)" if _scratch() else "on this disk"
    return "\n".join(
        [
            table(f"Shipping over SSH (medians of {ROUNDS}, and range; files {where} at both ends)", columns, rows),
            table("What is done once, and not counted above", ["what", "s"], once),
        ]
    )


def _scratch() -> Path | None:
    """Where the files of both lie: making 2,000 of them on a disk may take longer than sending them."""
    return MEMORY if os.access(MEMORY, os.W_OK) else None


def _pack(folder: Path, source: Path, load: Load) -> list[str]:
    taken = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        bundle.write(bundle.scan(source), _packed(folder, load))
        taken.append(time.monotonic() - began)
    return [f"packing {load.name}, at submit", spread(taken)]


def _first_contact(folder: Path, sshd: Sshd, milliseconds: int) -> list[str]:
    taken = []
    with _line(sshd.port, milliseconds / 2000) as port:
        for number in range(ROUNDS):
            scratch = folder / f"first-{milliseconds}-{number}"
            scratch.mkdir()
            began = time.monotonic()
            _machine(scratch, sshd, port).close()
            taken.append(time.monotonic() - began)
    return [f"connecting to a machine {milliseconds} ms away, and the agent", spread(taken)]


def _packed(folder: Path, load: Load) -> Path:
    return folder / f"bundle-{load.files}.tar.gz"


def _compare(folder: Path, sshd: Sshd, source: Path, load: Load, milliseconds: int) -> Iterator[list[str]]:
    taken: dict[tuple[str, str], list[float]] = {}
    with _line(sshd.port, milliseconds / 2000) as port:
        for number in range(ROUNDS):
            scratch = folder / f"scratch-{milliseconds}-{load.files}-{number}"
            scratch.mkdir()
            mine = _ours(scratch, sshd, port, source, _packed(folder, load))
            for who, ways in (("gpujob", mine), ("rsync", _rsync(scratch, sshd, port, source))):
                for way, seconds in ways.items():
                    taken.setdefault((who, way), []).append(seconds)
            shutil.rmtree(scratch)
    for way in ("there", "back"):
        ours, theirs = taken["gpujob", way], taken["rsync", way]
        least = load.times_at_50_ms if milliseconds else 1.0
        yield [
            f"{milliseconds} ms",
            load.name,
            way,
            spread(ours),
            spread(theirs),
            f"{statistics.median(theirs) / statistics.median(ours):.1f}",
            f"{least:.1f}",
        ]


def _machine(scratch: Path, sshd: Sshd, port: int) -> Machine:
    transport = SshTransport(
        sshd.host, port, sshd.user, sshd.key_path, known_hosts=scratch / "known", instance=f"{port}"
    )
    machine = Machine(transport, str(scratch / "machine"), python=sys.executable)
    machine.install()
    return machine


def _ours(scratch: Path, sshd: Sshd, port: int, source: Path, packed: Path) -> Mapping[str, float]:
    machine = _machine(scratch, sshd, port)
    began = time.monotonic()
    machine.unpack(packed, "digest")
    there = time.monotonic() - began
    began = time.monotonic()
    pulled = artifacts.pull(machine, ["**"], scratch / "back", scratch / "manifest.json", final=True)
    back = time.monotonic() - began
    machine.close()
    if not pulled.complete or len(pulled.files) != sum(path.is_file() for path in source.rglob("*")):
        raise RuntimeError("not everything came back")
    return {"there": there, "back": back}


def _rsync(scratch: Path, sshd: Sshd, port: int, source: Path) -> Mapping[str, float]:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes"
    shell = f"ssh -p {port} -i {sshd.key_path} {options}"
    far = f"{sshd.user}@{sshd.host}:{scratch / 'far'}/"
    ways = {"there": [f"{source}/", far], "back": [far, f"{scratch / 'near'}/"]}
    taken = {}
    for way, places in ways.items():
        began = time.monotonic()
        subprocess.run(["rsync", "-a", "-W", "-e", shell, *places], check=True, stdout=subprocess.DEVNULL)
        taken[way] = time.monotonic() - began
    return taken


@contextmanager
def _line(port: int, seconds_each_way: float) -> Iterator[int]:
    """A port behind which the server is, that far away."""
    if not seconds_each_way:
        yield port
        return
    command = [sys.executable, "-m", "bench.relay", str(port), str(seconds_each_way)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        try:
            yield int(relay.stdout.readline())
        finally:
            relay.kill()


if __name__ == "__main__":
    print(report())
