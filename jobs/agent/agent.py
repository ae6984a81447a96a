"""gpujob's agent: it is copied to a machine and runs the job there, and its word is what counts.

Standard library only, Python 3.8 or newer, Linux and macOS. Called as `python3 DIR/agent.py COMMAND`; DIR is the
machine's own directory. designs/0002-the-agent.md is the contract; unpack.py and gather.py beside it move files. It
knows no cloud, no store and no price: only the argv that ends the machine. The sections follow a job's life.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing below may cost time at run time: `read` is called every few seconds for every job
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    Json = dict[str, Any]
    Called = tuple[int, bytes, bytes]  # exit code, stdout, stderr

BLOCK = 1024 * 1024
RESERVE_BYTES = 256 * 1024  # set aside at the start, so that the exit record can be written on a full disk
FULL_BELOW_BYTES = 64 * 1024  # a file system with less than this free is full
BEAT_SECONDS = 1.0
TICK_SECONDS = 0.25
LEFTOVER_GRACE_SECONDS = 2.0  # for what a job left running when it ended by itself
KILLING_SECONDS = 20.0  # how long KILL is repeated before the agent gives up on a process
HUNG_SECONDS = 30.0  # after the deadline, a runner whose beat stands still for so long does not end the machine
DOCKER_SECONDS = 20.0
GPU_QUERY_SECONDS = 5.0
GPU_FAILURES = 3
UNPACKING = ".unpacking-"  # what unpack.py calls a folder that is not whole yet
LINUX = sys.platform.startswith("linux")
NO_SPACE = "no space left on the machine's disk"

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that nobody can set and that goes on while the machine sleeps (where the system has one)."""
    return time.clock_gettime(_CLOCK)


class Refused(Exception):
    """A command cannot be done; the text says why."""


def main(arguments: Sequence[str]) -> int:
    name, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    command = COMMANDS.get(name)
    if command is None or rest:
        return _failed("not a command: %r; there are: %s" % (" ".join(arguments), " ".join(sorted(COMMANDS))), name)
    try:
        command(Folder(os.path.dirname(os.path.abspath(__file__))))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    except Refused as refused:
        return _failed(str(refused), name)
    except OSError as error:
        return _failed(NO_SPACE if is_full(error) else str(error), name)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _failed("%s: the request makes no sense: %s: %s" % (name, type(error).__name__, error), name)
    return 0


def _failed(reason: str, name: str) -> int:
    if name != "read":  # its stdout is data
        answer({"error": reason})
    sys.stderr.write("agent: %s\n" % reason)
    return 2


def answer(record: Json) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def request() -> Any:
    """The JSON on stdin; an empty stdin is an empty object."""
    raw = sys.stdin.buffer.read()
    try:
        return json.loads(raw) if raw.strip() else {}
    except ValueError as error:
        raise Refused("stdin is not JSON: %s" % error) from error


# ---- probe: what kind of machine this is -----------------------------------------------------------------------------


def probe(folder: Folder) -> None:
    import platform
    import shutil

    docker = _docker_facts if request().get("docker", True) else None
    gpus, cuda, docker_facts = _side_by_side(_gpus, _cuda, docker or (lambda: None))
    answer(
        {
            "python": platform.python_version(),
            "os": platform.system().lower(),
            "arch": platform.machine(),
            "hostname": platform.node(),
            "cpus": _cpus(),
            "cpu_model": _cpu_model(),
            "memory_bytes": memory()[1],
            "disk_free_bytes": shutil.disk_usage(folder.root).free,
            "gpus": gpus,
            "cuda": cuda if gpus else None,
            "docker": docker_facts,
            "time": time.time(),
            "boot_id": read_text("/proc/sys/kernel/random/boot_id").strip() or None,
        }
    )


def _side_by_side(*questions: Callable[[], Any]) -> list[Any]:
    """Their answers. Each waits for a program, nvidia-smi for as long as a second."""
    import threading

    answers: list[Any] = [None] * len(questions)

    def ask(index: int) -> None:
        answers[index] = questions[index]()

    asking = [threading.Thread(target=ask, args=(index,)) for index in range(len(questions))]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    return answers


def _cpus() -> float:
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = read_text("/sys/fs/cgroup/cpu.max").split() or [
        read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip() or "max",
        read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us").strip() or "100000",
    ]
    if quota[0].isdigit() and int(quota[1]) > 0:  # "max" and "-1" mean no limit
        count = min(count, int(quota[0]) / int(quota[1]))
    return int(count) if count == int(count) else round(count, 2)


def _cpu_model() -> str | None:
    named = re.search(r"^model name\s*:\s*(.+)$", read_text("/proc/cpuinfo"), re.MULTILINE)
    return named.group(1).strip() if named else None


def _gpus() -> list[Json]:
    query = ["--query-gpu=name,memory.total,driver_version,uuid", "--format=csv,noheader,nounits"]
    code, out, _ = _nvidia_smi(query)
    rows = (row for row in _csv(out) if code == 0 and len(row) == 4)
    return [
        {"name": name, "memory_mb": _number(size), "driver": driver, "uuid": uuid} for name, size, driver, uuid in rows
    ]


def _cuda() -> str | None:
    version = re.search(rb"CUDA Version:\s*([0-9.]+)", _nvidia_smi([])[1])
    return version.group(1).decode() if version else None


def _nvidia_smi(arguments: Sequence[str]) -> Called:
    import shutil

    program = shutil.which("nvidia-smi")
    return call([program, *arguments], 10) if program else (127, b"", b"")


def _docker_facts() -> Json:
    try:
        docker = Docker.find(call, seconds=3)
    except NoAnswer as error:
        return {"ok": False, "version": None, "program": None, "error": str(error)}
    return {"ok": True, "version": docker.version, "program": docker.program, "error": None}


# ---- start: two processes that outlive the caller --------------------------------------------------------------------


def start(folder: Folder) -> None:
    asked = request()
    secrets, registry = asked.get("secrets") or {}, asked.get("registry") or {}
    if isinstance(asked.get("job"), dict) and not folder.has("state.json"):
        write_record(folder.path("job.json"), asked["job"])
    job = folder.load("job.json")
    if job is None or not isinstance(job.get("run"), str):
        raise Refused("job.json is missing, or says nothing to run")
    lock = _take_lock(folder)
    if lock is None or folder.has("exit.json"):
        answer({"started": False, "already": True})
        return
    task = Task(folder, job, lock)
    if folder.has("state.json"):  # it was started, and both of its processes were killed
        detach(lambda: Runner(task).take_over(), [lock])
        _wait_until(lambda: folder.has("exit.json"), 20)
        answer({"started": False, "already": True})
        return
    _begin(task, secrets, registry)
    answer({"started": True, "already": False})


def _begin(task: Task, secrets: Mapping[str, str], registry: Json) -> None:
    import socket

    folder = task.folder
    os.makedirs(folder.path("shared", "work"), exist_ok=True)
    for name in [name for name in os.listdir(folder.path("shared")) if name.startswith(UNPACKING)]:
        import shutil

        shutil.rmtree(folder.path("shared", name), ignore_errors=True)  # of an `unpack` that was killed
    with open(folder.path("reserve"), "wb") as file:
        file.write(b"\0" * RESERVE_BYTES)
    with open(folder.path("log"), "ab"), open(folder.path("shared", "metrics.jsonl"), "ab"):
        pass  # a stream that is empty is there
    runs_in = "container" if task.container else "process"
    first = {"phase": "setup", "since": time.time(), "beat": 0, "pid": None, "runs_in": runs_in, "image_digest": None}
    write_record(folder.path("state.json"), {**first, "detail": "", "machine": task.machine})
    try:
        ours, theirs = socket.socketpair()
        switch = detach(lambda: Switch(task, theirs).live(), [task.lock, theirs.fileno()])
        detach(lambda: Runner(task, secrets, switch, ours, registry).live(), [task.lock, ours.fileno()])
    except OSError:
        os.unlink(folder.path("state.json"))  # nothing was started
        raise


def _take_lock(folder: Folder) -> int | None:
    """The open lock, or None when a living agent has it."""
    lock = os.open(folder.path("lock"), os.O_RDWR | os.O_CREAT, 0o600)
    since = now()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            # `alive` holds it for a moment, and another `start` until its state.json is written.
            if now() - since > (0.3 if folder.has("state.json") else 10):
                os.close(lock)
                return None
            time.sleep(0.02)


def detach(live: Callable[[], object], keep: Sequence[int]) -> int:
    """Run `live` in a process of its own that shares nothing with the caller but `keep`. Returns its pid."""
    sys.stdout.flush()
    ours, theirs = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.write(theirs, b"%d" % os.getpid())
                _let_go([*keep])
                live()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    pid = os.read(ours, 32)
    os.close(ours)
    os.waitpid(middle, 0)
    if not pid:
        raise OSError(errno.EAGAIN, "cannot start another process")
    return int(pid)


def _let_go(keep: Sequence[int]) -> None:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.log")
    try:
        log = os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        log = null
    for target, source in ((0, null), (1, null), (2, log)):
        os.dup2(source, target)
    for fd in [int(name) for name in os.listdir("/dev/fd") if int(name) > 2 and int(name) not in keep]:
        try:
            os.close(fd)
        except OSError:
            pass  # the one that listed them
    signal.set_wakeup_fd(-1)  # the runner's, when it makes a new switch
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the job would inherit


class Task:
    """What runner and switch both know."""

    def __init__(self, folder: Folder, job: Json, lock: int) -> None:
        self.folder = folder
        self.job = job
        self.lock = lock  # open as long as one of them lives
        self.machine = machine_name(folder, job)
        self.container: Json | None = job.get("container")
        self.grace = float(job.get("grace_seconds", 30))
        self.deadline = now() + float(job.get("deadline_seconds") or 10**9)
        self.self_destruct: list[str] = job.get("self_destruct") or []


def machine_name(folder: Folder, job: Json) -> str:
    """The mark that every process of this machine's job carries in its environment."""
    return os.environ.get("GPUJOB_MACHINE") or job.get("machine") or os.path.basename(folder.root)


# ---- the runner: parent of the job -----------------------------------------------------------------------------------


class Over(Exception):
    """The job is over, or must be ended now. `reason` is a word of exit.json."""

    def __init__(self, reason: str, detail: str = "", grace: float | None = None) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.grace = reason, detail[-400:], grace


class Runner:
    """Runs the job to its end, whatever end that is, and writes the exit record."""

    def __init__(
        self,
        task: Task,
        secrets: Mapping[str, str] | None = None,
        switch: int = 0,
        peer: Any = None,
        registry: Json | None = None,
    ) -> None:
        self._task, self._folder, self._job = task, task.folder, task.job
        self._secrets, self._registry = dict(secrets or {}), registry or {}
        self._switch, self._peer = switch, peer
        self._state: Json = self._folder.load("state.json") or {"phase": "setup", "since": time.time(), "beat": 0}
        self._state.update(pid=os.getpid(), switch=switch)
        self._beaten = 0.0
        self._over: Over | None = None
        self._asked_to_end = False  # by SIGTERM: the machine shuts down
        self._child: int | None = None  # the job's own process, or the docker client that is attached to it
        self._session: int | None = None  # the session that the job began
        self._ended: dict[int, int] = {}  # wait statuses of children
        self._docker: Docker | None = None
        self._exit: Json = {}  # what is known of exit.json
        self._began = self._ran = 0.0
        self._telemetry: Telemetry | None = None
        self._warning: Notice | None = None
        self._wake, self._waker = os.pipe()
        # Whatever the runner calls carries the job's marks too: when the runner is killed, the switch finds it.
        os.environ.update(GPUJOB_MACHINE=task.machine, GPUJOB_RUN_ID=str(task.job.get("run_id", "")))

    def live(self) -> None:
        self._listen()
        self._tell_switch()
        self._telemetry = Telemetry(self._folder, float(self._job.get("telemetry_seconds") or 5), self._event)
        if self._job.get("preemption_notice"):
            self._warning = Notice(self._job["preemption_notice"], float(self._job.get("notice_seconds") or 5))
        self._sample()
        over = self._run()
        self._over = over
        self._end_job(over)
        self._sample_last()
        self._write_exit(over)
        self._stay()

    def take_over(self, session: int | None = None) -> None:
        """The runner was killed: end what it left, say so, and be the runner from now on."""
        self._listen()
        self._session = session
        late = now() >= self._task.deadline
        self._over = Over("deadline" if late else "agent", "" if late else "the agent was killed")
        self._renew_switch()
        if not self._folder.has("exit.json"):
            self._event("takeover", "the runner is gone; what is left of the job is ended")
            self._end_job(self._over)
            self._write_exit(self._over)
        self._stay()

    def _run(self) -> Over:
        try:
            self._check()
            argv, environment = self._prepare()
            self._begin(argv, environment)
            while self._child not in self._ended:
                self._turn(TICK_SECONDS if self._ran else 0.05)
            return self._verdict(self._ended[self._child])
        except Over as over:
            return over
        except Exception as error:
            import traceback

            traceback.print_exc()
            return Over("error", NO_SPACE if is_full(error) else "%s: %s" % (type(error).__name__, error))

    # -- before the job

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        if self._task.container:
            image = self._image()
            if image is not None:
                _write_scripts(self._folder, self._job)
                return self._in_container(image)
        self._note(phase="setup", runs_in="process", detail="")
        _write_scripts(self._folder, self._job)
        if self._job.get("venv", True) or NO_CONTAINER in os.environ:
            environment = _inherited(os.environ)
            venv = _make_venv(self._folder)
            environment.update(VIRTUAL_ENV=venv, PATH=venv + "/bin:" + environment.get("PATH", os.defpath))
        else:
            given = read_bytes("/proc/1/environ").split(b"\0") if LINUX else []  # a login does not see it
            pairs = (os.fsdecode(row).partition("=") for row in given if b"=" in row)
            environment = _inherited({**os.environ, **{name: value for name, _, value in pairs}})
        environment.update(PYTHONUNBUFFERED="1")
        shared = self._folder.path("shared")
        environment.update(self._variables(shared))
        return ["/bin/sh", shared + "/entry.sh"], environment

    def _variables(self, shared: str) -> dict[str, str]:
        """What the job is given, in a container and outside. Nothing may pretend to be another machine's."""
        gpus = int(self._job.get("gpus") or 0)
        given = {"PET_NPROC_PER_NODE": str(gpus)} if gpus else {}
        given.update({name: str(value) for name, value in (self._job.get("env") or {}).items()})
        given.update(self._secrets)
        return {
            **given,
            "GPUJOB_RUN_ID": str(self._job.get("run_id", "")),
            "GPUJOB_ATTEMPT": str(self._job.get("attempt", 1)),
            "GPUJOB_METRICS": shared + "/metrics.jsonl",
            "GPUJOB_WORKDIR": shared + "/work",
            "GPUJOB_MACHINE": self._task.machine,
        }

    def _image(self) -> Json | None:
        """The image, pulled when it is not here. None: run as a process instead."""
        spec = self._task.container or {}
        try:
            self._docker = Docker.find(self._call, seconds=DOCKER_SECONDS)
            image = self._docker.image(spec["image"])
            if image is None:
                self._note(phase="pulling", detail="pulling %s" % spec["image"])
                self._event("pull", "pulling %s" % spec["image"])
                self._docker.pull(spec["image"], lambda line: self._note(detail=line), self._registry)
                self._registry = {}
                self._event("pulled", "pulled %s" % spec["image"])
                image = self._docker.image(spec["image"]) or {}
        except NoAnswer as error:
            if not spec.get("fallback"):
                raise Over("image" if self._docker else "error", str(error)) from error
            self._docker = None
            self._state["fallback"] = str(error)[-400:]
            self._event("fallback", "runs as a process, not in a container: %s" % error)
            return None
        except Refused as error:
            raise Over("image", str(error)) from error
        self._note(phase="setup", image_digest=_digest_of(image), detail="")
        return image

    def _in_container(self, image: Json) -> tuple[list[str], dict[str, str]]:
        assert self._docker is not None
        spec, shared = self._task.container or {}, self._folder.path("shared")
        user = str((image.get("Config") or {}).get("User") or "").split(":")[0]
        if user not in ("", "0", "root"):
            _open_to_all(self._folder)
        given = {"PYTHONUNBUFFERED": "1", **self._variables("/gpujob")}
        argv = [self._docker.program, "run", "--name", spec["name"], "--init", "--log-driver", "none"]
        argv += ["--mount", "type=bind,source=%s,target=/gpujob" % shared, "-w", "/gpujob/work"]
        argv += ["--security-opt", "label=disable", "--shm-size", "%db" % max(64 * BLOCK, memory()[1] // 2)]
        argv += [word for name, value in (spec.get("labels") or {}).items() for word in ("--label", name + "=" + value)]
        argv += [word for name in given for word in ("--env", name)]  # values never stand in argv
        argv += ["--gpus", _gpus_of(spec["gpus"])] if spec.get("gpus") else []
        argv += ["--memory", "%db" % spec["memory_bytes"]] if spec.get("memory_bytes") else []
        # The image's own entry point could be any program; what runs is the job's `run`.
        argv += [*(spec.get("args") or []), "--entrypoint", "sh", spec["image"], "/gpujob/entry.sh"]
        return argv, {**_inherited(os.environ), **given}

    def _begin(self, argv: list[str], environment: dict[str, str]) -> None:
        import subprocess

        self._oom_before = oom_kills()
        self._log_before = self._folder.size("log")
        with open(self._folder.path("log"), "ab") as log:  # straight into the file: a flood costs the agent nothing
            child = subprocess.Popen(
                argv,
                env=environment,
                cwd=self._folder.path("shared", "work"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._own(child)
        self._child = self._session = child.pid
        self._began = now()
        if self._docker is None:
            _prefer_for_oom(child.pid)
        self._secrets.clear()
        self._note(job=child.pid)

    # -- while the job runs

    def _turn(self, seconds: float, fds: Sequence[int] = ()) -> list[int]:
        """Wait a little, then do everything that is due. Raises Over when the job must be ended."""
        peer = [] if self._peer is None else [self._peer.fileno()]
        ready, _, _ = select.select([self._wake, *peer, *fds], [], [], seconds)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if peer and peer[0] in ready and not receive(self._peer):
            self._renew_switch()
        self._reap()
        self._notice_progress()
        if now() - self._beaten >= BEAT_SECONDS:
            self._note()
        self._sample()
        if self._over is None:
            self._check()
        return [fd for fd in fds if fd in ready]

    def _check(self) -> None:
        if not self._folder.has("lock"):
            raise Over("error", "the machine's directory was removed", 0)
        if now() >= self._task.deadline:
            raise Over("deadline")
        stop = self._folder.load("stop.json")
        if stop:
            raise Over("stopped", str(stop.get("reason") or ""), stop.get("grace_seconds"))
        if self._asked_to_end:
            raise Over("stopped", "SIGTERM to the agent: the machine shuts down")
        notice = self._warning.said() if self._warning else ""
        if notice:
            self._event("notice", "the cloud takes this machine away: %s" % notice)
            raise Over("preempted", notice)
        longest = self._job.get("max_duration_seconds")
        if longest and self._ran and now() - self._ran >= float(longest):
            raise Over("max_duration", "it ran for more than %g s" % float(longest))

    def _notice_progress(self) -> None:
        """entry.sh removes markers as it goes on; removing works on a full disk too."""
        if self._ran or not self._began or self._marked("waiting") or self._marked("setting-up"):
            return
        # The directory's time is that of the removal, if nobody has set the clock since.
        ago = min(max(0.0, time.time() - self._folder.mtime("shared/.gpujob")), 2 * TICK_SECONDS)
        self._ran = now() - ago
        self._exit["started_at"] = time.time() - ago
        if self._job.get("setup"):
            self._exit["setup_seconds"] = round(self._ran - self._began, 3)
        if self._over is None:
            self._note(phase="running", detail="")

    def _marked(self, name: str) -> bool:
        return self._folder.has("shared/.gpujob/" + name)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended[pid] = status
            if pid == self._child:
                self._clock_run()

    def _clock_run(self) -> None:
        self._notice_progress()
        if self._ran:
            self._exit["run_seconds"] = round(now() - self._ran, 3)
        elif self._job.get("setup"):
            self._exit["setup_seconds"] = round(now() - self._began, 3)

    def _renew_switch(self) -> None:
        import socket

        if self._peer is not None:
            self._event("switch", "the switch was killed; there is a new one")
            self._peer.close()
        try:
            self._peer, theirs = socket.socketpair()
            with theirs:
                keep = [self._task.lock, theirs.fileno()]
                self._switch = detach(lambda: Switch(self._task, theirs).live(), keep)
            self._tell_switch()
        except OSError as error:  # out of processes: the end of the pair is noticed again at the next turn
            self._event("warning", "cannot make a new switch: %s" % error)
        self._note(switch=self._switch)

    def _tell_switch(self) -> None:
        try:
            self._peer.send(b"%d" % os.getpid())
        except OSError:
            pass  # it is gone: the next turn makes another

    def _sample(self) -> None:
        try:
            if self._telemetry:
                self._telemetry.tick()
        except Exception as error:  # no figure is worth a job
            self._telemetry = None
            self._event("warning", "no telemetry any more: %s: %s" % (type(error).__name__, error))

    def _sample_last(self) -> None:
        if self._telemetry:
            self._telemetry.hurry()
        until = now() + GPU_QUERY_SECONDS
        while self._telemetry and not self._telemetry.is_done() and now() < until:
            self._turn(0.02)

    def _listen(self) -> None:
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_asked_to_end", True))
        _adopt_orphans()

    def _call(self, argv: Sequence[str], seconds: float, on_line: Callable[[str], None] | None = None) -> Called:
        """Run a command and read what it says, while the agent's own work goes on."""
        import subprocess

        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:
            return 127, b"", str(error).encode()
        self._own(child)
        assert child.stdout is not None and child.stderr is not None
        until, said = now() + seconds, {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
        out, err = said
        listening = set(said)
        try:
            while listening or child.pid not in self._ended:
                for fd in self._turn(TICK_SECONDS, sorted(listening)):
                    chunk = os.read(fd, 65536)
                    said[fd] = (said[fd] + chunk)[-BLOCK:]
                    if not chunk:
                        listening.remove(fd)
                    elif on_line and fd == out and chunk.strip():
                        on_line(chunk.decode("utf-8", "replace").strip().splitlines()[-1][-200:])
                if now() > until:
                    return 124, said[out], b"no answer within %d s" % int(seconds)
            code, killed_by = exit_code(self._ended[child.pid])
            return 128 + killed_by if killed_by else code or 0, said[out], said[err]
        finally:
            child.stdout.close()
            child.stderr.close()
            if child.pid not in self._ended:
                send(child.pid, signal.SIGKILL)

    def _own(self, child: Any) -> None:
        """The runner reaps for itself, also orphans whose pid this one may have got."""
        child.returncode = 0  # subprocess must not wait for it
        self._ended.pop(child.pid, None)

    # -- after the job

    def _verdict(self, status: int) -> Over:
        """What a job that ended by itself came to."""
        code, killed_by = exit_code(status)
        container: Json = {}
        if self._docker:
            container = self._docker.container(self._name())
            if container.get("Running"):
                return Over("error", "Docker's client lost the container: %s" % self._words())
            code, killed_by = int(container.get("ExitCode", code or 0)), None
        self._exit.update(exit_code=code, signal=killed_by)
        if self._marked("waiting"):
            return Over("image" if code in (126, 127) else "error", self._words() or "it did not start")
        out_of_memory = bool(container.get("OOMKilled")) or oom_kills() > self._oom_before
        if out_of_memory and (code == 137 or killed_by == signal.SIGKILL):
            return Over("oom", "killed: out of memory")
        ended = "signal %d" % killed_by if killed_by else "exit code %s" % code
        detail = NO_SPACE if (code or killed_by) and self._folder.is_full() else ""
        if self._marked("setting-up"):
            return Over("setup", detail or "setup ended with " + ended)
        if container.get("OOMKilled") and code:
            return Over("oom", "out of memory; the job ended with " + ended)
        return Over("exited", detail)

    def _words(self) -> str:
        """What docker said instead of starting the container: the job has not written yet."""
        return self._folder.tail("log", self._log_before).strip()[-400:]

    def _name(self) -> str:
        return str((self._task.container or {}).get("name") or self._task.machine)

    def _end_job(self, over: Over) -> None:
        forced = over.reason not in ("exited", "setup", "image", "oom")
        since, grace = now(), LEFTOVER_GRACE_SECONDS
        if forced:
            grace = self._task.grace if over.grace is None else float(over.grace)
            self._note(phase="stopping", detail=over.reason)

        def patient() -> bool:
            again = self._folder.load("stop.json") or {}  # a second request may be less patient
            return now() < since + min(grace, float(again.get("grace_seconds", grace)))

        docker = self._docker or self._lost_docker()
        if docker:
            self._end_container(docker, patient)
        find = Descendants(self._task, session=self._session, parent=os.getpid(), spare=self._spared).find
        left = find()
        if left and not forced:
            self._event("leftovers", "the job left %d processes running; they are ended" % len(left))
        if not end_processes(find, patient, self._turn):
            self._event("warning", "some of the job's processes cannot be killed")
        if self._child in self._ended and "exit_code" not in self._exit and not docker:
            code, killed_by = exit_code(self._ended[self._child])
            self._exit.update(exit_code=code, signal=killed_by)
        if docker:
            self._clear_away(docker)

    def _lost_docker(self) -> Docker | None:
        """Docker, when this runner took over from one whose job was in a container."""
        assert self._over is not None
        if self._over.reason not in ("agent", "deadline") or self._child is not None or not self._task.container:
            return None
        if self._state.get("runs_in") != "container":
            return None
        try:
            return Docker.find(self._call, seconds=DOCKER_SECONDS)
        except (NoAnswer, Refused) as error:
            self._event("warning", "cannot remove the container: %s" % error)
            return None

    def _spared(self) -> set[int]:
        asking = [
            *(self._telemetry.pids() if self._telemetry else ()),
            *(self._warning.pids() if self._warning else ()),
        ]
        return {os.getpid(), self._switch, *asking}

    def _end_container(self, docker: Docker, patient: Callable[[], bool]) -> None:
        def runs() -> bool:
            if self._child is not None:
                return self._child not in self._ended
            return bool(docker.container(self._name()).get("Running"))

        if not runs():
            return
        docker.terminate(self._name())
        while runs() and patient():
            self._turn(TICK_SECONDS)
        if runs():
            docker.kill(self._name())
        until = now() + KILLING_SECONDS
        while runs() and now() < until:  # the client writes the last of the log
            self._turn(0.05)

    def _clear_away(self, docker: Docker) -> None:
        container = docker.container(self._name())
        if "exit_code" not in self._exit and container.get("Status") == "exited":
            self._exit["exit_code"] = container.get("ExitCode")
        docker.remove(self._name())
        if os.getuid() != 0 and _has_foreign_files(self._folder.path("shared")):
            # Files that the container wrote as root: only root in a container can give them back.
            said = docker.give_back(str((self._task.container or {}).get("image")), self._folder.path("shared"))
            if said:
                self._event("warning", "some files still belong to another user: %s" % said)

    def _write_exit(self, over: Over) -> None:
        self._exit.update(reason=over.reason, detail=over.detail, ended_at=time.time())
        self._event("exit", over.reason, detail=over.detail, exit_code=self._exit.get("exit_code"))
        while self._folder.has("lock"):  # without it the whole directory is gone
            try:
                self._folder.save_exit(**self._exit)
                break
            except OSError:
                remove(self._folder.path("reserve"))
                self._turn(0.5)
                if self._is_time_to_destroy():
                    break
        self._note(phase="exited", detail=over.reason)

    def _is_time_to_destroy(self) -> bool:
        return bool(self._task.self_destruct) and now() >= self._task.deadline

    def _stay(self) -> None:
        """A machine that can end itself is watched until its deadline; any other needs nobody any more."""
        self._telemetry = None
        if not self._task.self_destruct:
            return
        while not self._is_time_to_destroy() and self._folder.has("lock"):
            self._turn(BEAT_SECONDS)
        self._event("self_destruct", "the deadline is over: the machine ends itself")
        destroy(self._task.self_destruct, self._call, self._turn)

    # -- records

    def _note(self, **changes: Any) -> None:
        """Write state.json; every time is a beat."""
        if changes.get("phase", self._state["phase"]) != self._state["phase"]:
            changes["since"] = time.time()
        self._state.update(changes)
        self._state["beat"] += 1
        self._beaten = now()
        self._folder.save_state(self._state)

    def _event(self, event: str, text: str, **details: Any) -> None:
        append(self._folder.path("events.jsonl"), {"time": time.time(), "event": event, "text": text, **details})


# ---- what the job is started from ------------------------------------------------------------------------------------

# Setup and run are files of their own, as the user wrote them; `$0` and `.` keep them out of any command line. TERM
# reaches every process of the job: the shells wait for what they started, so that a checkpoint can be written.
ENTRY = """\
#!/bin/sh
# Made by gpujob's agent: setup, then run. The markers that are left say how far this came.
exec 2>&1  # one stream, so that Docker keeps the order too
here=${0%/*}
rm -f "$here/.gpujob/waiting"
trap 'exit 143' TERM
cd "$here/work" || exit 1
if command -v bash >/dev/null 2>&1; then shell='bash -eo pipefail'; else shell='sh -e'; fi
if [ -f "$here/.gpujob/setting-up" ]; then
    $shell -c 'trap "exit 143" TERM; . "$0"' "$here/.gpujob/setup" || exit
    rm -f "$here/.gpujob/setting-up"
fi
exec $shell -c 'trap "exit 143" TERM; . "$0"' "$here/.gpujob/run"
"""

# `pip` and `python -m pip` both work in the job's environment, and pip costs its seconds only when it is used.
PIP = '''\
"""Stands in for pip until it is first used; the real one then overwrites this file."""
import os, subprocess, sys

def works(*argv):
    return subprocess.call(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0

python, base = sys.executable, [%r, "-m", "pip", "--python", sys.executable]
if works(python, "-c", "import ensurepip") and "GPUJOB_PIP" not in os.environ:
    if subprocess.call([python, "-m", "ensurepip"], stdout=2) != 0:
        sys.exit("pip: ensurepip failed")
    os.environ["GPUJOB_PIP"] = "1"  # once is enough
    os.execv(python, [python, "-m", "pip"] + sys.argv[1:])
if works(*base, "--version"):
    os.execv(base[0], base + sys.argv[1:])
sys.exit("pip: this machine has neither ensurepip nor pip 22.3 or newer: install python3-venv (Debian, Ubuntu) or pip")
'''
PIP_LAUNCHER = '#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n'

NO_CONTAINER = "GPUJOB_MACHINE_HOME"  # in a rehearsal without Docker a rented machine is only a folder
OURS = r"GPUJOB_(DATABASE_URL|HOME|HOST_KEY|PUBLIC_KEY)$|AWS_|.*_(API_KEY|TOKEN|SECRET)$"


def _write_scripts(folder: Folder, job: Json) -> None:
    private = folder.path("shared", ".gpujob")
    os.makedirs(private, exist_ok=True)
    texts = {".gpujob/run": job["run"], ".gpujob/waiting": "", "entry.sh": ENTRY}
    if job.get("setup"):
        texts.update({".gpujob/setup": job["setup"], ".gpujob/setting-up": ""})
    for name, text in texts.items():
        with open(folder.path("shared", name), "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The machine's own environment without gpujob's and other people's keys: the job gets those that it was given."""
    dropped = ("PYTHONHOME", "PYTHONPATH")
    return {
        name: value for name, value in environment.items() if name not in dropped and not re.match(OURS, name.upper())
    }


def _make_venv(folder: Folder) -> str:
    path = folder.path("venv")
    try:
        import venv

        class Builder(venv.EnvBuilder):
            def post_setup(self, context: Any) -> None:
                _put_pip(path, context.executable)

        Builder(symlinks=True, with_pip=False).create(path)
    except (ImportError, OSError, ValueError) as error:
        if is_full(error):
            raise
        hint = "install Python's venv module (Debian, Ubuntu: apt-get install python3-venv)"
        raise Over("error", "cannot make a virtual environment: %s; %s" % (error, hint)) from error
    return path


def _put_pip(path: str, base_python: str) -> None:
    library = os.path.join(path, "lib")
    package = os.path.join(library, os.listdir(library)[0], "site-packages", "pip")
    os.makedirs(package, exist_ok=True)
    with open(os.path.join(package, "__main__.py"), "w") as file:
        file.write(PIP % base_python)
    for name in ("pip", "pip3"):
        launcher = os.path.join(path, "bin", name)
        with open(launcher, "w") as file:
            file.write(PIP_LAUNCHER)
        os.chmod(launcher, 0o755)


def _gpus_of(count: int) -> str:
    """Docker's word for the GPUs that are this machine's: those that the host gave it, else as many as it has."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return '"device=%s"' % given if given else str(count)


def _open_to_all(folder: Folder) -> None:
    """For an image that does not run as root. Outside the container nobody comes past DIR itself."""
    os.chmod(folder.root, 0o700)
    for directory, directories, names in os.walk(folder.path("shared")):
        for path in [directory] + [os.path.join(directory, name) for name in directories + names]:
            if not os.path.islink(path):
                mode = os.lstat(path).st_mode
                os.chmod(path, mode | (0o777 if stat.S_ISDIR(mode) else 0o666))


def _has_foreign_files(root: str) -> bool:
    own = os.getuid()
    return any(
        os.lstat(os.path.join(directory, name)).st_uid != own
        for directory, directories, names in os.walk(root)
        for name in directories + names
    )


def _digest_of(image: Json) -> str | None:
    for name in image.get("RepoDigests") or []:
        return str(name).split("@")[-1]
    return image.get("Id")


# ---- Docker ----------------------------------------------------------------------------------------------------------


class NoAnswer(Exception):
    """Docker or the registry did not answer: nothing is known about the image."""


UNREACHABLE = (
    "no such host|dial tcp|connection re(fused|set)|timeout|timed out|deadline exceeded|request canceled|x509|tls:|"
    "network is unreachable|no route to host|temporary failure|server misbehaving|proxyconnect|unexpected eof|: eof"
)
REFUSED = "denied|unauthorized|manifest unknown|not found|invalid reference|toomanyrequests"


class Docker:
    """The docker client, through `call`, which waits in the caller's way."""

    def __init__(self, program: str, version: str, call: Callable[..., Called]) -> None:
        self.program, self.version, self._call = program, version, call

    @classmethod
    def find(cls, call: Callable[..., Called], *, seconds: float) -> Docker:
        """The first client in PATH whose daemon answers: a machine may have several."""
        error = "there is no docker in PATH"
        places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/bin", "/usr/local/bin"]
        for program in dict.fromkeys(os.path.join(place, "docker") for place in places):
            if not os.access(program, os.X_OK):
                continue
            code, out, err = call([program, "version", "--format", "{{.Server.Version}}"], seconds)
            if code == 0 and out.strip():
                return cls(program, out.decode("utf-8", "replace").strip(), call)
            error = err.decode("utf-8", "replace").strip()[-300:] or "docker version: exit code %d" % code
        raise NoAnswer("Docker does not answer: %s" % error)

    def image(self, name: str) -> Json | None:
        return self._inspect("image", name)

    def container(self, name: str) -> Json:
        """Its State; empty when there is no such container."""
        return (self._inspect("container", name) or {}).get("State") or {}

    def pull(self, name: str, on_line: Callable[[str], None], registry: Json) -> None:
        options, forget = _log_in(registry)
        try:
            code, _, err = self._call([self.program, *options, "pull", name], 10**9, on_line)
        finally:
            forget()
        if code == 0:
            return
        words = err.decode("utf-8", "replace").strip()[-400:]
        if re.search(UNREACHABLE, words, re.IGNORECASE) and not re.search(REFUSED, words, re.IGNORECASE):
            raise NoAnswer("no registry answers: %s" % words)
        raise Refused(words or "docker pull: exit code %d" % code)

    def terminate(self, name: str) -> None:
        """TERM to every process in it: docker's own goes to the first one only, whose children then die with it."""
        inside = [self.program, "exec", "-u", "0", name, "sh", "-c", "kill -s TERM -- -1"]
        if self._call(inside, DOCKER_SECONDS)[0] != 0:
            self._call([self.program, "kill", "--signal", "TERM", name], DOCKER_SECONDS)

    def kill(self, name: str) -> None:
        self._call([self.program, "kill", name], DOCKER_SECONDS)

    def remove(self, name: str) -> None:
        self._call([self.program, "rm", "-f", "-v", name], DOCKER_SECONDS)

    def give_back(self, image: str, path: str) -> str:
        """Make this user the owner of everything below `path`; what docker said when it failed."""
        owner = "%d:%d" % (os.getuid(), os.getgid())
        argv = [self.program, "run", "--rm", "--log-driver", "none", "--network", "none", "-u", "0"]
        argv += ["--mount", "type=bind,source=%s,target=/gpujob" % path, "--security-opt", "label=disable"]
        code, _, err = self._call([*argv, "--entrypoint", "chown", image, "-hR", owner, "/gpujob"], 300)
        return "" if code == 0 else err.decode("utf-8", "replace").strip()[-300:] or "exit code %d" % code

    def _inspect(self, kind: str, name: str) -> Json | None:
        code, out, _ = self._call([self.program, kind, "inspect", name], DOCKER_SECONDS)
        try:
            found = json.loads(out) if code == 0 else []
        except ValueError:
            found = []
        return found[0] if found else None


def _log_in(registry: Json) -> tuple[list[str], Callable[[], None]]:
    """Options with which docker knows the registry's password, and what forgets it. It is kept in memory only."""
    if not registry:
        return [], lambda: None
    import base64
    import tempfile

    login = "%s:%s" % (registry["username"], registry["password"])
    server = "https://index.docker.io/v1/" if registry["server"] == "docker.io" else registry["server"]
    directory = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)  # mode 0700
    auths = {server: {"auth": base64.b64encode(login.encode()).decode()}}
    write_record(os.path.join(directory.name, "config.json"), {"auths": auths})
    return ["--config", directory.name], directory.cleanup


# ---- ending what a job started ---------------------------------------------------------------------------------------


class Descendants:
    """The processes that a job started, however they hid: by its mark, by its session, and by who their parent is."""

    def __init__(
        self,
        task: Task,
        *,
        session: int | None = None,
        parent: int | None = None,
        spare: Callable[[], set[int]] = lambda: {os.getpid()},
    ) -> None:
        self._marks = {
            b"GPUJOB_MACHINE=" + os.fsencode(task.machine),
            # The agent and the commands that look at the machine carry the first mark too, the job alone has both.
            b"GPUJOB_RUN_ID=" + os.fsencode(str(task.job.get("run_id", ""))),
        }
        self._session, self._parent, self._spare = session, parent, spare

    def find(self) -> set[tuple[int, int]]:
        """(pid, start time) of each that lives."""
        rows = {row[0]: row for row in processes()}
        spared = self._spare() | {0, 1} | _ancestors(rows)
        found = {pid for pid, row in rows.items() if self._is_ours(pid, row)} - spared
        fresh = found
        while fresh:  # children of what was found, which may have neither mark nor session
            fresh = {pid for pid, row in rows.items() if row[1] in fresh} - found - spared
            found |= fresh
        return {(pid, rows[pid][4]) for pid in found if not rows[pid][3]}

    def _is_ours(self, pid: int, row: tuple[int, int, int, bool, int]) -> bool:
        if self._session is not None and row[2] == self._session:
            return True
        if self._parent is not None and row[1] == self._parent:
            return True
        return LINUX and self._marks <= set(read_bytes("/proc/%d/environ" % pid).split(b"\0"))


def processes() -> Iterator[tuple[int, int, int, bool, int]]:
    """(pid, parent, session, is it a zombie, start time) of all; where there is no /proc, the group for the session."""
    if not LINUX:
        for line in call(["ps", "-axo", "pid=,ppid=,pgid=,state="], 10)[1].split(b"\n"):
            words = line.split()
            if len(words) == 4:
                yield int(words[0]), int(words[1]), int(words[2]), words[3].startswith(b"Z"), 0
        return
    for name in os.listdir("/proc"):
        text = read_bytes("/proc/%s/stat" % name) if name.isdigit() else b""
        if text:
            words = text[text.rindex(b")") + 2 :].split()
            yield int(name), int(words[1]), int(words[3]), words[0] in (b"Z", b"X"), int(words[19])


def _ancestors(rows: Mapping[int, tuple[int, int, int, bool, int]]) -> set[int]:
    """This process and those that it came from."""
    line, pid = set(), os.getpid()
    while pid in rows and pid not in line:
        line.add(pid)
        pid = rows[pid][1]
    return line


def end_processes(
    find: Callable[[], set[tuple[int, int]]], patient: Callable[[], bool], pause: Callable[[float], object]
) -> bool:
    """TERM to all, and KILL to those that are left when patience ends; True when none is left."""
    asked: set[tuple[int, int]] = set()
    left = find()
    while left and patient():
        for process in left - asked:
            send(process[0], signal.SIGTERM)
        asked |= left
        pause(0.1)
        left = find()
    until = now() + KILLING_SECONDS
    while left and now() < until:
        for process in left:
            send(process[0], signal.SIGKILL)
        pause(0.02)
        left = find()
    return not left


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it is gone already


def destroy(argv: Sequence[str], run: Callable[..., Called], pause: Callable[[float], object]) -> None:
    """End the machine from inside, again and again until it is gone."""
    wait = 2.0
    while True:
        code, _, err = run(argv, 60)
        sys.stderr.write("self_destruct: exit code %d %s\n" % (code, err.decode("utf-8", "replace")[-300:]))
        sys.stderr.flush()
        until = now() + wait
        while now() < until:
            pause(1.0)
        wait = min(wait * 2, 30.0)


def _adopt_orphans() -> None:
    """Daemons that a job forked become children of the runner, not of process 1: they are found, and reaped."""
    if not LINUX:
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    except (ImportError, OSError, AttributeError):
        pass  # then by mark and session only


def _prefer_for_oom(pid: int) -> None:
    """When memory ends the kernel shall take the job, not the agent that has to tell of it."""
    try:
        with open("/proc/%d/oom_score_adj" % pid, "w") as file:
            file.write("300")
    except OSError:
        pass


def oom_kills() -> int:
    """How often the kernel killed for lack of memory, as far as can be seen from here."""
    paths = ["/proc/vmstat", "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths.append("/sys/fs/cgroup%s/memory.events" % path)
        elif "memory" in controllers.split(","):
            paths.append("/sys/fs/cgroup/memory%s/memory.oom_control" % path)
    counts = [re.search(r"^oom_kill (\d+)$", read_text(path), re.MULTILINE) for path in paths]
    return sum(int(count.group(1)) for count in counts if count)


def exit_code(status: int) -> tuple[int | None, int | None]:
    """(exit code, None) or (None, signal)."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


# ---- telemetry -------------------------------------------------------------------------------------------------------


class Asking:
    """A command whose answer nobody waits for. Raises OSError when it cannot be started."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        import subprocess

        null = subprocess.DEVNULL
        self._child = subprocess.Popen(argv, stdin=null, stdout=subprocess.PIPE, stderr=null, start_new_session=True)
        self._until = now() + seconds
        self.pid = self._child.pid

    def is_over(self) -> bool:
        """It has ended, or has had its time."""
        return self._child.poll() is not None or now() > self._until

    def answer(self) -> bytes:
        """What it has printed; it is ended if it has not."""
        out: Any = self._child.stdout
        os.set_blocking(out.fileno(), False)
        said: bytes = out.read() or b""
        out.close()
        if self._child.returncode is None:
            self._child.kill()
            self._child.returncode = 0  # the runner reaps it
        return said


class Telemetry:
    """A sample at once, one every few seconds, one at the end. Never waits: a hung driver must not stop the beat."""

    QUERY = "--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu"
    NAMES = ("index", "utilization", "memory_used_mb", "memory_total_mb", "power_watts", "temperature_c")

    def __init__(self, folder: Folder, every: float, event: Callable[..., None]) -> None:
        import shutil

        self._folder, self._every, self._event = folder, max(every, 0.2), event
        self._program = shutil.which("nvidia-smi")
        self._failures = 0
        self._cpu = _cpu_times()
        self._due = now()
        self._asking: Asking | None = None

    def tick(self) -> None:
        if self._asking:
            if self._asking.is_over():
                self._write(self._answered())
        elif now() >= self._due:
            self._due = now() + self._every
            self._ask()
            if not self._asking:
                self._write([])

    def hurry(self) -> None:
        """Take one more sample, the last."""
        self._due, self._every = now(), 10.0**9

    def is_done(self) -> bool:
        return not self._asking and self._due > now()

    def pids(self) -> list[int]:
        return [self._asking.pid] if self._asking else []

    def _ask(self) -> None:
        if not self._program:
            return
        try:
            self._asking = Asking([self._program, self.QUERY, "--format=csv,noheader,nounits"], GPU_QUERY_SECONDS)
        except OSError:
            self._count_failure()

    def _answered(self) -> list[Json]:
        assert self._asking is not None
        rows = _csv(self._asking.answer())
        self._asking = None
        rows = [row for row in rows if len(row) == len(self.NAMES)]
        gpus = [{name: _number(row[index]) for index, name in enumerate(self.NAMES)} for row in rows]
        if gpus:
            self._failures = 0
        else:
            self._count_failure()
        return gpus

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures >= GPU_FAILURES:
            self._program = None
            self._event("warning", "nvidia-smi failed %d times; there is no GPU telemetry any more" % GPU_FAILURES)

    def _write(self, gpus: list[Json]) -> None:
        used, total = memory()
        before, self._cpu = self._cpu, _cpu_times()
        busy, all_of_it = self._cpu[0] - before[0], self._cpu[1] - before[1]
        received, sent = _network_bytes()
        sample = {
            "time": round(time.time(), 3),
            "cpu_percent": round(100.0 * busy / all_of_it, 1) if all_of_it > 0 else None,
            "memory_used_bytes": used,
            "memory_total_bytes": total,
            "disk_free_bytes": self._folder.free_bytes(),
            "load1": round(os.getloadavg()[0], 2),
            "network_rx_bytes": received,
            "network_tx_bytes": sent,
            "gpus": gpus,
        }
        append(self._folder.path("telemetry.jsonl"), sample)


def _cpu_times() -> tuple[int, int]:
    """(busy, all) in clock ticks, over all CPUs."""
    times = [int(word) for word in read_text("/proc/stat").split("\n", 1)[0].split()[1:9]]
    return (sum(times) - times[3] - times[4], sum(times)) if len(times) == 8 else (0, 0)


def _network_bytes() -> tuple[int | None, int | None]:
    rows = [line.replace(":", " ").split() for line in read_text("/proc/net/dev").splitlines()[2:]]
    if not rows:
        return None, None
    return sum(int(row[1]) for row in rows if row[0] != "lo"), sum(int(row[9]) for row in rows if row[0] != "lo")


def memory() -> tuple[int | None, int]:
    """(used, total) bytes of the machine, or of the container that this is, where that has less."""
    rows = (line.split() for line in read_text("/proc/meminfo").splitlines())
    known = {row[0]: int(row[1]) * 1024 for row in rows if len(row) > 1}
    if not known:
        return None, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total, used = known["MemTotal:"], known["MemTotal:"] - known.get("MemAvailable:", known["MemFree:"])
    for limit_name, used_name, stat_name in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        limit = read_text("/sys/fs/cgroup/" + limit_name).strip()
        if limit.isdigit() and int(limit) < total:
            stats = read_text("/sys/fs/cgroup/" + stat_name)
            cache = re.search(r"^(?:total_)?inactive_file (\d+)$", stats, re.MULTILINE)
            current = int(read_text("/sys/fs/cgroup/" + used_name).strip() or 0)
            return max(0, current - (int(cache.group(1)) if cache else 0)), int(limit)
    return used, total


def _csv(raw: bytes) -> list[list[str]]:
    lines = raw.decode("utf-8", "replace").splitlines()
    return [[word.strip() for word in line.split(",")] for line in lines if line.strip()]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None  # "[N/A]"
    return int(value) if value == int(value) else value


class Notice:
    """Asks every few seconds whether the cloud is about to take the machine away. Never waits for the answer."""

    def __init__(self, command: str, every: float) -> None:
        self._command, self._every = command, every
        self._due = now()
        self._asking: Asking | None = None

    def said(self) -> str:
        """What the command printed, in one line; nothing while there is no notice."""
        if self._asking is None and now() >= self._due:
            self._due = now() + self._every
            try:
                self._asking = Asking(["/bin/sh", "-c", self._command], 2 * self._every)
            except OSError:
                return ""
        if self._asking is None or not self._asking.is_over():
            return ""
        words = self._asking.answer().decode("utf-8", "replace")
        self._asking = None
        return " ".join(words.split())[:200]

    def pids(self) -> list[int]:
        return [self._asking.pid] if self._asking else []


# ---- the switch: the second of the two -------------------------------------------------------------------------------


class Switch:
    """Does nothing but wait: for the end of the runner, and for a deadline that the runner missed."""

    def __init__(self, task: Task, peer: Any) -> None:
        self._task, self._peer = task, peer
        self._runner = self._beat = 0
        self._beaten = now()

    def live(self) -> None:
        while self._runner_lives():
            if self._runner_hangs():
                send(self._runner, signal.SIGKILL)
        folder = self._task.folder
        if not folder.has("lock") or (folder.has("exit.json") and not self._task.self_destruct):
            return
        state = folder.load("state.json") or {}
        Runner(self._task).take_over(session=state.get("job"))

    def _runner_lives(self) -> bool:
        ready, _, _ = select.select([self._peer], [], [], 2.0)
        if not ready:
            return True
        said = receive(self._peer)
        if said:
            self._runner = int(said)
        return bool(said)

    def _runner_hangs(self) -> bool:
        """Asked only from the deadline on: before it, a slow machine is no reason to lose a job."""
        if now() < self._task.deadline or not self._runner:
            return False
        beat = int((self._task.folder.load("state.json") or {}).get("beat", 0))
        if beat != self._beat:
            self._beat, self._beaten = beat, now()
        return now() - self._beaten > HUNG_SECONDS


def receive(peer: Any) -> bytes:
    """What the other one said; nothing when it is gone."""
    try:
        return bytes(peer.recv(64))
    except OSError:  # it died with something unread
        return b""


# ---- stop, alive, end ------------------------------------------------------------------------------------------------


def stop(folder: Folder) -> None:
    asked = request()
    grace = asked.get("grace_seconds")
    record = {"reason": str(asked.get("reason", "")), "grace_seconds": 30.0 if grace is None else float(grace)}
    write_record(folder.path("stop.json"), {**record, "time": time.time()})
    answer({"stopping": True})


def alive(folder: Folder) -> None:
    answer({"alive": _is_locked(folder)})


def end(folder: Folder) -> None:
    """Kill everything of this machine, then the machine."""
    job = folder.load("job.json") or {}
    task = Task(folder, job, -1)
    _kill_agents(folder)
    state = folder.load("state.json")
    find = Descendants(task).find
    end_processes(find, lambda: False, time.sleep)
    if task.container and (state or {}).get("runs_in") == "container":
        try:
            Docker.find(call, seconds=DOCKER_SECONDS).remove(task.container["name"])
        except NoAnswer as error:
            sys.stderr.write("agent: cannot remove the container: %s\n" % error)
    end_processes(find, lambda: False, time.sleep)
    if state and not folder.has("exit.json"):
        remove(folder.path("reserve"))
        folder.save_exit(reason="stopped", detail="the machine was ended")
    answer({"ended": True})
    if task.self_destruct:
        detach(lambda: destroy(task.self_destruct, call, time.sleep), [])


def _kill_agents(folder: Folder) -> None:
    """Runner and switch bring each other back: stop both first, then kill."""
    stopped: set[int] = set()
    while True:
        fresh = _lock_holders(folder) - stopped
        if not fresh:
            break
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        send(pid, signal.SIGKILL)
    _wait_until(lambda: not _is_locked(folder), 5)


def _lock_holders(folder: Folder) -> set[int]:
    if not LINUX:
        state = folder.load("state.json") if _is_locked(folder) else None
        return {int(pid) for pid in ((state or {}).get("pid"), (state or {}).get("switch")) if pid}
    lock, holders = os.path.realpath(folder.path("lock")), set()
    for pid in [row[0] for row in processes() if row[0] != os.getpid()]:
        directory = "/proc/%d/fd" % pid
        try:
            if any(os.readlink(os.path.join(directory, fd)) == lock for fd in os.listdir(directory)):
                holders.add(pid)
        except OSError:
            pass  # another user's, or gone
    return holders


def _is_locked(folder: Folder) -> bool:
    try:
        lock = os.open(folder.path("lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(lock)


# ---- read: pieces of the agent's own files ---------------------------------------------------------------------------


def read(folder: Folder) -> None:
    """Several pieces of files, in the order asked for: what is read first is not newer than what is read last."""
    heads: list[Json] = []
    pieces: list[bytes] = []
    for piece in request():
        try:
            with open(os.path.join(folder.root, piece["path"]), "rb", buffering=0) as file:
                file.seek(int(piece.get("offset", 0)))
                pieces.append(_read_fully(file, int(piece["limit"])))
                heads.append({"bytes": len(pieces[-1])})
        except (FileNotFoundError, NotADirectoryError):
            heads.append({"missing": True})
    out = sys.stdout.buffer
    out.write(json.dumps(heads).encode() + b"\n")
    for content in pieces:
        out.write(content)


def _read_fully(file: Any, limit: int) -> bytes:
    chunks = []
    while limit > 0:
        chunk = file.read(min(limit, BLOCK))
        if not chunk:
            break
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


# ---- what all of them use --------------------------------------------------------------------------------------------


class Folder:
    """DIR: where everything of this machine lies."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def load(self, name: str) -> Json | None:
        try:
            with open(self.path(name), "rb") as file:
                record = json.loads(file.read())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def size(self, name: str) -> int:
        try:
            return os.stat(self.path(name)).st_size
        except OSError:
            return 0

    def mtime(self, name: str) -> float:
        try:
            return os.stat(self.path(name)).st_mtime
        except OSError:
            return time.time()

    def tail(self, name: str, offset: int) -> str:
        try:
            with open(self.path(name), "rb") as file:
                file.seek(max(offset, self.size(name) - 4096))
                return file.read(4096).decode("utf-8", "replace")
        except OSError:
            return ""

    def free_bytes(self) -> int:
        try:
            found = os.statvfs(self.root)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize

    def is_full(self) -> bool:
        return self.free_bytes() < FULL_BELOW_BYTES

    def save_state(self, state: Json) -> None:
        """On a full disk the record is written over in place: its block is there, and the beat must not stop."""
        path = self.path("state.json")
        try:
            write_record(path, state)
        except OSError:
            try:
                with open(path, "r+b", buffering=0) as file:
                    file.write((json.dumps(state) + "\n").encode().ljust(self.size("state.json")))
            except OSError:
                pass  # the next beat tries again

    def save_exit(self, **known: Any) -> None:
        nothing = dict.fromkeys(("exit_code", "signal", "started_at", "setup_seconds", "run_seconds"))
        sizes = {"log_bytes": self.size("log"), "metrics_bytes": self.size("shared/metrics.jsonl")}
        write_record(self.path("exit.json"), {**nothing, "ended_at": time.time(), **known, **sizes}, lasting=True)


def write_record(path: str, record: Json, *, lasting: bool = False) -> None:
    """Whole or not at all: a reader sees the old record or the new one."""
    fresh = "%s.%d.new" % (path, os.getpid())
    try:
        with open(fresh, "wb") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        remove(fresh)
        raise


def append(path: str, record: Json) -> None:
    """Add a line. What does not fit on a full disk is lost, and a line that was cut is ended before the next."""
    line = json.dumps(record).encode() + b"\n"
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        return
    try:
        size = os.fstat(fd).st_size
        cut_off = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, b"\n" + line if cut_off else line)
    except OSError:
        pass
    finally:
        os.close(fd)


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def read_text(path: str) -> str:
    return read_bytes(path).decode("utf-8", "replace")


def call(argv: Sequence[str], seconds: float) -> Called:
    """Run a command and wait for it. Who has something else to do meanwhile uses Runner._call."""
    import subprocess

    try:
        done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return 124, b"", b"no answer within %d s" % int(seconds)
    except OSError as error:
        return 127, b"", str(error).encode()
    return done.returncode, done.stdout, done.stderr


def _wait_until(happened: Callable[[], bool], seconds: float) -> None:
    until = now() + seconds
    while not happened() and now() < until:
        time.sleep(0.02)


COMMANDS: dict[str, Callable[..., None]] = {
    "probe": probe,
    "start": start,
    "read": read,
    "alive": alive,
    "stop": stop,
    "end": end,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
