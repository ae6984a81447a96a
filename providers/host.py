"""Machines carved out of a computer that the user owns: directories below one root, and what runs in their name.

Owns create, get, list, terminate and the bill of such machines. Runs in-process for this computer and, sent over SSH,
on any other: one file, standard library only, Python 3.8 or newer, Linux and macOS. Must not know jobs, the agent's
commands or the store; of the agent it knows only the names of two files that say whether a container may be there.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

Json = Dict[str, Any]
Clock = Callable[[], float]

MARK = "GPUJOB_MACHINE"
LABEL = "gpujob.machine"
END_SECONDS = 20.0  # how long one call to `terminate` tries
_LOCK_SECONDS = 10.0
_DOCKER_SECONDS = 10.0
_DELETE_SECONDS = 0.5
_FOR_PROGRAMS = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_RUNTIME_DIR")  # and what Docker reads; no keys
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RECORD = "machine.json"
_BILL = "bill.jsonl"


class Refused(Exception):
    """A clear no. `kind`: bad_request, over, no_capacity, busy, failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def create(root: Path, request: Json, clock: Clock = time.time) -> Json:
    """Make a machine; the same name twice is the same machine.

    `gpu_ids` are the indices of the GPUs that may be used, `gpus` how many of them this machine takes for itself,
    `gpu_total` how many the computer has of any kind.
    """
    name = _checked(request.get("name"))
    with _locked(root):
        existing = _read(root / name)
        if existing is not None:
            return {"machine": _described(root / name, existing)}
        if _bill_lines(root, name):
            raise Refused("over", f"machine {name} was ended before; a name is used once")
        record = {
            "name": name,
            "owner": str(request["owner"]),
            "run_id": str(request["run_id"]),
            "attempt": int(request["attempt"]),
            "created_at": clock(),
            "deadline": float(request["deadline"]),
            "usd_per_hour": str(request["usd_per_hour"]),
            "gpu_ids": _free_gpus(root, request),
            "gpu_total": int(request.get("gpu_total", 0)),
        }
        for left in [*root.glob("*.new"), *root.glob(".gone-*")]:  # by a call that was killed: we hold the lock
            _remove(left)
        half = root / f"{name}.new"
        half.mkdir(mode=0o700)
        _write(half / _RECORD, record)
        half.rename(root / name)
    return {"machine": _described(root / name, record)}


def get(root: Path, request: Json, clock: Clock = time.time) -> Json:
    """`{"machine": ...}`, or `{"missing": true}` when neither a directory nor a process bears the name."""
    name = _checked(request.get("name"))
    record = _read(root / name)
    if record is not None:
        return {"machine": _described(root / name, record)}
    if not _marked(name, set()):
        return {"missing": True}
    orphan = {"name": name, "created_at": clock(), "detail": "its directory is gone, but its processes live"}
    return {"machine": _described(root / name, orphan)}


def list_machines(root: Path, request: Json) -> Json:
    """All machines of one owner, or of everybody when `owner` is missing. There are no half-made ones."""
    owner = request.get("owner")
    machines = [machine for machine in _machines(root) if owner is None or machine["owner"] == owner]
    return {"machines": machines}


def terminate(root: Path, request: Json, clock: Clock = time.time) -> Json:
    """End what runs in a machine's name, write its bill, remove it. `{"gone": false, "detail": ...}`: call again."""
    name = _checked(request.get("name"))
    until = time.monotonic() + float(request.get("seconds", END_SECONDS))
    directory = root / name
    _mark_terminating(root, name)
    left = _end_processes(name, until) or _end_containers(name, directory, until) or _end_processes(name, until)
    if left is not None:
        _mark_terminating(root, name, left)
        return {"gone": False, "detail": left}
    _close(root, name, clock)
    return {"gone": True, "detail": _delete(_trash(root, name), until)}


def bill(root: Path, request: Json, clock: Clock = time.time) -> Json:
    """A machine's line of the bill, when it is over; the machine, while it exists."""
    name = _checked(request.get("name"))
    lines = _bill_lines(root, name)
    record = _read(root / name)
    machine = None if record is None else _described(root / name, record)
    return {"bill": lines[:1], "machine": machine, "now": clock()}


def main() -> None:
    """`python3 host.py COMMAND`: a JSON request with `root` on stdin, one line of JSON on stdout."""
    commands: Dict[str, Callable[[Path, Json], Json]] = {
        "create": create,
        "get": get,
        "list": list_machines,
        "terminate": terminate,
        "bill": bill,
    }
    try:
        if sys.version_info < (3, 8):
            raise Refused("failed", "python3 is %d.%d there, 3.8 or newer is needed" % sys.version_info[:2])
        request = json.loads(sys.stdin.buffer.read().decode())
        answer = commands[sys.argv[1]](Path(os.path.expanduser(request["root"])), request)
    except Refused as refusal:
        answer = {"error": {"kind": refusal.kind, "message": str(refusal)}}
    except OSError as error:
        answer = {"error": {"kind": "failed", "message": str(error)}}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        answer = {"error": {"kind": "bad_request", "message": repr(error)}}
    print(json.dumps(answer))


def marked_in_ps(text: str, name: str) -> List[Tuple[int, int, bool]]:
    """(pid, process group, bears the mark) of each line of `ps axeww -o pid=,pgid=,command=`."""
    mark = f" {MARK}={name} "
    rows = (line.split(None, 2) for line in text.splitlines())
    return [(int(row[0]), int(row[1]), mark in f"{row[2]} ") for row in rows if len(row) == 3]


def _checked(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused("bad_request", f"{name!r} is not a machine's name: small letters, digits and hyphens, at most 63")
    return name


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    give_up = time.monotonic() + _LOCK_SECONDS
    with (root / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise Refused("busy", f"{root / '.lock'} is held by another process") from None
                time.sleep(0.02)
        yield


def _machines(root: Path) -> List[Json]:
    try:
        entries = sorted(root.iterdir())
    except FileNotFoundError:
        return []
    records = [(path, _read(path)) for path in entries if _NAME.fullmatch(path.name)]
    return [_described(path, record) for path, record in records if record is not None]


def _read(directory: Path) -> Optional[Json]:
    """The machine's record; None when there is no such directory. What cannot be read is there all the same."""
    try:
        directory.stat()
    except FileNotFoundError:
        return None
    try:
        record = json.loads((directory / _RECORD).read_text())
        if not isinstance(record, dict) or "name" not in record or "created_at" not in record:
            raise ValueError("it is no machine's record")
        return record
    except (FileNotFoundError, ValueError, TypeError, RecursionError) as error:
        if not directory.exists():
            return None
        made = directory.stat().st_mtime
        return {"name": directory.name, "created_at": made, "unreadable": f"{_RECORD} cannot be read: {error}"}


def _described(directory: Path, record: Json) -> Json:
    status = "terminating" if record.get("terminating") else "running"
    if "owner" not in record:
        status = "unknown"
    return {
        "name": record["name"],
        "owner": record.get("owner", ""),
        "run_id": record.get("run_id", ""),
        "attempt": record.get("attempt", 0),
        "created_at": record["created_at"],
        "deadline": record.get("deadline"),
        "usd_per_hour": record.get("usd_per_hour"),
        "gpu_ids": record.get("gpu_ids", []),
        "gpu_total": record.get("gpu_total", 0),
        "status": status,
        "detail": record.get("detail") or record.get("unreadable") or "",
        "directory": str(directory),
    }


def _free_gpus(root: Path, request: Json) -> List[int]:
    wanted = int(request.get("gpus", 0))
    taken = {gpu for machine in _machines(root) for gpu in machine["gpu_ids"]}
    free = [int(gpu) for gpu in request.get("gpu_ids", []) if gpu not in taken]
    if len(free) < wanted:
        raise Refused("no_capacity", f"{len(free)} of its GPUs are free, {wanted} wanted: other jobs run there")
    return free[:wanted]


def _write(path: Path, record: Json) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _mark_terminating(root: Path, name: str, detail: str = "") -> None:
    if not (root / name).exists():
        return
    # A full disk or a held lock: the mark only informs, and ending the machine frees space.
    with contextlib.suppress(OSError, Refused), _locked(root):
        record = _read(root / name)
        if record is not None and "owner" in record:
            _write(root / name / _RECORD, dict(record, terminating=True, detail=detail))


def _end_processes(name: str, until: float) -> Optional[str]:
    """Kill until two looks find nobody; a process may hide from one look while it becomes another program."""
    sessions: Set[int] = set()
    quiet = 0
    while True:
        found = _marked(name, sessions)
        quiet = 0 if found else quiet + 1
        if quiet == 2:
            return None
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return f"processes that cannot be ended: {', '.join(map(str, found[:10]))}" if found else None
        time.sleep(0.01)


def _marked(name: str, sessions: Set[int]) -> List[int]:
    """Processes with the mark, and all others of the sessions that they lead; `sessions` remembers those."""
    table = _linux_table(name) if Path("/proc/self/environ").exists() else _ps_table(name)
    sessions.update(pid for pid, session, marked in table if marked and pid == session)
    sessions -= {os.getsid(0), os.getpgrp()}
    return [pid for pid, session, marked in table if (marked or session in sessions) and pid != os.getpid()]


def _linux_table(name: str) -> List[Tuple[int, int, bool]]:
    mark = f"{MARK}={name}".encode()
    table = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _, _, session = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()[:4]
            if state not in (b"Z", b"X"):
                table.append((int(entry), int(session), mark in _environment(entry)))
    return table


def _environment(pid: str) -> List[bytes]:
    try:
        return Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return []  # another user's: not ours to end, unless its session is


def _ps_table(name: str) -> List[Tuple[int, int, bool]]:
    done = _run(["ps", "axeww", "-o", "pid=,pgid=,command="], 10)
    if done is None or done[0] != 0:
        raise Refused("failed", "ps does not list the processes")
    return marked_in_ps(done[1], name)


def _end_containers(name: str, directory: Path, until: float) -> Optional[str]:
    docker = _docker()
    if docker is None:
        return None
    for _ in range(3):
        done = _run([docker, "ps", "-aq", "--filter", f"label={LABEL}={name}"], _left(until))
        if done is None:
            # Docker that hangs may still run the container; Docker that says no, or is off, runs none of ours.
            return "Docker does not answer, and the job may run in a container" if _in_container(directory) else None
        containers = done[1].split() if done[0] == 0 else []
        if not containers:
            return None
        _run([docker, "rm", "-f", "-v", *containers], _left(until))
    return f"containers that cannot be removed: {', '.join(containers)}"


def _in_container(directory: Path) -> bool:
    state, job = _json(directory / "state.json"), _json(directory / "job.json")
    if state.get("runs_in"):
        return bool(state["runs_in"] == "container")
    return bool(job.get("container"))


def _json(path: Path) -> Json:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _delete(trash: Path, until: float) -> str:
    """Remove a machine's files; what is left, in words. Nothing runs there any more, so nobody waits for a big one."""
    gone = _remove(trash)
    if gone is False:
        _run(["chmod", "-R", "u+rwx", str(trash)], _left(until))
        _take_back(trash, until)
        gone = _remove(trash)
    return f"some files could not be removed: {trash}" if gone is False else ""


def _remove(path: Path) -> Optional[bool]:
    """Whether it is gone within a moment; None: the program that removes it goes on alone."""
    quiet = subprocess.DEVNULL
    argv = ["rm", "-rf", "--", str(path)]
    removal = subprocess.Popen(
        argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, env=_for_programs()
    )
    try:
        removal.wait(_DELETE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return not os.path.lexists(path)


def _take_back(directory: Path, until: float) -> None:
    """Files that a container wrote as root: only another container, of any image that is here, may change them."""
    docker = _docker()
    if docker is None:
        return
    own = (_json(directory / "job.json").get("container") or {}).get("image")
    present = _run([docker, "images", "-q"], _left(until))
    images = ([own] if own else []) + (present[1].split()[:3] if present else [])
    owner = f"{os.getuid()}:{os.getgid()}"
    for image in images:
        mount = ["-v", f"{directory}:/gpujob", "--entrypoint", "chown"]
        argv = [docker, "run", "--rm", "--pull", "never", "--network", "none", "--user", "0", *mount]
        done = _run([*argv, image, "-hR", owner, "/gpujob"], _left(until))
        if done is not None and done[0] == 0:
            return


def _trash(root: Path, name: str) -> Path:
    return root / f".gone-{name}"


def _close(root: Path, name: str, clock: Clock) -> None:
    """Bill and removal as one: whoever sees no machine sees its line."""
    if not (root / name).exists():
        return
    with _locked(root):
        record = _read(root / name)
        if record is not None:
            if "owner" in record and not _bill_lines(root, name):
                _append_to_bill(root, record, clock())
            (root / name).rename(_trash(root, name))


def _append_to_bill(root: Path, record: Json, now: float) -> None:
    line = {key: record[key] for key in ("name", "owner", "run_id", "attempt", "usd_per_hour")}
    line.update(start=record["created_at"], end=max(now, record["created_at"]))
    path = root / _BILL
    with path.open("ab") as file:
        torn = file.tell() > 0 and not path.read_bytes().endswith(b"\n")
        file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _bill_lines(root: Path, name: str) -> List[Json]:
    try:
        text = (root / _BILL).read_text()
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        if f'"{name}"' in line:
            with contextlib.suppress(ValueError):  # torn by a full disk or a power cut
                lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict) and line.get("name") == name]


def _docker() -> Optional[str]:
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("docker", path=f"{path}:/usr/local/bin:/opt/homebrew/bin")


def _for_programs() -> Dict[str, str]:
    """A controller's variables may hold secrets: a process list shows those of every program that it starts."""
    kept = (name for name in os.environ if name in _FOR_PROGRAMS or name.startswith(("LC_", "DOCKER_")))
    return {name: os.environ[name] for name in kept}


def _left(until: float) -> float:
    return min(_DOCKER_SECONDS, max(until - time.monotonic(), 0.1))


def _run(argv: Sequence[str], seconds: float) -> Optional[Tuple[int, str]]:
    """Exit code and stdout; None when it did not end in time."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
            env=_for_programs(),
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        return (127 if error.errno == errno.ENOENT else 126, "")
    return done.returncode, done.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    main()
