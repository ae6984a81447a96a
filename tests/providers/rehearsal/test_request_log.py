"""The request log names the machine that each call was about, on every simulated cloud."""

from __future__ import annotations

from providers.rehearsal.cloud import Commons
from providers.rehearsal.faults import Fault
from tests.providers.rehearsal.aws_account import Account, refused
from tests.providers.rehearsal.runpod_scene import RTX_4090, Scene, order
from tests.providers.rehearsal.vast_tenant import Tenant


def log(cloud: Commons) -> list[tuple[str, str, str]]:
    return [(asked.call, asked.what, asked.machine) for asked in cloud.requests]


def test_aws() -> None:
    account = Account()
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "run-1"}]}]
    ami = account.ami
    account.cloud.requests.clear()
    account.cloud.faults.add(Fault(kind="error", on="create"))
    with refused("InternalError"):
        account.launch(client=account.ec2, ImageId=ami, TagSpecifications=tags)
    made = account.launch(client=account.ec2, ImageId=ami, TagSpecifications=tags)["Instances"][0]["InstanceId"]
    account.state(made), account.listed()
    with refused("InvalidInstanceID.NotFound"):
        account.terminate(made, "i-00000000000000000")
    account.terminate(made)
    assert log(account.cloud) == [
        ("create", "RunInstances", "run-1"),
        ("create", "RunInstances", "run-1"),
        ("get", "DescribeInstances", "run-1"),
        ("list", "DescribeInstances", ""),
        ("terminate", "TerminateInstances", "run-1,i-00000000000000000"),
        ("terminate", "TerminateInstances", "run-1"),
    ]
    assert [asked.status for asked in account.cloud.requests] == [0, 200, 200, 200, 400, 200]


def test_runpod_by_rest() -> None:
    scene = Scene()
    scene.rest("POST", "/v2/pods", "nonsense")
    id = scene.rest("POST", "/v2/pods", order(name="run-1")).json["id"]
    scene.get(id), scene.names()
    scene.rest("GET", "/v2/pods/nobody")
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "terminate"})
    assert log(scene.cloud) == [
        ("create", "", ""),
        ("create", "", "run-1"),
        ("get", "", "run-1"),
        ("list", "", ""),
        ("get", "", "nobody"),
        ("terminate", "", "run-1"),
    ]


def test_runpod_by_graphql() -> None:
    scene = Scene()
    deploy = "mutation Q($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id } }"
    wish = {"name": "run-1", "imageName": "i", "gpuTypeId": RTX_4090}
    id = scene.data(deploy, {"input": wish})["podFindAndDeployOnDemand"]["id"]
    scene.query(f'{{ pod(input: {{podId: "{id}"}}) {{ id }} myself {{ id }} }}')
    scene.query(f'mutation {{ podTerminate(input: {{podId: "{id}"}}) }}')
    scene.query("nonsense")
    assert log(scene.cloud) == [
        ("create", "podFindAndDeployOnDemand", "run-1"),
        ("get", "pod,myself", "run-1"),
        ("terminate", "podTerminate", "run-1"),
        ("other", "", ""),
    ]


def test_the_answer_of_a_graphql_create_that_was_refused_cannot_be_lost() -> None:
    scene = Scene()
    scene.fail("no_capacity")
    scene.fail("error_after", on="create", status=502)
    deploy = f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{RTX_4090}", imageName: "i"}}) {{ id }} }}'
    assert "errors" in scene.query(deploy).json
    assert scene.query(deploy).status_code == 502 and len(scene.cloud.pods.all) == 1


def test_vast() -> None:
    tenant = Tenant()
    ask = int(tenant.offer()["id"])
    tenant.cloud.requests.clear()
    instance = tenant.rent(ask, label="run-1")
    tenant.show(instance), tenant.list()
    tenant.ask("PUT", f"/instances/reboot/{instance}/", {})
    tenant.ask("GET", "/instances/77/?owner=me")
    tenant.ask("DELETE", "/instances/", {"instance_ids": [instance, 77]})
    assert log(tenant.cloud) == [
        ("create", "", "run-1"),
        ("get", "", "run-1"),
        ("list", "", ""),
        ("other", "", "run-1"),
        ("get", "", "77"),
        ("terminate", "", "run-1,77"),
    ]
