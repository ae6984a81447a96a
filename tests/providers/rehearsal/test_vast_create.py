"""Renting at the simulated Vast.ai: what is accepted, what is refused and how, and what a refusal may leave behind."""

from __future__ import annotations

import pytest

from providers.rehearsal.faults import Fault
from tests.providers.rehearsal.vast_tenant import IMAGE, Tenant


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


def test_an_accepted_create_names_the_instance_and_its_own_key(tenant: Tenant) -> None:
    status, body = tenant.create(tenant.offer()["id"])
    assert status == 200 and body.keys() == {"success", "new_contract", "instance_api_key"}
    assert len(bytes.fromhex(body["instance_api_key"])) == 32
    assert tenant.show(body["new_contract"])["label"] == "run-1"


def test_an_ask_can_be_rented_once(tenant: Tenant) -> None:
    """A client that repeats a lost create meets this, and owns an instance."""
    ask = tenant.offer()["id"]
    mine = tenant.rent(ask)
    status, body = tenant.create(ask)
    assert (status, body["error"], body["ask_id"]) == (410, "no_such_ask", ask)
    assert body["msg"] == f"error 410/3907: no_such_ask Instance type {ask} is no longer available."
    assert [row["id"] for row in tenant.list()["instances"]] == [mine]


def test_a_lost_reply_leaves_an_instance_that_only_its_label_finds(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="error_after", on="create", status=502))
    ask = tenant.offer()["id"]
    assert tenant.create(ask, label="mine-1")[0] == 502
    assert tenant.create(ask, label="mine-1")[0] == 410
    [row] = tenant.list(select_filters={"label": {"eq": "mine-1"}})["instances"]
    assert tenant.meters(row["id"])


def test_what_is_given_back_is_offered_under_a_new_id(tenant: Tenant) -> None:
    before = tenant.offer()
    tenant.destroy(tenant.rent(before["id"]))
    after = tenant.search(machine_id={"eq": before["machine_id"]}, num_gpus={"eq": before["num_gpus"]})[0]
    assert after["rentable"] and after["id"] != before["id"]


def test_an_ask_that_never_was_is_not_found(tenant: Tenant) -> None:
    status, body = tenant.create(5)
    assert (status, body["error"], body["ask_id"]) == (404, "invalid_args", 5)
    assert body["msg"] == "error 404/3603: no_such_ask Instance type by id 5 is not available."


@pytest.mark.parametrize("status", [0, 400])
def test_an_offer_that_somebody_else_has_taken(tenant: Tenant, status: int) -> None:
    """410 is documented, 400 is seen."""
    tenant.cloud.faults.add(Fault(kind="offer_gone", status=status))
    ask = tenant.offer()["id"]
    answered, body = tenant.create(ask)
    assert (answered, body["error"]) == (status or 410, "no_such_ask")
    assert tenant.list()["instances"] == [] and tenant.search(ask_contract_id={"eq": ask}) == []


def test_without_credit_nothing_is_rented() -> None:
    tenant = Tenant(credit=0)
    status, body = tenant.create(tenant.offer()["id"])
    assert (status, body["error"]) == (400, "insufficient_credit")
    assert body["msg"] == "Your account lacks credit; see the billing page."
    full = Tenant()
    full.cloud.faults.add(Fault(kind="no_funds"))
    assert full.create(full.offer()["id"])[1]["error"] == "insufficient_credit"
    assert full.list()["instances"] == []


def test_a_new_account_has_a_spending_limit(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="quota"))
    assert tenant.create(tenant.offer()["id"])[1]["error"] == "spend_rate_limit"


@pytest.mark.parametrize(
    "fields",
    [
        {"image": None},
        {"image": ""},
        {"image": "x" * 1025},
        {"label": "x" * 257},
        {"disk": 7},
        {"disk": "much"},
        {"onstart": "x" * 4049},
        {"onstart": "x" * 4000, "args": ["y" * 49]},
        {"env": {"A": "x" * 32768}},
        {"runtype": "telnet"},
        {"template_hash_id": "4e17788f74f075dd9aab7d0d4427968f"},
    ],
    ids="-".join,
)
def test_bad_arguments_are_refused_and_leave_nothing(tenant: Tenant, fields: dict[str, object]) -> None:
    ask = tenant.offer()["id"]
    status, body = tenant.create(ask, **fields)
    assert (status, body["success"], body["error"], body["ask_id"]) == (400, False, "invalid_args", ask)
    assert tenant.list()["instances"] == [] and tenant.cloud.bill.lines() == []
    tenant.rent(ask)


def test_what_is_just_short_enough_is_accepted(tenant: Tenant) -> None:
    tenant.rent(onstart="x" * 4048, label="x" * 256, disk=8, image="x" * 1024)


def test_a_create_may_leave_out_nearly_everything(tenant: Tenant) -> None:
    status, body = tenant.ask("PUT", f"/asks/{tenant.offer()['id']}/", {"image": IMAGE})
    row = tenant.show(body["new_contract"])
    assert (status, row["disk_space"], row["label"], row["image_runtype"]) == (200, 8.0, None, "ssh")


def test_env_as_a_string_of_flags_is_not_applied_and_nothing_is_said(tenant: Tenant) -> None:
    instance = tenant.rent(env="-e GPUJOB_OWNER=alice -p 8080:8080")
    assert tenant.show(instance)["extra_env"] == []
    assert "GPUJOB_OWNER" not in tenant.machines.requests[f"vast-{instance}"].env


def test_env_as_an_object_reaches_the_container_and_can_be_read_back(tenant: Tenant) -> None:
    env = {"GPUJOB_OWNER": "alice", "-p 8080:8080": "1", "-p 70000:70000/udp": "1", "-h box": "1"}
    instance = tenant.running(env=env)
    row = tenant.show(instance)
    assert row["extra_env"] == [[name, value] for name, value in env.items()]
    assert row["ports"].keys() == {"22/tcp", "8080/tcp", "70000/udp"}
    inside = tenant.machines.requests[f"vast-{instance}"].env
    assert inside["GPUJOB_OWNER"] == "alice" and not any(name.startswith("-") for name in inside)


def test_the_container_gets_what_vast_puts_into_it(tenant: Tenant) -> None:
    status, body = tenant.create(tenant.offer()["id"], env={"CONTAINER_ID": "1"})
    inside = tenant.machines.requests[f"vast-{body['new_contract']}"].env
    assert status == 200
    assert inside["CONTAINER_ID"] == str(body["new_contract"]), "not what the client says"
    assert inside["CONTAINER_API_KEY"] == body["instance_api_key"]
    assert inside["VAST_URL"] == tenant.cloud.machine_url
    assert inside["PUBLIC_IPADDR"]


@pytest.mark.parametrize(("runtype", "opened"), [("ssh_direc ssh_proxy", True), ("ssh_direct", True), ("ssh", False)])
def test_an_ssh_instance_gets_a_server_and_only_direct_ones_an_open_port(
    tenant: Tenant, runtype: str, opened: bool
) -> None:
    tenant.ask("POST", "/ssh/", {"ssh_key": "ssh-ed25519 AAAA mine"})
    instance = tenant.running(runtype=runtype, onstart="echo begun")
    request = tenant.machines.requests[f"vast-{instance}"]
    assert request.brings_sshd and request.authorized_keys == ("ssh-ed25519 AAAA mine",)
    assert (request.onstart, request.command, request.entrypoint) == ("echo begun", (), None)
    assert ("22/tcp" in tenant.show(instance)["ports"]) == opened


def test_an_args_instance_keeps_the_images_entrypoint_and_has_no_ssh(tenant: Tenant) -> None:
    instance = tenant.running(runtype="args", args=["python", "train.py"], env={"-p 22:22": "1"})
    request = tenant.machines.requests[f"vast-{instance}"]
    assert not request.brings_sshd and request.authorized_keys == ()
    assert (request.command, request.entrypoint) == (("python", "train.py"), None)
    assert tenant.show(instance)["ports"].keys() == {"22/tcp"}, "as asked for: it is the image's business who listens"


def test_onstart_is_the_entrypoint_of_an_args_instance(tenant: Tenant) -> None:
    instance = tenant.rent(runtype=None, args=["-c", "sleep 1"], onstart="bash -x")
    request = tenant.machines.requests[f"vast-{instance}"]
    assert (request.entrypoint, request.command) == (("bash", "-x"), ("-c", "sleep 1"))


def test_gpus_taken_meanwhile_leave_a_stopped_instance_that_bills_its_disk(tenant: Tenant) -> None:
    """With cancel_unavail false, which the SDK and the command line always say: 200, success, and nothing runs."""
    tenant.cloud.faults.add(Fault(kind="no_capacity"))
    instance = tenant.rent(cancel_unavail=False)
    tenant.clock.advance(600)
    row = tenant.show(instance)
    assert (row["cur_state"], row["intended_status"], row["actual_status"]) == ("stopped", "stopped", "loading")
    assert tenant.meters(instance) == {"disk"} and tenant.machines.requests == {}


@pytest.mark.parametrize("said", [True, None])
def test_gpus_taken_meanwhile_are_a_refusal_for_who_wants_it_or_says_nothing(tenant: Tenant, said: bool | None) -> None:
    tenant.cloud.faults.add(Fault(kind="no_capacity"))
    status, body = tenant.create(tenant.offer()["id"], cancel_unavail=said)
    assert (status, body["error"]) == (410, "no_such_ask")
    assert tenant.list()["instances"] == [] and tenant.cloud.bill.lines() == []


def test_parts_of_a_machine_share_its_gpus(tenant: Tenant) -> None:
    whole = tenant.search(num_gpus={"eq": 4}, gpu_frac={"eq": 1}, rentable={"eq": True})[0]
    one = tenant.search(machine_id={"eq": whole["machine_id"]}, num_gpus={"eq": 1})[0]
    tenant.rent(one["id"])
    assert tenant.create(whole["id"], cancel_unavail=True)[0] == 410
    rest = tenant.search(machine_id={"eq": whole["machine_id"]}, rentable={"eq": True})
    assert {row["num_gpus"] for row in rest} == {1, 2} and one["id"] not in {row["id"] for row in rest}


def test_target_state_stopped_starts_nothing(tenant: Tenant) -> None:
    instance = tenant.rent(target_state="stopped")
    tenant.clock.advance(60)
    assert tenant.show(instance)["cur_state"] == "stopped" and tenant.meters(instance) == {"disk"}


def test_a_bid_that_is_too_small_is_an_error_that_leaves_a_stopped_instance(tenant: Tenant) -> None:
    offer = tenant.offer()
    status, body = tenant.create(offer["id"], price=offer["min_bid"] / 2)
    assert (status, body["success"], body["error"]) == (400, False, "invalid_price")
    instance = body["new_contract"]
    row = tenant.show(instance)
    assert (row["cur_state"], row["intended_status"]) == ("stopped", "stopped")
    assert tenant.meters(instance) == {"disk"}
    assert tenant.put(instance, state="running")[1]["error"] == "resources_unavailable"
    assert tenant.show(instance)["cur_state"] == "stopped", "not before it bids more"
    assert tenant.destroy(instance)[0] == 200


@pytest.mark.parametrize("price", [0, 0.0009, -1, 33, "cheap"])
def test_a_bid_out_of_bounds_leaves_nothing(tenant: Tenant, price: object) -> None:
    status, body = tenant.create(tenant.offer()["id"], price=price)
    assert status == 400 and body["error"] in ("invalid_price", "invalid_args")
    assert tenant.list()["instances"] == []


def test_no_price_is_on_demand_even_after_a_search_for_bids(tenant: Tenant) -> None:
    [bid] = tenant.search(type="bid", ask_contract_id={"eq": tenant.offer()["id"]})
    row = tenant.show(tenant.rent(bid["id"], price=None))
    assert row["is_bid"] is False and row["dph_base"] > bid["dph_base"]
