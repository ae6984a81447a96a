"""Instances at the simulated Vast.ai: their life, how they are listed and shown, and what can be done to them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from providers.rehearsal.machines.base import MachinePhase, MachineRequest, MachineState
from providers.rehearsal.machines.paper import PaperMachines
from tests.providers.rehearsal.vast_tenant import Tenant


class Booting(PaperMachines):
    """Machines that are in the phase that a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = MachinePhase.STARTING
        self.detail = ""

    def look(self, name: str) -> MachineState:
        seen = super().look(name)
        return replace(seen, phase=self.phase, detail=self.detail, ssh=("127.0.0.1", 4321)) if seen.ssh else seen


class Started(PaperMachines):
    """Counts what was asked of the machines."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def start(self, request: MachineRequest) -> None:
        self.calls.append("start")
        super().start(request)

    def halt(self, name: str) -> None:
        self.calls.append("halt")
        super().halt(name)

    def resume(self, name: str) -> None:
        self.calls.append("resume")
        super().resume(name)

    def remove(self, name: str) -> None:
        self.calls.append("remove")
        super().remove(name)


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


# -- life -------------------------------------------------------------------------------------------------------------


def test_an_instance_is_nothing_then_loading_then_running() -> None:
    machines = Booting()
    tenant = Tenant(machines=machines)
    instance = tenant.rent()
    row = tenant.show(instance)
    assert (row["actual_status"], row["cur_state"], row["intended_status"]) == (None, "running", "running")
    tenant.clock.advance(100)
    assert tenant.show(instance)["actual_status"] == "loading"
    assert "ports" not in tenant.show(instance) and tenant.meters(instance) == {"disk"}
    machines.phase = MachinePhase.UP
    row = tenant.show(instance)
    assert row["actual_status"] == "running" and row["status_msg"].startswith("success, running pytorch/pytorch_2.9.1")
    assert tenant.meters(instance) == {"disk", "compute"}


def test_a_running_instance_is_reached_directly_or_through_the_proxy_and_never_by_a_mixture() -> None:
    machines = Booting()
    machines.phase = MachinePhase.UP
    tenant = Tenant(machines=machines)
    row = tenant.show(tenant.running())
    assert row["public_ipaddr"] != row["public_ipaddr"].strip() == "127.0.0.1", "stray blanks"
    assert {place["HostPort"] for place in row["ports"]["22/tcp"]} == {"4321"}
    assert row["ssh_host"] != "127.0.0.1" and row["ssh_port"] != 4321, "the proxy refuses"


def test_where_there_is_a_proxy_it_leads_to_the_machine() -> None:
    machines = Booting()
    machines.phase = MachinePhase.UP
    tenant = Tenant(machines=machines, proxy=True)
    row = tenant.show(tenant.running())
    assert (row["ssh_host"], row["ssh_port"]) == ("127.0.0.1", 4321)
    jupyter = tenant.show(tenant.running(runtype="jupyter_direc ssh_direc ssh_proxy"))
    assert jupyter["ssh_port"] == 4320, "one less: clients add one"


def test_a_host_without_ports_opens_none(tenant: Tenant) -> None:
    offer = tenant.search(direct_port_count={"eq": 0}, rentable={"eq": True})[0]
    instance = tenant.rent(offer["id"])
    tenant.clock.advance(2)
    row = tenant.show(instance)
    assert (row["actual_status"], row["ports"], row["image_runtype"]) == ("running", {}, "ssh_direc ssh_proxy")


def test_a_container_that_ends_is_exited_and_its_gpus_are_billed_on(tenant: Tenant) -> None:
    instance = tenant.running()
    tenant.machines.end_from_inside(f"vast-{instance}")
    tenant.clock.advance(600)
    assert tenant.show(instance)["actual_status"] == "exited"
    assert tenant.meters(instance) == {"disk", "compute"}


def test_a_bad_image_loads_for_ever_and_says_why() -> None:
    machines = Booting()
    machines.phase, machines.detail = MachinePhase.FAILED, "manifest for pytorch:none not found: manifest unknown"
    tenant = Tenant(machines=machines)
    instance = tenant.rent()
    tenant.clock.advance(3600)
    row = tenant.show(instance)
    assert (row["actual_status"], row["intended_status"]) == ("loading", "running")
    assert "manifest unknown" in row["status_msg"]


def test_a_container_that_cannot_be_started_is_created_and_stopped() -> None:
    machines = Booting()
    machines.phase, machines.detail = MachinePhase.FAILED, "Error response from daemon: no space left on device"
    tenant = Tenant(machines=machines)
    instance = tenant.rent()
    row = tenant.show(instance)
    assert [row[name] for name in ("cur_state", "next_state", "intended_status")] == ["stopped"] * 3
    assert (row["actual_status"], row["status_msg"]) == ("created", machines.detail)
    assert tenant.meters(instance) == {"disk"}


def test_a_host_that_goes_offline_bills_nothing_and_does_not_come_back(tenant: Tenant) -> None:
    instance = tenant.running()
    tenant.cloud.lose_contact(str(instance))
    tenant.clock.advance(3600)
    assert tenant.show(instance)["actual_status"] == "offline" and tenant.meters(instance) == set()
    assert tenant.destroy(instance)[0] == 200


def test_an_instance_may_be_shown_as_exited_although_it_runs(tenant: Tenant) -> None:
    instance = tenant.running()
    tenant.cloud.misread(str(instance))
    assert tenant.show(instance)["actual_status"] == "exited"
    assert tenant.show(instance)["actual_status"] == "running"


def test_the_end_of_a_hosts_contract_stops_for_good(tenant: Tenant) -> None:
    ask = tenant.wanted_ask()
    instance = tenant.rent(ask.id)
    tenant.clock.advance((ask.host.end - tenant.clock()).total_seconds())
    assert tenant.show(instance)["cur_state"] == "stopped"
    assert tenant.put(instance, state="running")[1]["success"] is False
    tenant.clock.advance(60)
    assert tenant.show(instance)["cur_state"] == "stopped"


# -- stop, start, restart, destroy ------------------------------------------------------------------------------------


def test_stopped_by_its_user_it_is_exited_and_its_disk_is_billed(tenant: Tenant) -> None:
    instance = tenant.running()
    assert tenant.put(instance, state="stopped") == (200, {"success": True})
    row = tenant.show(instance)
    assert [row[name] for name in ("cur_state", "next_state", "intended_status")] == ["stopped"] * 3
    assert row["actual_status"] == "exited" and "ports" not in row
    assert tenant.meters(instance) == {"disk"}
    assert row["dph_total"] > row["dph_base"] > 0 == row["instance"]["gpuCostPerHour"], "shows its running price on"


def test_started_again_it_reads_exited_until_it_is_relaunched() -> None:
    machines = Started()
    tenant = Tenant(machines=machines)
    instance = tenant.running()
    tenant.put(instance, state="stopped")
    assert tenant.put(instance, state="running") == (200, {"success": True})
    assert tenant.show(instance)["actual_status"] == "exited"
    tenant.clock.advance(1)
    assert tenant.show(instance)["actual_status"] == "loading"
    tenant.clock.advance(1)
    assert tenant.show(instance)["actual_status"] == "running"
    assert machines.calls == ["start", "halt", "resume"], "the disk is as it was"


def test_a_container_that_is_not_up_again_yet_is_loading() -> None:
    machines = Booting()
    machines.phase = MachinePhase.UP
    tenant = Tenant(machines=machines)
    instance = tenant.running()
    tenant.put(instance, state="stopped")
    machines.phase = MachinePhase.OVER  # the machine has not begun to start again
    tenant.put(instance, state="running")
    tenant.clock.advance(5)
    assert tenant.show(instance)["actual_status"] == "loading" and tenant.meters(instance) == {"disk"}
    machines.phase = MachinePhase.UP
    assert tenant.show(instance)["actual_status"] == "running"


def test_a_start_without_free_gpus_is_queued_with_status_200_and_bills_later(tenant: Tenant) -> None:
    ask = tenant.wanted_ask(gpu_frac={"eq": 1})
    instance = tenant.rent(ask.id)
    tenant.put(instance, state="stopped")
    tenant.cloud.occupy(ask.host.machine_id)
    status, body = tenant.put(instance, state="running")
    assert (status, body["success"], body["error"]) == (200, False, "resources_unavailable")
    tenant.clock.advance(600)
    row = tenant.show(instance)
    assert (row["cur_state"], row["intended_status"]) == ("stopped", "running")
    tenant.cloud.vacate(ask.host.machine_id, 1)
    tenant.show(instance)
    tenant.clock.advance(2)
    assert tenant.show(instance)["actual_status"] == "running" and tenant.meters(instance) == {"disk", "compute"}


def test_a_queued_start_is_cancelled_by_a_stop(tenant: Tenant) -> None:
    ask = tenant.wanted_ask(gpu_frac={"eq": 1})
    instance = tenant.rent(ask.id)
    tenant.put(instance, state="stopped")
    tenant.cloud.occupy(ask.host.machine_id)
    tenant.put(instance, state="running")
    tenant.put(instance, state="stopped")
    tenant.cloud.vacate(ask.host.machine_id, 1)
    tenant.clock.advance(60)
    assert tenant.show(instance)["cur_state"] == "stopped"


def test_a_stop_gives_the_gpus_back(tenant: Tenant) -> None:
    offer = tenant.offer(gpu_frac={"eq": 1})
    instance = tenant.rent(offer["id"])
    where = {"machine_id": {"eq": offer["machine_id"]}, "rentable": {"eq": True}}
    assert tenant.search(**where) == []
    tenant.put(instance, state="stopped")
    assert len(tenant.search(**where)) == 1


def test_reboot_keeps_the_gpus_and_recycle_makes_the_container_anew() -> None:
    machines = Started()
    tenant = Tenant(machines=machines)
    instance = tenant.running()
    for call, asked in (("reboot", ["halt", "resume"]), ("recycle", ["remove", "start"])):
        machines.calls.clear()
        assert tenant.ask("PUT", f"/instances/{call}/{instance}/", {}) == (200, {"success": True})
        assert tenant.show(instance)["actual_status"] == "exited" and machines.calls == asked
        assert tenant.show(instance)["cur_state"] == "running"
        tenant.clock.advance(2)
        assert tenant.show(instance)["actual_status"] == "running"


def test_destroyed_it_is_null_and_nothing_is_billed_or_left(tenant: Tenant) -> None:
    instance = tenant.running()
    assert tenant.destroy(instance) == (200, {"success": True})
    assert tenant.ask("GET", f"/instances/{instance}/") == (200, {"instances": None})
    assert tenant.list()["instances"] == [] and tenant.cloud.bill.running() == set()
    assert tenant.machines.look(f"vast-{instance}").phase is MachinePhase.GONE
    [machine] = tenant.cloud.everything()
    assert (machine.name, machine.alive, machine.status) == ("run-1", False, "destroyed")


def test_what_is_gone_or_never_was_cannot_be_destroyed(tenant: Tenant) -> None:
    instance = tenant.rent()
    tenant.destroy(instance)
    for gone in (instance, 7):
        status, body = tenant.destroy(gone)
        assert (status, body["error"]) == (404, "no_such_instance")
        assert tenant.ask("GET", f"/instances/{gone}/") == (200, {"instances": None})


def test_several_at_once(tenant: Tenant) -> None:
    ids = [tenant.running() for _ in range(2)]
    assert tenant.ask("PUT", "/instances/", {"state": "stopped", "ids": ids}) == (200, {"success": True})
    assert {tenant.show(one)["cur_state"] for one in ids} == {"stopped"}
    assert tenant.ask("DELETE", "/instances/", {"instance_ids": ids}) == (200, {"success": True})
    assert tenant.list()["instances"] == []


def test_labels(tenant: Tenant) -> None:
    instance = tenant.rent()
    assert tenant.put(instance, label="other")[0] == 200
    assert tenant.show(instance)["label"] == "other"
    status, body = tenant.put(instance, label="x" * 1025)
    assert (status, body["error"]) == (400, "label_too_long")


# -- lists ------------------------------------------------------------------------------------------------------------


def test_the_old_list_is_gone_and_says_so(tenant: Tenant) -> None:
    tenant.rent()
    status, body = tenant.ask("GET", "/api/v0/instances/")
    assert (status, body["error"]) == (410, "deprecated_endpoint")
    assert body["msg"].endswith("Use /api/v1/instances/ instead.")


def test_the_list_comes_in_pages(tenant: Tenant) -> None:
    mine = [tenant.rent(label=f"run-{number % 2}", disk=8) for number in range(30)]
    first = tenant.list(limit=100)
    assert (first["instances_found"], first["total_instances"]) == (25, 30)
    assert first["label_counts"] == {"run-0": 15, "run-1": 15}
    second = tenant.list(limit=25, after_token=first["next_token"])
    assert second["next_token"] is None and "after_token" not in second
    assert [row["id"] for row in [*first["instances"], *second["instances"]]] == mine
    assert len(tenant.list()["instances"]) == len(tenant.list(limit=0)["instances"]) == 5
    backwards = tenant.list(limit=20, order_by=[{"col": "start_date", "dir": "desc"}, {"col": "id", "dir": "desc"}])
    rest = tenant.list(
        limit=20,
        order_by=[{"col": "start_date", "dir": "desc"}, {"col": "id", "dir": "desc"}],
        after_token=backwards["next_token"],
    )
    assert [row["id"] for row in [*backwards["instances"], *rest["instances"]]] == mine[::-1]


def test_what_is_destroyed_between_two_pages_hides_nothing(tenant: Tenant) -> None:
    mine = [tenant.rent(disk=8) for _ in range(4)]
    first = tenant.list(limit=2)
    tenant.destroy(mine[1])
    assert [row["id"] for row in tenant.list(limit=2, after_token=first["next_token"])["instances"]] == mine[2:]


def test_filters_of_the_list(tenant: Tenant) -> None:
    one, two = tenant.rent(label="a"), tenant.rent(label=None)
    assert [row["id"] for row in tenant.list(select_filters={"label": {"eq": "a"}})["instances"]] == [one]
    assert [row["id"] for row in tenant.list(select_filters={"label": {"in": [None]}})["instances"]] == [two]
    assert tenant.list(select_filters={"actual_status": {"eq": "running"}})["instances"] == []
    [row] = tenant.list(select_filters={"id": {"eq": str(two)}}, select_cols=["id", "unheard_of"])["instances"]
    assert row == {"id": two, "unheard_of": None}


@pytest.mark.parametrize("column", ["dph_total", "num_gpus", "nonsense"])
def test_computed_columns_are_no_filters(tenant: Tenant, column: str) -> None:
    query = json.dumps({column: {"eq": 1}})
    status, body = tenant.ask("GET", f"/api/v1/instances/?select_filters={query}")
    assert (status, body["msg"]) == (400, f"Error in query parameters: {column} is not a valid search key")
    order = json.dumps([{"col": column, "dir": "asc"}])
    assert tenant.ask("GET", f"/api/v1/instances/?order_by={order}")[0] == 400


def test_a_bad_token_is_refused(tenant: Tenant) -> None:
    status, body = tenant.ask("GET", "/api/v1/instances/?after_token=nonsense")
    assert (status, body["error"]) == (400, "invalid_token")


def test_volumes_are_in_the_list_only(tenant: Tenant) -> None:
    instance = tenant.rent()
    assert "volume_info" in tenant.list()["instances"][0] and "volume_info" not in tenant.show(instance)


# -- logs and keys ----------------------------------------------------------------------------------------------------


def test_logs_are_fetched_elsewhere_a_moment_later_and_without_the_key(tenant: Tenant) -> None:
    instance = tenant.running()
    status, body = tenant.ask("PUT", f"/instances/request_logs/{instance}/", {"tail": "1000"})
    assert status == 200 and body["result_url"].startswith(tenant.cloud.url)
    path = body["result_url"].removeprefix(tenant.cloud.url)
    assert tenant.ask("GET", path, key=None)[0] == 404
    tenant.clock.advance(1)
    status, text = tenant.ask("GET", path, key=None)
    assert status == 200 and "success, running" in text
    status, body = tenant.ask("PUT", "/instances/request_logs/7/", {})
    assert (status, body["error"]) == (404, "invalid_id")


def test_only_three_commands_may_be_executed(tenant: Tenant) -> None:
    instance = tenant.running()
    assert tenant.ask("PUT", f"/instances/command/{instance}/", {"command": "ls /root"})[0] == 200
    for command in ("nvidia-smi", "lsof", "ls " + "x" * 512):
        assert tenant.ask("PUT", f"/instances/command/{instance}/", {"command": command})[0] == 400


def test_ssh_keys_of_the_account(tenant: Tenant) -> None:
    status, body = tenant.ask("GET", "/ssh/")
    assert (status, body["msg"]) == (404, "No SSH keys found for the user."), "not an empty list"
    status, body = tenant.ask("POST", "/ssh/", {"ssh_key": "ssh-ed25519 AAAA one"})
    made = body["key"]
    assert (status, made["public_key"], "key" in made) == (200, "ssh-ed25519 AAAA one", False)
    status, listed = tenant.ask("GET", "/ssh/")
    assert status == 200 and listed[0]["key"] == "ssh-ed25519 AAAA one" and "public_key" not in listed[0]
    assert tenant.ask("PUT", f"/ssh/{made['id']}/", {"ssh_key": "ssh-ed25519 BBBB two"})[0] == 200
    assert tenant.ask("DELETE", f"/ssh/{made['id']}/")[0] == 200
    status, body = tenant.ask("DELETE", f"/ssh/{made['id']}/")
    assert (status, body["error"]) == (400, "no_ssh_key")


def test_ssh_keys_of_an_instance(tenant: Tenant) -> None:
    instance = tenant.rent()
    assert tenant.ask("POST", f"/instances/{instance}/ssh/", {"ssh_key": "ssh-ed25519 AAAA one"})[0] == 200
    _, body = tenant.ask("GET", f"/instances/{instance}/ssh/")
    assert isinstance(body["ssh_keys"], str), "JSON within JSON"
    [key] = json.loads(body["ssh_keys"])
    assert tenant.ask("DELETE", f"/instances/{instance}/ssh/{key['id']}/")[0] == 200
    status, body = tenant.ask("DELETE", f"/instances/{instance}/ssh/{key['id']}/")
    assert (status, body["error"]) == (404, "no_such_ssh_key")


def test_keys_of_the_account_are_put_into_new_instances_only(tenant: Tenant) -> None:
    before = tenant.rent()
    tenant.ask("POST", "/ssh/", {"ssh_key": "ssh-ed25519 AAAA late"})
    after = tenant.rent()
    assert tenant.machines.requests[f"vast-{before}"].authorized_keys == ()
    assert tenant.machines.requests[f"vast-{after}"].authorized_keys == ("ssh-ed25519 AAAA late",)
    tenant.ask("PUT", f"/instances/recycle/{before}/", {})
    assert tenant.machines.requests[f"vast-{before}"].authorized_keys == ("ssh-ed25519 AAAA late",)
