"""What an instance does from inside: its start script, run here in a home of its own, and the end it puts to itself."""

from __future__ import annotations

import base64
import gzip
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from providers.base import OfferQuery, Settings
from providers.errors import NotFound
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served
from providers.vast import launch, mapping
from providers.vast.provider import VastProvider
from tests.fakes.clock import START
from tests.providers.vast.wire import offer
from tests.providers.wire import request
from tests.support.waiting import eventually

FAR = START + timedelta(days=36_500)  # the switch must not ask the real cloud for anything


def test_there_is_no_second_ssh_server() -> None:
    """An SSH runtype brings Vast.ai's own, on port 22."""
    assert "sshd" not in unpacked(launch.onstart(request(), START))


def test_the_private_half_of_a_host_key_is_not_sent() -> None:
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    wanted = request(host_key=private)
    assert "PRIVATE" not in unpacked(launch.onstart(wanted, START))
    assert "PRIVATE" not in str(mapping.create_body(offer(), wanted, now=START)["env"])


def unpacked(script: str) -> str:
    found = re.search(r"echo ([A-Za-z0-9+/=]+) \| base64 -d", script)
    return gzip.decompress(base64.b64decode(found[1])).decode() if found else script


@contextmanager
def running(script: str, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The script as a process group of its own: its switch stays when it is over, and is ended here."""
    given = {"PATH": os.environ["PATH"], **env}
    process = subprocess.Popen(
        ["sh", "-c", script], env=given, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.process
def test_a_rehearsal_does_not_write_into_this_computers_files(tmp_path: Path) -> None:
    """A simulated machine that is a process here has the rights of whoever rehearses: root's, in a container."""
    home, file = tmp_path / "machine", tmp_path / "environment"
    home.mkdir()
    script = unpacked(launch.onstart(request(deadline=FAR), START)).replace("/etc/environment", str(file))
    with running(script, {"GPUJOB_MACHINE_HOME": str(home), "HOME": str(tmp_path)}) as process:
        assert process.wait(timeout=20) == 0
        assert sorted(path.name for path in home.iterdir()) == [".gpujob", ".no_auto_tmux", ".ssh"]
        assert [path.name for path in tmp_path.iterdir() if path != home] == []


@pytest.mark.process
def test_a_machine_that_does_not_know_which_it_is_ends_nobody(tmp_path: Path) -> None:
    """Without an id the address would be that of all instances."""
    (tmp_path / "curl").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (tmp_path / "curl").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CONTAINER_API_KEY": "own", "VAST_URL": "http://127.0.0.1:1"}
    for number, asked in (("", False), ("101", True)):
        subprocess.run(["sh", "-c", launch.END], env={**env, "CONTAINER_ID": number}, check=False, timeout=30)
        assert (tmp_path / "asked").exists() is asked


@pytest.mark.process
class TestItsOwnEnd:
    @pytest.fixture
    def cloud(self) -> Iterator[VastCloud]:
        cloud = VastCloud(PaperMachines(), rate_limits=False)
        with Served(cloud):
            yield cloud

    @pytest.fixture
    def provider(self, cloud: VastCloud, tmp_path: Path) -> Iterator[VastProvider]:
        provider = VastProvider(Settings(home=tmp_path, env=cloud.environment(), now=cloud.clock), sleep=self.nothing)
        yield provider
        provider.close()

    @staticmethod
    def nothing(_: float) -> None: ...

    @pytest.mark.parametrize("failing", [0, 1])
    def test_at_its_deadline_it_is_gone_whoever_sleeps(
        self, cloud: VastCloud, provider: VastProvider, tmp_path: Path, failing: int
    ) -> None:
        """By its own key. A first try that fails is followed by another, ten seconds later."""
        offer = provider.offers(OfferQuery(gpus=("RTX4090",), gpu_count=1)).cheapest()
        assert offer is not None
        wanted = request(deadline=cloud.clock())
        made = provider.create(offer, wanted)
        cloud.clock.advance(10)
        assert provider.get(made.id).name == wanted.name
        if failing:
            cloud.faults.add(Fault(kind="throttled", on="terminate"))
        given = self.given(cloud, made.id)
        assert set(given) == {"CONTAINER_ID", "CONTAINER_API_KEY", "VAST_URL"}
        home = tmp_path / "machine"
        home.mkdir()
        with running(launch.onstart(wanted, cloud.clock()), {**given, "GPUJOB_MACHINE_HOME": str(home)}):
            eventually(lambda: not any(machine.alive for machine in cloud.everything()))
        cloud.clock.advance(10)
        with pytest.raises(NotFound):
            provider.get(made.id)
        assert cloud.bill.running() == set()

    def test_the_agent_ends_it_before_that(self, cloud: VastCloud, provider: VastProvider, tmp_path: Path) -> None:
        """By `self_destruct` as it is, without a shell that would put a folder's name in."""
        offer = provider.offers(OfferQuery(gpus=("RTX4090",), gpu_count=1)).cheapest()
        assert offer is not None
        made = provider.create(offer, request(deadline=FAR))
        cloud.clock.advance(10)
        provider.get(made.id)
        env = {**self.given(cloud, made.id), "GPUJOB_MACHINE_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        with running(launch.onstart(request(deadline=FAR), START), env) as process:
            assert process.wait(timeout=20) == 0
            assert any(machine.alive for machine in cloud.everything())
            subprocess.run(provider.traits.self_destruct, env=env, check=True, timeout=30, capture_output=True)
            assert not any(machine.alive for machine in cloud.everything())

    def given(self, cloud: VastCloud, instance_id: str) -> dict[str, str]:
        """What Vast.ai gives the container of an instance."""
        machines = cloud.machines
        assert isinstance(machines, PaperMachines)
        env = machines.requests[f"vast-{instance_id}"].env
        return {name: env[name] for name in ("CONTAINER_ID", "CONTAINER_API_KEY", "VAST_URL")}
