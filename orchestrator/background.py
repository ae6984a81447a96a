"""The controller as a process: one in the background for a person, one in the foreground for a server.

On SQLite a file lock makes it one per home, and one in the foreground takes over from one in the background when that
has nothing left to do; PostgreSQL takes as many as one likes. Light to import: `submit` uses it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.home import Home

if TYPE_CHECKING:
    from orchestrator.reaper import Reaper
    from orchestrator.world import World

SERVES = "GPUJOB_SERVES_PID"  # of a rehearsal: without it there are no clouds, and nothing to be done
# What Python itself needs. The rest may hold keys and a job's secrets, and a process list shows it for days: it is told
# over stdin.
_FOR_THE_START = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR", "TZ", "GPUJOB_HOME")
_FAMILIES_FOR_THE_START = ("LC_", "LD_", "DYLD_", "PYTHON")
IDLE_SECONDS = 5.0
FIRST_RUNS_SECONDS = 2.0  # after its start in which nothing is imported that the first runs do not need
FIRING_SECONDS = 20.0  # in which a run that is being made is made, when the controller is told to stop
SETTLED_SECONDS = 10.0  # after its start a controller has something else to do than to look around
LAST_LOOK_SECONDS = 90.0
TURN_SECONDS = 1.0  # between two looks whether the controller in the background may go

log = logging.getLogger("gpujob.controller")


def ensure_running(home: Home, env: Mapping[str, str]) -> None:
    """Start a controller in the background when none serves this home or its shared database. Returns at once.

    Called after the run is in the store: a controller that is just ending looks once more after it let go of the lock.
    """
    if is_running(home) or _served_elsewhere(home, env):
        return
    whole = {**os.environ, **env, "GPUJOB_HOME": str(home.root)}
    with home.controller_log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.background"],
            env={name: value for name, value in whole.items() if _is_for_the_start(name)},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin as words:
        words.write(json.dumps(whole).encode())


def _is_for_the_start(name: str) -> bool:
    return name in _FOR_THE_START or name.startswith(_FAMILIES_FOR_THE_START)


def is_running(home: Home) -> bool:
    """Whether a controller holds this home's lock."""
    with _lock(home, fcntl.LOCK_SH) as free:
        return not free


def serve(
    home: Home,
    env: Mapping[str, str],
    *,
    until_idle: bool,
    in_background: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Be the controller. Returns 0 at its end, 1 when another one holds this home's lock.

    One in the foreground waits for one in the background, which ends by itself: it has its runs, fires what is due,
    and may know keys that this process does not.
    """
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    if master := env.get(SERVES):
        threading.Thread(target=_stop_without, args=(int(master), stop), daemon=True).start()
    sole = home.database_url(env).startswith("sqlite")
    while True:
        with _patient_lock(home, stop, in_background=in_background) as free:
            may_serve = free or not sole
            if may_serve:
                _serve_here(home, env, stop, until_idle=until_idle, sole=sole)
        if not may_serve and (in_background or not _awaited(home, env, stop, say)):
            return 1
        if stop.is_set() or (may_serve and not _has_more(home, env)):
            return 0


def _stop_without(pid: int, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            stop.set()


def _serve_here(home: Home, env: Mapping[str, str], stop: threading.Event, *, until_idle: bool, sole: bool) -> None:
    from orchestrator import notices
    from orchestrator.controller import Controller
    from orchestrator.store.store import Store
    from orchestrator.world import World, steady_clock

    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    store = Store.open(home.database_url(env))
    world = World(store=store, home=home, env=env, clock=steady_clock())
    try:
        store.register_controller(name, socket.gethostname(), os.getpid())
        if sole:
            store.void_leases()
        log.info("controller %s serves %s", name, home.root)
        controller = Controller(world, name, is_one_of_many=not sole)
        notices.deliver_beside(world)
        with _looking_around(world), _firing(world, stop):
            controller.serve(stop, idle_seconds=IDLE_SECONDS if until_idle else None)
        notices.deliver_beside(world)
        _look_once_more(world, stop)
        store.forget_controller(name)
    finally:
        world.close()
        store.close()


@contextmanager
def _looking_around(world: World) -> Iterator[None]:
    """The reaper and the bookkeeper beside the controller.

    They import the clouds' SDKs, so not while a run waits for its first phases.
    """
    over = threading.Event()

    def look_around() -> None:
        if not over.wait(SETTLED_SECONDS):
            _reaper(world).watch(over)

    def keep_books() -> None:
        from orchestrator.settlement import Bookkeeper

        Bookkeeper(world).watch(over)

    for name, work in (("reaper", look_around), ("bookkeeper", keep_books)):
        threading.Thread(target=work, name=name, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _firing(world: World, stop: threading.Event) -> Iterator[None]:
    """Schedules beside the controller. One that leaves because nothing is left to do first makes the run it is at."""
    over = threading.Event()

    def fire() -> None:
        if not over.wait(FIRST_RUNS_SECONDS):
            from orchestrator import schedules

            schedules.watch(world, over)

    firing = threading.Thread(target=fire, name="schedules", daemon=True)
    firing.start()
    try:
        yield
    finally:
        over.set()
        firing.join(FIRING_SECONDS if stop.is_set() else None)


def _look_once_more(world: World, stop: threading.Event) -> None:
    """Before a controller leaves because nothing is left to do: is that so? Not longer than it may take."""
    looking = threading.Thread(target=lambda: _reaper(world).look_once(), name="last look", daemon=True)
    looking.start()
    until = time.monotonic() + LAST_LOOK_SECONDS
    while looking.is_alive() and not stop.is_set() and time.monotonic() < until:
        looking.join(0.1)


def _reaper(world: World) -> Reaper:
    from orchestrator.reaper import Reaper
    from orchestrator.submission import owner

    return Reaper(world, owner(world.env))


def _has_more(home: Home, env: Mapping[str, str]) -> bool:
    """A run submitted while we were ending, by somebody who still saw us alive."""
    from orchestrator.store.store import Store

    store = Store.open(home.database_url(env))
    try:
        return store.next_due() is not None
    finally:
        store.close()


def _served_elsewhere(home: Home, env: Mapping[str, str]) -> bool:
    """Whether a controller on any host serves a shared database."""
    url = home.database_url(env)
    if url.startswith("sqlite"):
        return False
    from orchestrator.store.store import Store

    store = Store.open(url)
    try:
        return bool(store.controllers())
    finally:
        store.close()


class _Holder(NamedTuple):
    """Who has the lock, as it wrote there."""

    host: str
    pid: int
    in_background: bool


def _awaited(home: Home, env: Mapping[str, str], stop: threading.Event, say: Callable[[str], None]) -> bool:
    """Wait while a controller in the background has the lock; False when it was another one that has it.

    One that has nothing left to do is told to end: its last look around would only delay the next one's.
    """
    is_said = False
    while (holder := _holder(home)) is not None and not stop.is_set():
        if not holder.in_background:
            return False
        if not is_said:
            say(f"{home.root} is served in the background: waits until the one in the background is done.")
            is_said = True
        if holder.host == socket.gethostname() and not _has_more(home, env):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(holder.pid, signal.SIGTERM)
        stop.wait(TURN_SECONDS)
    return True


def _holder(home: Home) -> _Holder | None:
    """None where nobody has the lock."""
    if not is_running(home):
        return None
    try:
        return _Holder(**json.loads(home.lock.read_text()))
    except (OSError, ValueError, TypeError):  # an older version does not say who it is
        return _Holder(host="", pid=0, in_background=False)


@contextmanager
def _patient_lock(home: Home, stop: threading.Event, *, in_background: bool) -> Iterator[bool]:
    """The exclusive lock; those who only look hold it for a moment, so one look is not enough to give up."""
    for _ in range(20):
        with _lock(home, fcntl.LOCK_EX) as free:
            if free:
                holder = _Holder(socket.gethostname(), os.getpid(), in_background)
                home.lock.write_text(json.dumps(holder._asdict()))
                yield True
                return
        stop.wait(0.05)
    yield False


@contextmanager
def _lock(home: Home, kind: int) -> Iterator[bool]:
    """True when the lock was free; it is held until the end of the block, or of the process."""
    home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.update(json.load(sys.stdin))
    return serve(Home.find(), os.environ, until_idle=True, in_background=True)


if __name__ == "__main__":
    sys.exit(main())
