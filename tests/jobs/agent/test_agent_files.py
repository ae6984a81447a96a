"""Files into a machine and out of it: unpack, read, manifest, pack, cut."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.agent.conftest import Host, Json, table
from tests.support.waiting import eventually

pytestmark = pytest.mark.process


def tar_of(*members: tuple[str, str | bytes], compressed: bool = False) -> bytes:
    """Members by (name, content); content of "dir", "link:T", "hard:T", "fifo" or "device" makes that kind."""
    out = io.BytesIO()
    kinds = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            kind, _, target = content.partition(":") if isinstance(content, str) else ("file", "", "")
            member.type = {**kinds, "device": tarfile.CHRTYPE, "file": tarfile.REGTYPE}[kind]
            member.linkname, member.mode = target, 0o755 if kind == "dir" else 0o640
            member.size = len(content) if isinstance(content, bytes) else 0
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(out.getvalue(), mtime=0) if compressed else out.getvalue()


def refusal(host: Host, stream: bytes) -> str:
    done = host.call("unpack", "digest", stdin=stream)
    assert done.returncode == 2
    assert not host.work.exists()
    assert not list((host.root / "shared").glob(".*"))
    return str(json.loads(done.stdout)["error"])


# -- unpack


@pytest.mark.parametrize("compressed", [False, True])
def test_the_shipped_files_are_there(host: Host, compressed: bool) -> None:
    stream = tar_of(
        ("./", "dir"),
        ("train.py", b"print(1)"),
        ("src/deep/er.py", b"x" * 100),
        ("empty", "dir"),
        ("src/link", "link:deep/er.py"),
        ("up", "link:src/../train.py"),
        ("hard", "hard:train.py"),
        ("na\nme\udcff", b"?"),
        compressed=compressed,
    )
    done = host.call("unpack", "d1", stdin=stream)
    assert json.loads(done.stdout) == {"files": 6, "bytes": 109}
    assert (host.work / "src/link").read_bytes() == b"x" * 100
    assert (host.work / "up").read_bytes() == (host.work / "hard").read_bytes() == b"print(1)"
    assert (host.work / "empty").is_dir()
    assert (host.work / "na\nme\udcff").exists()
    assert (host.work / "train.py").stat().st_mode & 0o777 == 0o640


def test_a_second_time_changes_nothing_that_the_job_wrote(host: Host) -> None:
    stream = tar_of(("train.py", b"1"))
    first = host.call("unpack", "d1", stdin=stream)
    (host.work / "train.py").write_text("2")
    (host.work / "checkpoint").write_text("precious")
    second = host.call("unpack", "d1", stdin=stream)
    assert first.stdout == second.stdout
    assert ((host.work / "train.py").read_text(), (host.work / "checkpoint").read_text()) == ("2", "precious")


def test_other_files_replace_the_first_until_the_job_has_started(host: Host) -> None:
    host.call("unpack", "d1", stdin=tar_of(("old", b"1")))
    assert host.call("unpack", "d2", stdin=tar_of(("new", b"1"))).returncode == 0
    assert [path.name for path in host.work.iterdir()] == ["new"]
    host.start("true")
    host.wait()
    done = host.call("unpack", "d3", stdin=tar_of(("other", b"1")))
    assert (done.returncode, (host.work / "new").exists()) == (2, True)


def test_a_checkpoint_goes_into_its_folder_and_leaves_the_rest(host: Host) -> None:
    host.call("unpack", "d1", stdin=tar_of(("train.py", b"1"), ("ckpt/old", b"old")))
    for _ in range(2):
        assert host.call("unpack", "d2", "ckpt", stdin=tar_of(("step", b"7"))).returncode == 0
    assert host.call("unpack", "d1", stdin=tar_of(("train.py", b"1"), ("ckpt/old", b"old"))).returncode == 0
    found = {path.relative_to(host.work).as_posix() for path in host.work.rglob("*") if path.is_file()}
    assert found == {"train.py", "ckpt/step"}
    assert host.call("unpack", "d3", "../out", stdin=tar_of(("a", b"1"))).returncode == 2


def test_what_a_killed_unpack_left_goes_with_the_start(host: Host) -> None:
    """Nobody else would ever remove it."""
    with subprocess.Popen(host.agent("unpack", "d1"), stdin=subprocess.PIPE, env=host.env) as unpacking:
        assert unpacking.stdin is not None
        unpacking.stdin.write(tar_of(("a", b"x" * 5000))[:4000])
        unpacking.stdin.flush()
        eventually(lambda: any((host.root / "shared").glob(".unpacking-*")), 10)
        unpacking.kill()
    assert not host.work.exists()
    host.call("unpack", "d1", stdin=tar_of(("a", b"whole")))
    host.start("ls -A ..; cat a")
    host.wait()
    assert b"unpacking" not in host.log()
    assert host.log().endswith(b"whole")


@pytest.mark.parametrize(
    ("members", "words"),
    table(
        ("absolute", [("/etc/x", b"")], "does not stay"),
        ("dot dot", [("../x", b"")], "does not stay"),
        ("dot dot inside", [("a/../../x", b"")], "does not stay"),
        ("dot dot directory", [("..", "dir")], "does not stay"),
        ("link out", [("a", "link:../..")], "link out"),
        ("link to an absolute name", [("a", "link:/etc/passwd")], "link out"),
        ("link out of a folder", [("d/a", "link:../../x")], "link out"),
        ("links that lead out together", [("x/up", "link:.."), ("out", "link:x/up/../secret")], "link out"),
        ("the same, in the other order", [("out", "link:x/up/../secret"), ("x/up", "link:..")], "link out"),
        ("a file through a link", [("d", "link:."), ("d/x", b"1")], "below a link"),
        ("a folder through a link", [("d", "link:.."), ("d/x", "dir")], "below a link"),
        ("a hard link out", [("a", "hard:../../job.json")], "link out"),
        ("a hard link to an absolute name", [("a", "hard:/etc/passwd")], "link out"),
        ("a hard link through a link", [("l", "link:../../job.json"), ("a", "hard:l")], "link out"),
        ("a device", [("null", "device")], "neither"),
        ("a fifo", [("pipe", "fifo")], "neither"),
    ),
)
def test_what_must_not_be_unpacked_is_refused_whole(host: Host, members: list[Any], words: str) -> None:
    (host.root / "job.json").write_text("{}")
    before = sorted(path.name for path in host.root.iterdir())
    assert words in refusal(host, tar_of(("good", b"1"), *members))
    assert sorted(path.name for path in host.root.iterdir() if path.name != "shared") == before


@pytest.mark.parametrize(
    "stream",
    table(
        ("nothing", b""),
        ("noise", b"\x00\x01\x02" * 1000),
        ("cut in a file", tar_of(("a", b"x" * 5000), ("b", b"y" * 5000))[:3000]),
        ("cut between two files", tar_of(("a", b"x" * 512), ("b", b"y"))[:1024]),
        ("gzip cut", tar_of(("a", os.urandom(50000)), compressed=True)[:-20]),
        ("gzip with a wrong checksum", tar_of(("a", b"x" * 5000), compressed=True)[:-8] + b"12345678"),
    ),
)
def test_a_broken_stream_is_not_taken_for_a_whole_one(host: Host, stream: bytes) -> None:
    assert "not a whole tar stream" in refusal(host, stream)


# -- read


def test_read_brings_several_pieces_in_one_answer(host: Host) -> None:
    (host.root / "log").write_bytes(b"0123456789")
    (host.root / "shared").mkdir()
    (host.root / "shared" / "metrics.jsonl").write_bytes(b"\n\xff\n")
    pieces = [
        {"path": str(host.root / "log"), "offset": 2, "limit": 3},
        {"path": "log", "offset": 8, "limit": 100},
        {"path": "log", "offset": 50, "limit": 5},
        {"path": "none/such", "offset": 0, "limit": 5},
        {"path": "shared/metrics.jsonl", "offset": 0, "limit": 5},
    ]
    done = host.call("read", stdin=json.dumps(pieces).encode())
    head, _, content = done.stdout.partition(b"\n")
    assert json.loads(head) == [{"bytes": 3}, {"bytes": 2}, {"bytes": 0}, {"missing": True}, {"bytes": 3}]
    assert content == b"23489\n\xff\n"


# -- manifest

TREE = [
    "model.pt", "notes.txt", ".hidden", "outputs/a.txt", "outputs/.b", "outputs/deep/c.pt", "outputs2/d", "runs/1/ck/e",
    "runs/2/ck/f", "runs/2/log", "[x]", "a+b",
]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "expected"),
    table(
        ("all below", ["outputs/**"], ["outputs/.b", "outputs/a.txt", "outputs/deep/c.pt"]),
        ("a folder's name", ["outputs"], ["outputs/.b", "outputs/a.txt", "outputs/deep/c.pt"]),
        ("with dot and slash", ["./outputs/deep/"], ["outputs/deep/c.pt"]),
        ("one level", ["outputs/*"], ["outputs/.b", "outputs/a.txt"]),
        ("top level only", ["*.pt"], ["model.pt"]),
        ("any depth", ["**/*.pt"], ["model.pt", "outputs/deep/c.pt"]),
        ("in the middle", ["runs/**/e"], ["runs/1/ck/e"]),
        ("a folder below a wildcard", ["runs/*/ck"], ["runs/1/ck/e", "runs/2/ck/f"]),
        ("a question mark", ["outputs?/d"], ["outputs2/d"]),
        ("a class", ["runs/[!1]/log", "runs/[1-2]/ck/[ef]"], ["runs/1/ck/e", "runs/2/ck/f", "runs/2/log"]),
        ("a letter that means something to others", ["a+b", "[[]x]"], ["[x]", "a+b"]),
        ("an exact file", ["notes.txt"], ["notes.txt"]),
        ("one inside the other, once", ["runs/1/**", "runs/**"], ["runs/1/ck/e", "runs/2/ck/f", "runs/2/log"]),
        ("nothing", ["none/**", "x"], []),
        ("no pattern", [], []),
        ("everything", ["**"], sorted(TREE)),
        ("everything by a dot", ["."], sorted(TREE)),
    ),
)  # fmt: skip
def test_which_files_match(host: Host, patterns: list[str], expected: list[str]) -> None:
    for name in TREE:
        (host.work / name).parent.mkdir(parents=True, exist_ok=True)
        (host.work / name).write_text(name)
    files, end = manifest(host, patterns)
    assert sorted(file["path"] for file in files) == expected
    assert end == {"end": True, "files": len(expected), "skipped": []}


def test_an_entry_says_what_the_file_is(host: Host) -> None:
    name = "ünï\ncode \udcff.bin"
    host.work.mkdir(parents=True)
    (host.work / name).write_bytes(b"content")
    found = (host.work / name).stat()
    expected = {"path": name, "bytes": 7, "mtime_ns": found.st_mtime_ns}
    assert manifest(host, ["*"])[0] == [{**expected, "sha256": hashlib.sha256(b"content").hexdigest()}]
    assert manifest(host, ["*"], hashed=False)[0] == [{**expected, "sha256": None}]


def test_what_is_no_file_is_skipped_with_a_reason(host: Host, tmp_path: Path) -> None:
    (host.work / "out").mkdir(parents=True)
    (host.work / "out/good").write_text("1")
    (host.work / "out/link").symlink_to("good")
    (host.work / "out/folder").symlink_to(tmp_path)
    (host.work / "linked").symlink_to("out")
    os.mkfifo(host.work / "out/pipe")
    files, end = manifest(host, ["out/**", "linked/**", "/etc/*", "../x"])
    assert [file["path"] for file in files] == ["out/good"]
    assert {row["path"]: row["why"] for row in end["skipped"]} == {
        "out/link": "link",
        "out/folder": "link",
        "linked": "link",
        "out/pipe": "not a regular file",
        "/etc/*": "outside the working directory",
        "../x": "outside the working directory",
    }


def test_a_file_that_never_rests_is_skipped(host: Host) -> None:
    host.work.mkdir(parents=True)
    (host.work / "rests").write_text("1")
    busy = threading.Event()

    def write() -> None:
        with (host.work / "changing").open("wb", buffering=0) as file:
            file.write(b"x" * 30_000_000)
            while not busy.is_set():
                file.seek(0)
                file.write(b"y")
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not (host.work / "changing").exists():
            time.sleep(0.01)
        files, end = manifest(host, ["**"])
    finally:
        busy.set()
        writer.join()
    assert [file["path"] for file in files] == ["rests"]
    assert end["skipped"] == [{"path": "changing", "why": "it kept changing while it was read"}]


def test_a_directory_that_is_missing_is_an_empty_manifest(host: Host) -> None:
    assert manifest(host, ["**"]) == ([], {"end": True, "files": 0, "skipped": []})


def test_twenty_thousand_files(host: Host) -> None:
    for folder in range(100):
        (host.work / f"d{folder}").mkdir(parents=True)
        for number in range(200):
            (host.work / f"d{folder}" / str(number)).touch()
    files, end = manifest(host, ["**"])
    assert len({file["path"] for file in files}) == end["files"] == 20_000


# -- pack and cut


def test_a_round_trip(host: Host, tmp_path: Path) -> None:
    contents = {"a.bin": os.urandom(3_000_000), "d/é\n\udcfe.txt": b"text", "d/" + "long" * 60: b"", "e": b"x" * 512}
    for name, content in contents.items():
        (host.work / name).parent.mkdir(parents=True, exist_ok=True)
        (host.work / name).write_bytes(content)
    files, _ = manifest(host, ["**"])
    assert {file["path"]: file["sha256"] for file in files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }
    done = host.call("pack", stdin=json.dumps({"paths": [file["path"] for file in files]}).encode())
    assert contents == unpacked(done.stdout)
    pieces = [cut(host, "a.bin", offset, 1_100_000).stdout for offset in (0, 1_100_000, 2_200_000)]
    assert b"".join(pieces) == contents["a.bin"]
    assert cut(host, "a.bin", 9_000_000, 10).stdout == b""


def test_a_file_that_vanished_is_left_out_and_one_that_shrank_spoils_nothing(host: Host) -> None:
    """The reader stops in the middle of the big file, which is then cut below the size in its header."""
    host.work.mkdir(parents=True)
    (host.work / "big").write_bytes(b"b" * 4_000_000)
    (host.work / "last").write_bytes(b"whole")
    request = json.dumps({"paths": ["gone", "big", "last"]}).encode()
    pipe = subprocess.PIPE
    with subprocess.Popen(host.agent("pack"), stdin=pipe, stdout=pipe, env=host.env) as packing:
        assert packing.stdin is not None and packing.stdout is not None
        packing.stdin.write(request)
        packing.stdin.close()
        first = packing.stdout.read(100_000)
        os.truncate(host.work / "big", 1000)
        files = unpacked(first + packing.stdout.read())
    assert sorted(files) == ["big", "last"]
    assert (len(files["big"]), files["last"]) == (4_000_000, b"whole")


@pytest.mark.parametrize("path", ["/etc/passwd", "../../job.json", "link", "folder/x", "pipe", "d/../../../job.json"])
def test_what_is_not_the_jobs_is_not_given_out(host: Host, tmp_path: Path, path: str) -> None:
    (host.work / "d").mkdir(parents=True)
    (host.root / "job.json").write_text("{}")
    (tmp_path / "x").write_text("outside")
    (host.work / "link").symlink_to("/etc/passwd")
    (host.work / "folder").symlink_to(tmp_path)
    os.mkfifo(host.work / "pipe")
    for done in (cut(host, path, 0, 100), host.call("pack", stdin=json.dumps({"paths": [path]}).encode())):
        assert done.returncode == 2
        assert done.stderr.startswith(b"agent: ")
        assert b"root:" not in done.stdout and b"outside" not in done.stdout


def test_a_reader_that_leaves_is_no_noise(host: Host) -> None:
    host.work.mkdir(parents=True)
    (host.work / "big").write_bytes(b"b" * 4_000_000)
    with subprocess.Popen(
        host.agent("cut"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=host.env
    ) as cutting:
        assert cutting.stdin and cutting.stdout and cutting.stderr
        cutting.stdin.write(b'{"path": "big", "limit": 4000000}')
        cutting.stdin.close()
        cutting.stdout.read(10)
        cutting.stdout.close()
        assert cutting.stderr.read() == b""


def manifest(host: Host, patterns: list[str], *, hashed: bool = True) -> tuple[list[Json], Json]:
    done = host.call("manifest", stdin=json.dumps({"patterns": patterns, "hash": hashed}).encode())
    assert done.returncode == 0, done.stderr
    *files, end = (json.loads(line) for line in done.stdout.splitlines())
    return files, end


def cut(host: Host, path: str, offset: int, limit: int) -> subprocess.CompletedProcess[bytes]:
    return host.call("cut", stdin=json.dumps({"path": path, "offset": offset, "limit": limit}).encode())


def unpacked(stream: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(stream), mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            files[member.name] = content.read()
    return files


def test_no_space_while_unpacking_says_so_and_leaves_nothing(small_disk: Callable[[int], Path], make_host: Any) -> None:
    host = make_host(root=small_disk(2) / "machine")
    assert refusal(host, tar_of(("big", b"x" * 4_000_000))) == "no space left on the machine's disk"
    assert shutil.disk_usage(host.root).free > 1_000_000
