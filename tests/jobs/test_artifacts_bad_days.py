"""Artifacts when something goes wrong in the middle: a lost machine, a full disk, too many files, a far too big one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import machine as machines
from jobs.agent.gather import header
from jobs.copies import BIG
from jobs.machine import AgentError, Machine
from jobs.transport.base import Transport, TransportError
from jobs.transport.local import LocalTransport
from jobs.transport.ssh import SshTransport
from tests.jobs.test_artifacts import FakeMachine, Home, entry, tar_of
from tests.support.agents import LocalMachine
from tests.support.sshd import running_sshd

MB = 1_000_000


class Watched(Machine):
    """Does something when so many bytes of a big file have come, and remembers from where each was asked for."""

    def __init__(self, transport: Transport, folder: Path) -> None:
        super().__init__(transport, str(folder), python=sys.executable)
        self.work = folder / "shared" / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.offsets: list[int] = []
        self.after = 0
        self.then: Callable[[], None] | None = None

    @contextmanager
    def cut(self, path: str, offset: int, length: int, *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        self.offsets.append(offset)
        with super().cut(path, offset, length, timeout=timeout) as chunks:
            yield self._watching(chunks)

    def _watching(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        came = 0
        for chunk in chunks:
            yield chunk
            came += len(chunk)
            if self.then is not None and came >= self.after:
                then, self.then = self.then, None
                then()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "run")


@pytest.mark.process
class TestConnection:
    def test_cut_at_every_megabyte_nothing_is_sent_twice(self, tmp_path: Path, home: Home) -> None:
        there = LocalMachine(tmp_path / "machine")
        content = random.Random(1).randbytes(12 * MB + 345)
        there.put("outputs/big", content)
        with_listing = MB + 1000
        visits, complete = 0, False
        while not complete and visits < 40:
            visits += 1
            there.transport.bytes_left = with_listing
            try:
                complete = home.pull(there.machine).complete
            except TransportError:
                assert home.content() == {}
                assert home.record()["complete"] is False
        assert visits <= 14
        assert home.content() == {"outputs/big": content}
        assert home.leftovers() == []

    @pytest.mark.sshd
    def test_a_machine_that_is_lost_in_mid_copy_and_comes_back(self, tmp_path: Path, home: Home) -> None:
        with running_sshd(tmp_path) as sshd:
            transport = SshTransport(
                sshd.host, sshd.port, sshd.user, sshd.key_path, known_hosts=tmp_path / "known", instance="i-1"
            )
            machine = Watched(transport, tmp_path / "machine")
            machine.install()
            content = random.Random(2).randbytes(60 * MB)
            (machine.work / "big").write_bytes(content)
            machine.after, machine.then = 10 * MB, sshd.stop
            with pytest.raises(TransportError):
                home.pull(machine, "**")
            assert home.content() == {}
            sshd.start()
            assert home.pull(machine, "**").complete
            transport.close()
        assert home.content() == {"big": content}
        assert machine.offsets[1] >= 10 * MB


@pytest.mark.process
class TestThisDisk:
    def test_what_does_not_fit_is_not_begun_and_the_rest_comes(
        self, tmp_path: Path, small_disk: Callable[[int], Path]
    ) -> None:
        disk = small_disk(24)
        home, machine = Home(disk / "run"), Watched(LocalTransport(), tmp_path / "machine")
        machine.install()
        (machine.work / "a-huge").write_bytes(os.urandom(40 * MB))
        (machine.work / "big").write_bytes(os.urandom(BIG))
        (machine.work / "small").write_bytes(b"1")
        with pytest.raises(OSError, match="40000000 bytes of a-huge are to come") as raised:
            home.pull(machine, "**")
        assert raised.value.errno == errno.ENOSPC
        assert str(home.folder) in str(raised.value)
        assert sorted(home.content()) == ["big", "small"]
        assert home.record()["complete"] is False
        resize(disk, 100)
        assert home.pull(machine, "**").complete

    def test_a_disk_that_fills_up_meanwhile_leaves_a_part_that_is_gone_on_with(
        self, tmp_path: Path, small_disk: Callable[[int], Path]
    ) -> None:
        disk = small_disk(40)
        home, machine = Home(disk / "run"), Watched(LocalTransport(), tmp_path / "machine")
        machine.install()
        content = os.urandom(30 * MB)
        (machine.work / "big").write_bytes(content)
        machine.after, machine.then = 5 * MB, lambda: fill(disk / "of-somebody-else")
        with pytest.raises(OSError, match="No space left on device"):
            home.pull(machine, "**")
        assert home.content() == {}
        (disk / "of-somebody-else").unlink()
        assert home.pull(machine, "**").complete
        assert machine.offsets[-1] >= 5 * MB
        assert home.content() == {"big": content}
        assert home.leftovers() == []

    def test_small_files_that_do_not_fit(self, tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
        disk = small_disk(2)
        home, there = Home(disk / "run"), LocalMachine(tmp_path / "machine")
        expected = {f"outputs/{n:02}": os.urandom(100_000) for n in range(40)}
        for name, content in expected.items():
            there.put(name, content)
        with pytest.raises(OSError, match="No space left on device"):
            home.pull(there.machine)
        here = home.content()
        assert 0 < len(here) < 40
        assert here.items() <= expected.items()
        resize(disk, 20)
        assert home.pull(there.machine).complete
        assert home.content() == expected
        assert home.leftovers() == []


@pytest.mark.process
class TestMuch:
    @pytest.mark.parametrize("gigabytes", [1, pytest.param(5, marks=pytest.mark.slow)])
    def test_a_sparse_file_takes_little_room_here_too(self, tmp_path: Path, home: Home, gigabytes: int) -> None:
        """5 GB are slow, but they do not fit in 32 bits: every byte is hashed at both ends."""
        there = LocalMachine(tmp_path / "machine")
        there.put("outputs/big", b"begin")
        with (there.work / "outputs" / "big").open("r+b") as file:
            file.truncate(gigabytes * 1000 * MB)
            file.seek(gigabytes * 500 * MB)
            file.write(b"middle")
        there.transport.bytes_left = gigabytes * 700 * MB
        with pytest.raises(TransportError):
            home.pull(there.machine)
        there.transport.bytes_left = None
        assert home.pull(there.machine).complete
        found = (home.folder / "outputs" / "big").stat()
        assert found.st_size == gigabytes * 1000 * MB
        assert found.st_blocks * 512 < 50 * MB

    @pytest.mark.slow
    def test_a_hundred_thousand_files(self, tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
        """As many as a job that writes one per sample leaves: what it costs must grow with them, and no faster."""
        disk = small_disk(2000)
        there = LocalMachine(disk / "machine")
        for folder in range(100):
            (there.work / "outputs" / str(folder)).mkdir(parents=True)
            for number in range(1000):
                (there.work / "outputs" / str(folder) / str(number)).write_bytes(b"%d" % number)
        done = subprocess.run(
            [sys.executable, "-c", _PULL, str(disk / "machine"), str(disk / "run")],
            check=True,
            capture_output=True,
            timeout=200,
        )
        measured = json.loads(done.stdout)
        assert measured["files"] == 100_000
        assert measured["seconds"] < 120
        assert measured["megabytes"] < 400


_PULL = """
import json, resource, sys, time
from pathlib import Path
from jobs import artifacts
from jobs.machine import Machine
from jobs.transport.local import LocalTransport

machine, home = Machine(LocalTransport(), sys.argv[1], python=sys.executable), Path(sys.argv[2])
began = time.monotonic()
pulled = artifacts.pull(machine, ["outputs/**"], home / "artifacts", home / "artifacts.json", final=True)
seconds, most = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.platform == "darwin":
    most /= 1024
else:  # Linux counts what the process was before its exec, too: there a big pytest worker
    lines = Path("/proc/self/status").read_text().splitlines()
    most = next(float(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(json.dumps({"files": len(pulled.files), "seconds": seconds, "megabytes": most / 1024}))
"""


class Listing(LocalTransport):
    """A machine that answers every command with these lines."""

    def __init__(self, lines: Callable[[], Iterator[bytes]]) -> None:
        super().__init__()
        self._lines = lines

    @contextmanager
    def receive(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Iterator[Iterator[bytes]]:
        yield self._lines()


class TestHostileMachine:
    @pytest.mark.parametrize("size", [2**60, 2**80])
    def test_a_size_that_nobody_has_writes_nothing_and_others_come(self, home: Home, size: int) -> None:
        class Endless(FakeMachine):
            def cut(self, path: str, offset: int, length: int, *, timeout: float = 120) -> Any:
                assert path != "endless"
                return super().cut(path, offset, length)

        big = bytes(BIG)
        machine = Endless([entry("endless", bytes=size), entry("a"), entry("b", big)], tar=tar_of(("a", b"x")), cut=big)
        with pytest.raises(OSError, match=f"{size} bytes of endless are to come"):
            home.pull(machine)
        assert home.content() == {"a": b"x", "b": big}

    def test_a_name_that_no_disk_can_spell(self, home: Home) -> None:
        pulled = home.pull(
            FakeMachine([entry("\ud800"), entry("\ud800b", bytes(BIG)), entry("c")], tar=tar_of(("c", b"x")))
        )
        assert {why for _, why in pulled.missing} == {"its name cannot be spelt on this disk"}
        assert home.content() == {"c": b"x"}

    @pytest.mark.parametrize("size", [2**60, 2**33, 10**6])
    def test_a_tar_that_says_more_than_the_listing(self, home: Home, size: int) -> None:
        tar = header(b"a", size, 0o644, 0) + bytes(1024)
        with pytest.raises(AgentError, match="tar stream"):
            home.pull(FakeMachine([entry("a")], tar=tar))
        assert home.content() == {}

    def test_a_file_that_is_listed_twice_is_not_taken(self, home: Home) -> None:
        twice = [entry("a"), entry("a", b"y"), entry("b", bytes(BIG)), entry("b", bytes(BIG + 1)), entry("c")]
        pulled = home.pull(FakeMachine(twice, tar=tar_of(("a", b"x"), ("a", b"y"), ("c", b"x")), cut=bytes(BIG)))
        assert pulled.missing == (("a", "the machine lists it twice"), ("b", "the machine lists it twice"))
        assert home.content() == {"c": b"x"}

    def test_a_million_entries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machines, "MOST_FILES", 1000)
        with pytest.raises(AgentError, match="does not end"):
            Machine(Listing(endless_rows), "/m").manifest(["**"])

    def test_a_listing_of_many_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machines, "LISTING_BYTES", 100_000)
        with pytest.raises(AgentError, match="over 100000 bytes"):
            Machine(Listing(endless_rows), "/m").manifest(["**"])
        with pytest.raises(AgentError, match="over 100000 bytes"):
            Machine(Listing(lambda: iter(lambda: b"\n" * 1000, b"")), "/m").manifest(["**"])

    @pytest.mark.parametrize(
        "lines",
        [
            [b'{"end": true}', b'{"path": "a", "bytes": 1, "mtime_ns": 1}'],
            [b'{"end": true}', b'{"end": true}'],
            [b'{"end": true, "skipped": [1]}'],
            [b'{"end": true, "skipped": 1}'],
            [b'{"path": "a", "bytes": {}, "mtime_ns": 1}'],
            [b'{"path": "a", "bytes": 1e999, "mtime_ns": 1}'],
            [b"[]"],
            [b""],
        ],
    )
    def test_a_listing_that_makes_no_sense(self, lines: list[bytes]) -> None:
        with pytest.raises(AgentError):
            Machine(Listing(lambda: iter([line + b"\n" for line in lines])), "/m").manifest(["**"])


def endless_rows() -> Iterator[bytes]:
    digest = hashlib.sha256(b"").hexdigest()
    for number in iter(int, 1):
        yield json.dumps({"path": f"a{number}", "bytes": 0, "mtime_ns": 1, "sha256": digest}).encode() + b"\n"


def resize(disk: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(disk)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(100_000)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
