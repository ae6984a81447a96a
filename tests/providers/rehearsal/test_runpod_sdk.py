"""RunPod's own SDK against the simulated RunPod, in a process of its own that knows nothing but two variables.

And what only a real connection shows: a reply that is lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.cloud import RunpodCloud
from providers.rehearsal.web import Served

pytestmark = pytest.mark.process

BEGIN = """\
import json, os, runpod
runpod.api_key = os.environ["RUNPOD_API_KEY"]
def said(error):
    return type(error).__name__ + ": " + str(error)
"""


@pytest.fixture
def cloud() -> Iterator[RunpodCloud]:
    with Served(RunpodCloud(PaperMachines())) as served:
        assert isinstance(served.cloud, RunpodCloud)
        yield served.cloud


def sdk(cloud: RunpodCloud, home: Path, script: str, **env: str) -> Any:
    """What the script prints, as JSON."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home), **cloud.environment(), **env}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script], env=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_pods_life(cloud: RunpodCloud, tmp_path: Path) -> None:
    life = """
seen = {"gpus": len(runpod.get_gpus()), "gpu": runpod.get_gpu("NVIDIA L4", 2)}
made = runpod.create_pod("job-1", "ubuntu:24.04", "NVIDIA L4", ports="22/tcp, 8888/http", volume_in_gb=20,
                         env={"A": "1"}, docker_args="sleep 9")
seen["made"], id = made, made["id"]
seen["pod"] = runpod.get_pod(id)
seen["pods"] = [pod["id"] for pod in runpod.get_pods()]
seen["stopped"] = runpod.stop_pod(id)
seen["resumed"] = runpod.resume_pod(id, 1)
seen["ended"] = runpod.terminate_pod(id)
seen["gone"] = runpod.get_pod(id)
try:
    runpod.terminate_pod(id)
except Exception as error:
    seen["twice"] = said(error)
print(json.dumps(seen))
"""
    seen = sdk(cloud, tmp_path, life)
    made, pod = seen["made"], seen["pod"]
    assert seen["gpus"] > 10 and seen["gpu"]["securePrice"] == 0.39
    assert sorted(made) == ["env", "id", "imageName", "machine", "machineId"], "no price and no status"
    assert (pod["name"], pod["costPerHr"], pod["env"], pod["ports"]) == ("job-1", 0.39, ["A=1"], "22/tcp,8888/http")
    assert seen["pods"] == [made["id"]]
    assert (seen["stopped"]["desiredStatus"], seen["resumed"]["desiredStatus"]) == ("EXITED", "RUNNING")
    assert (seen["ended"], seen["gone"], seen["twice"]) == (None, None, "QueryError: pod not found to terminate")
    assert cloud.bill.running() == set()


def test_the_rest_of_what_the_sdk_can(cloud: RunpodCloud, tmp_path: Path) -> None:
    rest = """
seen = {"user": runpod.get_user()}
seen["keys"] = runpod.update_user_settings("ssh-ed25519 A a\\nssh-ed25519 B b")
seen["auth"] = runpod.create_container_registry_auth("r", "u", "rehearsal-p")
seen["changed"] = runpod.update_container_registry_auth(seen["auth"]["id"], "u", "rehearsal-q")
seen["deleted"] = runpod.delete_container_registry_auth(seen["auth"]["id"])
seen["template"] = runpod.create_template("t", "ubuntu:24.04", env={"A": "1"}, ports="22/tcp")
seen["cpu"] = runpod.create_pod("cpu", "ubuntu:24.04", instance_id="cpu5c-4-8")
print(json.dumps(seen))
"""
    seen = sdk(cloud, tmp_path, rest)
    assert seen["user"] == {"id": cloud.account.id, "pubKey": "", "networkVolumes": []}
    assert seen["keys"]["pubKey"].splitlines() == ["ssh-ed25519 A a", "ssh-ed25519 B b"]
    assert (seen["changed"], seen["deleted"]) == (seen["auth"], None)
    assert seen["template"]["env"] == [{"key": "A", "value": "1"}]
    [pod] = cloud.pods.living()
    assert (pod.order.cpu, pod.order.vcpus) == ("cpu5c", 4)


def test_what_the_sdk_makes_of_errors(cloud: RunpodCloud, tmp_path: Path) -> None:
    cloud.faults.add(Fault(kind="no_capacity"), Fault(kind="throttled", on="list"), Fault(kind="error", on="get"))
    cloud.account.keys["rehearsal-off"] = Key(enabled=False)
    errors = """
def attempt(call, *args, **more):
    try:
        return call(*args, **more)
    except Exception as error:
        return said(error)
seen = {
    "unknown": attempt(runpod.create_pod, "a", "i", "NVIDIA Nothing"),
    "capacity": attempt(runpod.create_pod, "a", "i", "NVIDIA L4"),
    "quote": attempt(runpod.create_pod, 'a"b', "i", "NVIDIA L4"),
    "backslash": attempt(runpod.create_pod, "a", "i", "NVIDIA L4", env={"A": "\\\\d"}),
    "newline": attempt(runpod.create_pod, "a", "i", "NVIDIA L4", docker_args="a\\nb"),
    "throttled": attempt(runpod.get_pods),
    "broken": attempt(runpod.get_pod, "x"),
    "key": attempt(runpod.get_pods, api_key="rehearsal-off"),
}
print(json.dumps(seen))
"""
    seen = sdk(cloud, tmp_path, errors)
    assert seen["unknown"].startswith("ValueError: No GPU found")
    assert seen["capacity"].startswith("QueryError: There are no longer any instances available")
    for name in ("quote", "backslash", "newline"):
        assert seen[name].startswith("QueryError: Syntax Error"), name
    assert seen["throttled"].startswith("JSONDecodeError") and seen["broken"].startswith("JSONDecodeError")
    assert seen["key"].startswith("AuthenticationError")
    assert list(cloud.pods.living()) == []


def test_a_lost_reply_leaves_a_pod_that_bills_and_only_its_name_leads_to_it(cloud: RunpodCloud, tmp_path: Path) -> None:
    cloud.faults.add(Fault(kind="lost_reply", on="create"))
    lost = """
try:
    runpod.create_pod("only-mine", "ubuntu:24.04", "NVIDIA L4")
except Exception as error:
    lost = said(error)
print(json.dumps([lost, [pod["name"] for pod in runpod.get_pods()]]))
"""
    error, names = sdk(cloud, tmp_path, lost)
    assert error.startswith("ConnectionError") and names == ["only-mine"]
    assert len(cloud.bill.running()) == 1


def test_an_outage(cloud: RunpodCloud, tmp_path: Path) -> None:
    cloud.faults.add(Fault(kind="outage", seconds=3600, status=503))
    down = """
try:
    runpod.get_pods()
except Exception as error:
    print(json.dumps(said(error)))
"""
    assert sdk(cloud, tmp_path, down).startswith("JSONDecodeError"), "a page of the edge is no JSON"
    cloud.clock.advance(3601)
    assert sdk(cloud, tmp_path, "print(json.dumps(runpod.get_pods()))") == []
