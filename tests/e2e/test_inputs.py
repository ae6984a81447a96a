"""What a person gets wrong: one clear message on stderr that says what to write instead, and nothing has happened."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.e2e.driver import GPUJOB, Gpujob, nobody_serves

pytestmark = pytest.mark.process

GOOD = "image: none\nrun: 'true'\n"
TOO_BIG = 3 * 10**9


@pytest.fixture
def gpujob(tmp_path: Path) -> Iterator[Gpujob]:
    """Nobody serves: to be told about a mistake takes no controller. Nothing has happened at the end."""
    gpujob = Gpujob(tmp_path)
    with nobody_serves(gpujob):
        yield gpujob
    assert runs_in_the_store(gpujob) == 0
    assert not list((gpujob.home / "runs").glob("*"))
    assert gpujob.controller_pid() is None


def runs_in_the_store(gpujob: Gpujob) -> int:
    """Read from the file: `ps` would take longer than all the rest."""
    path = gpujob.home / "store.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as store:
        return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])


def refused(gpujob: Gpujob, *args: str) -> str:
    """What is said about it."""
    done = gpujob(*args)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr and "bug in gpujob" not in done.stderr
    return done.stderr.strip()


def yaml(gpujob: Gpujob, text: str) -> str:
    folder = gpujob.root / "job"
    folder.mkdir(exist_ok=True)
    (folder / "train.yaml").write_text(text)
    return str(folder / "train.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["train.yaml: is empty", "`run: python train.py`"]),
        ("# nothing yet\n", ["train.yaml: is empty"]),
        ("run: [unclosed\n", ["train.yaml:2:1: ", "not YAML"]),
        ("- run\n", ["train.yaml:1:1: ", "a list instead of keys"]),
        ("\tname: x\n", ["train.yaml:1:1: ", "tab"]),
        ("image: none\n", ["run: is missing"]),
        (GOOD + "artefacts: [o]\n", ["train.yaml:3:1: artefacts: ", "did you mean `artifacts`?"]),
        (GOOD + "limits: {max_prize_per_hour: 1}\n", ["train.yaml:3:10: ", "did you mean `max_price_per_hour`?"]),
        (GOOD + "run: 'false'\n", ["train.yaml:3:1: run: ", "twice"]),
        (GOOD + "resources: {gpu: RTX4091}\n", ["train.yaml:3:18: resources.gpu: ", "RTX4090"]),
        (GOOD + "resources: {gpu: 'RTX4090:0'}\n", ["train.yaml:3:18: resources.gpu: "]),
        (GOOD + "place: {providers: [locl]}\n", ["train.yaml:3:21: place.providers", "did you mean `local`?"]),
        (GOOD + "resources: {disk: 40}\n", ["train.yaml:3:19: resources.disk: ", "40GB"]),
        (GOOD + "resources: {memory: 16 gigs}\n", ["train.yaml:3:21: resources.memory: ", "GB"]),
        (GOOD + "limits: {max_duration: 2}\n", ["train.yaml:3:24: limits.max_duration: ", "2h"]),
        (GOOD + "limits: {max_duration: -2h}\n", ["train.yaml:3:24: limits.max_duration: "]),
        (GOOD + "limits: {max_cost: 0}\n", ["train.yaml:3:20: limits.max_cost: "]),
        (GOOD + "limits: {max_cost: -1}\n", ["train.yaml:3:20: limits.max_cost: "]),
        (GOOD + "limits: {max_cost: .nan}\n", ["train.yaml:3:20: limits.max_cost: "]),
        (GOOD + "retry: {attempts: 0}\n", ["train.yaml:3:19: retry.attempts: "]),
        (GOOD + "artifacts: [/etc/passwd]\n", ["train.yaml:3:13: artifacts", "workdir"]),
        (GOOD + "artifacts: [../secrets]\n", ["train.yaml:3:13: artifacts", "workdir"]),
        (GOOD + "workdir: nowhere\n", ["train.yaml:3:10: workdir: ", "no such directory"]),
        (GOOD + "secrets: [HF_TOKEN]\n", ["HF_TOKEN not set", "export it", "secrets.env"]),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(gpujob: Gpujob, text: str, said: list[str]) -> None:
    told = refused(gpujob, "submit", yaml(gpujob, text))
    assert [words for words in said if words not in told] == [], told
    assert len(told.splitlines()) == 1


def test_all_mistakes_at_once(gpujob: Gpujob) -> None:
    """A person corrects the file once."""
    text = "nmae: x\nimage: 7\nrun: {a: b}\nresources: {gpu: [1, 2], disk: big}\nenv: [A]\nlimits: {max_cost: lots}\n"
    told = refused(gpujob, "submit", yaml(gpujob, text))
    for place in ("1:1: nmae", "2:8: image", "3:6: run", "resources.gpu", "resources.disk", "5:6: env", "6:20: limits"):
        assert f":{place}" in told or f": {place}" in told, told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.yaml"], ["there is no nowhere.yaml", "gpujob init"]),
        (["."], ["there is no train.yaml", "gpujob init"]),
        (["job/train.yaml", "--gpu", "RTX4091"], ["command line: resources.gpu: ", "RTX4090"]),
        (["job/train.yaml", "--provider", "locl"], ["command line: place.providers", "`local`"]),
        (["job/train.yaml", "--max-cost", "-1"], ["command line: limits.max_cost: "]),
        (["job/train.yaml", "--max-duration", "soon"], ["command line: limits.max_duration: ", "2h"]),
        (["job/train.yaml", "-e", "EPOCHS"], ["EPOCHS=3"]),
        (["job/train.yaml", "--max-csot", "1"], ["--max-csot", "--max-cost"]),
        (["job/train.yaml", "--detach", "--wait"], ["choose one"]),
    ],
)
def test_a_mistake_on_the_command_line(gpujob: Gpujob, arguments: list[str], said: list[str]) -> None:
    yaml(gpujob, GOOD)
    told = refused(gpujob, "submit", *arguments)
    assert [words for words in said if words not in told] == [], told


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\xff\xfe\x00binary\x00"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/nowhere/at/all"),
    ],
    ids=["binary", "a directory", "a dead link"],
)
def test_a_train_yaml_that_is_none(gpujob: Gpujob, write: Callable[[Path], object]) -> None:
    path = gpujob.root / "train.yaml"
    write(path)
    assert "train.yaml" in refused(gpujob, "submit", str(path))


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "wait", "metrics", "artifacts", "ssh"])
def test_a_run_that_does_not_exist(gpujob: Gpujob, command: str) -> None:
    told = refused(gpujob, command, "r-nosuch")
    assert "there is no run 'r-nosuch'" in told and "gpujob submit" in told


def with_three_gigabytes(gpujob: Gpujob) -> str:
    spec = yaml(gpujob, GOOD)
    for name, size in (("data/train.bin", 2 * 10**9), ("old.ckpt", 10**9)):
        path = Path(spec).parent / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
    return spec


def test_three_gigabytes_by_accident(gpujob: Gpujob) -> None:
    told = refused(gpujob, "submit", with_three_gigabytes(gpujob))
    for words in ("3.0 GB", "2.0 GB  data/", "1.0 GB  old.ckpt", ".gpujobignore", "--yes"):
        assert words in told, told


def test_three_gigabytes_on_a_terminal_are_asked_about(gpujob: Gpujob) -> None:
    code, shown = on_a_terminal(gpujob, ["submit", with_three_gigabytes(gpujob)], answer="n\n")
    assert code == 2
    for words in ("3.0 GB", "2.0 GB  data/", "Ship all of it? [y/N]", "not submitted"):
        assert words in shown, shown


def on_a_terminal(gpujob: Gpujob, arguments: list[str], *, answer: str) -> tuple[int, str]:
    """The exit code and all that a person sees who answers so when asked."""
    ours, theirs = os.openpty()
    command = subprocess.Popen([GPUJOB, *arguments], env=gpujob.environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how a pseudo-terminal says that the other end is closed
        while chunk := os.read(ours, 4096):
            if b"[y/N]" in chunk:
                os.write(ours, answer.encode())
            shown += chunk
    os.close(ours)
    return command.wait(30), shown.decode().replace("\r\n", "\n")
