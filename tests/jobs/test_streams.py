"""The local copies of a machine's streams: no byte lost or doubled, and no secret shown."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.streams import AttemptFiles, redact


@pytest.fixture
def files(tmp_path: Path) -> AttemptFiles:
    return AttemptFiles(tmp_path / "attempts" / "1")


def visit(
    files: AttemptFiles, remote: bytes, limit: int, *, secrets: tuple[str, ...] = (), final: bool = False
) -> None:
    """What a controller does: read from the offset on, append."""
    offsets = files.offsets()
    files.append(offsets, {"log": remote[offsets["log"] :][:limit]}, secrets=secrets, final=final)


def log(tmp_path: Path) -> bytes:
    return (tmp_path / "attempts" / "1" / "log").read_bytes()


def test_offsets_are_sizes(files: AttemptFiles) -> None:
    assert files.offsets() == {"log": 0, "metrics": 0, "telemetry": 0, "events": 0}
    files.append(files.offsets(), {"log": b"\x00\xff\r", "metrics": b"", "telemetry": b"{}\n", "events": b"x"})
    assert files.offsets() == {"log": 3, "metrics": 0, "telemetry": 3, "events": 1}


def test_a_slower_controller_writes_nothing(files: AttemptFiles, tmp_path: Path) -> None:
    before = files.offsets()
    files.append(before, {"log": b"line 1\n"})
    files.append(before, {"log": b"line 1\nline 2\n", "events": b"e\n"})
    assert log(tmp_path) == b"line 1\n"
    assert files.offsets()["events"] == 2


def test_a_chunk_written_in_part_goes_on_where_it_broke(
    files: AttemptFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = iter([2, 3])
    real = os.write

    def full_soon(descriptor: int, rest: memoryview) -> int:
        room = next(written, None)
        if room is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, rest[:room])

    monkeypatch.setattr("jobs.streams.os.write", full_soon)
    with pytest.raises(OSError, match="No space left") as caught:
        visit(files, b"0123456789", 100)
    assert caught.value.errno == errno.ENOSPC
    assert log(tmp_path) == b"01234"
    monkeypatch.undo()
    visit(files, b"0123456789", 100)
    assert log(tmp_path) == b"0123456789"


@pytest.mark.process
def test_a_log_without_end_leaves_some_of_the_disk_to_others(small_disk: Callable[[int], Path]) -> None:
    """A twentieth of it: the store, other runs and the user go on."""
    disk = small_disk(20)
    files, chunk = AttemptFiles(disk / "attempts" / "1"), os.urandom(1_000_000)
    with pytest.raises(OSError, match="1000000 bytes of the log are to come") as caught:
        while True:
            files.append(files.offsets(), {"log": chunk})
    assert caught.value.errno == errno.ENOSPC
    assert files.offsets()["log"] == 19_000_000
    left = os.statvfs(disk)
    assert left.f_bavail * left.f_frsize > left.f_blocks * left.f_frsize / 20
    files.append(files.offsets(), {"log": b""})  # to look needs no room
    (disk / "of-the-user").write_bytes(bytes(500_000))


@pytest.mark.process
def test_controllers_that_are_killed_lose_and_double_nothing(tmp_path: Path) -> None:
    remote = b"".join(b"%d\n" % n for n in range(200_000))
    (tmp_path / "remote").write_bytes(remote)
    script = (
        "import sys; from pathlib import Path; from jobs.streams import AttemptFiles\n"
        "files = AttemptFiles(Path(sys.argv[1], 'attempts', '1')); remote = Path(sys.argv[1], 'remote').read_bytes()\n"
        "while files.offsets()['log'] < len(remote):\n"
        "    offsets = files.offsets(); files.append(offsets, {'log': remote[offsets['log']:][:7919]})\n"
    )
    for n in range(8):
        pair = [subprocess.Popen([sys.executable, "-c", script, tmp_path]) for _ in range(2)]
        try:
            pair[0].wait(timeout=0.05 + n * 0.01)
        except subprocess.TimeoutExpired:
            pass
        for process in pair:
            process.send_signal(signal.SIGKILL)
            process.wait()
    visit(AttemptFiles(tmp_path / "attempts" / "1"), remote, len(remote))
    assert log(tmp_path) == remote


class TestSecrets:
    SECRETS = ("hf_secret", "secretary", "aaaa", 'quo"te\\d', "kurz", "abab", "quicksand", "sandcastles")

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("token hf_secret used", "token ********* used"),
            ("hf_secretary", "************"),
            ("hf_hf_secret", "hf_*********"),
            ("baaaaaab", "b******b"),
            ("xababababa.", "x********a."),
            ("quicksandcastles", "****************"),
            ("aaaaaaaaaaaaaaaaaaaa", "********************"),
            ("hf_secre", "hf_secre"),
            ('{"text": "quo\\"te\\\\d"}', '{"text": "**********"}'),
            ('quo"te\\d', "********"),
            ("secret secretar kurzkurz", "secret secretar ********"),
            ("", ""),
        ],
    )
    def test_are_starred_out_wherever_the_bytes_are_split(self, tmp_path: Path, text: str, shown: str) -> None:
        remote = text.encode()
        for number, cuts in enumerate(itertools.combinations(range(len(remote) + 1), 2)):
            folder = tmp_path / str(number)
            files = AttemptFiles(folder)
            for end in (*cuts, len(remote)):
                visit(files, remote[:end], end, secrets=self.SECRETS, final=end == len(remote))
            visit(files, remote, len(remote), secrets=self.SECRETS, final=True)
            assert (folder / "log").read_bytes() == shown.encode() if text else files.offsets()["log"] == 0

    @pytest.mark.parametrize("limit", [1, 3, 9, 10, 11, 19, 64])
    def test_byte_by_byte_what_is_visible_never_shows_a_part(self, tmp_path: Path, limit: int) -> None:
        files = AttemptFiles(tmp_path)
        remote = b"a token=hf_secret and hf_sec no more"
        for end in range(len(remote) + 1):
            visit(files, remote[:end], max(limit, 20), secrets=self.SECRETS)
            local = (tmp_path / "log").read_bytes() if (tmp_path / "log").exists() else b""
            assert b"hf_" not in local[:17]
            assert remote.startswith(local[:8])

    def test_the_file_always_moves_on(self) -> None:
        """A word that repeats itself may not hold back the log for ever."""
        shown = redact(b"ab" * 100, [b"abab"], final=False)
        assert len(shown) > 190
        assert set(shown) == {ord("*")}

    def test_short_ones_and_telemetry_are_left_alone(self, tmp_path: Path) -> None:
        files = AttemptFiles(tmp_path)
        chunks = {"log": b"abc 1234", "telemetry": b"1234", "metrics": b"1234", "events": b"1234"}
        files.append(files.offsets(), chunks, secrets=("abc", "", "1234"), final=True)
        assert (tmp_path / "log").read_bytes() == b"abc ****"
        assert (tmp_path / "telemetry").read_bytes() == b"1234"
        assert (tmp_path / "metrics").read_bytes() == (tmp_path / "events").read_bytes() == b"****"

    def test_a_beginning_is_held_back_until_it_is_clear(self, tmp_path: Path) -> None:
        files = AttemptFiles(tmp_path)
        visit(files, b"see hf_", 100, secrets=("hf_secret",))
        assert (tmp_path / "log").read_bytes() == b"see "
        visit(files, b"see hf_other", 100, secrets=("hf_secret",))
        assert (tmp_path / "log").read_bytes() == b"see hf_other"
