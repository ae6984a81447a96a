"""A job's life on a machine, as a process: started once, its output byte for byte, how it ended."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.jobs.agent.conftest import AGENT, Host, python, table
from tests.support.waiting import eventually

pytestmark = pytest.mark.process


def test_a_job_that_ends_well(host: Host) -> None:
    assert host.start("echo out; echo err >&2; echo '{\"loss\": 1}' >> $GPUJOB_METRICS") == {
        "started": True,
        "already": False,
    }
    record = host.wait()
    assert (record["reason"], record["exit_code"], record["signal"], record["detail"]) == ("exited", 0, None, "")
    assert host.log() == b"out\nerr\n"
    assert (record["log_bytes"], record["metrics_bytes"]) == (8, 12)
    assert record["setup_seconds"] is None
    assert 0 <= record["run_seconds"] < 10
    assert record["started_at"] <= record["ended_at"]
    host.wait_for_phase("exited")


@pytest.mark.parametrize(
    ("setup", "run", "reason", "exit_code", "log"),
    table(
        ("the job fails", None, "echo x; exit 3; echo never", "exited", 3, b"x\n"),
        ("a step of the job fails", None, "false; echo never", "exited", 1, b""),
        ("a pipe fails", None, "false | cat; echo never", "exited", 1, b""),
        ("setup fails", "echo s; exit 4", "echo never", "setup", 4, b"s\n"),
        ("a step of setup fails", "false; echo never", "echo never", "setup", 1, b""),
        ("the job's syntax is wrong", "echo ok", "if; then", "exited", 2, None),
        ("setup's syntax is wrong", "if; then", "echo never", "setup", 2, None),
        ("no such command", None, "no-such-command-here", "exited", 127, None),
        (
            "text is never interpolated",
            "X='a\"b'; echo \"$X\" '$(id)'",
            "echo '`id`'",
            "exited",
            0,
            b'a"b $(id)\n`id`\n',
        ),
    ),
)
def test_how_it_ended(host: Host, setup: str | None, run: str, reason: str, exit_code: int, log: bytes | None) -> None:
    host.start(run, setup=setup)
    record = host.wait()
    assert (record["reason"], record["exit_code"]) == (reason, exit_code)
    assert log is None or host.log() == log
    assert b"never" not in host.log()
    if reason == "setup":
        assert record["run_seconds"] is None
        assert record["started_at"] is None
        assert f"exit code {exit_code}" in record["detail"]


def test_seconds_of_setup_and_run_are_told_apart(host: Host) -> None:
    host.start("sleep 0.2", setup="sleep 0.7")
    host.wait_for_phase("setup")
    record = host.wait()
    assert 0.6 < record["setup_seconds"] < 3
    assert 0.15 < record["run_seconds"] < 3


def test_a_job_killed_by_a_signal(host: Host) -> None:
    host.start("exec python -c 'import os; os.kill(os.getpid(), 11)'")
    record = host.wait()
    assert (record["reason"], record["exit_code"], record["signal"]) == ("exited", None, 11)


def test_what_a_job_sees(make_host: Callable[..., Host]) -> None:
    foreign = [
        "GPUJOB_HOME",
        "GPUJOB_DATABASE_URL",
        "AWS_PROFILE",
        "RUNPOD_API_KEY",
        "VAST_API_KEY",
        "MY_TOKEN",
        "A_SECRET",
    ]
    hers = {
        **dict.fromkeys(foreign, "x"),
        "HF_TOKEN": "machine's",
        "PYTHONPATH": "/none",
        "PYTHONHOME": "",
        "KEPT": "yes",
    }
    host = make_host(hers)
    host.start(
        python("import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.prefix]))"),
        env={"EPOCHS": "3", "AWS_REGION": "eu-west-1"},
        secrets={"HF_TOKEN": "job's\nown"},
        gpus=2,
    )
    assert host.wait()["exit_code"] == 0
    seen, directory, prefix = json.loads(host.log())
    assert [name for name in [*foreign, "PYTHONPATH", "PYTHONHOME"] if name in seen] == []
    assert (seen["EPOCHS"], seen["AWS_REGION"], seen["KEPT"], seen["HF_TOKEN"]) == (
        "3",
        "eu-west-1",
        "yes",
        "job's\nown",
    )
    assert (seen["GPUJOB_MACHINE"], seen["GPUJOB_ATTEMPT"], seen["GPUJOB_RUN_ID"]) == (
        host.machine,
        "1",
        f"r-{host.machine[-6:]}",
    )
    assert (seen["PYTHONUNBUFFERED"], seen["PET_NPROC_PER_NODE"]) == ("1", "2")
    assert seen["GPUJOB_WORKDIR"] == directory == str(host.work)
    assert seen["VIRTUAL_ENV"] == prefix == str(host.root / "venv")
    assert seen["PATH"].startswith(str(host.root / "venv" / "bin"))


def test_a_secret_is_nowhere_on_disk_nor_in_a_command_line(host: Host) -> None:
    host.start("sleep 1; echo ${#HF_TOKEN}", secrets={"HF_TOKEN": "hf-very-secret"})
    host.wait_for_phase("running")
    assert not any("hf-very-secret" in command for command in host.processes().values())
    host.wait()
    assert host.log() == b"14\n"
    kept = [path for path in host.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in kept if b"hf-very-secret" in path.read_bytes()]


def test_the_mark_is_the_transports_then_the_jobs_then_the_directorys(
    make_host: Callable[..., Host], tmp_path: Path
) -> None:
    host = make_host()
    del host.env["GPUJOB_MACHINE"]
    host.start("echo $GPUJOB_MACHINE", machine=host.machine)
    host.wait()
    assert host.log().decode().strip() == host.machine
    other = make_host(root=tmp_path / "gpujob-by-directory")
    del other.env["GPUJOB_MACHINE"]
    other.start("echo $GPUJOB_MACHINE")
    other.wait()
    assert other.log() == b"gpujob-by-directory\n"


def test_pip_comes_when_it_is_asked_for(host: Host) -> None:
    """Not at the start: it takes seconds, and many jobs never use it."""
    host.start("pip --version; pip3 --version; python -m pip --version")
    record = host.wait(60)
    first, second, third = (line for line in host.log().decode().splitlines() if line.startswith("pip "))
    assert record["exit_code"] == 0
    assert str(host.root / "venv") in first
    assert first == second == third


def test_without_a_usable_venv_module_it_says_what_to_install(make_host: Callable[..., Host], tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "venv.py").write_text("raise ImportError('no venv here')")
    host = make_host({"PYTHONPATH": str(tmp_path / "broken")})
    host.start("echo never")
    record = host.wait()
    assert (record["reason"], host.log()) == ("error", b"")
    assert "python3-venv" in record["detail"]


def test_without_venv_it_runs_in_the_machines_own_environment(host: Host) -> None:
    host.start('echo "${VIRTUAL_ENV-none}"', venv=False)
    host.env.pop("VIRTUAL_ENV", None)
    host.wait()
    assert not (host.root / "venv").exists()


def test_start_returns_while_the_job_runs_on_and_holds_no_pipe(host: Host) -> None:
    """Over ssh a process that keeps stdout open keeps the channel open: communicate() would wait for the job."""
    host.start("true", deadline_seconds=60)
    host.wait()
    host.wait_until_quiet()
    (host.root / "exit.json").unlink()
    (host.root / "state.json").unlink()
    job = json.loads((host.root / "job.json").read_text())
    (host.root / "job.json").write_text(json.dumps({**job, "run": "sleep 30"}))
    pipe = subprocess.PIPE
    held_open, inherited = os.pipe()
    with subprocess.Popen(
        host.agent("start"), stdin=pipe, stdout=pipe, stderr=pipe, env=host.env, pass_fds=[inherited]
    ) as started:
        os.close(inherited)
        out, _ = started.communicate(b"{}", timeout=10)
    assert json.loads(out)["started"] is True
    assert os.read(held_open, 1) == b""  # nobody has the other end any more
    os.close(held_open)
    host.wait_for_phase("running")
    assert host.ask("alive") == {"alive": True}
    assert Path(f"/proc/{host.runner()}/cwd").resolve() == Path("/")
    assert len({os.getsid(pid) for pid in (os.getpid(), host.runner(), host.switch())}) == 3
    host.stop(grace=1)
    host.wait()


def test_started_twice_and_at_once_it_runs_once(host: Host) -> None:
    host.start("echo once; sleep 1")
    again = host.ask("start")
    host.wait()
    after = host.ask("start")
    assert again == after == {"started": False, "already": True}
    assert host.log() == b"once\n"


def test_two_starts_at_the_same_time(host: Host) -> None:
    job = {"version": 1, "run_id": "r", "run": "echo once; sleep 0.5", "deadline_seconds": 60}
    (host.root / "job.json").write_text(json.dumps(job))
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: host.ask("start"), range(4)))
    assert sorted(answer["started"] for answer in answers) == [False, False, False, True]
    host.wait()
    assert host.log() == b"once\n"


def test_alive_is_the_lock(host: Host) -> None:
    assert host.ask("alive") == {"alive": False}
    host.start("sleep 1")
    assert host.ask("alive") == {"alive": True}
    host.wait()
    host.wait_until_quiet()
    assert host.ask("alive") == {"alive": False}


def test_the_beat_grows_at_least_every_two_seconds(host: Host) -> None:
    host.start("sleep 3")
    host.wait_for_phase("running")
    for _ in range(2):
        beat = host.state()["beat"]
        eventually(lambda beat=beat: host.state()["beat"] > beat, 2)  # type: ignore[misc]
    host.wait()


def test_a_flood_of_200_mb_is_all_in_the_log_and_costs_the_agent_nothing(host: Host) -> None:
    host.start("head -c 209715200 /dev/zero | tr '\\0' 'x'; echo end; sleep 0.5")
    host.wait_for_log_size(209715204)
    cpu = [float(sum(map(int, Path(f"/proc/{host.runner()}/stat").read_text().rsplit(")")[-1].split()[11:13])))]
    record = host.wait()
    assert record["log_bytes"] == (host.root / "log").stat().st_size == 209715204
    assert cpu[0] / os.sysconf("SC_CLK_TCK") < 1.0


def test_bytes_and_partial_lines_come_as_they_are(host: Host) -> None:
    noise = bytes(range(256)) * 40 + b"\xff\xfe no end"
    host.work.mkdir(parents=True)
    (host.work / "noise").write_bytes(noise)
    host.start("cat noise; printf '\\rstep 1\\rstep 2'; cat noise >&2; printf partial")
    host.wait()
    assert host.log() == noise + b"\rstep 1\rstep 2" + noise + b"partial"


def test_the_order_of_two_streams_is_kept(host: Host) -> None:
    host.start('for i in $(seq 300); do echo "out $i"; echo "err $i" >&2; done')
    host.wait()
    assert host.log().decode().split("\n")[:-1] == [f"{stream} {i}" for i in range(1, 301) for stream in ("out", "err")]


@pytest.mark.parametrize(
    ("content", "words"),
    table(
        ("missing", None, "job.json"),
        ("not JSON", "{", "job.json"),
        ("nothing to run", "{}", "nothing to run"),
    ),
)
def test_a_bad_job_is_refused_and_nothing_is_left(host: Host, content: str | None, words: str) -> None:
    if content is not None:
        (host.root / "job.json").write_text(content)
    done = host.call("start")
    assert done.returncode == 2
    assert words in json.loads(done.stdout)["error"]
    assert not (host.root / "state.json").exists()


@pytest.mark.parametrize("command", [[], ["fly"], ["unpack"], ["probe", "x"]])
def test_a_wrong_command_says_so(host: Host, command: list[str]) -> None:
    done = host.call(*command)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]


def test_a_stdin_that_is_no_json_says_so(host: Host) -> None:
    done = host.call("stop", stdin=b"{nope")
    assert (done.returncode, "JSON" in json.loads(done.stdout)["error"]) == (2, True)


def test_it_reaps_what_a_jobs_daemons_leave(host: Host) -> None:
    """Where process 1 reaps nobody (a pod's `sleep infinity`) they would fill the table of processes."""
    host.start("for i in 1 2 3 4 5; do (setsid sleep 0.1 &) ; done; sleep 1.5")
    host.wait_for_phase("running")
    eventually(lambda: _zombies(host.runner()) == 0 and b"sleep" not in host.log(), 5)
    host.wait()


def _zombies(parent: int) -> int:
    stats = [path.read_text().rsplit(")")[-1].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return sum(1 for words in stats if words[0] == "Z" and int(words[1]) == parent)


def test_the_agents_own_file_limit_is_the_jobs_too(host: Host) -> None:
    """The agent changes nothing about the machine's limits."""
    host.start("ulimit -n")
    host.wait()
    assert int(host.log()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_file_that_is_shipped_is_the_file_that_runs(host: Host) -> None:
    assert (host.root / "agent.py").read_bytes() == (AGENT / "agent.py").read_bytes()
    assert sys.version_info >= (3, 8)
