"""The official SDK and the official command line against the simulated Vast.ai, over HTTP on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.vast.cloud import VastCloud
from providers.rehearsal.web import Served

pytestmark = pytest.mark.process

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrehearsal someone"


@pytest.fixture
def cloud() -> Iterator[VastCloud]:
    with Served(VastCloud(PaperMachines(), rate_limits=False)) as served:
        assert isinstance(served.cloud, VastCloud)
        yield served.cloud


@pytest.fixture
def sdk(cloud: VastCloud) -> Any:
    return account(cloud)


def account(cloud: VastCloud, retry: int = 3) -> Any:
    from vastai import VastAI

    return VastAI(api_key=cloud.environment()["VAST_API_KEY"], server_url=cloud.url, retry=retry)


def rent(sdk: Any, **fields: Any) -> int:
    offer = sdk.search_offers(query="num_gpus=1 gpu_name=RTX_4090", order="dph_total")[0]
    wanted = {"image": "pytorch/pytorch", "disk": 20, "ssh": True, "direct": True, "label": "run-1", **fields}
    return int(sdk.create_instance(offer["id"], **wanted)["new_contract"])


# -- SDK --------------------------------------------------------------------------------------------------------------


def test_sdk_search(sdk: Any) -> None:
    found = sdk.search_offers(query="gpu_name=RTX_4090 num_gpus>=2 gpu_ram>=24 duration>5", order="dph_total")
    assert found and {row["gpu_name"] for row in found} == {"RTX 4090"} and min(row["num_gpus"] for row in found) == 2
    assert all(row["verification"] == "verified" and row["rentable"] for row in found), "what the SDK asks for itself"
    assert [row["dph_total"] for row in found] == sorted(row["dph_total"] for row in found)
    assert sdk.search_offers(query="gpu_name=RTX_4090 gpu_ram=24") == []
    assert sdk.search_offers(query="gpu_name in [RTX_4090,L40S]", type="interruptible")[0]["is_bid"]


def test_sdk_life_of_an_instance(cloud: VastCloud, sdk: Any) -> None:
    sdk.create_ssh_key(KEY)
    assert sdk.show_ssh_keys()[0]["key"] == KEY
    instance = rent(sdk, env={"GPUJOB_OWNER": "alice", "-p 8080:8080": "1"}, onstart_cmd="echo begun")
    cloud.clock.advance(2)
    row = sdk.show_instance(instance)
    assert (row["actual_status"], row["label"]) == ("running", "run-1")
    assert row["extra_env"] == {"GPUJOB_OWNER": "alice", "-p 8080:8080": "1"}
    assert row["image_runtype"] == "ssh_direc ssh_proxy"
    assert row["public_ipaddr"] != row["public_ipaddr"].strip(), "the SDK does not strip a single instance"
    [listed] = sdk.show_instances()
    assert (listed["id"], listed["public_ipaddr"]) == (instance, "127.0.0.1"), "but it strips those of a list"
    assert "success, running" in sdk.logs(instance)
    assert sdk.label_instance(instance, "other")["success"]
    assert sdk.stop_instance(instance) == {"success": True}
    assert sdk.start_instance(instance) == {"success": True}
    assert sdk.destroy_instance(instance) == {"success": True}
    assert sdk.show_instance(instance) is None and sdk.show_instances() == []
    with pytest.raises(requests.HTTPError) as gone:
        sdk.destroy_instance(instance)
    assert gone.value.response.json()["error"] == "no_such_instance"


def test_sdk_walks_all_pages(cloud: VastCloud, sdk: Any) -> None:
    offers = sdk.search_offers(query="num_gpus=1", order="dph_total", limit=30)
    mine = [sdk.create_instance(offer["id"], image="x", disk=8)["new_contract"] for offer in offers]
    assert [row["id"] for row in sdk.show_instances()] == mine and len(mine) == 30


def test_sdk_without_keys_raises(sdk: Any) -> None:
    with pytest.raises(requests.HTTPError) as none:
        sdk.show_ssh_keys()
    assert none.value.response.status_code == 404


def test_sdk_money(cloud: VastCloud, sdk: Any) -> None:
    instance = rent(sdk)
    cloud.clock.advance(3600)
    now = int(cloud.clock().timestamp())
    page = sdk.show_invoices_v1(charges=True, start_date=now - 86_400, end_date=now + 60, charge_type=["instance"])
    [row] = page["results"]
    assert row["source"] == f"instance-{instance}" and row["amount"] == pytest.approx(
        float(cloud.bill.total()), abs=0.001
    )
    assert sdk.show_user()["credit"] < 100 and "api_key" not in sdk.show_user()
    assert sdk.show_invoices_v1(start_date=now - 86_400, end_date=now)["results"][0]["amount"] == -100


def test_sdk_bids(cloud: VastCloud, sdk: Any) -> None:
    instance = rent(sdk, bid_price=1.0)
    cloud.clock.advance(2)
    sdk.show_instance(instance)
    cloud.preempt(str(instance))
    assert sdk.show_instance(instance)["cur_state"] == "stopped"
    sdk.change_bid(instance, price=2.0)
    assert sdk.show_instance(instance)["cur_state"] == "running"


def test_sdk_repeats_a_create_whose_reply_was_lost_and_reports_an_offer_gone(cloud: VastCloud, sdk: Any) -> None:
    cloud.faults.add(Fault(kind="lost_reply", on="create"))
    with pytest.raises(requests.HTTPError) as caught:
        rent(sdk)
    assert (caught.value.response.status_code, caught.value.response.json()["error"]) == (410, "no_such_ask")
    assert [row["label"] for row in sdk.show_instances()] == ["run-1"], "it exists, and bills"
    assert [asked.call for asked in cloud.requests].count("create") == 2


def test_sdk_does_not_repeat_when_it_may_try_once(cloud: VastCloud) -> None:
    cloud.faults.add(Fault(kind="lost_reply", on="create"))
    with pytest.raises(requests.ConnectionError):
        rent(account(cloud, retry=1))
    assert [asked.call for asked in cloud.requests].count("create") == 1


def test_sdk_gives_up_on_a_limit_without_retry_after(cloud: VastCloud, sdk: Any) -> None:
    cloud.vast.limits.on = True
    first = sdk.search_offers(query="num_gpus=1", order="dph_total", limit=2)
    sdk.create_instance(first[0]["id"], image="x")
    with pytest.raises(requests.HTTPError) as caught:
        sdk.create_instance(first[1]["id"], image="x")
    assert caught.value.response.status_code == 429
    assert [asked.call for asked in cloud.requests].count("create") == 4, "one, and three in less than a second"


# -- command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def vastai(cloud: VastCloud, tmp_path: Path) -> Any:
    """Run the command line as a person would, with a home of its own: (stdout, stderr)."""
    env = {**os.environ, **cloud.environment(), "HOME": str(tmp_path), "CI": "1", "COLUMNS": "400"}
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        env[name] = str(tmp_path / name)

    def run(*words: str) -> tuple[str, str]:
        command = [str(Path(sys.executable).with_name("vastai")), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout, done.stderr

    return run


def test_command_line_rents_and_destroys(cloud: VastCloud, vastai: Any) -> None:
    offers = json.loads(vastai("search", "offers", "gpu_name=RTX_4090 num_gpus=1", "-o", "dph_total", "--raw")[0])
    assert offers[0]["gpu_name"] == "RTX 4090"
    words = ("--image", "pytorch/pytorch", "--disk", "20", "--ssh", "--direct", "--label", "run-1", "--bid_price", "1")
    made = json.loads(vastai("create", "instance", str(offers[0]["id"]), *words, "--raw")[0])
    instance = str(made["new_contract"])
    wait_until(lambda: cloud.everything()[0].status == "running")
    assert [row["id"] for row in json.loads(vastai("show", "instances", "--raw")[0])] == [int(instance)]
    assert "run-1" in vastai("show", "instances")[0]
    shown = json.loads(vastai("show", "instance", instance, "--raw")[0])
    assert (shown["actual_status"], shown["is_bid"]) == ("running", True)
    assert "success, running" in vastai("logs", instance)[0]
    assert "destroying instance" in vastai("destroy", "instance", instance, "-y")[0]
    assert "not found" in vastai("show", "instance", instance)[1]


def test_command_line_changes_an_instance(cloud: VastCloud, sdk: Any, vastai: Any) -> None:
    instance = rent(sdk, bid_price=1.0)
    assert vastai("label", "instance", str(instance), "other")[0].startswith("label for")
    assert "bid price changed" in vastai("change", "bid", str(instance), "--price", "2")[0]
    assert "stopping instance" in vastai("stop", "instance", str(instance))[0]
    row = sdk.show_instance(instance)
    assert (row["label"], row["dph_base"], row["cur_state"]) == ("other", 2.0, "stopped")
    assert "starting instance" in vastai("start", "instance", str(instance))[0]
    assert sdk.show_instance(instance)["cur_state"] == "running"


def test_command_line_shows_the_account(cloud: VastCloud, sdk: Any, vastai: Any) -> None:
    instance = rent(sdk)
    cloud.clock.advance(3600)
    assert "ssh-key created" in vastai("create", "ssh-key", KEY)[0]
    assert KEY in vastai("show", "ssh-keys")[0]
    assert json.loads(vastai("show", "user", "--raw")[0])["credit"] < 100
    now = int(cloud.clock().timestamp())
    dates = ("--start-date", str(now - 86_400), "--end-date", str(now + 60))  # with one of them the command line breaks
    charges = json.loads(vastai("show", "invoices-v1", "--charges", *dates, "--raw")[0])
    assert [row["source"] for row in charges["results"]] == [f"instance-{instance}"]
    assert "Instance" in vastai("show", "invoices-v1", "--charges", *dates, "--full", "--no-color")[0]
    assert "Credit purchase" in vastai("show", "invoices-v1", "--invoices", *dates, "--full")[0]


def test_command_line_with_an_error(vastai: Any) -> None:
    out, err = vastai("create", "instance", "5", "--image", "x", "--raw")
    assert not out and json.loads(err)["status_code"] == 404


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
