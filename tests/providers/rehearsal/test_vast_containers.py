"""Instances of the simulated Vast.ai as real containers: reached by SSH, and ended from inside."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from providers.rehearsal.machines.docker import DockerMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.docker]

IMAGE = "gpujob-test:base"
END = """\
for name in VAST_URL CONTAINER_ID CONTAINER_API_KEY; do
    export "$name=$(tr '\\0' '\\n' </proc/1/environ | sed -n "s/^$name=//p")"
done
python3 -c 'import os, urllib.request as r
e = os.environ
url = e["VAST_URL"] + "/api/v0/instances/" + e["CONTAINER_ID"] + "/"
q = r.Request(url, method="DELETE", headers={"Authorization": "Bearer " + e["CONTAINER_API_KEY"]})
print(r.urlopen(q, timeout=10).read().decode())'
"""


@pytest.fixture
def cloud() -> Iterator[VastCloud]:
    machines = DockerMachines()
    with Served(VastCloud(machines, rate_limits=False), also_on=machines.addresses) as served:
        assert isinstance(served.cloud, VastCloud)
        yield served.cloud


def test_an_instance_is_reached_directly_survives_a_stop_and_ends_itself(cloud: VastCloud) -> None:
    from vastai import VastAI

    sdk = VastAI(api_key=cloud.environment()["VAST_API_KEY"], server_url=cloud.url)
    private, public = new_key()
    sdk.create_ssh_key(public)
    offer = sdk.search_offers(query="num_gpus=2 gpu_name=RTX_4090 direct_port_count>0", order="dph_total")[0]
    made = sdk.create_instance(
        offer["id"], image=IMAGE, ssh=True, direct=True, env={"GPUJOB_OWNER": "alice"},
        onstart_cmd="echo $GPUJOB_OWNER >/root/begun",
    )  # fmt: skip
    instance = made["new_contract"]

    with connected(running(sdk, instance), private) as shell:
        assert eventually(lambda: said(shell, "cat /root/begun")) == "alice\n", "onstart sees the environment"
        assert said(shell, "nvidia-smi -L").count("SIMULATED NVIDIA GeForce RTX 4090") == 2
    sdk.stop_instance(instance)
    sdk.start_instance(instance)
    with connected(running(sdk, instance), private) as shell:
        assert said(shell, "cat /root/begun") == "alice\n", "the disk is as it was"
        shell.exec_command(END)
        eventually(lambda: sdk.show_instance(instance) is None)
    assert cloud.bill.running() == set() and sdk.show_instances() == []


def new_key() -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()).decode()
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    return private, public


def running(sdk: Any, instance: int) -> tuple[str, int]:
    """Its direct address, once it runs and has run for a moment."""

    def address() -> tuple[str, int] | None:
        row = sdk.show_instance(instance)
        if row["actual_status"] != "running":
            return None
        return row["public_ipaddr"].strip(), int(row["ports"]["22/tcp"][0]["HostPort"])

    found = eventually(address)
    assert isinstance(found, tuple)
    return found


def connected(address: tuple[str, int], private: str) -> Any:
    import paramiko

    def attempt() -> Any:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(private))
        try:
            client.connect(address[0], address[1], "root", pkey=key, look_for_keys=False, allow_agent=False, timeout=5)
        except (paramiko.SSHException, OSError):  # its server is not there yet
            client.close()
            return None
        return client

    return eventually(attempt)


def said(shell: Any, command: str) -> str:
    _, out, _ = shell.exec_command(command, timeout=10)
    return str(out.read().decode())
