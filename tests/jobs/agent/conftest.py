"""A machine for the agent: a directory with agent.py in it, real processes, and a look at /proc at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import eventually

Json = dict[str, Any]

AGENT = Path(__file__).parents[3] / "jobs" / "agent"
FILE_OF = {"unpack": "unpack.py", "manifest": "gather.py", "pack": "gather.py", "cut": "gather.py"}
PYTHON = os.environ.get("GPUJOB_TEST_AGENT_PYTHON", sys.executable)


class Host:
    """One machine's directory, and the agent's commands as a controller would call them."""

    def __init__(self, root: Path, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.machine = f"gpujob-test-{uuid.uuid4().hex[:12]}"
        self.env = {**os.environ, "GPUJOB_MACHINE": self.machine, **(env or {})}
        self._prefix: list[str] = []
        self._python = PYTHON
        self.root.mkdir(parents=True, exist_ok=True)
        for name in ("agent.py", *FILE_OF.values()):
            shutil.copy(AGENT / name, self.root / name)

    @property
    def work(self) -> Path:
        return self.root / "shared" / "work"

    def agent(self, *command: str) -> list[str]:
        file = FILE_OF.get(command[0] if command else "", "agent.py")
        return [*self._prefix, self._python, str(self.root / file), *command]

    def call(self, *command: str, stdin: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.agent(*command),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=self.env,
            check=False,
        )

    def ask(self, *command: str, request: object = None, timeout: float = 60) -> Json:
        stdin = b"" if request is None else json.dumps(request).encode()
        done = self.call(*command, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def start(self, run: str, *, secrets: Mapping[str, str] | None = None, **changes: Any) -> Json:
        job = {
            "version": 1,
            "run_id": f"r-{self.machine[-6:]}",
            "attempt": 1,
            "setup": None,
            "run": run,
            "env": {},
            "container": None,
            "gpus": 0,
            "deadline_seconds": 120,
            "max_duration_seconds": None,
            "grace_seconds": 5,
            "telemetry_seconds": 5,
            "self_destruct": [],
            **changes,
        }
        (self.root / "job.json").write_text(json.dumps(job))
        return self.ask("start", request={"secrets": dict(secrets or {})})

    def stop(self, reason: str = "cancelled", grace: float = 5) -> None:
        self.ask("stop", request={"reason": reason, "grace_seconds": grace})

    def wait(self, timeout: float = 30) -> Json:
        """The exit record."""
        eventually((self.root / "exit.json").exists, timeout, lambda: f"no exit.json: {self.state()}")
        record = json.loads((self.root / "exit.json").read_text())
        assert isinstance(record, dict)
        return record

    def wait_for_phase(self, phase: str, timeout: float = 20) -> None:
        eventually(lambda: self.state().get("phase") == phase, timeout, lambda: f"{phase} did not come: {self.state()}")

    def wait_for_log(self, text: bytes, timeout: float = 20) -> None:
        eventually(lambda: text in self.log(), timeout, lambda: f"{text!r} did not come: {self.log()[-300:]!r}")

    def wait_for_log_size(self, size: int, timeout: float = 60) -> None:
        eventually(lambda: (self.root / "log").stat().st_size >= size, timeout)

    def log(self) -> bytes:
        path = self.root / "log"
        return path.read_bytes() if path.exists() else b""

    def state(self) -> Json:
        record = json.loads((self.root / "state.json").read_text())
        assert isinstance(record, dict)
        return record

    def events(self) -> list[str]:
        path = self.root / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["event"] for line in lines]

    def telemetry(self) -> list[Json]:
        return [json.loads(line) for line in (self.root / "telemetry.jsonl").read_text().splitlines()]

    def processes(self) -> dict[int, str]:
        """Every process that carries this machine's mark, the agent's own too."""
        mark = b"GPUJOB_MACHINE=" + self.machine.encode()
        found = {}
        for directory in Path("/proc").iterdir():
            try:
                if not directory.name.isdigit() or mark not in (directory / "environ").read_bytes().split(b"\0"):
                    continue
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if int(directory.name) != os.getpid():
                found[int(directory.name)] = command.strip()
        return found

    def enter(self, group: Path) -> None:
        """Run the agent's commands in that control group."""
        self._prefix = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(group)]

    def become(self, user: int, group: int) -> None:
        """Run the agent's commands as somebody else, with a Python that everybody may read."""
        ids = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        self._prefix, self._python = ["setpriv", *ids], "/usr/bin/python3"

    def kill(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def runner(self) -> int:
        return int(self.state()["pid"])

    def switch(self) -> int:
        return int(self.state()["switch"])

    def wait_until_quiet(self, timeout: float = 10) -> None:
        eventually(lambda: not self.processes(), timeout, lambda: f"left running: {self.processes()}")

    def destroy(self) -> None:
        """Kill everything, as often as it comes back."""
        for _ in range(200):
            left = self.processes()
            if not left:
                return
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        pass
            time.sleep(0.02)


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(env: Mapping[str, str] | None = None, root: Path | None = None) -> Host:
        hosts.append(Host(root or tmp_path / f"machine-{len(hosts)}", env))
        return hosts[-1]

    yield make
    try:
        for host in hosts:
            host.wait_until_quiet(5)
    finally:
        for host in hosts:
            host.destroy()


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    return make_host()


def python(script: str) -> str:
    """A job that is a Python program: written to a file by the shell, as a user's is."""
    return f"cat > job.py <<'END'\n{script}\nEND\npython job.py"


def table(*rows: Sequence[Any]) -> list[Any]:
    """Rows of a table test; the first column is its name."""
    return [pytest.param(*row[1:], id=str(row[0])) for row in rows]
