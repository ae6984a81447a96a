"""The agent's own reading and writing of tar streams, beside Python's, and with streams that somebody damaged."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from collections.abc import Iterator

import pytest

from jobs.agent.gather import header
from jobs.agent.unpack import FILES, TarError, gunzipped, members

NAMES = ["a", "d/" + "n" * 97, "d/" + "long" * 60, "ünï\ncode", "b\udcff", "deep/" * 60 + "x"]


def chunks(content: bytes, size: int = 700) -> Iterator[bytes]:
    return iter([content[start : start + size] for start in range(0, len(content), size)])


def read(stream: bytes, size: int = 700) -> dict[str, bytes]:
    found = {}
    for member in members(gunzipped(chunks(stream, size))):
        if member.kind in FILES:
            found[os.fsdecode(member.name)] = b"".join(member.content)
    return found


def written(form: int, contents: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_700_000_000
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 512, 513, 100_000])
def test_what_python_writes_is_read(form: int, size: int) -> None:
    contents = {name: os.urandom(number * 300) for number, name in enumerate(NAMES)}
    assert read(written(form, contents), size) == contents


def test_the_old_format_with_its_prefix_is_read() -> None:
    contents = {"deep/" * 25 + "x": b"content", "a": b""}
    assert read(written(tarfile.USTAR_FORMAT, contents)) == contents


def test_gzip_in_several_parts_is_read() -> None:
    contents = {"a": os.urandom(5000)}
    stream = written(tarfile.GNU_FORMAT, contents)
    packed = gzip.compress(stream[:3000]) + gzip.compress(stream[3000:])
    assert read(packed) == read(packed, 1) == contents


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 5, 8**11 - 1, 8**11, 2**40])
def test_what_we_write_python_reads(name: str, size: int) -> None:
    stream = io.BytesIO(header(os.fsencode(name), size, 0o100644, 1_700_000_000))
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        entry = tar.next()
    assert entry is not None
    assert (entry.name, entry.size, entry.mode, entry.mtime) == (name, size, 0o644, 1_700_000_000)
    assert entry.isreg()


@pytest.mark.parametrize("size", [2**60, -1])
@pytest.mark.parametrize("kind", [b"0", b"L", b"x"])
def test_sizes_that_cannot_be(size: int, kind: bytes) -> None:
    block = bytearray(header(b"a", 2**60, 0, 0))
    block[156:157] = kind
    if size < 0:
        block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(TarError):
        read(bytes(block) + bytes(1024))


@pytest.mark.parametrize(
    "record", [b"99999 path=a\n", b"4 a=\n", b"no", b"9" * 5000 + b" a=b\n", b"-7 path=a\n", b"0 \n"]
)
def test_an_extended_header_that_makes_no_sense(record: bytes) -> None:
    block = bytearray(header(b"a", len(record), 0, 0))
    block[156:157] = b"x"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(TarError):
        read(bytes(block) + record.ljust(5120, b"\0") + header(b"a", 0, 0, 0) + bytes(1024))


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_stream_is_refused_or_read_but_never_a_surprise(seed: int) -> None:
    dice = random.Random(seed)
    contents = {name: dice.randbytes(dice.randint(0, 1500)) for name in NAMES}
    stream = bytearray(written(dice.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), contents))
    for _ in range(dice.randint(1, 20)):
        stream[dice.randrange(len(stream))] = dice.randrange(256)
    damaged = bytes(stream[: dice.randrange(len(stream))] if seed % 3 == 0 else stream)
    try:
        read(gzip.compress(damaged) if seed % 2 else damaged)
    except TarError:
        pass
