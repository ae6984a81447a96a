"""A controller in the background: what it is started with, and how one in the foreground follows it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, ClassVar

import pytest

from orchestrator import background
from orchestrator.home import Home


class Started:
    """A process that is not there, and what it was told."""

    env: ClassVar[dict[str, str]] = {}

    def __init__(self, *_: object, env: dict[str, str], **__: Any) -> None:
        Started.env = env
        read, write = os.pipe()
        self._read = os.fdopen(read, "rb")
        self.stdin = os.fdopen(write, "wb")


def test_a_process_list_shows_nothing_but_what_python_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Started)
    for name in ("HOMEBREW_GITHUB_API_TOKEN", "PATHWAYS_KEY", "TZKEY", "LANGSMITH_API_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "secret")
    for name in ("LC_ALL", "PYTHONPATH", "HOME"):
        monkeypatch.setenv(name, "C")
    background.ensure_running(Home(tmp_path), {})
    assert "secret" not in Started.env.values()
    assert {"LC_ALL", "PYTHONPATH", "HOME", "PATH", "GPUJOB_HOME"} <= set(Started.env)


class Patience(threading.Event):
    """Waits without waiting; at its third wait the controller that has the lock is gone."""

    def __init__(self, held: IO[str]) -> None:
        super().__init__()
        self.waits = 0
        self._held = held

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        if self.waits == 3:
            self._held.close()
        return False


@pytest.mark.parametrize(
    ("has_more", "host", "told"),
    [(False, socket.gethostname(), [(4711, signal.SIGTERM)] * 3), (True, socket.gethostname(), []), (False, "far", [])],
    ids=["idle", "at work", "on another host"],
)
def test_the_one_in_the_background_is_waited_for_and_ended_only_when_it_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_more: bool, host: str, told: list[tuple[int, int]]
) -> None:
    home = Home(tmp_path)
    killed: list[tuple[int, int]] = []
    said: list[str] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr(background, "_has_more", lambda *_: has_more)
    home.lock.write_text(json.dumps({"host": host, "pid": 4711, "in_background": True}))
    with home.lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        stop = Patience(held)
        assert background._awaited(home, {}, stop, said.append)
    assert (killed, stop.waits) == (told, 3)
    assert len(said) == 1 and "waits until the one in the background is done" in said[0]


@pytest.mark.parametrize(
    "written", ['{"host": "h", "pid": 1, "in_background": false}', "", "{}", "[1]"], ids=["foreground", "*", "*", "*"]
)
def test_nobody_waits_for_one_in_the_foreground_or_of_an_older_version(tmp_path: Path, written: str) -> None:
    home = Home(tmp_path)
    home.lock.write_text(written)
    with home.lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not background._awaited(home, {}, threading.Event(), pytest.fail)
