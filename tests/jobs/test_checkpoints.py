"""Checkpoints from the real agent: whole sets only, whatever the job and the connection do meanwhile."""

from __future__ import annotations

import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from jobs import checkpoints
from jobs.bundle import BundleError
from jobs.checkpoints import Snapshot
from jobs.copies import BIG
from jobs.machine import Manifest
from jobs.transport.base import TransportError
from tests.support.agents import LocalMachine

pytestmark = pytest.mark.process


@pytest.fixture
def there(tmp_path: Path) -> LocalMachine:
    return LocalMachine(tmp_path / "machine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoints"


def pull(there: LocalMachine, folder: Path, path: str = "checkpoints") -> Snapshot | None:
    return checkpoints.pull(there.machine, path, folder)


def content(snapshot: Path) -> dict[str, bytes]:
    files = [path for path in (snapshot / "files").rglob("*") if path.is_file()]
    return {path.relative_to(snapshot / "files").as_posix(): path.read_bytes() for path in files}


def newest_content(folder: Path) -> dict[str, bytes]:
    found = checkpoints.newest(folder)
    assert found is not None
    return content(found)


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_there_is_no_snapshot(there: LocalMachine, folder: Path) -> None:
    assert pull(there, folder) is None
    assert checkpoints.newest(folder) is None
    there.put("checkpoints/epoch-1.pt.tmp", b"half")
    there.put("checkpoints/epoch-1.pt.partial", b"half")
    assert pull(there, folder) is None


def test_a_set_is_kept_with_its_listing(there: LocalMachine, folder: Path) -> None:
    there.put("checkpoints/last.pt", b"weights")
    there.put("checkpoints/deep/optimizer", bytes(BIG))
    there.put("checkpoints/next.tmp", b"half")
    there.put("elsewhere", b"")
    snapshot = pull(there, folder)
    assert snapshot is not None
    assert snapshot.path == folder / "000001" == checkpoints.newest(folder)
    assert snapshot.bytes == BIG + 7
    assert content(snapshot.path) == {"checkpoints/last.pt": b"weights", "checkpoints/deep/optimizer": bytes(BIG)}
    listed = json.loads((snapshot.path / "snapshot.json").read_bytes())
    assert [(row["path"], row["bytes"]) for row in listed["files"]] == [
        ("checkpoints/deep/optimizer", BIG),
        ("checkpoints/last.pt", 7),
    ]
    assert shown(folder) == ["000001"]
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["files", "snapshot.json"]


def test_an_unchanged_set_is_not_kept_twice_and_costs_one_look(there: LocalMachine, folder: Path) -> None:
    there.put("checkpoints/last.pt", b"weights")
    pull(there, folder)
    there.transport.commands.clear()
    assert pull(there, folder) is None
    assert there.transport.commands == ["manifest"]
    os.utime(there.work / "checkpoints" / "last.pt")
    assert pull(there, folder) is None
    assert shown(folder) == ["000001"]


def test_the_newest_two_stay_and_share_what_did_not_change(there: LocalMachine, folder: Path) -> None:
    there.put("checkpoints/base.pt", bytes(BIG))
    for n in range(12):
        there.put("checkpoints/last.pt", b"epoch %d" % n)
        assert pull(there, folder) is not None
    assert shown(folder) == ["000011", "000012"]
    assert newest_content(folder)["checkpoints/last.pt"] == b"epoch 11"
    inodes = {(folder / name / "files" / "checkpoints" / "base.pt").stat().st_ino for name in shown(folder)}
    assert len(inodes) == 1
    assert there.transport.commands.count("cut") == 1


def test_a_removed_file_is_not_in_the_next_snapshot(there: LocalMachine, folder: Path) -> None:
    there.put("checkpoints/1.pt", b"1")
    pull(there, folder)
    there.put("checkpoints/2.pt", b"2")
    (there.work / "checkpoints" / "1.pt").unlink()
    pull(there, folder)
    assert newest_content(folder) == {"checkpoints/2.pt": b"2"}


@pytest.mark.parametrize("path", [".", "./checkpoints/", "check*[points]", "a b/c"])
def test_any_path(there: LocalMachine, folder: Path, path: str) -> None:
    name = os.path.normpath(f"{path}/last.pt")
    there.put(name, b"weights")
    assert pull(there, folder, path) is not None
    assert newest_content(folder) == {name: b"weights"}
    checkpoints.bundle(folder / "000001", folder / "out.tar.gz")
    with tarfile.open(folder / "out.tar.gz") as tar:
        assert tar.getnames() == ["last.pt"]


class Busy(LocalMachine):
    """A job that writes at chosen moments: before the n-th listing."""

    def write_before(self, write: Callable[[int], None]) -> None:
        real, count = self.machine.manifest, iter(range(1000))

        def manifest(patterns: Sequence[str], *, hashed: bool = True, timeout: float = 600) -> Manifest:
            write(next(count))
            return real(patterns, hashed=hashed, timeout=timeout)

        self.machine.manifest = manifest  # type: ignore[method-assign]


class TestWhileTheJobWrites:
    def test_a_set_that_changed_meanwhile_is_taken_again(self, tmp_path: Path, folder: Path) -> None:
        """The optimizer of epoch 2 beside the model of epoch 1 would train on, and wrongly."""
        there = Busy(tmp_path / "machine")

        def write(look: int) -> None:
            if look in (0, 2):
                there.put("checkpoints/model", b"model of epoch %d" % look)
                there.put("checkpoints/optimizer", b"optimizer of epoch %d" % look)

        there.write_before(write)
        assert pull(there, folder) is not None
        assert set(newest_content(folder).values()) == {b"model of epoch 2", b"optimizer of epoch 2"}

    @pytest.mark.parametrize("change", ["content", "new file", "removed"])
    def test_one_that_never_rests_waits_for_the_next_visit(self, tmp_path: Path, folder: Path, change: str) -> None:
        there = Busy(tmp_path / "machine")
        there.put("checkpoints/old", b"old")
        pull(there, folder)

        def write(look: int) -> None:
            there.put("checkpoints/last.pt", b"%d" % look)
            if change == "new file":
                there.put(f"checkpoints/{look}.pt", b"x")
            if change == "removed":
                (there.work / "checkpoints" / f"{look}").touch()
                (there.work / "checkpoints" / f"{look - 1}").unlink(missing_ok=True)

        there.write_before(write)
        assert pull(there, folder) is None
        assert newest_content(folder) == {"checkpoints/old": b"old"}

    def test_what_was_half_copied_does_not_get_into_a_later_set(self, tmp_path: Path, folder: Path) -> None:
        there = Busy(tmp_path / "machine")
        stop = [False]

        def write(look: int) -> None:
            if not stop[0]:
                there.put(f"checkpoints/{look}.pt", b"x" * look)
                (there.work / "checkpoints" / f"{look - 2}.pt").unlink(missing_ok=True)

        there.write_before(write)
        assert pull(there, folder) is None
        stop[0] = True
        assert pull(there, folder) is not None
        expected = {path.relative_to(there.work).as_posix(): path.read_bytes() for path in there.work.rglob("*.pt")}
        assert newest_content(folder) == expected


@pytest.mark.parametrize("seed", range(5))
def test_cut_anywhere_only_whole_snapshots_are_seen(there: LocalMachine, folder: Path, seed: int) -> None:
    dice = random.Random(seed)
    sets: list[dict[str, bytes]] = []
    for _ in range(3):
        for name in ("model", "optimizer", "small"):
            there.put(f"checkpoints/{name}", dice.randbytes(100 if name == "small" else BIG + dice.randint(0, BIG)))
        sets.append({path.relative_to(there.work).as_posix(): path.read_bytes() for path in there.work.rglob("*/*")})
        for _ in range(100):
            there.transport.bytes_left = dice.randint(3_000, 2 * BIG)
            try:
                assert pull(there, folder) is not None
                break
            except TransportError:
                found = checkpoints.newest(folder)
                assert found is None or content(found) in sets
        assert newest_content(folder) == sets[-1]


class TestNewest:
    @pytest.fixture
    def two(self, there: LocalMachine, folder: Path) -> Iterator[Path]:
        for n in (1, 2):
            there.put("checkpoints/last.pt", b"epoch %d" % n)
            pull(there, folder)
        yield folder

    @pytest.mark.parametrize("damage", ["no listing", "half a listing", "short file", "no file", "strange listing"])
    def test_a_damaged_one_is_passed_over(self, two: Path, there: LocalMachine, damage: str) -> None:
        bad = two / "000002"
        if damage == "no listing":
            (bad / "snapshot.json").unlink()
        elif damage == "half a listing":
            (bad / "snapshot.json").write_text('{"files": [')
        elif damage == "strange listing":
            (bad / "snapshot.json").write_text('{"files": {"a": 1}, "source": "x"}')
        elif damage == "short file":
            (bad / "files" / "checkpoints" / "last.pt").write_bytes(b"")
        else:
            (bad / "files" / "checkpoints" / "last.pt").unlink()
        assert checkpoints.newest(two) == two / "000001"
        with pytest.raises(BundleError, match="not a whole snapshot"):
            checkpoints.bundle(bad, two / "out.tar.gz")
        assert pull(there, two) is not None
        assert newest_content(two) == {"checkpoints/last.pt": b"epoch 2"}
        assert shown(two) == ["000001", "000003"]

    def test_other_things_in_the_folder_do_not_matter(self, two: Path) -> None:
        (two / "restore-3.tar.gz").write_bytes(b"")
        (two / "000009").write_bytes(b"")
        (two / "notes").mkdir()
        assert checkpoints.newest(two) == two / "000002"


def test_a_snapshot_goes_back_to_where_it_came_from(there: LocalMachine, folder: Path, tmp_path: Path) -> None:
    there.put("checkpoints/last.pt", b"weights")
    there.put("checkpoints/deep/x", b"x")
    pull(there, folder)
    newest = checkpoints.newest(folder)
    assert newest is not None
    digest = checkpoints.bundle(newest, folder / "restore.tar.gz")
    assert digest == checkpoints.bundle(newest, folder / "again.tar.gz")
    other = LocalMachine(tmp_path / "other")
    other.put("train.py", b"code")
    with tarfile.open(folder / "restore.tar.gz") as tar:
        tar.extractall(other.work / "checkpoints")
    assert (other.work / "checkpoints" / "last.pt").read_bytes() == b"weights"
    assert (other.work / "checkpoints" / "deep" / "x").read_bytes() == b"x"
    assert (other.work / "train.py").read_bytes() == b"code"
    assert pull(other, folder) is None
