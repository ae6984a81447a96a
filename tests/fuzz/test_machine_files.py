"""What a machine sends as its files: listings, tar streams and bytes that do not fit. Nothing leaves the folder."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs import artifacts, checkpoints
from jobs.agent.gather import header
from jobs.agent.unpack import TarError, members
from jobs.machine import AgentError, FileEntry, Machine, Manifest
from jobs.transport.base import TransportError
from jobs.transport.ssh import _STARTED
from tests.fuzz.nonsense import WORDS, examples

PATHS = (
    "a", "o/a", "o/b", "o", "o/a/b", "../a", "/etc/x", "a/../../b", "C:\\x", "..\\x", "a\0b", "\ud800", "b\udcff",
    "n" * 300, "n" * 300 + "/x", "x/" * 2000 + "y", "ab/" * 1200 + "y", "A", "a\n\x1b]0;x\x07", "", ".", "a/", "link/x",
    "\xe9", "e\u0301",
)  # fmt: skip
CONTENTS = (b"", b"x", b"y" * 1000)

paths = st.one_of(st.sampled_from(PATHS), st.sampled_from(WORDS), st.text(max_size=12))
sizes = st.one_of(st.sampled_from((0, 1, 1000, 10**6, 2**40, 2**62)), st.integers(0, 5000))


@st.composite
def entries(draw: st.DrawFn) -> FileEntry:
    content = draw(st.sampled_from(CONTENTS))
    digest = hashlib.sha256(content).hexdigest()
    if draw(st.integers(0, 3)):
        return FileEntry(draw(paths), len(content), 1, digest)
    return FileEntry(draw(paths), draw(sizes), 1, draw(st.sampled_from((digest, None, "", "../x", digest.upper()))))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Members with names of the same kind, of which some bytes are others."""
    raw = bytearray()
    for _ in range(draw(st.integers(0, 4))):
        content = draw(st.sampled_from(CONTENTS))
        name = draw(paths).encode("utf-8", "surrogatepass").replace(b"\0", b"")
        raw += header(name, len(content), 0o100644, draw(st.integers(0, 2**40))) + content + bytes(-len(content) % 512)
    raw += bytes(1024)
    for _ in range(draw(st.integers(0, 4))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)


class Sending(Machine):
    """A machine that lists these and sends that, whatever it is asked for."""

    def __init__(self, listed: Sequence[FileEntry], tar: bytes, cut: bytes) -> None:
        self._listed, self._tar, self._cut = tuple(listed), tar, cut

    def manifest(self, patterns: Sequence[str], *, hashed: bool = True, timeout: float = 600) -> Manifest:
        return Manifest(self._listed)

    @contextmanager
    def pack(self, paths: Sequence[str], *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        yield iter([self._tar[start : start + 700] for start in range(0, len(self._tar), 700)])

    @contextmanager
    def cut(self, path: str, offset: int, length: int, *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        yield iter([self._cut])


@given(st.lists(entries(), max_size=8), streams(), st.sampled_from(CONTENTS))
@example([FileEntry("n" * 300 + "/x", 1, 1, hashlib.sha256(b"x").hexdigest())], b"", b"")
@example([FileEntry("x/" * 2000 + "y", 1, 1, hashlib.sha256(b"x").hexdigest())], b"", b"")
@examples(300)
def test_artifacts_are_whole_and_below_their_folder(listed: list[FileEntry], tar: bytes, cut: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        run = Path(root, "run")
        (run / "artifacts").mkdir(parents=True)
        (run / "artifacts" / "link").symlink_to(root)
        machine = Sending(listed, tar, cut)
        with _room_or_an_error_of_ours():
            pulled = artifacts.pull(machine, ["**"], run / "artifacts", run / "artifacts.json", final=True)
            assert all(len(why) < 1000 for _, why in pulled.missing)
        told = {(entry.path, entry.sha256) for entry in listed}
        for entry in artifacts.read_manifest(run / "artifacts.json"):
            content = (run / "artifacts" / entry.path).read_bytes()
            assert (entry.path, hashlib.sha256(content).hexdigest()) in told
        assert {path.name for path in Path(root).iterdir()} == {"run"}
        assert {path.name for path in run.iterdir()} <= {"artifacts", "artifacts.json", ".artifacts.partial"}


@given(st.lists(entries().map(lambda entry: FileEntry(f"c/{entry.path}", *_rest(entry))), max_size=6), streams())
@example([FileEntry("c/o", 0, 1, hashlib.sha256(b"").hexdigest()), FileEntry("c/o/a", 0, 1, None)], b"")
@examples(200)
def test_checkpoints_are_whole_sets_or_none(listed: list[FileEntry], tar: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "run", "checkpoints")
        for _ in range(2):
            with _room_or_an_error_of_ours():
                checkpoints.pull(Sending(listed, tar, b""), "c", folder)
        found = checkpoints.newest(folder)
        assert found is None or found.parent == folder
        assert {path.name for path in Path(root).iterdir()} <= {"run"}


def test_files_of_which_one_lies_below_the_other_make_no_snapshot_and_no_bug(tmp_path: Path) -> None:
    """A set that was here whole has a file where the next one has a folder."""
    digest = hashlib.sha256(b"x").hexdigest()
    first = header(b"c/o", 1, 0o100644, 1) + b"x".ljust(512, b"\0") + bytes(1024)
    assert checkpoints.pull(Sending([FileEntry("c/o", 1, 1, digest)], first, b""), "c", tmp_path / "c") is not None
    both = [FileEntry("c/o", 1, 1, digest), FileEntry("c/o/a", 1, 1, digest)]
    second = header(b"c/o/a", 1, 0o100644, 1) + b"x".ljust(512, b"\0") + bytes(1024)
    assert checkpoints.pull(Sending(both, second, b""), "c", tmp_path / "c") is None


@given(streams())
@examples(300)
def test_a_tar_stream_is_read_or_refused(tar: bytes) -> None:
    with contextlib.suppress(TarError):
        for member in members(iter([tar])):
            assert sum(len(chunk) for chunk in member.content) <= len(tar)


def test_headers_without_end_take_neither_memory_nor_long() -> None:
    """A machine may say that it has gigabytes, and send extended headers in their place."""

    def extended(number: int) -> bytes:
        records = b"".join(_record(b"k%d.%d" % (number, key)) for key in range(40_000))
        block = bytearray(header(b"x", len(records), 0, 0))
        block[156:157] = b"x"
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block) + records + bytes(-len(records) % 512)

    blocks = [extended(number) for number in range(20)]
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(TarError):
        list(members(iter(blocks)))
    seconds, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000, f"{most} bytes were kept"
    assert seconds < 60


@pytest.mark.parametrize("number", [b"9" * 5000, b"\xd9\xa3", b"", b"-1", b"12345678901"])
def test_a_process_id_is_one(number: bytes) -> None:
    assert _STARTED.search(b"\x1egpujob " + number + b"\n") is None


def _record(key: bytes) -> bytes:
    rest = b" " + key + b"=\n"
    length = len(rest) + 2
    return b"%d" % length + rest


def _rest(entry: FileEntry) -> tuple[int, int, str | None]:
    return entry.bytes, entry.mtime_ns, entry.sha256


@contextmanager
def _room_or_an_error_of_ours() -> Iterator[None]:
    try:
        yield
    except (AgentError, TransportError):
        pass
    except OSError as error:
        assert "No space left on device" in str(error), error
