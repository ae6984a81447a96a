"""Starts controllers and commands as processes of their own that need not import everything again.

A starter has imported what a controller imports, SDKs included, and forks: each of its children is a real process that
runs `background.serve` or the `gpujob` command as they are, may be killed with -9, and takes a twentieth of the CPU
time of a fresh Python. Single-threaded, or a fork would not be safe. Knows nothing of rounds.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos import blind

Json = dict[str, Any]
_PATIENCE_SECONDS = 60.0
_IMPORTED = (
    "boto3",
    "runpod",
    "vastai",
    "jobs.transport.ssh",
    "orchestrator.cli.documents",
    "orchestrator.cli.launch",
    "orchestrator.controller",
    "orchestrator.reaper",
    "orchestrator.reports.html",
    "providers.aws.provider",
    "providers.runpod.provider",
    "providers.vast.provider",
)


class Starter:
    """The near end: one per worker, used by one thread at a time. It ends when its last near end closes."""

    def __init__(self, others: Sequence[Starter] = ()) -> None:
        """`others` are closed in the new process: what is inherited would keep them alive."""
        self._near, far = socket.socketpair()
        if os.fork() == 0:
            self._near.close()
            for other in others:
                other.close()
            _serve(far)
        far.close()
        self._words = self._near.makefile("rw")

    def controller(self, env: Mapping[str, str], log: Path, *, until_idle: bool = True, is_blind: bool = False) -> int:
        """The pid of a new controller of the home that `env` names."""
        return self._ask(
            {"what": "controller", "env": dict(env), "log": str(log), "idle": until_idle, "blind": is_blind}
        )

    def command(self, words: Sequence[str], env: Mapping[str, str], folder: Path) -> Command:
        """A `gpujob` command that runs now; its output goes to files in `folder`."""
        number = sum(1 for _ in folder.glob("*.out")) + 1
        command = Command(folder / f"{number}-{words[0]}")
        command.pid = self._ask(
            {"what": "command", "env": dict(env), "words": list(words), "files": str(command.files)}
        )
        return command

    def close(self) -> None:
        self._words.close()
        self._near.close()

    def _ask(self, order: Json) -> int:
        self._words.write(json.dumps(order) + "\n")
        self._words.flush()
        return int(self._words.readline())


class Command:
    """A command that was started. `files` with .out, .err and, at its end, .code."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self.pid = 0

    def wait(self, seconds: float = _PATIENCE_SECONDS) -> int:
        """Its exit code. Raises TimeoutError, and then it runs no more."""
        until, pause = time.monotonic() + seconds, 0.01
        code = self.files.with_suffix(".code")
        while not code.exists():
            if not is_alive(self.pid) and not code.exists():
                return -9
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"{self.files.name} did not end within {seconds:g} s")
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        return int(code.read_text())

    @property
    def out(self) -> str:
        return self.files.with_suffix(".out").read_text(errors="surrogateescape")

    @property
    def err(self) -> str:
        return self.files.with_suffix(".err").read_text(errors="replace")


def is_alive(pid: int) -> bool:
    """Whether there is such a process; the starter leaves no zombies."""
    return Path(f"/proc/{pid}").exists()


def import_everything() -> None:
    """What a controller and the commands come to import, sooner or later."""
    for module in _IMPORTED:
        importlib.import_module(module)


def _serve(far: socket.socket) -> None:
    """Until the near end closes. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    with far.makefile("rw") as words:
        for line in words:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                far.close()
                _be(_controller if order["what"] == "controller" else _command, order)
            words.write(f"{pid}\n")
            words.flush()
    os._exit(0)


def _be(what: Callable[[Json], int], order: Json) -> None:
    """Become that process. Never returns."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        random.seed()
        os.environ.clear()
        os.environ.update(order["env"])
        code = what(order)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _controller(order: Json) -> int:
    from orchestrator import background
    from orchestrator.home import Home

    _open_ends(order["log"], order["log"])
    os.chdir("/")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    if order["blind"]:
        blind.put_on()
    return background.serve(Home.find(), os.environ, until_idle=order["idle"])


def _command(order: Json) -> int:
    from orchestrator.cli import main

    files = Path(order["files"])
    _open_ends(str(files.with_suffix(".out")), str(files.with_suffix(".err")))
    os.chdir(files.parent)
    code = 70
    try:
        code = main(order["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    new = files.with_suffix(".new")
    new.write_text(str(code))
    new.replace(files.with_suffix(".code"))
    return code


def _open_ends(out: str, err: str) -> None:
    """stdin is nothing; stdout and stderr are these files."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, out, flags), (2, err, flags)):
        opened = os.open(path, how, 0o600)
        os.dup2(opened, number)
        if opened > 2:
            os.close(opened)
