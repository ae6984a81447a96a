"""On a terminal: colour and a live line, nothing that could command it, and no half lines run into each other."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import pytest

from orchestrator.cli import main
from orchestrator.cli.session import Session
from orchestrator.records import Outcome, Phase, Run
from tests.orchestrator.scene import Scene


class Screen:
    """A pseudo-terminal in place of stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._shown = bytearray()

    @contextmanager
    def on(self) -> Iterator[None]:
        master, slave = os.openpty()
        reader = threading.Thread(target=self._read, args=(master,))
        reader.start()
        with self._patch.context() as patch, io.TextIOWrapper(os.fdopen(slave, "wb"), line_buffering=True) as stream:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            yield
        reader.join()

    @property
    def text(self) -> str:
        """All that was written to it."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def _read(self, master: int) -> None:
        with suppress(OSError):  # how a pseudo-terminal says that the other end is closed
            while chunk := os.read(master, 4096):
                self._shown += chunk
        os.close(master)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen(monkeypatch)


def call(scene: Scene, *arguments: str) -> int:
    return main(list(arguments), session=Session(scene.home, {}, ensure_running=scene.want_controller))


def test_what_a_job_wrote_cannot_command_the_terminal(scene: Scene, screen: Screen) -> None:
    scene.run()
    scene.log("r-7k2m9x", 1, b"\x1b]0;pwned\x07\x1b[2J50%\r100%\n")
    with screen.on():
        call(scene, "logs", "r-7k2m9x")
    assert screen.text == "50%\r100%\n"


def test_unless_it_is_asked_for(scene: Scene, screen: Screen) -> None:
    scene.run()
    scene.log("r-7k2m9x", 1, b"\x1b[31mred\x1b[0m\n")
    with screen.on():
        call(scene, "logs", "r-7k2m9x", "--raw")
    assert screen.text == "\x1b[31mred\x1b[0m\n"


@pytest.mark.parametrize("command", [["ps"], ["show", "mnist"], ["cost"]])
def test_no_color_means_no_colour(
    scene: Scene, screen: Screen, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    scene.run(outcome=Outcome.FAILED, error="exit code 3")
    monkeypatch.setenv("NO_COLOR", "1")
    with screen.on():
        call(scene, *command)
    assert "r-7k2m9x" in screen.text and "\x1b[" not in screen.text


def test_a_table_has_colour(scene: Scene, screen: Screen) -> None:
    scene.run()
    with screen.on():
        call(scene, "ps")
    assert "\x1b[32msucceeded" in screen.text


def test_attached_shows_a_live_line_then_the_jobs_output_then_the_summary(
    scene: Scene, screen: Screen, tmp_path: Path
) -> None:
    (tmp_path / "train.yaml").write_text("name: mnist\nimage: none\nrun: python train.py\n")
    steps: Iterator[Callable[[Run], object]] = iter(
        [
            lambda run: scene.move(run, phase=Phase.BOOT, attempt=1),
            lambda run: scene.move(run, phase=Phase.WATCH),
            lambda run: scene.log(run.id, 1, b"epoch 1\nno line end"),
            lambda run: scene.move(run, phase=Phase.COLLECT),
            lambda run: scene.move(run, phase=Phase.DONE, outcome=Outcome.SUCCEEDED, artifacts_complete=True),
        ]
    )

    def pause(_seconds: float) -> None:
        [run] = scene.store().runs(active=True)
        next(steps)(run)

    session = Session(scene.home, {}, ensure_running=scene.want_controller, sleep=pause)
    with screen.on():
        code = main(["submit", str(tmp_path / "train.yaml")], session=session)
    shown = click.unstyle(screen.text)
    assert code == 0
    assert "epoch 1\nno line end\n" in shown, "what comes next begins on a line of its own"
    before, after = shown.split("epoch 1\nno line end\n")
    assert "boot  vast 1x RTX4090  $0.36/h" in before
    assert "succeeded" in after and "boot" not in after


def test_a_person_is_asked_before_a_big_workdir_is_shipped(
    scene: Scene, screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.yaml").write_text("name: mnist\nimage: none\nrun: python train.py\n")
    with (job / "data.bin").open("wb") as sparse:
        sparse.truncate(3_000_000_000)
    with screen.on():
        monkeypatch.setattr(sys, "stdin", Answer("n\n"))
        code = call(scene, "submit", str(job), "-d")
    assert code == 2 and scene.store().runs() == []
    assert "3.0 GB" in screen.text and "data.bin" in screen.text and "Ship all of it?" in screen.text


class Answer(io.StringIO):
    """A person at the keyboard."""

    def isatty(self) -> bool:
        return True
