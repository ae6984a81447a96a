"""The simulated RunPod's GraphQL at the wire: what its clients have met, one test each."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from providers.rehearsal.runpod.account import Key
from providers.rehearsal.runpod.language import Field, Variable, Word, parse
from providers.rehearsal.runpod.orders import NO_CAPACITY, NO_FUNDS
from tests.providers.rehearsal.runpod_scene import RTX_4090, Scene

DEPLOY = (
    "mutation ($input: PodFindAndDeployOnDemandInput!) { podFindAndDeployOnDemand(input: $input) { id costPerHr } }"
)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def deploy(scene: Scene, **wish: Any) -> str:
    wish = {"name": "job-1", "imageName": "ubuntu:24.04", "gpuTypeId": RTX_4090, "ports": "22/tcp", **wish}
    return str(scene.data(DEPLOY, {"input": wish})["podFindAndDeployOnDemand"]["id"])


def refused(scene: Scene, text: str, variables: dict[str, Any] | None = None) -> str:
    """The message of a refusal that has the status of a success."""
    answer = scene.query(text, variables)
    assert answer.status_code == 200
    [error] = answer.json["errors"]
    assert answer.json["data"] == {error["path"][0]: None}
    return str(error["message"])


def test_only_what_is_asked_for_is_answered_under_its_alias(scene: Scene) -> None:
    id = deploy(scene)
    found = scene.data(f'query {{ mine: pod(input: {{podId: "{id}"}}) {{ name machine {{ gpuDisplayName }} }} }}')
    assert found == {"mine": {"name": "job-1", "machine": {"gpuDisplayName": "RTX 4090"}}}


def test_a_pod_of_one_api_is_a_pod_of_the_other(scene: Scene) -> None:
    id = deploy(scene, env=[{"key": "A", "value": "1"}], dockerArgs="sleep 9")
    seen = scene.get(id)
    assert (seen["env"], seen["args"], seen["ports"], seen["disk"]) == ({"A": "1"}, "sleep 9", ["22/tcp"], 10)
    [listed] = scene.data("{ myself { pods { id env dockerArgs ports desiredStatus podType } } }")["myself"]["pods"]
    assert listed == {
        "id": id,
        "env": ["A=1"],
        "dockerArgs": "sleep 9",
        "ports": "22/tcp",
        "desiredStatus": "RUNNING",
        "podType": "RESERVED",
    }


def test_the_market_is_open_without_a_key_and_the_account_is_not(scene: Scene) -> None:
    public = (
        "{ gpuTypes { id } }",
        "{ dataCenters { id gpuAvailability(input: {gpuCount: 1}) { stockStatus } } }",
        "{ countryCodes }",
        "{ cpuFlavors { id minVcpu } }",
    )
    for query in public:
        assert scene.query(query, key="").status_code == 200, query
    for query in ("{ myself { id } }", '{ pod(input: {podId: "x"}) { id } }', "{ gpuTypes { id } myself { id } }"):
        assert scene.query(query, key="").status_code == 401, query
    assert scene.query("{ gpuTypes { id } }", key="rehearsal-wrong").status_code == 401
    assert None in scene.data("{ countryCodes }")["countryCodes"]


def test_the_key_may_stand_in_the_address(scene: Scene) -> None:
    key = scene.cloud.environment()["RUNPOD_API_KEY"]
    answer = scene.rest("POST", f"/graphql?api_key={key}", {"query": "{ myself { id } }"}, key="")
    assert answer.json == {"data": {"myself": {"id": scene.cloud.account.id}}}


def test_an_unknown_gpu_type_is_an_empty_list_here_and_no_capacity_there(scene: Scene) -> None:
    assert scene.data('{ gpuTypes(input: {id: "NVIDIA Nothing"}) { id } }') == {"gpuTypes": []}
    wish = {"name": "a", "imageName": "i", "gpuTypeId": "NVIDIA Nothing"}
    assert refused(scene, DEPLOY, {"input": wish}) == NO_CAPACITY


def test_without_stock_there_is_a_price_and_nothing_else(scene: Scene) -> None:
    query = "query ($id: String!) { gpuTypes(input: {id: $id}) { lowestPrice(input: {gpuCount: 2, secureCloud: true}) {"
    query += " uninterruptablePrice stockStatus minVcpu minMemory } } }"
    before = scene.data(query, {"id": RTX_4090})["gpuTypes"][0]["lowestPrice"]
    assert before == {"uninterruptablePrice": 0.69, "stockStatus": "High", "minVcpu": 16, "minMemory": 62}
    scene.cloud.market.sell_out(RTX_4090)
    after = scene.data(query, {"id": RTX_4090})["gpuTypes"][0]["lowestPrice"]
    assert after == {"uninterruptablePrice": 0.69, "stockStatus": None, "minVcpu": None, "minMemory": None}


def test_all_clouds_takes_the_cheapest_and_may_land_on_the_dearer_one(scene: Scene) -> None:
    def price(id: str) -> Any:
        return scene.data("query ($id: String!) { pod(input: {podId: $id}) { costPerHr } }", {"id": id})["pod"]

    assert price(deploy(scene, cloudType="ALL")) == {"costPerHr": 0.34}
    for host in scene.cloud.market.hosts:
        host.free = 0 if (host.kind, host.cloud) == (RTX_4090, "COMMUNITY") else host.free
    assert price(deploy(scene, cloudType="ALL")) == {"costPerHr": 0.69}


def test_a_public_address_can_be_asked_for_here(scene: Scene) -> None:
    ids = [deploy(scene, cloudType="COMMUNITY", supportPublicIp=True) for _ in range(3)]
    scene.pass_time(1)
    query = "{ myself { pods { runtime { ports { privatePort publicPort isIpPublic } } } } }"
    pods = scene.data(query)["myself"]["pods"]
    assert len(ids) == len(pods)
    assert all(port_22(pod)["isIpPublic"] for pod in pods)


def port_22(pod: Any) -> Any:
    return next(port for port in pod["runtime"]["ports"] if port["privatePort"] == 22)


def test_runtime_is_null_until_the_container_is_up_and_stale_after_a_stop() -> None:
    scene = Scene(boot_seconds=60)
    id = deploy(scene, volumeInGb=20)
    query = f'{{ pod(input: {{podId: "{id}"}}) {{ desiredStatus lastStatusChange runtime {{ uptimeInSeconds }} }} }}'
    booting = scene.data(query)["pod"]
    assert (booting["desiredStatus"], booting["runtime"]) == ("RUNNING", None)
    assert booting["lastStatusChange"].startswith("Rented by User: ")
    assert booting["lastStatusChange"].endswith(" GMT+0000 (Coordinated Universal Time)")
    scene.pass_time(61)
    assert scene.data(query)["pod"]["runtime"] is not None
    scene.data(f'mutation {{ podStop(input: {{podId: "{id}"}}) {{ desiredStatus }} }}')
    stopped = scene.data(query)["pod"]
    assert stopped["desiredStatus"] == "EXITED" and stopped["runtime"] is not None, "look at it only while RUNNING"
    scene.pass_time(60)
    assert scene.data(query)["pod"]["runtime"] is None
    assert scene.data(query)["pod"]["lastStatusChange"].startswith("Exited by user: ")


def test_a_terminated_pod_is_null_and_not_in_the_list(scene: Scene) -> None:
    id = deploy(scene)
    terminate = f'mutation {{ podTerminate(input: {{podId: "{id}"}}) }}'
    assert scene.data(terminate) == {"podTerminate": None}
    assert scene.data(f'{{ pod(input: {{podId: "{id}"}}) {{ id }} }}') == {"pod": None}
    assert scene.data("{ myself { pods { id } } }") == {"myself": {"pods": []}}
    answer = scene.query(terminate)
    assert answer.status_code == 200
    assert answer.json["errors"] == [
        {
            "message": "pod not found to terminate",
            "path": ["podTerminate"],
            "extensions": {"code": "POD_NOT_FOUND"},
        }
    ]


def test_spot_pods_are_no_longer_offered(scene: Scene) -> None:
    wish = {"name": "a", "imageName": "i", "gpuTypeId": RTX_4090, "bidPerGpu": 0.2}
    query = "mutation ($i: PodRentInterruptableInput!) { podRentInterruptable(input: $i) { id } }"
    assert refused(scene, query, {"i": wish}) == "Spot pods are no longer offered"
    scene.pod()
    assert scene.names() == ["job-1"]


def test_no_money() -> None:
    scene = Scene(credit="0")
    answer = scene.query(DEPLOY, {"input": {"name": "a", "imageName": "i", "gpuTypeId": RTX_4090}})
    [error] = answer.json["errors"]
    assert (answer.status_code, error["message"]) == (200, NO_FUNDS)
    assert error["extensions"] == {"code": "INSUFFICIENT_BALANCE"}


def test_the_account_shows_what_rest_does_not(scene: Scene) -> None:
    query = "{ myself { id email clientBalance currentSpendPerHr spendLimit } }"
    before = scene.data(query)["myself"]
    assert (before["clientBalance"], before["currentSpendPerHr"], before["spendLimit"]) == (1000, 0, 80)
    scene.pod(disk=73)
    scene.pass_time(3600)
    after = scene.data(query)["myself"]
    assert after["currentSpendPerHr"] == pytest.approx(0.69 + 0.01)
    assert after["clientBalance"] == pytest.approx(1000 - 0.70)


@pytest.mark.parametrize(("field", "seen"), [("stopAfter", "EXITED"), ("terminateAfter", None)])
def test_the_servers_own_deadline_acts_at_its_time(scene: Scene, field: str, seen: str | None) -> None:
    deadline = scene.cloud.clock() + timedelta(seconds=1800)
    id = deploy(scene, cloudType="SECURE", **{field: deadline.strftime("%Y-%m-%dT%H:%M:%S.%fZ")})
    query = f'{{ pod(input: {{podId: "{id}"}}) {{ desiredStatus }} }}'
    scene.pass_time(1790)
    assert scene.data(query)["pod"] == {"desiredStatus": "RUNNING"}
    scene.pass_time(7200)
    assert scene.data(query)["pod"] == (seen and {"desiredStatus": seen})
    assert scene.usd(id, "compute") == pytest.approx(0.69 / 2), "until then and no longer"


@pytest.mark.parametrize(
    "text",
    [
        'mutation { podFindAndDeployOnDemand(input: {name: "a"b", gpuTypeId: "NVIDIA L4"}) { id } }',
        'mutation { podFindAndDeployOnDemand(input: {name: "a\nb", gpuTypeId: "NVIDIA L4"}) { id } }',
        'mutation { podFindAndDeployOnDemand(input: {name: "a\\d", gpuTypeId: "NVIDIA L4"}) { id } }',
        "mutation { podFindAndDeployOnDemand(input: {name: ",
        "",
    ],
)
def test_what_is_not_escaped_is_a_syntax_error(scene: Scene, text: str) -> None:
    answer = scene.query(text)
    assert answer.status_code == 400 and "data" not in answer.json
    assert scene.names() == []


def test_an_unescaped_value_can_bring_fields_of_its_own(scene: Scene) -> None:
    name = 'a", gpuCount: 8, name: "b'
    scene.data(f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{RTX_4090}", name: "{name}"}}) {{ id }} }}')
    assert scene.data("{ myself { pods { name gpuCount } } }")["myself"]["pods"] == [{"name": "b", "gpuCount": 8}]
    escaped = json.dumps('a", gpuCount: 8, name: "b \\ \n c')
    scene.data(f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{RTX_4090}", name: {escaped}}}) {{ id }} }}')
    assert json.loads(escaped) in scene.names()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{ nothing }", 'Cannot query field "nothing" on type "Query".'),
        ("{ myself { pods { secret } } }", 'Cannot query field "secret" on type "Pod".'),
        ("{ myself }", "must have a selection of subfields"),
        ("{ myself { id { x } } }", "must not have a selection"),
        ("{ gpuTypes(filter: {}) { id } }", 'Unknown argument "filter"'),
        ("{ pod(input: {}) { id } }", "was not provided"),
        ("query ($id: String!) { pod(input: {podId: $id}) { id } }", 'Variable "$id" of required type'),
        ("{ pod(input: {podId: $id}) { id } }", 'Variable "$id" is not defined.'),
        ('mutation { podFindAndDeployOnDemand(input: {cloudType: "ALL"}) { id } }', "CloudTypeEnum"),
        ("mutation { podFindAndDeployOnDemand(input: {bidPerGpu: 1}) { id } }", '"bidPerGpu" is not defined by type'),
        ('mutation { podFindAndDeployOnDemand(input: {gpuCount: "1"}) { id } }', "Int cannot represent"),
        ("{ __schema { types { name } } }", "introspection is not allowed"),
    ],
)
def test_what_the_schema_does_not_allow_is_a_400_and_makes_nothing(scene: Scene, text: str, words: str) -> None:
    answer = scene.query(text)
    assert answer.status_code == 400 and words in answer.json["errors"][0]["message"]
    assert scene.names() == []


def test_a_wrong_field_in_the_answer_makes_no_pod(scene: Scene) -> None:
    wish = f'{{name: "a", imageName: "i", gpuTypeId: "{RTX_4090}"}}'
    assert scene.query(f"mutation {{ podFindAndDeployOnDemand(input: {wish}) {{ id price }} }}").status_code == 400
    assert scene.names() == []


def test_a_list_of_gpu_types_is_tried_in_its_order(scene: Scene) -> None:
    scene.cloud.market.sell_out("NVIDIA L4")
    wish = {"name": "a", "imageName": "i", "gpuTypeIdList": ["NVIDIA L4", "NVIDIA A40"], "cloudType": "SECURE"}
    scene.data(DEPLOY, {"input": wish})
    query = "{ myself { pods { machine { gpuDisplayName } } } }"
    assert scene.data(query)["myself"]["pods"] == [{"machine": {"gpuDisplayName": "A40"}}]


def test_the_entrypoint_can_be_named_in_docker_args(scene: Scene) -> None:
    id = deploy(scene, dockerArgs=json.dumps({"cmd": ["-c", "sleep 9"], "entrypoint": ["/bin/sh"]}))
    scene.pass_time(1)
    request = scene.machines.requests[id]
    assert (request.entrypoint, request.command) == (("/bin/sh",), ("-c", "sleep 9"))


def test_registry_logins(scene: Scene) -> None:
    query = "mutation ($i: SaveRegistryAuthInput!) { saveRegistryAuth(input: $i) { id name } }"
    made = scene.data(query, {"i": {"name": "r", "username": "u", "password": "rehearsal-p"}})["saveRegistryAuth"]
    assert scene.data("{ myself { containerRegistryCreds { id name } } }")["myself"]["containerRegistryCreds"] == [made]
    assert scene.query("{ myself { containerRegistryCreds { password } } }").status_code == 400
    delete = "mutation ($id: String!) { deleteRegistryAuth(registryAuthId: $id) }"
    assert scene.data(delete, {"id": made["id"]}) == {"deleteRegistryAuth": None}
    assert scene.rest("GET", "/v2/registries").json == {"registries": []}


def test_account_keys_are_replaced_as_a_whole(scene: Scene) -> None:
    for keys in (["ssh-ed25519 A a", "ssh-ed25519 B b"], ["ssh-ed25519 C c"]):
        query = "mutation ($k: String) { updateUserSettings(input: {pubKey: $k}) { pubKey } }"
        assert scene.data(query, {"k": "\n".join(keys)}) == {"updateUserSettings": {"pubKey": "\n".join(keys)}}
        assert scene.rest("GET", "/v2/account/ssh-keys").json == {"keys": keys}


def test_a_volume_in_a_data_centre_in_lower_case_is_made_and_of_no_use(scene: Scene) -> None:
    query = 'mutation ($p: String!) { createNetworkVolume(input: {name: "v", size: 20, dataCenterId: $p}) { id } }'
    gpu = "NVIDIA RTX A4000"
    for place, works in (("eu-ro-1", False), ("EU-RO-1", True)):
        id = scene.data(query, {"p": place})["createNetworkVolume"]["id"]
        wish = {"name": "a", "imageName": "i", "gpuTypeId": gpu, "networkVolumeId": id}
        assert ("errors" not in scene.query(DEPLOY, {"input": wish}).json) == works
    answer = refused(scene, 'mutation { deleteNetworkVolume(input: {id: "x"}) }')
    assert answer == "Tried to delete nonexistent network volume"


def test_keys_that_may_not(scene: Scene) -> None:
    id, other = deploy(scene), deploy(scene)
    scene.pass_time(1)
    scene.cloud.account.keys["rehearsal-reader"] = Key(may_write=False)
    own = scene.machines.requests[id].env["RUNPOD_API_KEY"]
    terminate = "mutation ($id: String!) { podTerminate(input: {podId: $id}) }"
    for key, pod in (("rehearsal-reader", id), (own, other)):
        assert "errors" in scene.query(terminate, {"id": pod}, key=key).json
    assert "errors" in scene.query("{ myself { id } }", key=own).json
    assert "errors" not in scene.query(terminate, {"id": id}, key=own).json
    assert [pod.id for pod in scene.cloud.pods.living()] == [other]


def test_the_language() -> None:
    [operation] = parse(
        'query Q($a: [String!]! = ["x"], $b: Int) { # a comment\n'
        '  one: f(i: {s: "a\\"b\\u0041", e: WORD, n: -1.5e3, t: true, z: null, v: $a, l: [1, 2]})'
        "  { ...F, ... on T { z } }"
        '  block(s: """two "quotes" here""") } fragment F on T { x y { w } }'
    )
    assert (operation.kind, operation.name, sorted(operation.variables)) == ("query", "Q", ["a", "b"])
    one, block = operation.selections
    assert (one.alias, one.name) == ("one", "f")
    assert one.arguments["i"] == {
        "s": 'a"bA',
        "e": "WORD",
        "n": -1500.0,
        "t": True,
        "z": None,
        "v": Variable("a"),
        "l": [1, 2],
    }
    assert isinstance(one.arguments["i"]["e"], Word) and not isinstance(one.arguments["i"]["s"], Word)
    assert [field.name for field in one.selections or ()] == ["x", "y", "z"]
    assert block == Field(name="block", alias="block", arguments={"s": 'two "quotes" here'})
    for wrong in ("{ }", "{ a", "a { b }", "{ a(x: ) }", '{ a(x: "\\q") }', "{ a(x: 1..2) }", "{ ...Nobody }", "§"):
        with pytest.raises(SyntaxError):
            parse(wrong)
