"""What the simulated RunPod does wrong when it is told to, as its client and its bill see it."""

from __future__ import annotations

import pytest

from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.runpod.orders import NO_CAPACITY
from tests.providers.rehearsal.runpod_scene import RTX_4090, Scene, order


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [("no_capacity", 400, NO_CAPACITY), ("offer_gone", 400, NO_CAPACITY), ("no_funds", 402, "balance is too low")],
)
def test_a_create_is_refused_once(scene: Scene, kind: str, status: int, words: str) -> None:
    scene.fail(kind)
    answer = scene.rest("POST", "/v2/pods", order())
    assert answer.status_code == status and words in answer.json["detail"]
    assert scene.rest("POST", "/v2/pods", order()).status_code == 201


@pytest.mark.parametrize("seconds", [0, 7])
def test_throttled(scene: Scene, seconds: int) -> None:
    scene.fail("throttled", on="list", seconds=seconds, times=2)
    rest = scene.rest("GET", "/v2/pods")
    assert (rest.status_code, rest.content_type) == (429, "application/problem+json")
    graphql = scene.query("{ myself { pods { id } } }")
    assert (graphql.status_code, graphql.content_type) == (429, "text/plain")
    for answer in (rest, graphql):
        assert answer.headers.get("Retry-After") == (str(seconds) if seconds else None)
    assert scene.rest("GET", "/v2/pods").status_code == 200


def test_an_error_before_and_one_after(scene: Scene) -> None:
    scene.fail("error", on="create")
    answer = scene.rest("POST", "/v2/pods", order(name="never"))
    assert (answer.status_code, answer.json["status"]) == (500, 500)
    scene.fail("error_after", on="create", status=502)
    answer = scene.rest("POST", "/v2/pods", order(name="made"))
    assert answer.status_code == 502 and not answer.is_json, "a page of the edge"
    assert scene.names() == ["made"], "only its name leads to it"
    assert len(scene.cloud.bill.running()) == 1


def test_which_call_a_request_is(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.get(id), scene.names()
    scene.rest("GET", "/v2/catalog/gpus"), scene.rest("GET", "/v2/billing/pods"), scene.rest("GET", "/v2/registries")
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "restart"})
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "terminate"})
    scene.query("{ myself { id } }"), scene.query("{ gpuTypes { id } }"), scene.query("{ myself { pods { id } } }")
    scene.query('{ pod(input: {podId: "x"}) { id } }'), scene.query('mutation { podTerminate(input: {podId: "x"}) }')
    scene.query("mutation { deployCpuPod(input: {}) { id } }"), scene.query("nonsense")
    assert [asked.call for asked in scene.cloud.requests] == [
        "create", "get", "list", "offers", "charges", "other", "other", "terminate",
        "other", "offers", "list", "get", "terminate", "create", "other",
    ]  # fmt: skip


def test_a_slow_boot_is_paid_for(scene: Scene) -> None:
    scene.fail("slow_boot", seconds=900)
    id = scene.pod()["id"]
    scene.pass_time(890)
    assert (scene.get(id)["status"], scene.get(id)["ssh"]["direct"]) == ("RUNNING", None)
    scene.pass_time(20)
    assert scene.get(id)["ssh"]["direct"] is not None
    assert scene.usd(id, "compute") == pytest.approx(0.69 * 910 / 3600)


def test_a_stuck_boot_runs_for_ever_without_a_runtime(scene: Scene) -> None:
    scene.fail("stuck_boot")
    id = scene.pod()["id"]
    scene.pass_time(24 * 3600)
    assert (scene.get(id)["status"], scene.get(id)["runtime"]) == ("RUNNING", None)
    assert scene.usd(id, "compute") == pytest.approx(24 * 0.69)
    assert scene.machines.requests == {}


def test_a_failed_boot(scene: Scene) -> None:
    scene.fail("failed_boot", seconds=60)
    id = scene.pod()["id"]
    scene.pass_time(3600)
    assert scene.get(id)["status"] == "ERROR"
    seen = scene.data(f'{{ pod(input: {{podId: "{id}"}}) {{ desiredStatus lastStatusChange }} }}')["pod"]
    assert seen["desiredStatus"] == "EXITED" and seen["lastStatusChange"].startswith("Exited by Runpod: ")
    assert scene.usd(id, "compute") == pytest.approx(0.69 / 60)


def test_a_stop_puts_an_end_to_what_was_to_come(scene: Scene) -> None:
    scene.fail("failed_boot", seconds=100)
    id = scene.pod()["id"]
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "stop"})
    scene.pass_time(200)
    assert scene.get(id)["status"] == "EXITED"
    scene.rest("POST", f"/v2/pods/{id}/action", {"action": "start"})
    assert scene.get(id)["ssh"]["direct"] is not None


def test_a_machine_without_its_gpu_or_with_another(scene: Scene) -> None:
    seen = {}
    for kind in ("no_gpu", "wrong_gpu"):
        scene.fail(kind)
        made = scene.pod()
        scene.pass_time(1)
        assert made["gpu"]["id"] == RTX_4090, "the API says what was sold"
        gpus = scene.machines.requests[made["id"]].gpus
        seen[kind] = gpus and gpus.name
    assert seen["no_gpu"] is None
    assert seen["wrong_gpu"] not in (None, RTX_4090)


def test_a_dead_host_is_not_noticed_by_runpod() -> None:
    class Frozen(PaperMachines):
        frozen: list[str]

        def freeze(self, name: str) -> None:
            self.frozen = [name]

    machines = Frozen()
    scene = Scene(machines)
    scene.fail("host_dies", seconds=100)
    id = scene.pod()["id"]
    address = scene.get(id)["ssh"]["direct"]
    scene.pass_time(200)
    assert machines.frozen == [id]
    assert (scene.get(id)["status"], scene.get(id)["ssh"]["direct"]) == ("RUNNING", address)


def test_a_pod_may_be_taken_and_its_host_may_die_before(scene: Scene) -> None:
    scene.fail("preempt", seconds=100)
    scene.fail("host_dies", seconds=10)
    id = scene.pod()["id"]
    scene.pass_time(50)
    assert scene.get(id)["status"] == "RUNNING" and scene.cloud.faults.waiting() == []
    scene.pass_time(60)
    assert scene.is_gone(id)


def test_a_cpu_pod_uses_up_no_fault_of_gpus(scene: Scene) -> None:
    scene.fail("no_gpu")
    scene.pod(gpu=None, cpu={"id": "cpu5c", "vcpuCount": 2}, disk=10)
    assert len(scene.cloud.faults.waiting()) == 1


def test_an_error_of_a_status_without_a_name(scene: Scene) -> None:
    scene.fail("error", status=520)
    assert scene.rest("GET", "/v2/pods").status_code == 520


def test_runpod_takes_a_pod_away_and_says_nothing_but_404(scene: Scene) -> None:
    scene.fail("preempt", seconds=100)
    id = scene.pod()["id"]
    scene.pass_time(99)
    assert scene.get(id)["status"] == "RUNNING"
    scene.pass_time(500)
    assert scene.is_gone(id) and scene.usd(id, "compute") == pytest.approx(0.69 * 100 / 3600)
    assert scene.data(f'{{ pod(input: {{podId: "{id}"}}) {{ id }} }}') == {"pod": None}
    [machine] = scene.cloud.everything()
    assert not machine.alive and machine.ended_at is not None


def test_no_pod_is_spot(scene: Scene) -> None:
    id = scene.pod()["id"]
    with pytest.raises(ValueError, match="not a spot pod"):
        scene.cloud.preempt(id)
    with pytest.raises(KeyError):
        scene.cloud.preempt("nobody")


def test_a_terminate_that_nothing_comes_of(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.fail("terminate_ignored")
    assert scene.rest("DELETE", f"/v2/pods/{id}").status_code == 204
    scene.pass_time(10 * 3600)
    assert scene.get(id)["status"] == "RUNNING", "ten hours later"
    assert scene.rest("DELETE", f"/v2/pods/{id}").status_code == 204
    assert scene.is_gone(id) and scene.usd(id, "compute") == pytest.approx(6.9)


def test_a_terminate_that_takes_its_time(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.fail("terminate_acknowledged", seconds=120)
    assert scene.rest("DELETE", f"/v2/pods/{id}").status_code == 204
    scene.fail("terminate_ignored")
    assert scene.rest("DELETE", f"/v2/pods/{id}").status_code == 204
    assert len(scene.cloud.faults.waiting()) == 1, "there was nothing to ignore"
    scene.pass_time(110)
    assert scene.get(id)["status"] == "RUNNING"
    scene.pass_time(100)
    assert scene.is_gone(id) and scene.usd(id, "compute") == pytest.approx(0.69 * 120 / 3600)


@pytest.mark.parametrize("api", ["rest", "graphql"])
def test_a_list_that_lags(scene: Scene, api: str) -> None:
    def names() -> list[str]:
        if api == "rest":
            return scene.names()
        return [pod["name"] for pod in scene.data("{ myself { pods { name } } }")["myself"]["pods"]]

    scene.pod(name="old")
    scene.pass_time(100)
    scene.fail("list_lag", seconds=60)
    assert names() == ["old"], "what is there is not hidden, and nothing is used up"
    new = scene.pod(name="new")
    assert names() == ["old"]
    assert scene.get(new["id"])["name"] == "new"
    scene.pass_time(59)
    assert names() == ["old"]
    scene.pass_time(2)
    assert names() == ["old", "new"]


def test_a_container_that_ends_is_started_again_and_billed_on(scene: Scene) -> None:
    id = scene.pod()["id"]
    port = scene.get(id)["ssh"]["direct"]["port"]
    scene.machines.end_from_inside(id)
    assert (scene.get(id)["status"], scene.get(id)["runtime"]) == ("RUNNING", None)
    scene.pass_time(6)
    assert scene.get(id)["ssh"]["direct"]["port"] != port
    assert scene.usd(id, "compute") > 0 and scene.cloud.bill.running() == {id}


def test_a_jump_of_the_clock_is_lived_through_in_order(scene: Scene) -> None:
    scene.fail("slow_boot", seconds=50)
    scene.fail("preempt", seconds=100)
    id = scene.pod()["id"]
    scene.pass_time(86_400)
    assert scene.is_gone(id) and scene.usd(id, "compute") == pytest.approx(0.69 * 100 / 3600)
    assert scene.machines.look(id).phase == "gone"


def test_nothing_is_left_of_a_machine_after_its_end(scene: Scene) -> None:
    id = scene.pod()["id"]
    scene.pass_time(1)
    assert scene.machines.look(id).phase == "up"
    scene.rest("DELETE", f"/v2/pods/{id}")
    assert scene.machines.look(id).phase == "gone"
