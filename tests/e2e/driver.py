"""Drives gpujob as a person does: the installed command, in a home of its own, with real processes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.processes import is_alive, processes

GPUJOB = str(Path(sys.executable).with_name("gpujob"))


@dataclass
class Gpujob:
    """One home, one user. `env` is what the user has exported."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUJOB_")}
        return {**kept, "GPUJOB_HOME": str(self.home), **self.env}

    def __call__(self, *args: str, timeout: float = 120, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GPUJOB, *args],
            env=self.environment,
            cwd=self.root,
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            check=False,
        )

    def json(self, *args: str) -> Any:
        done = self(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def job(self, name: str = "job", files: Mapping[str, str] | None = None, **spec: Any) -> Path:
        """A directory with a train.yaml (JSON is YAML) that runs as a process on this machine."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        whole = {"name": name, "image": "none", "run": "true", "place": {"providers": ["local"]}, **spec}
        (folder / "train.yaml").write_text(json.dumps(whole))
        return folder / "train.yaml"

    @property
    def held(self) -> str:
        """What a job may do until `let_go`, so that no test counts seconds."""
        return f"until [ -e {self.root}/go ]; do sleep 0.1; done"

    def let_go(self) -> None:
        (self.root / "go").touch()

    def submit(self, spec: Path, *args: str) -> str:
        """Submit and leave it alone; returns the run's id."""
        done = self("submit", str(spec), "--detach", "--json", *args)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["id"])

    def show(self, run: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.json("show", run)
        return shown

    def log(self, run: str) -> bytes:
        attempts = sorted((self.home / "runs" / run / "attempts").iterdir(), key=lambda path: int(path.name))
        return b"".join((attempt / "log").read_bytes() for attempt in attempts if (attempt / "log").exists())

    def wait(self, run: str, *, timeout: float = 120) -> dict[str, Any]:
        """Until the run is over; what `show` says then."""
        self("wait", run, timeout=timeout)
        return self.show(run)

    def until(self, run: str, condition: Callable[[dict[str, Any]], bool], *, timeout: float = 120) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if condition(shown := self.show(run)):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"did not come true within {timeout} s: {self.show(run)}")

    def controller_pid(self) -> int | None:
        """The background controller of this home, found as the user would: in the process list."""
        for pid, command, env in processes():
            if "orchestrator.background" in command and f"GPUJOB_HOME={self.home}" in env:
                return pid
        return None

    def kill_controller(self) -> None:
        if (pid := self.controller_pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while is_alive(pid):
                time.sleep(0.01)

    def leftovers(self) -> list[str]:
        """Processes of this home's machines that still live, and machine directories that still exist."""
        root = str(self.home)
        marked = [(pid, command, env) for pid, command, env in processes() if "GPUJOB_MACHINE=" in env]
        alive = [f"{pid} {command}" for pid, command, env in marked if root in env + command]
        machines = self.home / "machines"
        kept = [path.name for path in machines.glob("[!.]*") if path.is_dir()]
        return alive + kept


@contextmanager
def nobody_serves(gpujob: Gpujob) -> Iterator[None]:
    """A process of ours holds the controller's lock, so that `submit` starts none."""
    gpujob.home.mkdir(exist_ok=True)
    with (gpujob.home / "controller.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
