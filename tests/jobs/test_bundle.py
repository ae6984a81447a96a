"""What is shipped of a working directory, and that the same files give the same archive."""

from __future__ import annotations

import gzip
import os
import socket
import tarfile
from pathlib import Path

import pytest

from jobs.bundle import BundleError, scan, write, write_tar


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def put(folder: Path, **files: str) -> None:
    """Files by name, `__` for a slash and `_dot_` for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def paths(folder: Path) -> list[str]:
    return [file.path for file in scan(folder).files]


class TestScan:
    def test_takes_all_but_git_and_what_is_ignored(self, work: Path) -> None:
        put(work, train_dot_py="1", src__net_dot_py="22", data__big="333", _dot_git__config="x", sub___dot_git="x")
        put(work, _dot_gitignore="data/\n", sub__a="1", sub___dot_gitignore="b\n", sub__b="1")
        assert paths(work) == [".gitignore", "src/net.py", "sub/.gitignore", "sub/a", "train.py"]

    def test_gpujobignore_has_the_last_word(self, work: Path) -> None:
        put(work, _dot_gitignore="*.pt\n", start_dot_pt="", old_dot_pt="", notes_dot_md="")
        put(work, _dot_gpujobignore="!start.pt\nnotes.md\n.*ignore\n")
        assert paths(work) == ["start.pt"]

    def test_rules_of_the_repository_around_count(self, tmp_path: Path) -> None:
        put(tmp_path, _dot_git__HEAD="", _dot_gitignore="*.log\n/job/data\n")
        put(tmp_path, job__a_dot_log="", job__data="", job__b="")
        assert paths(tmp_path / "job") == ["b"]

    def test_but_not_one_that_ignores_the_directory_itself(self, tmp_path: Path) -> None:
        put(tmp_path, _dot_git__HEAD="", _dot_gitignore="scratch/\n", scratch__a="")
        assert paths(tmp_path / "scratch") == ["a"]

    def test_rules_above_without_a_repository_do_not_count(self, tmp_path: Path) -> None:
        put(tmp_path, _dot_gitignore="*\n", job__a="")
        assert paths(tmp_path / "job") == ["a"]

    def test_sockets_and_pipes_are_left_out(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(work)
        os.mkfifo("pipe")
        put(work, a="")
        assert paths(work) == ["a"]

    @pytest.mark.process
    def test_a_socket_is_left_out(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(work)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
            assert paths(work) == []

    def test_links_within_are_kept(self, work: Path) -> None:
        put(work, a__b__file="x")
        (work / "a" / "link").symlink_to("b/file")
        (work / "a" / "b" / "up").symlink_to("../..")
        (work / "dangling").symlink_to("nothing")
        links = {file.path: file.link for file in scan(work).files if file.link}
        assert links == {"a/link": "b/file", "a/b/up": "../..", "dangling": "nothing"}

    @pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside", "/"])
    def test_a_link_out_is_refused_by_name(self, work: Path, target: str) -> None:
        put(work, a__file="")
        (work / "a" / "out").symlink_to(f"../{target}" if not target.startswith("/") else target)
        with pytest.raises(BundleError, match=r"a/out is a link to .*add a/out to \.gpujobignore"):
            scan(work)
        (work / ".gpujobignore").write_text("a/out")
        assert "a/out" not in paths(work)

    def test_a_link_out_through_another_link_is_refused(self, work: Path) -> None:
        (work / "deep" / "er").mkdir(parents=True)
        (work / "short").symlink_to("deep/er")
        (work / "deep" / "er" / "x").symlink_to("../../short/../../../outside")
        with pytest.raises(BundleError, match="deep/er/x"):
            scan(work)

    def test_a_workdir_that_is_not_there(self, work: Path) -> None:
        with pytest.raises(BundleError, match="not a directory"):
            scan(work / "none")

    def test_the_largest_entries_explain_the_size(self, work: Path) -> None:
        put(work, small="1", data__a="x" * 600, data__deep__b="x" * 500, model="y" * 1000)
        bundle = scan(work)
        assert bundle.bytes == 2101
        assert bundle.largest(2) == (("data/", 1100), ("model", 1000))

    def test_scanning_reads_no_content(self, work: Path) -> None:
        with (work / "huge").open("wb") as file:
            file.truncate(3 * 10**12)
        assert scan(work).largest(1) == (("huge", 3 * 10**12),)


class TestWrite:
    def test_files_arrive_with_their_content_and_mode(self, work: Path, tmp_path: Path) -> None:
        put(work, run_dot_sh="#!/bin/sh\n", src__a="content", empty="")
        (work / "run.sh").chmod(0o740)
        (work / "link").symlink_to("src/a")
        write(scan(work), tmp_path / "out" / "bundle.tar.gz")
        with tarfile.open(tmp_path / "out" / "bundle.tar.gz") as tar:
            found = {entry.name: (entry.mode, entry.linkname, entry.size) for entry in tar}
            tar.extractall(tmp_path / "there")
        assert found == {
            "empty": (0o644, "", 0),
            "link": (0o644, "src/a", 0),
            "run.sh": (0o755, "", 10),
            "src/a": (0o644, "", 7),
        }
        assert (tmp_path / "there" / "link").read_text() == "content"
        assert [file.name for file in (tmp_path / "out").iterdir()] == ["bundle.tar.gz"]

    @pytest.mark.parametrize(
        "name",
        [b"a b", b"a\nb", "ä€😀".encode(), b"\xff\xfe", b"n" * 200, b"\\", b"-rf", b"d/" * 80 + b"f"],
    )
    def test_any_name(self, work: Path, tmp_path: Path, name: bytes) -> None:
        path = os.path.join(os.fsencode(work), name)  # noqa: PTH118
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        Path(os.fsdecode(path)).write_text("x")
        write(scan(work), tmp_path / "bundle.tar.gz")
        with tarfile.open(tmp_path / "bundle.tar.gz", encoding="utf-8", errors="surrogateescape") as tar:
            assert [os.fsencode(entry.name) for entry in tar] == [name]

    def test_the_same_files_give_the_same_bytes(self, tmp_path: Path) -> None:
        results = []
        for n, order in enumerate([("a", "b", "c"), ("c", "a", "b")]):
            folder = tmp_path / f"copy-{n}"
            for name in order:
                put(folder, **{name: name * 100, f"d__{name}": name})
                os.utime(folder / name, (n * 1000, n * 1000))
            target = tmp_path / f"{n}.tar.gz"
            results.append((write(scan(folder), target), target.read_bytes()))
        assert results[0] == results[1]

    @pytest.mark.parametrize("change", ["content", "name", "mode", "link", "removed", "split"])
    def test_any_change_gives_another_digest(self, work: Path, tmp_path: Path, change: str) -> None:
        put(work, a="1", b="2", ab="")
        (work / "link").symlink_to("a")
        before = write(scan(work), tmp_path / "bundle.tar.gz")
        if change == "content":
            (work / "a").write_text("3")
        elif change == "name":
            (work / "a").rename(work / "c")
        elif change == "mode":
            (work / "a").chmod(0o755)
        elif change == "link":
            (work / "link").unlink()
            (work / "link").symlink_to("b")
        elif change == "removed":
            (work / "ab").unlink()
        else:
            (work / "a").write_text("")
            (work / "ab").write_text("1")
        assert write(scan(work), tmp_path / "bundle.tar.gz") != before

    def test_a_file_that_shrinks_or_goes_is_named(self, work: Path, tmp_path: Path) -> None:
        put(work, a="1", b="2")
        bundle = scan(work)
        (work / "b").unlink()
        with pytest.raises(BundleError, match="cannot read b: No such file"):
            write(bundle, tmp_path / "bundle.tar.gz")
        assert [path.name for path in tmp_path.iterdir()] == ["work"]

    def test_a_file_that_grows_after_the_scan_is_taken_as_it_is(self, work: Path, tmp_path: Path) -> None:
        put(work, a="1")
        bundle = scan(work)
        put(work, a="12345")
        write(bundle, tmp_path / "bundle.tar.gz")
        with tarfile.open(tmp_path / "bundle.tar.gz") as tar:
            assert tar.getmember("a").size == 5

    def test_the_header_holds_no_time(self, work: Path, tmp_path: Path) -> None:
        write(scan(work), tmp_path / "bundle.tar.gz")
        raw = (tmp_path / "bundle.tar.gz").read_bytes()
        assert raw[4:8] == bytes(4)
        assert gzip.decompress(raw).count(b"\0") == len(gzip.decompress(raw))

    def test_a_full_disk_is_not_taken_for_an_unreadable_file(self, work: Path) -> None:
        put(work, a="x" * 1000)
        with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb") as full:
            write_tar(scan(work), full)
            full.flush()
