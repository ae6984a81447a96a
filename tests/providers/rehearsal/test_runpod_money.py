"""The simulated RunPod's bill: what its owner would find on it, and what the API says of it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.providers.rehearsal.runpod_scene import RTX_4090, Scene

MONTH = 730 * 3600
VOLUME = {"persistent": {"size": 100, "path": "/workspace"}}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_compute_is_billed_per_second_from_the_create_on_not_from_the_boot() -> None:
    scene = Scene(boot_seconds=600)
    id = scene.pod()["id"]
    scene.pass_time(300)
    assert scene.get(id)["runtime"] is None
    assert scene.usd(id, "compute") == pytest.approx(0.69 * 300 / 3600)
    scene.pass_time(1.5)
    scene.rest("DELETE", f"/v2/pods/{id}")
    scene.pass_time(3600)
    assert scene.usd(id, "compute") == pytest.approx(0.69 * 302 / 3600), "a second that began is billed"
    assert scene.cloud.bill.running() == set()


def test_disks_are_billed_by_the_month_beside_the_price_that_is_shown(scene: Scene) -> None:
    id = scene.pod(disk=50, mounts=VOLUME)["id"]
    scene.pass_time(MONTH / 10)
    assert scene.usd(id, "disk") == pytest.approx(0.10 * 150 / 10)
    assert scene.get(id)["cost"] == 0.69


def test_a_stopped_pod_costs_its_volume_at_twice_the_price_until_it_is_terminated(scene: Scene) -> None:
    id = scene.pod(disk=50, mounts=VOLUME)["id"]
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"})
    scene.pass_time(MONTH / 2)
    assert scene.usd(id, "compute") == scene.usd(id, "disk") == 0
    assert scene.usd(id, "stopped_disk") == pytest.approx(0.20 * 100 / 2)
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "start"})
    scene.pass_time(3600)
    assert scene.usd(id, "stopped_disk") == pytest.approx(0.20 * 100 / 2)
    assert scene.usd(id, "compute") == pytest.approx(0.69)
    scene.rest("DELETE", f"/v2/pods/{id}")
    assert scene.cloud.bill.running() == set()


def test_a_volume_that_grows_while_its_pod_is_stopped_costs_more_at_once(scene: Scene) -> None:
    id = scene.pod(mounts=VOLUME)["id"]
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"})
    scene.pass_time(MONTH / 2)
    grown = {"mounts": {"persistent": {"size": 200, "path": "/workspace"}}}
    assert scene.rest("PATCH", f"/v2/pods/{id}", grown).status_code == 200
    scene.pass_time(MONTH / 2)
    assert scene.usd(id, "stopped_disk") == pytest.approx(0.20 * 100 / 2 + 0.20 * 200 / 2)


def test_a_stopped_pod_without_a_volume_costs_nothing(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"})
    scene.pass_time(MONTH)
    assert scene.cloud.bill.total() == 0


def test_a_network_volume_costs_whether_it_is_attached_or_not(scene: Scene) -> None:
    made = scene.rest("POST", "/v2/network-volumes", {"name": "v", "size": 2000, "dataCenter": "EU-RO-1"}).json
    scene.pass_time(MONTH)
    assert scene.usd(made["id"], "network_volume") == pytest.approx(1000 * 0.07 + 1000 * 0.05)


def test_an_hour_must_be_paid_for_in_advance() -> None:
    assert Scene(credit="0.69").pod()
    assert Scene(credit="0.68").rest("GET", "/v2/pods").status_code == 200
    poor = Scene(credit="0.68")
    body = {"name": "a", "image": "i", "gpu": {"id": RTX_4090}}
    assert poor.rest("POST", "/v2/pods", body).status_code == 402


def test_an_empty_account_ends_every_pod_at_the_next_billing_run() -> None:
    scene = Scene(credit="2")
    volume = scene.rest("POST", "/v2/network-volumes", {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}).json
    mounts = {"network": [{"volumeId": volume["id"], "path": "/data"}]}
    kept = scene.pod(gpu={"id": "NVIDIA RTX A4000"}, mounts=mounts)["id"]
    lost = scene.pod()["id"]
    scene.pass_time(12 * 3600)
    assert scene.is_gone(lost), "its data too"
    assert scene.get(kept)["status"] == "EXITED"
    hours = 2 / (0.69 + 0.25 + 0.02 + 0.001)
    assert hours <= scene.usd(lost, "compute") / 0.69 <= hours + 2 * 300 / 3600, "found out every five minutes"


def test_too_high_a_rate_is_accepted_and_cut_off_minutes_later(scene: Scene) -> None:
    scene.cloud.account.spend_limit = Decimal("1")
    first, second = scene.pod(name="first"), scene.pod(name="second")
    assert second["status"] == "RUNNING"
    scene.pass_time(301)
    assert scene.names() == ["first"]
    assert scene.cloud.bill.running() == {first["id"]}


def test_the_billing_history_adds_up_to_the_bill(scene: Scene) -> None:
    gpu = scene.pod(disk=50)["id"]
    cpu = scene.pod(gpu=None, cpu={"id": "cpu5c", "vcpuCount": 2}, disk=10)["id"]
    scene.pass_time(2.5 * 3600)
    scene.rest("DELETE", f"/v2/pods/{gpu}")
    document = scene.rest("GET", f"/v2/billing/pods?podId={gpu}&bucketSize=hour").json
    records = document["records"]
    assert len(records) in (3, 4) and {record["podId"] for record in records} == {gpu}
    assert sum(record["gpuAmount"] for record in records) == pytest.approx(2.5 * 0.69, abs=1e-9)
    assert sum(record["totalAmount"] for record in records) == pytest.approx(float(scene.cloud.bill.total(gpu)))
    assert all(record["cpuAmount"] == 0 and isinstance(record["diskAmount"], float) for record in records)
    everything = scene.rest("GET", "/v2/billing/pods").json
    assert everything["metadata"]["uniquePodCount"] == 2
    assert everything["metadata"]["totals"]["totalAmount"] == pytest.approx(float(scene.cloud.bill.total()))
    assert everything["metadata"]["query"]["bucketSize"] == "day"
    assert {record["podId"] for record in everything["records"] if record["cpuAmount"]} == {cpu}


def test_the_billing_history_is_asked_for_by_time(scene: Scene) -> None:
    scene.pod()
    scene.pass_time(3 * 86_400)
    now = scene.cloud.clock()
    since = (now - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert len(scene.rest("GET", f"/v2/billing/pods?startTime={since}").json["records"]) == 2
    assert len(scene.rest("GET", "/v2/billing/pods?lastN=1").json["records"]) == 1
    midnight = now.strftime("%Y-%m-%dT00:00:00Z")
    before = scene.rest("GET", f"/v2/billing/pods?startTime={since}&endTime={midnight}").json["records"]
    assert [record["endTime"] for record in before] == [midnight]
    later = (now + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert scene.rest("GET", f"/v2/billing/pods?startTime={later}").json["records"] == []
    assert scene.rest("GET", f"/v2/billing/pods?lastN=1&startTime={since}").status_code == 400
    assert scene.rest("GET", "/v2/billing/pods?bucketSize=minute").status_code == 422
    assert scene.rest("GET", "/v2/billing/pods?startTime=yesterday").status_code == 422


def test_the_billing_history_may_be_behind() -> None:
    scene = Scene(billing_lag=1800)
    id = scene.pod()["id"]
    scene.pass_time(1700)
    assert scene.rest("GET", f"/v2/billing/pods?podId={id}").json["records"] == []
    scene.pass_time(1900)
    amount = scene.rest("GET", f"/v2/billing/pods?podId={id}").json["metadata"]["totals"]["gpuAmount"]
    assert amount == pytest.approx(0.69 / 2)
