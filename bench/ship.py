"""Files to a machine over SSH and back, beside rsync over ssh on the same line, at 0 and at 50 ms round trip.

Ours there: the working directory as a bundle, packed and unpacked. Ours back: the listing with its hashes, the stream,
every file hashed again and put in its place. rsync does neither hash whole files nor place them all or none.
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

from bench.measure import table
from jobs import artifacts, bundle
from jobs.machine import Machine
from jobs.transport.ssh import SshTransport
from tests.support.sshd import Sshd, running_sshd

ROUNDS = 3
MB = 1_000_000


@dataclass(frozen=True)
class Load:
    """What is shipped, and by how much ours must be faster at 50 ms."""

    name: str
    files: int
    bytes_each: int
    times_at_50_ms: float

    def make(self, folder: Path) -> None:
        for number in range(self.files):
            path = folder / f"{number % 40}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(self.bytes_each))

    @property
    def bytes(self) -> int:
        return self.files * self.bytes_each


LOADS = (Load("one file of 200 MB", 1, 200 * MB, 1.0), Load("2,000 files of 4 KB", 2000, 4096, 2.0))


def report() -> str:
    if shutil.which("rsync") is None:
        raise RuntimeError("rsync is not installed: there is nothing to compare with")
    with tempfile.TemporaryDirectory() as folder, running_sshd(Path(folder)) as sshd:
        rows = [
            row
            for milliseconds in (0, 50)
            for load in LOADS
            for row in _compare(Path(folder), sshd, load, milliseconds)
        ]
    columns = ["round trip", "what", "way", "gpujob s", "rsync s", "times rsync", "at least"]
    return table(f"Shipping over SSH (medians of {ROUNDS})", columns, rows)


def _compare(folder: Path, sshd: Sshd, load: Load, milliseconds: int) -> Iterator[list[str]]:
    source = folder / f"source-{load.files}"
    if not source.exists():
        load.make(source)
    taken: dict[tuple[str, str], list[float]] = {}
    with _line(sshd.port, milliseconds / 2000) as port:
        for number in range(ROUNDS):
            scratch = folder / f"scratch-{milliseconds}-{load.files}-{number}"
            scratch.mkdir()
            for who, measure in (("gpujob", _ours), ("rsync", _rsync)):
                for way, seconds in measure(scratch, sshd, port, source).items():
                    taken.setdefault((who, way), []).append(seconds)
            shutil.rmtree(scratch)
    for way in ("there", "back"):
        ours, theirs = (statistics.median(taken[who, way]) for who in ("gpujob", "rsync"))
        least = load.times_at_50_ms if milliseconds else 1.0
        yield [
            f"{milliseconds} ms",
            load.name,
            way,
            f"{ours:.2f}",
            f"{theirs:.2f}",
            f"{theirs / ours:.1f}",
            f"{least:.1f}",
        ]


def _ours(scratch: Path, sshd: Sshd, port: int, source: Path) -> Mapping[str, float]:
    transport = SshTransport(
        sshd.host, port, sshd.user, sshd.key_path, known_hosts=scratch / "known", instance=f"{port}"
    )
    machine = Machine(transport, str(scratch / "machine"), python=sys.executable)
    machine.install()
    began = time.monotonic()
    digest = bundle.write(bundle.scan(source), scratch / "bundle.tar.gz")
    machine.unpack(scratch / "bundle.tar.gz", digest)
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
