"""Machines that are process trees: reached as a rented machine is, and nothing of them stays on this computer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.machine import Machine
from jobs.transport.base import TransportError
from providers import pods
from providers.rehearsal.machines import marks, process
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, SimulatedGpus
from providers.rehearsal.machines.process import ProcessMachines, read_user_data
from tests.providers.rehearsal.reaching import Login, said, until
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

RTX = SimulatedGpus("NVIDIA GeForce RTX 4090", 2, 24564)
MIB = 2**20


@pytest.fixture
def machines() -> Iterator[ProcessMachines]:
    made = ProcessMachines()
    yield made
    homes = [made.home(name) for name in made.names()]
    made.close()
    assert not any(home.exists() or marks.find(str(home)) for home in homes)


@pytest.fixture
def login(tmp_path: Path) -> Login:
    return Login(tmp_path)


def pod_request(login: Login, end: str = "true", seconds: float = 3600) -> MachineRequest:
    now = datetime.now(UTC)
    script = pods.end_script(end, ("POD_KEY",))
    start = pods.start_script(script, deadline=now + timedelta(seconds=seconds), now=now)
    env = {**pods.environment(login.public, login.host_private), "POD_KEY": "rehearsal-1"}
    return MachineRequest(name="pod", image="any", command=("sh", "-c", start), env=env, gpus=RTX)


def vm_request(login: Login, user_data: str = "") -> MachineRequest:
    return MachineRequest(
        name="i-1", is_vm=True, user="ubuntu", user_data=user_data, authorized_keys=(login.public,), gpus=RTX
    )


def test_a_pod_is_a_home_of_its_own_with_gpus_and_our_host_key(machines: ProcessMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod", pinned=True) as shell:
        home = str(machines.home("pod"))
        assert said(shell, "pwd; echo $HOME; echo ~").split() == [home] * 3
        assert said(shell, "nvidia-smi -L").count("SIMULATED NVIDIA GeForce RTX 4090") == 2
        assert said(shell, "python3 -c 'import sys; print(sys.prefix)'").strip() == sys.prefix


def test_our_own_environment_stays_outside(
    machines: ProcessMachines, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        environment = said(shell, "env")
    assert "real" not in environment and "https_proxy=http://proxy:1" in environment


def test_a_pod_ends_itself_at_its_deadline(machines: ProcessMachines, login: Login) -> None:
    machines.start(pod_request(login, end='echo "$POD_KEY" >"$HOME/ended"', seconds=1))
    until(machines, "pod", MachinePhase.UP)
    ended = machines.home("pod") / "ended"
    eventually(lambda: ended.exists() and ended.read_text())
    assert ended.read_text() == "rehearsal-1\n"
    ended.unlink()
    with login.into(machines, "pod") as shell:
        assert shell.run(list(pods.SELF_DESTRUCT), timeout=10).exit_code == 0
    assert ended.exists(), "also when the job asks for it"


def test_only_the_right_user_with_the_right_key_gets_in(
    machines: ProcessMachines, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.providers.rehearsal.reaching.SECONDS", 0.5)
    machines.start(pod_request(login))
    until(machines, "pod", MachinePhase.UP)
    (login.folder / "stranger").mkdir()
    stranger = Login(login.folder / "stranger")
    assert stranger.public
    with pytest.raises(TransportError), stranger.into(machines, "pod"):
        pass
    with pytest.raises(TransportError), login.into(machines, "pod", "ubuntu"):
        pass


def test_bytes_go_both_ways_whole_and_exit_codes_come_back(machines: ProcessMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        block = os.urandom(MIB)
        sent = shell.send(["sh", "-c", "cat >big; wc -c <big; echo to stderr >&2; exit 3"], [block] * 40, timeout=60)
        assert (sent.exit_code, sent.stdout.split(), sent.stderr) == (3, [b"41943040"], b"to stderr\n")
        with shell.receive(["cat", "big"], timeout=60) as chunks:
            assert b"".join(chunks) == block * 40
        assert shell.send(["true"], [block] * 20, timeout=30).exit_code == 0, "what nobody reads hurts nobody"
        assert shell.run(["sh", "-c", "kill -s KILL $$"], timeout=10).exit_code != 0


def test_a_process_in_the_background_outlives_its_channel_but_not_the_machine(
    machines: ProcessMachines, login: Login
) -> None:
    machines.start(pod_request(login))
    home = ""
    with login.into(machines, "pod") as shell:
        home = str(machines.home("pod"))
        began = time.monotonic()
        pid = int(said(shell, "(setsid sleep 1000 & echo $!)"))  # it holds the pipes
        assert time.monotonic() - began < 10
        said(shell, "true")
        assert any(each >= pid for each in marks.find(home))
        machines.halt("pod")
        assert until(machines, "pod", MachinePhase.OVER).exit_code == 137
        assert marks.find(home) == set()
        with pytest.raises(TransportError):
            shell.run(["true"], timeout=5)
    machines.resume("pod")
    with login.into(machines, "pod", pinned=True) as shell:
        assert said(shell, "ls .gpujob/end") == ".gpujob/end\n"


def test_a_frozen_machine_is_silent(machines: ProcessMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        machines.freeze("pod")
        with pytest.raises(TransportError, match=r"within|no answer|Timeout opening channel"):
            for _ in range(100):
                shell.run(["true"], timeout=1)
    home = machines.home("pod")
    machines.remove("pod")
    assert machines.look("pod").phase is MachinePhase.GONE
    eventually(lambda: not home.exists() and not marks.find(str(home)))


def beats(machines: ProcessMachines) -> int:
    return (machines.home("pod") / "beats").stat().st_size


@pytest.mark.parametrize(("cut", "runs_on"), [("freeze", False), ("isolate", True)])
def test_what_was_cut_off_goes_on_where_it_was(
    machines: ProcessMachines, login: Login, cut: str, runs_on: bool
) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        said(shell, "(while :; do printf . >>beats; sleep 0.02; done) >/dev/null 2>&1 </dev/null & sleep 0.2")
        getattr(machines, cut)("pod")
        with pytest.raises(TransportError):
            for _ in range(100):
                shell.run(["true"], timeout=1)
    before = beats(machines)
    time.sleep(0.5)
    assert (beats(machines) > before) is runs_on
    assert machines.look("pod").phase is MachinePhase.UP
    machines.thaw("pod")
    with login.into(machines, "pod"):
        now = beats(machines)
        eventually(lambda: beats(machines) > now)


def test_none_is_made_after_the_end(login: Login) -> None:
    machines = ProcessMachines()
    machines.close()
    machines.start(pod_request(login))
    assert machines.look("pod").phase is MachinePhase.GONE and machines.names() == []


def test_a_box_that_hangs_at_its_start_can_be_removed(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_BOX", ("sh", "-c", "exec sleep 1000"))
    machines = ProcessMachines()
    machines.start(pod_request(login))
    home = machines.home("pod")
    eventually((home / ".pid").exists)
    began = time.monotonic()
    machines.close()
    assert time.monotonic() - began < 10 and not home.exists()


def test_a_terminal_is_one(machines: ProcessMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod"):
        pass
    state = machines.look("pod")
    assert state.ssh is not None
    argv = ["ssh", "-tt", "-i", str(login.folder / "login"), "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
    argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", str(state.ssh[1])]
    typed = b"tty; stty size; exit 4\n"
    done = subprocess.run([*argv, f"root@{state.ssh[0]}"], input=typed, capture_output=True, timeout=30, check=False)
    assert done.returncode == 4
    assert b"/dev/" in done.stdout and b"not a tty" not in done.stdout


def test_a_command_that_ends_is_the_end_of_the_pod(machines: ProcessMachines) -> None:
    machines.start(MachineRequest(name="short", image="any", command=("sh", "-c", "sleep 0.2; exit 7")))
    assert until(machines, "short", MachinePhase.OVER).exit_code == 7
    machines.start(MachineRequest(name="none", image="any", command=("no-such-program",)))
    assert until(machines, "none", MachinePhase.OVER).exit_code == 127


def test_a_cloud_with_its_own_server_runs_onstart(machines: ProcessMachines, login: Login) -> None:
    machines.start(
        MachineRequest(
            name="v", image="any", brings_sshd=True, authorized_keys=(login.public,), onstart="echo hi >begun"
        )
    )
    with login.into(machines, "v") as shell:
        eventually(lambda: said(shell, "cat begun || true"))


@pytest.mark.parametrize("form", ["script", "cloud-config"])
def test_user_data_is_read_and_not_run(machines: ProcessMachines, login: Login, form: str) -> None:
    """It is meant for a host of its own: here it would change this computer's."""
    trap = login.folder / "ran"
    if form == "script":
        text = (
            f"#!/bin/sh\nshutdown -h +61\ntouch {trap}\nprintf '%s\\n' '{login.host_private.strip()}' >/etc/ssh/key\n"
        )
    else:
        lines = "".join(f"    {line}\n" for line in login.host_private.splitlines())
        text = f"#cloud-config\nssh_keys:\n  ed25519_private: |\n{lines}runcmd: ['touch {trap}', shutdown -h +61]\n"
    machines.start(vm_request(login, text))
    with login.into(machines, "i-1", "ubuntu", pinned=True) as shell:
        eventually(lambda: said(shell, "cat .shutdown || true"))
    assert not trap.exists()
    assert read_user_data(text).shutdown_minutes == 61
    assert read_user_data("").host_key == ""


def test_a_shutdown_ends_the_machine_and_not_this_computer(machines: ProcessMachines, login: Login) -> None:
    machines.start(vm_request(login))
    with login.into(machines, "i-1", "ubuntu") as shell, pytest.raises(TransportError):
        shell.run(["sudo", "-n", "shutdown", "-h", "now"], timeout=20)
        shell.run(["sleep", "20"], timeout=20)
    assert until(machines, "i-1", MachinePhase.OVER).exit_code == 0


def test_the_agent_runs_a_job_in_a_container_that_is_simulated(machines: ProcessMachines, login: Login) -> None:
    machines.start(vm_request(login))
    job = {
        "version": 1, "run_id": "r-1", "attempt": 1, "setup": None, "env": {}, "gpus": 1, "deadline_seconds": 600,
        "run": 'pwd; echo "$GPUJOB_WORKDIR"; nvidia-smi -L; echo {} >>"$GPUJOB_METRICS"; exit 5',
        "max_duration_seconds": None, "grace_seconds": 1, "telemetry_seconds": 1, "self_destruct": [],
        "container": {"image": "some/image:1", "name": "gpujob-r-1-1-1", "labels": {"a": "b"}, "gpus": 1},
    }  # fmt: skip
    with login.into(machines, "i-1", "ubuntu") as shell:
        agent = Machine(shell, ".gpujob/machine")
        agent.install()
        facts = agent.probe()
        assert facts["docker"]["version"] == "0.0-simulated" and len(facts["gpus"]) == 2
        agent.start(job, {})
        eventually(lambda: agent.visit({}).exit)
        visit = agent.visit({})
        assert visit.exit is not None and (visit.exit["reason"], visit.exit["exit_code"]) == ("exited", 5), visit
        work = f"{machines.home('i-1')}/.gpujob/machine/shared/work"
        assert visit.new["log"].decode().splitlines()[:2] == [work, work]
        assert b"SIMULATED" in visit.new["log"] and visit.new["metrics"] == b"{}\n"


def test_a_stopped_job_gets_term_in_its_simulated_container(machines: ProcessMachines, login: Login) -> None:
    machines.start(vm_request(login))
    home_script = "trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    with login.into(machines, "i-1", "ubuntu") as shell:
        said(shell, f'mkdir -p s/work; echo "{home_script}" >s/entry.sh')
        run = "docker run --name c1 --mount type=bind,source=$HOME/s,target=/gpujob -w /gpujob/work --entrypoint sh x"
        said(shell, f"({run} /gpujob/entry.sh >out 2>&1 </dev/null &)")
        eventually(lambda: "begun" in said(shell, "cat out"))
        said(shell, 'docker exec -u 0 c1 sh -c "kill -s TERM -- -1"')
        eventually(lambda: "bye" in said(shell, "cat out"))
        eventually(lambda: '"exited"' in said(shell, "docker container inspect c1"))
        assert shell.run(["docker", "exec", "c1", "ls"], timeout=10).exit_code != 0, "anything else is refused"


def test_machines_of_a_killed_server_end_with_it(login: Login) -> None:
    script = """
import os, sys, time
from providers.rehearsal.machines.base import *
from providers.rehearsal.machines.process import ProcessMachines
m = ProcessMachines()
m.start(MachineRequest(name="left", image="any", command=("sh", "-c", "sleep 1000")))
while m.look("left").phase is not MachinePhase.UP: time.sleep(0.01)
print(m.home("left"), flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    home = Path(done.stdout.strip())
    assert home.is_dir()
    eventually(lambda: not marks.find(str(home)))
    ProcessMachines().close()
    assert not home.parent.exists(), "its files go when the next server starts"
