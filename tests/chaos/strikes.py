"""Who is struck in a round, and when: the controller, the agent on the machine, or the connection between them.

Owns the processes that a round kills, and only those. Decides nothing about a run.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from providers.rehearsal.machines import marks
from providers.rehearsal.machines.process import ProcessMachines
from tests.chaos.plans import Strike, When
from tests.chaos.starter import is_alive

_LOOK_SECONDS = 0.02
_AGENT_FILES = re.compile(rb"(agent|unpack|gather)\.py")


class Serving:
    """The controller of a round: started, killed, and started again after a while."""

    def __init__(self, start: Callable[[], int]) -> None:
        self._start = start
        self._pid = 0
        self._not_before = 0.0
        self._lock = threading.Lock()
        self.starts = 0

    def keep(self) -> None:
        """Somebody looks after the run: a controller that is not there is started, unless it was just killed."""
        with self._lock:
            if time.monotonic() >= self._not_before and not (self._pid and is_alive(self._pid)):
                self._pid = self._start()
                self.starts += 1

    def kill(self, pause: float = 0.0) -> bool:
        """With -9. False when there was none to kill."""
        with self._lock:
            there = bool(self._pid) and is_alive(self._pid)
            if there:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                while is_alive(self._pid):
                    time.sleep(0.001)
                self._not_before = time.monotonic() + pause
            return there


class Strikes:
    """Those of a plan, each done once. `on_call` comes from the clouds' threads, `look` from the round's."""

    def __init__(self, strikes: Sequence[Strike], serving: Serving, machines: ProcessMachines) -> None:
        self.done: Counter[str] = Counter()
        self.told: list[str] = []
        self._waiting = list(strikes)
        self._serving = serving
        self._machines = machines
        self._began = time.monotonic()
        self._calls: Counter[str] = Counter()
        self._phases: dict[str, float] = {}
        self._called: dict[tuple[str, int], float] = {}
        self._lock = threading.RLock()
        self._cuts: list[threading.Thread] = []

    def begin(self) -> None:
        """The job is submitted now."""
        self._began = time.monotonic()

    def on_call(self, call: str) -> None:
        """A call was done at a cloud and is not answered yet."""
        with self._lock:
            self._calls[call] += 1
            self._called[call, self._calls[call]] = time.monotonic()
            self._strike_those_due()

    def look(self, phase: str) -> None:
        with self._lock:
            self._phases.setdefault(phase, time.monotonic())
            self._strike_those_due()

    def is_due(self, when: When) -> bool:
        since = {
            "submission": self._began,
            "phase": self._phases.get(when.name),
            "call": self._called.get((when.name, when.nth)),
        }[when.after]
        return since is not None and time.monotonic() - since >= when.seconds

    def join(self) -> None:
        """Every cut is over."""
        for cut in self._cuts:
            cut.join()

    def _strike_those_due(self) -> None:
        for strike in [strike for strike in self._waiting if self.is_due(strike.when)]:
            if self._strike(strike):
                self._waiting.remove(strike)
                self.done[strike.kind] += 1
                self.told.append(f"{time.monotonic() - self._began:.3f} s: {strike}")

    def _strike(self, strike: Strike) -> bool:
        """False when nobody was there to be struck: it is tried again."""
        if strike.kind == "controller":
            return self._serving.kill(strike.seconds)
        if strike.kind in ("agent", "agents"):
            agents = [pid for home in self._homes() for pid in _agents(home)]
            marks.send(set(agents[:1] if strike.kind == "agent" else agents), signal.SIGKILL)
            return bool(agents)
        boxes = [int(pid.read_text()) for home in self._homes() if (pid := home / ".pid").exists()]
        cut = threading.Thread(
            target=_silence if strike.kind == "silence" else _break_sessions, args=(boxes, strike.seconds), daemon=True
        )
        if boxes:
            self._cuts.append(cut)
            cut.start()
        return bool(boxes)

    def _homes(self) -> Iterator[Path]:
        for name in self._machines.names():
            with suppress(KeyError):
                yield self._machines.home(name)


def _agents(home: Path) -> list[int]:
    """The agent of a machine and its twin, once they have been started."""
    found = []
    for pid in sorted(marks.find(str(home))):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"start" in words and any(word.endswith(b"agent.py") for word in words):
                found.append(pid)
    return found


def _silence(boxes: Sequence[int], seconds: float) -> None:
    """The SSH server does not answer for a while; connections stay open, as when packets are lost."""
    marks.send(set(boxes), signal.SIGSTOP)
    time.sleep(seconds)
    marks.send(set(boxes), signal.SIGCONT)


def _break_sessions(boxes: Sequence[int], seconds: float) -> None:
    """Every command that runs over a connection of ours dies, for a while; what was started to stay, stays."""
    until = time.monotonic() + seconds
    while True:
        marks.send(
            {pid for box in boxes for pid in _children(box) if _AGENT_FILES.search(_command(pid))}, signal.SIGKILL
        )
        if time.monotonic() > until:
            return
        time.sleep(_LOOK_SECONDS)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
