"""Machines that are containers: what a tenant finds in a pod and in a VM, and that nothing of them stays."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.transport.base import TransportError
from providers import pods
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, SimulatedGpus
from providers.rehearsal.machines.docker import DockerMachines
from tests.providers.rehearsal.reaching import Login, said, until
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.docker]

BASE, BARE, VM = "gpujob-test:base", "gpujob-test:bare", "gpujob-test:vm"
RTX = SimulatedGpus("NVIDIA GeForce RTX 4090", 2, 24564)
WAITS = ("sh", "-c", "while :; do sleep 1; done")


@pytest.fixture
def machines() -> Iterator[DockerMachines]:
    made = DockerMachines()
    yield made
    made.close()
    assert named(made) == []


@pytest.fixture
def login(tmp_path: Path) -> Login:
    return Login(tmp_path)


def named(machines: DockerMachines) -> list[str]:
    """Containers and volumes of these machines that Docker knows."""
    label = f"label=gpujob.rehearsal={machines.owner}"
    ps = ["docker", "ps", "--all", "--quiet", "--filter", label]
    volumes = ["docker", "volume", "ls", "--quiet", "--filter", label]
    return [name for argv in (ps, volumes) for name in subprocess.check_output(argv, text=True).split()]


class listening:
    """An HTTP server where machines reach it; says 200 to everything, with the method and the path."""

    def __init__(self, machines: DockerMachines) -> None:
        self.found: list[tuple[str, str, str]] = []
        found = self.found

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found.append((self.command, self.path, self.headers.get("Authorization") or ""))
                body = f"{self.command} {self.path}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        address = machines.addresses[0] if machines.addresses else "127.0.0.1"
        self._server = http.server.ThreadingHTTPServer((address, 0), Answer)
        self.url = machines.reach(self._server.server_port)

    def __enter__(self) -> listening:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def pod_request(
    login: Login, *, image: str = BASE, name: str = "pod", url: str = "", seconds: float = 3600
) -> MachineRequest:
    """As a provider orders one: our start script in place of the image's command."""
    now = datetime.now(UTC)
    end = pods.end_script('ask DELETE "$CLOUD_URL/pods/$POD_ID" "$POD_KEY"', ("CLOUD_URL", "POD_ID", "POD_KEY"))
    start = pods.start_script(end, deadline=now + timedelta(seconds=seconds), now=now)
    env = {
        **pods.environment(login.public, login.host_private),
        "CLOUD_URL": url,
        "POD_ID": "p1",
        "POD_KEY": "rehearsal-1",
    }
    return MachineRequest(name=name, image=image, command=("sh", "-c", start), env=env, gpus=RTX)


def test_a_pod_has_our_host_key_its_gpus_and_the_end_script(machines: DockerMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod", pinned=True) as shell:
        assert said(shell, "nvidia-smi -L").count("SIMULATED NVIDIA GeForce RTX 4090 (UUID: GPU-") == 2
        fields = "index,name,memory.total,driver_version"
        rows = said(shell, f"nvidia-smi --query-gpu={fields} --format=csv,noheader,nounits").splitlines()
        assert rows[1] == "1, SIMULATED NVIDIA GeForce RTX 4090, 24564, 0.0-simulated"
        assert "POD_KEY" in said(shell, "cat /root/.gpujob/end")
        assert "rehearsal-1" not in said(shell, "cat /root/.gpujob/end; tr '\\0' ' ' </proc/1/cmdline")


def test_the_job_in_a_pod_can_end_it_with_what_only_the_first_process_was_given(
    machines: DockerMachines, login: Login
) -> None:
    """A login sees none of the pod's variables; base has no curl."""
    with listening(machines) as cloud:
        machines.start(pod_request(login, url=cloud.url))
        with login.into(machines, "pod") as shell:
            assert shell.run(["sh", "-c", 'test -n "$POD_KEY" || command -v curl'], timeout=10).exit_code != 0
            done = shell.run(list(pods.SELF_DESTRUCT), timeout=30)
        assert done.exit_code == 0, done
        assert cloud.found == [("DELETE", "/pods/p1", "Bearer rehearsal-1")]


def test_a_pod_ends_itself_at_its_deadline_whoever_is_dead(machines: DockerMachines, login: Login) -> None:
    with listening(machines) as cloud:
        machines.start(pod_request(login, url=cloud.url, seconds=1))
        eventually(lambda: cloud.found)
        assert cloud.found[0] == ("DELETE", "/pods/p1", "Bearer rehearsal-1")


def test_a_pod_with_a_locked_root_and_a_python_elsewhere_can_be_used(machines: DockerMachines, login: Login) -> None:
    request = pod_request(login)
    before = """usermod -L root; mkdir -p /opt/conda/bin; rm /usr/bin/python3
mv /usr/bin/python3.* /opt/conda/bin/python3; export PATH=/opt/conda/bin:$PATH
"""
    command = ("sh", "-c", before + request.command[2])
    machines.start(MachineRequest(name="pod", image=BASE, command=command, env=request.env))
    with login.into(machines, "pod") as shell:
        assert said(shell, "python3 -I -S -c 'print(6 * 7)'") == "42\n"


def test_an_image_without_a_server_gets_one(machines: DockerMachines, login: Login) -> None:
    machines.start(pod_request(login, image=BARE))
    with login.into(machines, "pod", pinned=True) as shell:
        assert said(shell, "id -un") == "root\n"


def test_a_cloud_with_its_own_server_lets_the_tenants_key_in_and_runs_onstart(
    machines: DockerMachines, login: Login
) -> None:
    machines.start(
        MachineRequest(
            name="own", image=BASE, brings_sshd=True, authorized_keys=(login.public,),
            onstart="echo began with $WORD >>/root/begun", env={"WORD": "two words\nand a line"},
        )
    )  # fmt: skip
    with login.into(machines, "own") as shell:
        eventually(lambda: said(shell, "cat /root/begun || true"))
        assert said(shell, "cat /root/begun") == "began with two words and a line\n"


def test_a_halted_machine_keeps_its_disk_and_nothing_else(machines: DockerMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        said(shell, "echo kept >/root/file; (setsid sleep 1000 >/dev/null 2>&1 &)")
        machines.halt("pod")
        assert until(machines, "pod", MachinePhase.OVER).exit_code == 137
        with pytest.raises(TransportError):
            shell.run(["true"], timeout=5)
    machines.resume("pod")
    with login.into(machines, "pod") as shell:
        assert said(shell, "cat /root/file; pgrep -c 'sleep 1000' || true").split()[0] == "kept"


def test_a_frozen_machine_is_silent_and_can_be_removed(machines: DockerMachines, login: Login) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        machines.freeze("pod")
        with pytest.raises(TransportError, match=r"within|no answer|Timeout"):
            for _ in range(100):
                shell.run(["true"], timeout=1)
    machines.remove("pod")
    assert machines.look("pod").phase is MachinePhase.GONE
    eventually(lambda: named(machines) == [])


def test_an_isolated_machine_runs_on_and_can_be_entered_again(machines: DockerMachines, login: Login) -> None:
    def beats() -> int:
        argv = ["docker", "exec", machines.container("pod"), "wc", "-c", "/tmp/beats"]
        return int(subprocess.check_output(argv, text=True).split()[0])

    machines.start(pod_request(login))
    with login.into(machines, "pod") as shell:
        said(shell, "(while :; do printf . >>/tmp/beats; sleep 0.02; done) >/dev/null 2>&1 </dev/null & sleep 0.2")
        machines.isolate("pod")
        with pytest.raises(TransportError, match=r"within|no answer"):
            for _ in range(100):
                shell.run(["true"], timeout=1)
    before = beats()
    assert machines.look("pod").phase is MachinePhase.UP
    eventually(lambda: beats() > before)
    machines.thaw("pod")
    with login.into(machines, "pod"):
        pass
    machines.freeze("pod")
    machines.thaw("pod")
    with login.into(machines, "pod"):
        pass


def test_none_is_made_after_the_end() -> None:
    machines = DockerMachines()
    machines.close()
    machines.start(MachineRequest(name="late", image=BASE, command=WAITS))
    assert machines.look("late").phase is MachinePhase.GONE and named(machines) == []


def test_a_container_that_ends_by_itself_is_over(machines: DockerMachines) -> None:
    machines.start(MachineRequest(name="short", image=BASE, command=("sh", "-c", "sleep 0.5; exit 7")))
    assert until(machines, "short", MachinePhase.OVER).exit_code == 7


def test_an_entrypoint_and_an_environment_are_taken_as_they_are(machines: DockerMachines, login: Login) -> None:
    script = 'test "$HOME:$DOCKER_X:$A" = "/elsewhere:x:a b" && exit 5'
    env = {"HOME": "/elsewhere", "DOCKER_X": "x", "A": "a b"}
    machines.start(MachineRequest(name="e", image=BASE, entrypoint=("sh", "-c"), command=(script,), env=env))
    assert until(machines, "e", MachinePhase.OVER).exit_code == 5


@pytest.mark.parametrize(("image", "words"), [("127.0.0.1:9/no/such:image", "127.0.0.1:9"), (BASE, "no-such-program")])
def test_what_cannot_start_fails_in_dockers_words(machines: DockerMachines, image: str, words: str) -> None:
    machines.start(MachineRequest(name="bad", image=image, command=("no-such-program",)))
    give_up = time.monotonic() + 60
    while (state := machines.look("bad")).phase is MachinePhase.STARTING:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert state.phase is MachinePhase.FAILED and words in state.detail


def test_many_calls_wait_for_nothing(machines: DockerMachines) -> None:
    began = time.monotonic()
    for number in range(4):
        machines.start(MachineRequest(name=f"m{number}", image=BASE, command=WAITS))
        machines.halt(f"m{number}")
        machines.resume(f"m{number}")
        machines.look(f"m{number}")
    assert time.monotonic() - began < 0.5
    machines.remove("m0")
    machines.remove("m0")
    machines.start(MachineRequest(name="m0", image=BASE, command=WAITS))
    for number in range(4):
        until(machines, f"m{number}", MachinePhase.UP)


def test_what_a_killed_server_left_is_removed_by_the_next(machines: DockerMachines) -> None:
    script = f"""
import os, time
from providers.rehearsal.machines.base import *
from providers.rehearsal.machines.docker import DockerMachines
m = DockerMachines()
m.start(MachineRequest(name="left", image="{BASE}", command={WAITS!r}))
while m.look("left").phase is not MachinePhase.UP: time.sleep(0.01)
m.freeze("left")
print(m.owner, flush=True)
time.sleep(1)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    filtered = ["docker", "ps", "--all", "--quiet", "--filter", f"label=gpujob.rehearsal={done.stdout.strip()}"]
    assert subprocess.check_output(filtered)
    DockerMachines().close()
    assert not subprocess.check_output(filtered)
    machines.start(MachineRequest(name="mine", image=BASE, command=WAITS))
    until(machines, "mine", MachinePhase.UP)
    DockerMachines().close()
    assert machines.look("mine").phase is MachinePhase.UP and len(named(machines)) == 1, "the living are left alone"


# -- VMs


def vm_request(login: Login, *, url: str = "", user_data: str = "", gpus: SimulatedGpus | None = RTX) -> MachineRequest:
    return MachineRequest(
        name="i-0123", is_vm=True, user="ubuntu", authorized_keys=(login.public,), metadata_url=url and f"{url}/i-0123",
        user_data=user_data, gpus=gpus,
    )  # fmt: skip


@pytest.mark.slow
def test_a_vm_is_a_host_with_docker_gpus_and_metadata(machines: DockerMachines, login: Login) -> None:
    """Slow: the first VM after its images changed prepares the disk that all others copy (about 20 s)."""
    script = "#!/bin/sh\nshutdown -h +60\ntouch /user-data-ran\n"
    with listening(machines) as cloud:
        machines.start(vm_request(login, url=cloud.url, user_data=script))
        until(machines, "i-0123", MachinePhase.UP, 300)
        with login.into(machines, "i-0123", "ubuntu") as shell:
            assert said(shell, "id -un; sudo -n id -un").split() == ["ubuntu", "root"]
            eventually(lambda: shell.run(["docker", "version"], timeout=10).exit_code == 0)
            run = f"docker run --rm --gpus {{}} {BASE} nvidia-smi -L"
            assert said(shell, run.format("all")).count("SIMULATED") == 2, "the image is there, nothing is pulled"
            assert said(shell, run.format(1)).count("SIMULATED") == 1
            assert shell.run(["sh", "-c", run.format(3)], timeout=30).exit_code != 0, "more than there are"
            assert shell.run(["docker", "run", "--rm", BASE, "nvidia-smi"], timeout=30).exit_code != 0
            token = "http://169.254.169.254/latest/api/token"
            assert said(shell, f"curl -sS -X PUT {token}") == "PUT /i-0123/latest/api/token"
            inside = f"import urllib.request as r; print(r.urlopen('{token}').read().decode())"
            assert said(shell, f'docker run --rm {BASE} python3 -c "{inside}"') == "GET /i-0123/latest/api/token\n"
            eventually(lambda: shell.run(["test", "-e", "/user-data-ran"], timeout=10).exit_code == 0)
            assert said(shell, "cat /run/shutdown.order"), "it ends itself in an hour"


@pytest.mark.parametrize("order", ["shutdown -h now", "poweroff", "shutdown -P +0"])
def test_a_shutdown_from_inside_is_the_end_of_a_vm(machines: DockerMachines, login: Login, order: str) -> None:
    machines.start(vm_request(login, gpus=None))
    with login.into(machines, "i-0123", "ubuntu") as shell:
        assert shell.run(["shutdown", "-h", "now"], timeout=10).exit_code == 1, "only root may"
        with pytest.raises(TransportError):
            shell.run(["sh", "-c", f"sudo {order}; sleep 30"], timeout=20)
    assert until(machines, "i-0123", MachinePhase.OVER).exit_code == 0
    assert machines.look("i-0123").ssh is None


def test_user_data_is_a_cloud_config_or_a_script_and_runs_once(machines: DockerMachines, login: Login) -> None:
    lines = "".join(f"    {line}\n" for line in login.host_private.splitlines())
    key = f"ssh_keys:\n  ed25519_private: |\n{lines}  ed25519_public: {login.host_public}\n"
    config = f"#cloud-config\n{key}runcmd:\n- echo ran >>/ran\n"
    machines.start(vm_request(login, user_data=config, gpus=None))
    with login.into(machines, "i-0123", "ubuntu", pinned=True) as shell:
        eventually(lambda: said(shell, "cat /ran || true"))
        machines.halt("i-0123")
        until(machines, "i-0123", MachinePhase.OVER)
    machines.resume("i-0123")
    with login.into(machines, "i-0123", "ubuntu", pinned=True) as shell:
        eventually(lambda: "done" in said(shell, "cloud-init status || true"))
        assert said(shell, "cat /ran") == "ran\n", "a stopped and started VM does not run its user data again"


def test_a_scheduled_shutdown_can_be_replaced_and_cancelled(machines: DockerMachines, login: Login) -> None:
    machines.start(vm_request(login, gpus=None))
    with login.into(machines, "i-0123", "ubuntu") as shell:
        said(shell, "sudo shutdown -h +1; sudo shutdown -h +60")
        order = said(shell, "cat /run/shutdown.order")
        said(shell, "sudo shutdown -c; test ! -e /run/shutdown.order; sudo shutdown -h +1")
        assert order != said(shell, "cat /run/shutdown.order")


def test_a_missing_vm_image_is_named(login: Login) -> None:
    machines = DockerMachines(vm_image="gpujob-test:no-such")
    try:
        machines.start(vm_request(login))
        eventually(lambda: machines.look("i-0123").phase is MachinePhase.FAILED)
        assert "gpujob-test:no-such" in machines.look("i-0123").detail
    finally:
        machines.close()


def test_a_login_needs_the_key(machines: DockerMachines, login: Login, tmp_path: Path) -> None:
    machines.start(pod_request(login))
    with login.into(machines, "pod"):
        pass
    state = machines.look("pod")
    assert state.ssh is not None
    (tmp_path / "other").mkdir()
    other = Login(tmp_path / "other")
    argv = ["ssh", "-i", str(tmp_path / "other/login"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", str(state.ssh[1])]
    assert other.public
    argv += [f"root@{state.ssh[0]}", "true"]
    env = {**os.environ, "SSH_AUTH_SOCK": ""}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 255 and "Permission denied (publickey" in done.stderr
