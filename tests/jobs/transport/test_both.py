"""What the Transport protocol promises, on this computer and over SSH."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.transport.base import ByteRange, Transport, TransportError
from jobs.transport.exchange import CommandFailed
from tests.support.processes import is_alive

pytestmark = [pytest.mark.process, pytest.mark.sshd]

MIB = 1024 * 1024


def shell(script: str, *words: str) -> list[str]:
    return ["sh", "-c", script, "sh", *words]


def test_a_command_gives_its_streams_and_its_exit_code(transport: Transport) -> None:
    done = transport.run(shell("cat; echo bad >&2; exit 7"), stdin=b"in\x00\xff", timeout=10)
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"in\x00\xff", b"bad\n")


WORDS = ["", "a b", "it's", '"', "$HOME `id` $(id)", "a\nb", "*", "ä€😀", "-n", "\\", "!x", ";"]


@pytest.mark.parametrize("word", WORDS)
def test_words_arrive_as_they_are(transport: Transport, word: str) -> None:
    assert transport.run(["printf", "%s.", "x", word], timeout=10).stdout == f"x.{word}.".encode()


def test_the_environment_is_added(transport: Transport) -> None:
    assert transport.run(shell('printf %s "$MARK"'), timeout=10).stdout == b"it's here; $HOME"


def test_a_missing_program_is_an_exit_code(transport: Transport) -> None:
    done = transport.run(["no-such-program"], timeout=10)
    assert done.exit_code == 127
    assert b"no-such-program" in done.stderr


def test_a_command_without_input_sees_its_end(transport: Transport) -> None:
    assert transport.run(["cat"], timeout=10).stdout == b""


def test_both_streams_are_drained_and_cut_at_one_mebibyte(transport: Transport) -> None:
    flood = "yes out | head -c 5242880 & yes err | head -c 5242880 >&2 & wait"
    done = transport.run(shell(flood), timeout=60)
    assert done.exit_code == 0
    assert (len(done.stdout), len(done.stderr)) == (MIB, MIB)
    assert done.stdout[:4] == b"out\n"
    assert done.stderr[:4] == b"err\n"


def test_a_command_that_floods_while_it_is_fed_does_not_block(transport: Transport) -> None:
    done = transport.run(shell("yes | head -c 20000000; cat | wc -c >&2"), stdin=bytes(8 * MIB), timeout=60)
    assert int(done.stderr) == 8 * MIB


def test_a_command_that_does_not_end_is_killed_in_time(transport: Transport, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TransportError, match="did not end within"):
        transport.run(shell('echo $$ > "$1"; sleep 100 & wait', str(tmp_path / "pid")), timeout=0.7)
    assert time.monotonic() - began < 4
    assert ended(int((tmp_path / "pid").read_text()))
    assert transport.run(["echo", "next"], timeout=10).stdout == b"next\n"


def test_endless_output_does_not_extend_the_time_of_run(transport: Transport) -> None:
    began = time.monotonic()
    with pytest.raises(TransportError, match="did not end within"):
        transport.run(["yes"], timeout=0.7)
    assert time.monotonic() - began < 4


def test_what_a_command_leaves_in_the_background_does_not_hold_it(transport: Transport) -> None:
    began = time.monotonic()
    done = transport.run(shell("sleep 8 & echo started"), timeout=20)
    assert (done.exit_code, done.stdout) == (0, b"started\n")
    assert time.monotonic() - began < 5


def test_a_killed_command_has_no_good_exit_code(transport: Transport) -> None:
    assert transport.run(shell("kill -s KILL $$"), timeout=10).exit_code < 0


def test_send_streams_into_a_command(transport: Transport) -> None:
    chunks = [bytes([n]) * MIB for n in range(50)]
    done = transport.send(["sha256sum"], iter(chunks), timeout=30)
    assert done.stdout.split()[0].decode() == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_send_to_a_command_that_ends_early_tells_how_it_ended(transport: Transport) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(MIB)

    done = transport.send(shell("head -c 3000000 >/dev/null; echo full >&2; exit 28"), endless(), timeout=20)
    assert (done.exit_code, done.stderr) == (28, b"full\n")
    assert transport.run(["echo", "next"], timeout=10).stdout == b"next\n"


def test_send_waits_for_a_slow_reader_only_as_long_as_it_moves(transport: Transport) -> None:
    slow = "for i in 1 2 3; do head -c 4000000 >/dev/null; sleep 0.5; done"
    assert transport.send(shell(slow), (bytes(MIB) for _ in range(12)), timeout=1.2).exit_code == 0
    with pytest.raises(TransportError, match=r"no (progress|answer) within"):
        transport.send(["sleep", "60"], (bytes(MIB) for _ in range(40)), timeout=1)


def test_an_error_in_what_is_sent_is_the_callers(transport: Transport) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise FileNotFoundError("the bundle is gone")

    with pytest.raises(FileNotFoundError, match="bundle"):
        transport.send(["cat"], broken(), timeout=10)


def test_receive_streams_out_of_a_command(transport: Transport) -> None:
    with transport.receive(shell("cat; head -c 52428800 /dev/zero"), stdin=b"head", timeout=30) as chunks:
        digest = hashlib.sha256(b"".join(chunks)).hexdigest()
    assert digest == hashlib.sha256(b"head" + bytes(50 * MIB)).hexdigest()


def test_receive_says_how_a_command_failed(transport: Transport) -> None:
    with (
        transport.receive(shell("echo some; echo 'no such file' >&2; exit 2"), timeout=10) as chunks,
        pytest.raises(CommandFailed, match="exit code 2: no such file") as caught,
    ):
        assert next(chunks) == b"some\n"
        next(chunks)
    assert caught.value.exit_code == 2


def test_receive_gives_up_on_silence_but_not_on_slow_output_or_a_slow_caller(transport: Transport) -> None:
    steady = "for i in 1 2 3 4; do echo $i; sleep 0.4; done"
    with transport.receive(shell(steady), timeout=0.8) as chunks:
        assert next(chunks) == b"1\n"
        time.sleep(1)
        assert b"".join(chunks) == b"2\n3\n4\n"
    with (
        transport.receive(shell("echo one; sleep 30"), timeout=0.5) as chunks,
        pytest.raises(TransportError, match="no progress within"),
    ):
        list(chunks)


class TestNoLonger:
    """A machine may make progress for ever: whoever waits for it says when that is enough."""

    DRIP = "while :; do echo x; sleep 0.1; done"

    def test_drops_out_of_a_command(self, transport: Transport) -> None:
        until = time.monotonic() + 1
        transport.may_go_on = lambda: time.monotonic() < until
        with (
            transport.receive(shell(self.DRIP), timeout=30) as chunks,
            pytest.raises(TransportError, match="was broken off before its end"),
        ):
            for _ in chunks:
                pass
        assert time.monotonic() < until + 5
        transport.may_go_on = lambda: True
        assert transport.run(["echo", "next"], timeout=10).stdout == b"next\n"

    @pytest.mark.parametrize(
        "script", ["head -c 1; exec sleep 60", "while head -c 1000 >/dev/null; do sleep 0.1; done", DRIP]
    )
    def test_drops_into_a_command(self, transport: Transport, script: str) -> None:
        until = time.monotonic() + 1
        transport.may_go_on = lambda: time.monotonic() < until
        with pytest.raises(TransportError, match="was broken off before its end"):
            transport.send(shell(script), (bytes(MIB) for _ in range(400)), timeout=30)
        assert time.monotonic() < until + 5
        transport.may_go_on = lambda: True
        assert transport.run(["echo", "next"], timeout=10).stdout == b"next\n"


def test_words_on_stderr_without_end_are_no_output(transport: Transport) -> None:
    until = time.monotonic() + 1
    transport.may_go_on = lambda: time.monotonic() < until
    with (
        transport.receive(shell("exec yes >&2"), timeout=30) as chunks,
        pytest.raises(TransportError, match="was broken off"),
    ):
        next(chunks)
    assert time.monotonic() < until + 5


def test_leaving_receive_early_ends_the_command(transport: Transport, tmp_path: Path) -> None:
    with transport.receive(shell('echo $$ > "$1"; echo ready; sleep 100', str(tmp_path / "pid")), timeout=10) as chunks:
        assert next(chunks) == b"ready\n"
    assert ended(int((tmp_path / "pid").read_text()))


NAMES = ["plain", "a b", "it's", 'q"', "$HOME", "a\nb", "ä😀", "-n", "*"]


def test_ranges_of_many_files_come_in_one_answer(transport: Transport, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    ranges, expected = [], []
    for n, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(content + name.encode())
        ranges.append(ByteRange(str(tmp_path / name), n * 100, 2000))
        expected.append((content + name.encode())[n * 100 : n * 100 + 2000])
    assert transport.read(ranges, timeout=10) == expected


@pytest.mark.parametrize(
    ("content", "offset", "limit", "expected"),
    [
        (b"hello\n", 0, 100, b"hello\n"),
        (b"hello\n", 0, 6, b"hello\n"),
        (b"hello\n", 2, 2, b"ll"),
        (b"hello\n", 6, 10, b""),
        (b"hello\n", 60, 10, b""),
        (b"hello\n", 0, 0, b""),
        (b"", 0, 10, b""),
        (b"\n\n\n", 1, 10, b"\n\n"),
        (b"no end", 0, 10, b"no end"),
        (b"missing\nfile\n", 0, 20, b"missing\nfile\n"),
        (b"\x00\xff\r\n", 0, 10, b"\x00\xff\r\n"),
    ],
)
def test_a_range_is_exact(
    transport: Transport, tmp_path: Path, content: bytes, offset: int, limit: int, expected: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    around = ByteRange(str(tmp_path / "none"), 0, 10)
    wanted = ByteRange(str(tmp_path / "file"), offset, limit)
    assert transport.read([around, wanted, around], timeout=10) == [None, expected, None]


def test_a_big_range_and_no_range(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(9 * MIB))
    [part] = transport.read([ByteRange(str(tmp_path / "big"), MIB, 7 * MIB)], timeout=30)
    assert part is not None
    assert len(part) == 7 * MIB
    assert transport.read([], timeout=10) == []


def test_a_file_that_is_replaced_and_grows_is_read_whole_or_not(transport: Transport, tmp_path: Path) -> None:
    """The agent renames state.json into place while it is read; what comes is one of its versions."""
    versions = [b'{"v":1}', b'{"v":2,"detail":"' + b"x" * 5000 + b'"}']
    script = 'i=0; while [ $i -lt 3000 ]; do cp "$1/v$((i%2))" "$1/new"; mv "$1/new" "$1/state"; i=$((i+1)); done'
    for n, version in enumerate(versions):
        (tmp_path / f"v{n}").write_bytes(version)
    (tmp_path / "state").write_bytes(versions[0])
    with LocalWriter(shell(script, str(tmp_path))):
        wanted = [ByteRange(str(tmp_path / "state"), 0, 65536)] * 5
        seen = [part for _ in range(8) for part in transport.read(wanted, timeout=10)]
    assert set(seen) <= set(versions)


def test_what_cannot_be_read_is_an_error_not_a_missing_file(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot read"):
        transport.read([ByteRange(str(tmp_path), 0, 10)], timeout=10)


def test_a_closed_transport_can_be_used_again(transport: Transport) -> None:
    transport.run(["true"], timeout=10)
    transport.close()
    transport.close()
    assert transport.run(["echo", "again"], timeout=10).stdout == b"again\n"


class LocalWriter:
    """A process that runs while the test looks at what it does."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv

    def __enter__(self) -> None:
        self._child = subprocess.Popen(self._argv)

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()


def ended(pid: int) -> bool:
    """Whether the process is gone within two seconds; a zombie has ended."""
    for _ in range(40):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False
