"""The simulated RunPod's REST v2 at the wire: what its clients have met, one test each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.orders import NO_CAPACITY, NO_DISK, NO_FUNDS
from tests.providers.rehearsal.runpod_scene import RTX_4090, Scene, order


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_pod_is_made_shown_listed_and_ended(scene: Scene) -> None:
    made = scene.pod(env={"GPUJOB_RUN": "r-1"}, args="sleep 9")
    seen = scene.get(made["id"])
    assert (seen["name"], seen["env"], seen["args"], seen["disk"]) == ("job-1", {"GPUJOB_RUN": "r-1"}, "sleep 9", 73)
    assert (seen["gpu"], seen["cloud"]) == ({"id": RTX_4090, "count": 1}, "SECURE")
    assert scene.names() == ["job-1"]
    ended = scene.rest("DELETE", f"/v2/pods/{made['id']}")
    assert (ended.status_code, ended.data) == (204, b"")
    assert scene.is_gone(made["id"]) and scene.names() == []


def test_a_pod_says_running_before_anything_runs(scene: Scene) -> None:
    made = scene.pod()
    assert (made["status"], made["runtime"], made["ssh"]["direct"]) == ("RUNNING", None, None)
    assert made["ssh"]["proxy"]["host"] == "ssh.runpod.io", "which is no way for an orchestrator"
    up = scene.get(made["id"])
    assert up["runtime"]["uptime"] == 0 and up["ssh"]["direct"]["username"] == "root"


def test_an_address_needs_22_tcp_among_the_ports(scene: Scene) -> None:
    made = scene.pod(ports=["8888/http"])
    up = scene.get(made["id"])
    assert up["runtime"] is not None and up["ssh"]["direct"] is None


def test_an_internal_port_is_shown_that_nobody_asked_for(scene: Scene) -> None:
    ports = scene.get(scene.pod()["id"])["runtime"]["ports"]
    assert [(port["private"], port["type"]) for port in ports] == [(22, "tcp"), (19123, "http")]


def test_the_address_changes_with_every_start(scene: Scene) -> None:
    id = scene.pod(mounts={"persistent": {"size": 20, "path": "/workspace"}})["id"]
    ports = [scene.get(id)["ssh"]["direct"]["port"]]
    for actions in (["stop", "start"], ["restart"]):
        for action in actions:
            assert scene.rest("POST", f"/v2/pods/{id}/action", {"action": action}).status_code == 200
        ports.append(scene.get(id)["ssh"]["direct"]["port"])
    assert len(set(ports)) == 3


def test_the_price_stays_on_a_stopped_pod(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"})
    stopped = scene.get(id)
    assert (stopped["status"], stopped["runtime"], stopped["cost"]) == ("EXITED", None, 0.69)


def test_two_pods_may_have_one_name_and_the_list_has_no_filter(scene: Scene) -> None:
    scene.pod(), scene.pod(), scene.pod(name="other")
    listed = scene.rest("GET", "/v2/pods?name=job-1&limit=1&bogus=1").json["pods"]
    assert [pod["name"] for pod in listed] == ["job-1", "job-1", "other"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"bogus": 1}, "$: additional properties 'bogus' not allowed"),
        ({"interruptible": True}, "$: additional properties 'interruptible' not allowed"),
        ({"supportPublicIp": True}, "$: additional properties 'supportPublicIp' not allowed"),
        ({"stopAfter": "2026-12-01T00:00:00Z"}, "$: additional properties 'stopAfter' not allowed"),
        ({"gpu": {"id": RTX_4090, "bidPerGpu": 1}}, "$.gpu: additional properties 'bidPerGpu' not allowed"),
        ({"name": None}, "$: missing property 'name'"),
        ({"image": None}, "$: missing property 'image'"),
        ({"gpu": RTX_4090}, "$.gpu: got string, want object"),
        ({"env": {"A": 1}}, "$.env.A: got number, want string"),
        ({"disk": 0}, "$.disk: minimum: got 0, want 1"),
        ({"cloud": "ALL"}, "$.cloud: value must be one of 'SECURE', 'COMMUNITY'"),
        ({"ports": "22/tcp"}, "$.ports: got string, want array"),
        ({"mounts": {"persistent": {"size": 5, "path": "/w"}}}, "$.mounts.persistent.size: minimum: got 5, want 10"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(scene: Scene, changes: dict[str, Any], error: str) -> None:
    answer = scene.rest("POST", "/v2/pods", order(**changes))
    assert answer.status_code == 422 and answer.content_type == "application/problem+json"
    assert answer.json["detail"] == "Request validation failed." and answer.json["errors"] == [error]
    assert scene.names() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": {"id": "cpu5c", "vcpuCount": 4}},
        {"gpu": None},
        {"gpu": {"id": RTX_4090, "minCudaVersion": "12.4", "allowedCudaVersions": ["12.8"]}},
        {"gpu": None, "cpu": {"id": "cpu5c", "vcpuCount": 3}},
        {"registry": "nobodys"},
        {"env": {f"V{number}": "" for number in range(51)}},
    ],
)
def test_a_broken_rule_has_the_status_of_no_capacity(scene: Scene, changes: dict[str, Any]) -> None:
    answer = scene.rest("POST", "/v2/pods", order(**changes))
    assert answer.status_code == 400 and answer.json["detail"] != NO_CAPACITY
    scene.cloud.market.sell_out(RTX_4090)
    full = scene.rest("POST", "/v2/pods", order())
    assert (full.status_code, full.json["detail"]) == (400, NO_CAPACITY)
    assert sorted(full.json) == ["detail", "status", "title"], "no code tells them apart"


def test_a_gpu_type_that_does_not_exist_is_no_capacity(scene: Scene) -> None:
    answer = scene.rest("POST", "/v2/pods", order(gpu={"id": "NVIDIA Nothing"}))
    assert (answer.status_code, answer.json["detail"]) == (400, NO_CAPACITY)


def test_high_stock_does_not_mean_that_a_pod_fits(scene: Scene) -> None:
    for host in scene.cloud.market.hosts:
        host.free = min(host.free, 1) if host.kind == RTX_4090 else host.free
    [gpu] = [
        gpu
        for gpu in scene.rest("GET", "/v2/catalog/gpus?include=AVAILABILITY&product=POD").json["gpus"]
        if gpu["id"] == RTX_4090
    ]
    assert gpu["availability"] == "HIGH"
    assert scene.rest("POST", "/v2/pods", order(gpu={"id": RTX_4090, "count": 2})).status_code == 400
    counted = scene.rest("GET", f"/v2/catalog/gpus/{RTX_4090}?include=AVAILABILITY&product=POD&count=2").json
    assert counted["availability"] == "NONE" and "dataCenters" not in counted


def test_an_empty_account_rents_nothing() -> None:
    scene = Scene(credit="0")
    answer = scene.rest("POST", "/v2/pods", order())
    assert (answer.status_code, answer.json["detail"]) == (402, NO_FUNDS)
    assert scene.names() == []


def test_keys(scene: Scene) -> None:
    id = scene.pod()["id"]
    keys = scene.cloud.account.keys
    keys["rehearsal-reader"] = Key(may_write=False)
    none = scene.rest("GET", "/v2/pods", key="")
    assert (none.status_code, none.json["detail"]) == (401, "missing bearer token")
    assert scene.rest("GET", "/v2/pods", key="rehearsal-wrong").status_code == 401
    assert scene.rest("GET", "/v2/pods", key="rehearsal-reader").status_code == 200
    assert scene.rest("DELETE", f"/v2/pods/{id}", key="rehearsal-reader").status_code == 403
    for key in keys.values():
        key.enabled = False
    assert scene.rest("DELETE", f"/v2/pods/{id}").status_code == 401, "and it goes on to cost"
    assert scene.cloud.bill.running() == {id}


def test_a_pods_own_key_ends_that_pod_and_no_other(scene: Scene) -> None:
    mine, other = scene.pod(name="mine"), scene.pod(name="other")
    scene.pass_time(1)
    env = scene.machines.requests[mine["id"]].env
    assert env["RUNPOD_POD_ID"] == mine["id"] and env["RUNPOD_API_BASE_URL"] == scene.cloud.machine_url
    assert env["RUNPOD_TCP_PORT_22"] == str(scene.get(mine["id"])["ssh"]["direct"]["port"])
    key = env["RUNPOD_API_KEY"]
    assert key not in str(scene.get(mine["id"])), "nobody else is shown it"
    assert scene.rest("GET", "/v2/pods", key=key).status_code == 403
    assert scene.rest("DELETE", f"/v2/pods/{other['id']}", key=key).status_code == 403
    assert scene.rest("DELETE", f"/v2/pods/{mine['id']}", key=key).status_code == 204
    assert scene.names() == ["other"]
    assert scene.rest("GET", f"/v2/pods/{mine['id']}", key=key).status_code == 401, "it ended with its pod"


def test_the_edge_refuses_pythons_own_user_agent(scene: Scene) -> None:
    answer = scene.rest("GET", "/v2/pods", headers={"User-Agent": "Python-urllib/3.11"})
    assert (answer.status_code, answer.text) == (403, "error code: 1010")


def test_version_1_is_gone(scene: Scene) -> None:
    for method, path in (("GET", "/v1/pods"), ("POST", "/v1/pods"), ("DELETE", "/v1/pods/x")):
        assert scene.rest(method, path).status_code == 410


def test_a_method_that_is_not_there(scene: Scene) -> None:
    answer = scene.rest("PUT", "/v2/pods")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert scene.rest("GET", "/v2/nothing").status_code == 404


def test_an_action_that_the_state_does_not_allow(scene: Scene) -> None:
    id = scene.pod()["id"]
    assert scene.get(id)["actions"] == ["stop", "restart", "terminate"]
    assert scene.rest("POST", f"/v2/pods/{id}/action", {"action": "start"}).status_code == 409
    wrong = scene.rest("POST", f"/v2/pods/{id}/action", {"action": "pause"})
    assert wrong.status_code == 422
    assert wrong.json["errors"] == ["$.action: value must be one of 'start', 'stop', 'restart', 'terminate'"]
    assert scene.rest("POST", f"/v2/pods/{id}/action", {"action": "terminate"}).status_code == 204
    assert scene.rest("DELETE", f"/v2/pods/{id}").status_code == 404


def test_a_stopped_pod_cannot_start_when_its_host_is_taken(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"})
    scene.cloud.market.sell_out(RTX_4090)
    answer = scene.rest("POST", f"/v2/pods/{id}/action", {"action": "start"})
    assert answer.status_code == 400 and "not enough free GPUs on the host machine" in answer.json["detail"]
    assert scene.get(id)["status"] == "EXITED"


def test_what_a_pod_gives_back_can_be_rented_again(scene: Scene) -> None:
    def stock() -> int:
        return scene.cloud.market.stock(RTX_4090)

    free = stock()
    ended, stopped = scene.pod(gpu={"id": RTX_4090, "count": 4})["id"], scene.pod()["id"]
    assert stock() == free - 5
    scene.rest("DELETE", f"/v2/pods/{ended}")
    scene.rest("POST", f"/v2/pods/{stopped}/action", {"action": "stop"})
    assert stock() == free
    scene.cloud.account.credit = Decimal(0)
    assert scene.rest("POST", "/v2/pods", order()).status_code == 402
    assert stock() == free


def test_a_locked_pod_cannot_be_stopped(scene: Scene) -> None:
    id = scene.pod()["id"]
    assert scene.rest("PATCH", f"/v2/pods/{id}", {"locked": True}).json["locked"]
    assert scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"}).status_code == 409
    assert scene.get(id)["status"] == "RUNNING"


def test_no_host_has_so_large_a_disk(scene: Scene) -> None:
    answer = scene.rest("POST", "/v2/pods", order(disk=5000))
    assert (answer.status_code, answer.json["detail"]) == (400, NO_DISK)


@pytest.mark.parametrize(
    ("wish", "fits"),
    [
        ({"minCudaVersion": "12.8"}, True),
        ({"minCudaVersion": "13.1"}, False),
        ({"allowedCudaVersions": ["12.4"]}, True),
        ({"allowedCudaVersions": ["12.5"]}, False),
        ({"minVcpuCountPerGpu": 8, "minRamPerGpu": 31}, True),
        ({"minVcpuCountPerGpu": 9}, False),
        ({"minRamPerGpu": 32}, False),
    ],
)
def test_what_the_host_must_have(scene: Scene, wish: dict[str, Any], fits: bool) -> None:
    answers = [scene.rest("POST", "/v2/pods", order(gpu={"id": RTX_4090, **wish})) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {201 if fits else 400}
    if "allowedCudaVersions" in wish and fits:
        assert {answer.json["cudaVersion"] for answer in answers} == {"12.4"}


def test_an_answer_may_lack_the_address_of_a_pod_that_is_up() -> None:
    scene = Scene(telemetry_gaps=0.5)
    id = scene.pod()["id"]
    seen = [scene.get(id) for _ in range(20)]
    assert {pod["status"] for pod in seen} == {"RUNNING"}
    assert {(pod["runtime"] is None, pod["ssh"]["direct"] is None) for pod in seen} == {(True, True), (False, False)}


def test_a_community_pod_may_never_have_an_address(scene: Scene) -> None:
    pods = [scene.get(scene.pod(cloud="COMMUNITY")["id"]) for _ in range(4)]
    assert {pod["ssh"]["direct"] is None for pod in pods} == {True, False}
    assert {pod["dataCenterId"] for pod in pods} == {None}
    assert all(pod["runtime"] is not None for pod in pods)


def test_start_ssh_brings_the_accounts_keys_and_a_pods_own_key_wins(scene: Scene) -> None:
    assert scene.pod(startSsh=True)["env"] == {}, "without registered keys it does nothing"
    key = "ssh-ed25519 AAAA somebody"
    assert scene.rest("PUT", "/v2/account/ssh-keys", {"keys": [key]}).json == {"keys": [key]}
    assert scene.pod(startSsh=True)["env"] == {"PUBLIC_KEY": key}
    assert scene.pod(startSsh=False)["env"] == {}
    assert scene.pod(startSsh=True, env={"PUBLIC_KEY": "mine"})["env"] == {"PUBLIC_KEY": "mine"}


def test_args_replace_the_images_command(scene: Scene) -> None:
    id = scene.pod(args="sh -c 'echo \"a b\"; sleep 5'")["id"]
    scene.pass_time(1)
    request = scene.machines.requests[id]
    assert (request.image, request.command) == ("ubuntu:24.04", ("sh", "-c", 'echo "a b"; sleep 5'))
    assert request.gpus is not None and (request.gpus.name, request.gpus.count) == (RTX_4090, 1)


def test_args_that_are_no_command_line_leave_a_pod_that_bills_and_never_comes_up(scene: Scene) -> None:
    id = scene.pod(args="sh -c 'unbalanced")["id"]
    scene.pass_time(3600)
    assert (scene.get(id)["status"], scene.get(id)["runtime"]) == ("RUNNING", None)
    assert scene.usd(id, "compute") == pytest.approx(0.69)


def test_a_changed_setting_restarts_a_running_pod_and_a_name_does_not(scene: Scene) -> None:
    id = scene.pod()["id"]
    port = scene.get(id)["ssh"]["direct"]["port"]
    assert scene.rest("PATCH", f"/v2/pods/{id}", {"name": "renamed"}).json["ssh"]["direct"]["port"] == port
    assert scene.rest("PATCH", f"/v2/pods/{id}", {"env": {"A": "1"}}).json["ssh"]["direct"] is None
    changed = scene.get(id)
    assert (changed["name"], changed["env"]) == ("renamed", {"A": "1"})
    assert changed["ssh"]["direct"]["port"] != port
    assert scene.rest("PATCH", f"/v2/pods/{id}", {"bogus": 1}).status_code == 422


def test_a_cpu_pod(scene: Scene) -> None:
    flavors = {cpu["id"]: cpu for cpu in scene.rest("GET", "/v2/catalog/cpus").json["cpus"]}
    made = scene.pod(gpu=None, cpu={"id": "cpu5c", "vcpuCount": 4})
    assert made["cpu"] == {"id": "cpu5c", "vcpuCount": 4, "memory": 8} and "gpu" not in made
    assert made["cost"] == pytest.approx(4 * flavors["cpu5c"]["price"]["securePerVcpu"])
    scene.pass_time(1)
    assert scene.machines.requests[made["id"]].gpus is None


def test_the_catalog_tells_stock_only_when_asked_for_both(scene: Scene) -> None:
    plain = scene.rest("GET", "/v2/catalog/gpus").json["gpus"]
    assert all("availability" not in gpu for gpu in plain)
    for query in ("include=AVAILABILITY", "product=POD", "count=2", "cloud=SECURE"):
        assert scene.rest("GET", f"/v2/catalog/gpus?{query}").status_code == 400, query
    for query in ("include=EVERYTHING&product=POD", "include=AVAILABILITY&product=POD&count=x"):
        assert scene.rest("GET", f"/v2/catalog/gpus?{query}").status_code == 422, query


def test_the_catalogs_prices_are_per_gpu_and_0_where_a_cloud_has_none(scene: Scene) -> None:
    gpus = {gpu["id"]: gpu for gpu in scene.rest("GET", "/v2/catalog/gpus").json["gpus"]}
    assert gpus[RTX_4090]["price"] == {"secure": 0.69, "community": 0.34}
    assert scene.pod(gpu={"id": RTX_4090, "count": 2})["cost"] == pytest.approx(2 * 0.69)
    only_secure = gpus["NVIDIA L4"]
    assert not only_secure["community"] and only_secure["price"]["community"] == 0
    assert only_secure["maxCount"] == {"secure": 8, "community": 0}


def test_a_pod_goes_where_it_was_wanted(scene: Scene) -> None:
    query = "include=AVAILABILITY&product=POD"
    places = scene.rest("GET", f"/v2/catalog/gpus/{RTX_4090}?{query}").json["dataCenters"]
    wanted = places[-1]["id"]
    assert scene.pod(dataCenterIds=[wanted])["dataCenterId"] == wanted
    scene.cloud.market.sell_out(RTX_4090, data_center=wanted)
    assert scene.rest("POST", "/v2/pods", order(dataCenterIds=[wanted])).status_code == 400
    assert scene.rest("POST", "/v2/pods", order()).status_code == 201


def test_the_catalog_by_country(scene: Scene) -> None:
    query = "include=AVAILABILITY&product=POD"
    here = scene.rest("GET", f"/v2/catalog/gpus?{query}&countryCodes=RO").json["gpus"]
    everywhere = scene.rest("GET", f"/v2/catalog/gpus?{query}").json["gpus"]
    assert 0 < len(here) < len(everywhere)
    assert {center["id"] for gpu in here for center in gpu["dataCenters"]} == {"EU-RO-1"}
    assert scene.rest("GET", f"/v2/catalog/gpus?{query}&countryCodes=ro").status_code == 422
    assert scene.rest("GET", "/v2/catalog/gpus?countryCodes=RO").status_code == 400


def test_data_centres_show_their_stock_when_asked(scene: Scene) -> None:
    europe = scene.rest("GET", "/v2/catalog/datacenters?regions=EUROPE&include=GPU_AVAILABILITY").json["dataCenters"]
    assert europe and {center["region"] for center in europe} == {"EUROPE"}
    assert all(row["availability"] for center in europe for row in center["gpuAvailability"])
    assert "gpuAvailability" not in scene.rest("GET", "/v2/catalog/datacenters/EU-RO-1").json


def test_a_registrys_password_is_never_shown_again(scene: Scene) -> None:
    body = {"name": "ours", "username": "me", "password": "rehearsal-password"}
    made = scene.rest("POST", "/v2/registries", body)
    assert (made.status_code, sorted(made.json)) == (201, ["id", "name"])
    assert scene.rest("GET", "/v2/registries").json == {"registries": [made.json]}
    assert scene.pod(registry=made.json["id"])["registry"] == made.json["id"]
    assert scene.rest("DELETE", f"/v2/registries/{made.json['id']}").status_code == 204
    assert scene.rest("GET", f"/v2/registries/{made.json['id']}").status_code == 404


def test_a_network_volume_pins_its_pod_and_cannot_go_while_it_is_attached(scene: Scene) -> None:
    volume = scene.rest("POST", "/v2/network-volumes", {"name": "v", "size": 50, "dataCenter": "EU-RO-1"}).json
    mounts = {"network": [{"volumeId": volume["id"], "path": "/data"}]}
    secure = "NVIDIA RTX A4000"
    pod = scene.pod(gpu={"id": secure}, mounts=mounts)
    assert pod["dataCenterId"] == "EU-RO-1"
    community = order(gpu={"id": secure}, mounts=mounts, cloud="COMMUNITY")
    assert scene.rest("POST", "/v2/pods", community).status_code == 400
    assert scene.rest("DELETE", f"/v2/network-volumes/{volume['id']}").status_code == 400
    assert scene.rest("PATCH", f"/v2/network-volumes/{volume['id']}", {"size": 20}).status_code == 400, "only grows"
    scene.rest("DELETE", f"/v2/pods/{pod['id']}")
    assert scene.rest("DELETE", f"/v2/network-volumes/{volume['id']}").status_code == 204
    assert scene.rest("GET", "/v2/network-volumes").json == {"networkVolumes": []}


def test_a_template_fills_in_what_the_order_leaves_out(scene: Scene) -> None:
    body = {"name": "t", "image": "torch:1", "env": {"A": "1", "B": "1"}, "startSsh": False}
    template = scene.rest("POST", "/v2/templates", body).json
    made = scene.pod(image=None, templateId=template["id"], env={"B": "2"})
    assert (made["image"], made["env"]["A"], made["env"]["B"], made["template"]) == ("torch:1", "1", "2", None)
    assert scene.rest("DELETE", f"/v2/templates/{template['id']}").status_code == 400, "used within two minutes"
    scene.pass_time(121)
    assert scene.rest("DELETE", f"/v2/templates/{template['id']}").status_code == 204
    assert scene.rest("POST", "/v2/pods", order(templateId="nobodys")).status_code == 404


def test_logs_are_server_sent_events(scene: Scene) -> None:
    answer = scene.rest("GET", f"/v2/pods/{scene.pod()['id']}/logs?source=system")
    assert answer.mimetype == "text/event-stream" and "data: {" in answer.text


def test_the_rate_limit_has_three_windows_and_says_how_long() -> None:
    scene = Scene(rate_limits=True)
    first = scene.rest("GET", "/v2/pods")
    assert first.headers["RateLimit-Policy"].startswith('"minute";q=60;w=60, "hour";q=3000;w=3600')
    assert '"minute";r=59;' in first.headers["RateLimit"]
    answers = [scene.rest("GET", "/v2/pods").status_code for _ in range(60)]
    assert answers.count(200) == 59
    refused = scene.rest("GET", "/v2/pods")
    assert (refused.status_code, refused.json["detail"]) == (429, "rate limit exceeded for the minute window")
    wait = refused.headers["Retry-After"]
    assert wait.isdigit() and 1 <= int(wait) <= 60
    scene.pass_time(int(wait))
    assert scene.rest("GET", "/v2/pods").status_code == 200
    assert "RateLimit" not in scene.rest("GET", "/v2/pods", key="").headers, "not before it is known who asks"


def test_the_hours_window_counts_too() -> None:
    scene = Scene(rate_limits=True)
    scene.pass_time(3601 - scene.cloud.clock().timestamp() % 3600)
    for _ in range(50):
        assert {scene.rest("GET", "/v2/pods").status_code for _ in range(60)} == {200}
        scene.pass_time(60)
    refused = scene.rest("GET", "/v2/pods")
    assert (refused.status_code, refused.json["detail"]) == (429, "rate limit exceeded for the hour window")
    assert 590 <= int(refused.headers["Retry-After"]) <= 600
