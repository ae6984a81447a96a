"""Artifacts from the real agent, over a connection that breaks, and from machines that lie."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import artifacts
from jobs.artifacts import Pulled
from jobs.copies import BIG, CHANGED, Copies
from jobs.machine import AgentError, FileEntry, Machine, Manifest
from jobs.transport.base import TransportError
from jobs.transport.exchange import CommandFailed
from tests.support.agents import LocalMachine


class Home:
    """Where artifacts go on this computer."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "artifacts"
        self.manifest = root / "artifacts.json"

    def pull(self, machine: Machine, *patterns: str, final: bool = True) -> Pulled:
        return artifacts.pull(machine, patterns or ("outputs/**",), self.folder, self.manifest, final=final)

    def content(self) -> dict[str, bytes]:
        files = [path for path in self.folder.rglob("*") if path.is_file()] if self.folder.exists() else []
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.manifest.read_bytes())
        return found

    def leftovers(self) -> list[str]:
        known = {self.folder.name, self.manifest.name}
        return [path.name for path in self.folder.parent.iterdir() if path.name not in known]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "run")


@pytest.fixture
def there(tmp_path: Path) -> LocalMachine:
    return LocalMachine(tmp_path / "machine")


@pytest.mark.process
class TestFromAMachine:
    def test_what_matches_comes_with_its_digest(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a.txt", b"one")
        there.put("outputs/deep/er/b", b"")
        there.put("outputs/big", bytes(BIG + 7))
        there.put("other", b"not asked for")
        pulled = home.pull(there.machine)
        assert home.content() == {"outputs/a.txt": b"one", "outputs/deep/er/b": b"", "outputs/big": bytes(BIG + 7)}
        assert (pulled.complete, pulled.missing, pulled.unmatched) == (True, (), ())
        assert pulled.bytes == BIG + 10
        record = home.record()
        assert record["complete"] is True
        assert {row["path"]: (row["bytes"], row["sha256"]) for row in record["files"]} == {
            path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in home.content().items()
        }
        assert home.leftovers() == []

    def test_nothing_is_copied_twice(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a", b"one")
        there.put("outputs/big", bytes(BIG))
        home.pull(there.machine)
        there.transport.commands.clear()
        there.put("outputs/c", b"three")
        assert home.pull(there.machine).bytes == 5
        assert "cut" not in there.transport.commands

    def test_a_visit_in_between_asks_for_digests_of_what_is_new_only(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a", b"one")
        home.pull(there.machine, final=False)
        there.transport.commands.clear()
        home.pull(there.machine, final=False)
        assert there.transport.commands == ["manifest"]
        there.put("outputs/[x]*?", b"two")
        assert home.pull(there.machine, final=False).bytes == 3

    def test_without_its_manifest_the_files_themselves_tell(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a", b"one")
        there.put("outputs/b", b"two")
        home.pull(there.machine)
        home.manifest.write_text('{"files": [')
        (home.folder / "outputs" / "b").write_bytes(b"bad")
        assert home.pull(there.machine).bytes == 3
        assert home.content() == {"outputs/a": b"one", "outputs/b": b"two"}

    def test_a_changed_file_is_replaced_and_a_removed_one_stays(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a", b"old")
        there.put("outputs/b", b"gone soon")
        home.pull(there.machine, final=False)
        there.put("outputs/a", b"new")
        (there.work / "outputs" / "b").unlink()
        assert home.pull(there.machine).complete
        assert home.content() == {"outputs/a": b"new", "outputs/b": b"gone soon"}

    def test_a_copy_that_somebody_removed_comes_again(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a", b"one")
        for final in (False, True):
            home.pull(there.machine, final=final)
            (home.folder / "outputs" / "a").unlink()
            home.pull(there.machine, final=final)
            assert home.content() == {"outputs/a": b"one"}

    def test_patterns_without_a_file_are_named(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/a", b"one")
        assert home.pull(there.machine, "outputs/**", "models/*.pt", "outputs/a").unmatched == ("models/*.pt",)
        assert home.record()["unmatched"] == ["models/*.pt"]
        assert home.pull(there.machine, "none/**", final=False).unmatched == ()
        assert Home(home.folder.parent / "other").pull(there.machine, "none/**").unmatched == ("none/**",)

    def test_a_link_is_reported_not_followed(self, there: LocalMachine, home: Home) -> None:
        there.put("secret", b"outside of the patterns")
        there.put("outputs/a", b"one")
        (there.work / "outputs" / "link").symlink_to("../secret")
        pulled = home.pull(there.machine)
        assert not pulled.complete
        assert [path for path, _ in pulled.missing] == ["outputs/link"]
        assert home.content() == {"outputs/a": b"one"}

    @pytest.mark.parametrize("size", [3, BIG])
    @pytest.mark.parametrize("name", [b"a b", b"a\nb", "ä😀".encode(), b"\xff\xfe", b"-n", b"\\", b"*", b"n" * 200])
    def test_any_name(self, there: LocalMachine, home: Home, name: bytes, size: int) -> None:
        there.put("outputs/" + os.fsdecode(name), bytes(size))
        assert home.pull(there.machine).complete
        assert home.content() == {"outputs/" + os.fsdecode(name): bytes(size)}

    def test_many_small_files(self, there: LocalMachine, home: Home) -> None:
        for n in range(600):
            there.put(f"outputs/{n % 7}/{n}", b"%d" % n)
        assert len(home.pull(there.machine, final=False).files) == 600
        assert there.transport.commands.count("pack") == 1


@pytest.mark.process
class TestBrokenConnection:
    @pytest.mark.parametrize("seed", range(6))
    def test_cut_anywhere_it_goes_on_and_everything_arrives(self, there: LocalMachine, home: Home, seed: int) -> None:
        dice = random.Random(seed)
        for n in range(20):
            there.put(f"outputs/{n}", dice.randbytes(dice.choice([0, 1, 511, 512, 513, 70_000])))
        for n in range(3):
            there.put(f"outputs/big{n}", dice.randbytes(BIG + dice.randint(0, BIG)))
        expected = {path.relative_to(there.work).as_posix(): path.read_bytes() for path in there.work.rglob("*/*")}
        received = 0
        for _ in range(200):
            there.transport.bytes_left = allowed = dice.randint(5_000, 3 * BIG)
            try:
                pulled = home.pull(there.machine)
                break
            except TransportError:
                received += allowed
                assert home.record()["complete"] is False
                self.all_that_is_here_is_whole(home, expected)
        assert pulled.complete
        assert home.content() == expected
        assert home.leftovers() == []

    def test_a_big_file_goes_on_where_it_broke(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/big", os.urandom(3 * BIG))
        listing = 600
        there.transport.bytes_left = listing + 2 * BIG
        with pytest.raises(TransportError):
            home.pull(there.machine)
        assert home.content() == {}
        there.transport.bytes_left = listing + BIG + 100_000
        assert home.pull(there.machine).complete

    def test_a_big_file_that_changed_meanwhile_starts_again(self, there: LocalMachine, home: Home) -> None:
        there.put("outputs/big", os.urandom(2 * BIG))
        there.transport.bytes_left = BIG
        with pytest.raises(TransportError):
            home.pull(there.machine)
        content = os.urandom(2 * BIG)
        there.put("outputs/big", content)
        there.transport.bytes_left = None
        assert home.pull(there.machine).complete
        assert home.content() == {"outputs/big": content}
        assert home.leftovers() == []

    def test_a_damaged_part_is_thrown_away(self, there: LocalMachine, home: Home) -> None:
        content = os.urandom(2 * BIG)
        there.put("outputs/big", content)
        there.transport.bytes_left = BIG
        with pytest.raises(TransportError):
            home.pull(there.machine)
        [part] = (home.folder.parent / ".artifacts.partial").iterdir()
        part.write_bytes(b"x" * part.stat().st_size)
        there.transport.bytes_left = None
        assert home.pull(there.machine).complete
        assert home.content() == {"outputs/big": content}

    @staticmethod
    def all_that_is_here_is_whole(home: Home, expected: dict[str, bytes]) -> None:
        here = home.content()
        assert here.items() <= expected.items()
        assert {row["path"] for row in home.record()["files"]} == here.keys()


class FakeMachine(Machine):
    """Answers from a table: listings one after the other, tar streams and cuts as they are."""

    def __init__(self, *listings: Sequence[FileEntry], tar: bytes = b"", cut: bytes = b"") -> None:
        self.listings = [tuple(listing) for listing in listings]
        self.tar = tar
        self.cut_bytes = cut
        self.at_pack: Callable[[], None] = lambda: None
        self.looks = 0

    def manifest(self, patterns: Sequence[str], *, hashed: bool = True, timeout: float = 600) -> Manifest:
        self.looks += 1
        return Manifest(self.listings.pop(0) if len(self.listings) > 1 else self.listings[0])

    @contextmanager
    def pack(self, paths: Sequence[str], *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        self.at_pack()
        yield iter([self.tar[n : n + 1000] for n in range(0, len(self.tar), 1000)])

    @contextmanager
    def cut(self, path: str, offset: int, length: int, *, timeout: float = 120) -> Iterator[Iterator[bytes]]:
        yield iter([self.cut_bytes])


def entry(path: str, content: bytes = b"x", **changes: Any) -> FileEntry:
    values = {"bytes": len(content), "mtime_ns": 1, "sha256": hashlib.sha256(content).hexdigest(), **changes}
    return FileEntry(path, **values)


def tar_of(*members: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


class TestHostileMachine:
    @pytest.mark.parametrize(
        "path",
        [
            *("/etc/x", "../x", "a/../../x", "..", ".", "", "a//b", "a/", "./a", "a\0b"),
            *("..\\x", "a\\..\\..\\x", "C:\\x", "\\x"),
        ],
    )
    @pytest.mark.parametrize("big", [False, True])
    def test_no_name_leads_out(self, home: Home, path: str, big: bool) -> None:
        content = bytes(BIG) if big else b"x"
        machine = FakeMachine([entry(path, content)], tar=tar_of((path.replace("\0", ""), content)), cut=content)
        pulled = home.pull(machine)
        assert [missing for missing, _ in pulled.missing] == [path]
        assert not pulled.complete
        assert home.content() == {}
        assert {file.name for file in home.folder.parent.rglob("*") if file.is_file()} == {"artifacts.json"}

    @pytest.mark.parametrize("sha256", [None, "", "x" * 64, "../" * 20, "A" * 64])
    def test_no_digest_becomes_a_file_name(self, home: Home, sha256: str | None) -> None:
        machine = FakeMachine([entry("a", sha256=sha256)], tar=tar_of(("a", b"x")))
        assert home.pull(machine).missing == (("a", "the machine did not say what is in it"),)

    def test_a_link_in_the_local_folder_is_not_followed(self, home: Home, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        home.folder.mkdir(parents=True)
        (home.folder / "sub").symlink_to(tmp_path / "elsewhere")
        pulled = home.pull(FakeMachine([entry("sub/deep/a")], tar=tar_of(("sub/deep/a", b"x"))))
        assert pulled.missing == (("sub/deep/a", "sub is a link in the local folder"),)
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_members_nobody_asked_for_are_left(self, home: Home) -> None:
        link = tarfile.TarInfo("b")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        device = tarfile.TarInfo("c")
        device.type = tarfile.CHRTYPE
        outside = [("/abs", b"x"), ("../up", b"x"), ("other", b"x")]
        tar = tar_of(*outside, (link, b""), (device, b""), ("a", b"x"), ("a", b"y"))
        pulled = home.pull(FakeMachine([entry("a"), entry("b"), entry("c")], tar=tar))
        assert home.content() == {"a": b"x"}
        assert pulled.missing == (("b", CHANGED), ("c", CHANGED))

    def test_more_than_announced_is_an_error(self, home: Home) -> None:
        with pytest.raises(AgentError, match="more than it had announced"):
            home.pull(FakeMachine([entry("a")], tar=tar_of(("a", bytes(BIG)))))
        with pytest.raises(AgentError, match="more of b than it had announced"):
            home.pull(FakeMachine([entry("b", bytes(BIG))], cut=bytes(BIG + 1)))
        assert home.content() == {}

    def test_an_endless_tar_ends(self, home: Home) -> None:
        machine = FakeMachine([entry("a")], tar=tar_of(*[(f"z{n}", b"x" * 600) for n in range(3000)]))
        with pytest.raises(AgentError, match="more than it had announced"):
            home.pull(machine)

    @pytest.mark.parametrize("tar", [b"", b"hello" * 1000, tar_of(("a", b"xx"))[:600], tar_of(("a", b"x"))[:513]])
    def test_something_that_is_no_tar(self, home: Home, tar: bytes) -> None:
        with pytest.raises(AgentError, match="tar stream"):
            home.pull(FakeMachine([entry("a")], tar=tar))

    def test_other_content_than_announced_is_not_kept(self, home: Home) -> None:
        machine = FakeMachine([entry("a", b"abc"), entry("b", bytes(BIG))], tar=tar_of(("a", b"xyz")), cut=b"y" * BIG)
        assert home.pull(machine).missing == (("a", CHANGED), ("b", CHANGED))
        assert home.content() == {}
        assert home.leftovers() == []


class TestChangingFiles:
    def test_is_asked_for_again_at_the_end(self, home: Home) -> None:
        machine = FakeMachine([entry("a", b"old")], [entry("a", b"new")], tar=tar_of(("a", b"new")))
        assert home.pull(machine).complete
        assert home.content() == {"a": b"new"}

    def test_but_not_for_ever(self, home: Home) -> None:
        machine = FakeMachine([entry("a", b"old")], tar=tar_of(("a", b"new")))
        pulled = home.pull(machine)
        assert (pulled.complete, pulled.missing) == (False, (("a", CHANGED),))
        assert home.record()["missing"] == [{"path": "a", "why": CHANGED}]
        assert machine.looks < 8

    def test_and_in_between_it_waits_for_the_next_visit(self, home: Home) -> None:
        machine = FakeMachine([entry("a", b"old"), entry("b")], tar=tar_of(("a", b"new"), ("b", b"x")))
        pulled = home.pull(machine, final=False)
        assert home.content() == {"b": b"x"}
        assert pulled.missing == (("a", CHANGED),)

    @pytest.mark.parametrize("size", [1, BIG])
    def test_a_file_that_the_machine_refuses_does_not_stop_the_others(self, home: Home, size: int) -> None:
        class Refusing(FakeMachine):
            def cut(self, *_: object, **__: object) -> Any:
                raise CommandFailed("it is a link now", exit_code=2)

            def pack(self, *_: object, **__: object) -> Any:
                raise CommandFailed("it is a link now", exit_code=2)

        pulled = home.pull(Refusing([entry("a", bytes(size)), entry("b", bytes(size))]))
        assert pulled.missing == (("a", "it is a link now"), ("b", "it is a link now"))


class TestThisComputer:
    def test_a_full_disk_passes_through_and_what_is_whole_stays(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.replace

        def full(source: str, target: str) -> None:
            if Path(target).name == "b":
                raise OSError(errno.ENOSPC, "No space left on device")
            real(source, target)

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            home.pull(FakeMachine([entry("a"), entry("b")], tar=tar_of(("a", b"x"), ("b", b"x"))))
        assert home.content() == {"a": b"x"}
        assert home.record() == {**home.record(), "complete": False}
        assert [row["path"] for row in home.record()["files"]] == ["a"]

    def test_a_name_that_has_no_place_here_is_reported(self, home: Home) -> None:
        long = "n" * 300
        tar = tar_of((long, b"x"), ("d/f", b"x"), ("d", b"x"))
        machine = FakeMachine([entry(long), entry("d/f"), entry("d")], tar=tar)
        pulled = home.pull(machine)
        assert [path for path, _ in pulled.missing] == ["d", long]
        assert home.content() == {"d/f": b"x"}

    def test_names_that_the_disk_cannot_tell_apart_do_not_overwrite_each_other(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine = FakeMachine([entry("a/X"), entry("A/x", b"y")], tar=tar_of(("a/X", b"x"), ("A/x", b"y")))
        assert home.pull(machine).complete
        monkeypatch.setattr(Copies, "_folds_case", lambda _: True)
        pulled = Home(home.folder.parent / "mac").pull(machine)
        assert pulled.missing == (("A/x", "this computer's disk cannot tell it from a/X"),)

    def test_a_folder_behind_a_link_is_fine(self, home: Home, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        home.folder.parent.mkdir()
        home.folder.symlink_to(tmp_path / "disk")
        assert home.pull(FakeMachine([entry("a")], tar=tar_of(("a", b"x")))).complete
        assert (tmp_path / "disk" / "a").read_bytes() == b"x"
