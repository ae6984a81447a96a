"""What the simulated Vast.ai can be told to do wrong, and interruptible instances: bids, outbidding, coming back."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.base import MachinePhase, SimulatedGpus
from providers.rehearsal.machines.paper import PaperMachines
from tests.providers.rehearsal.vast_tenant import Tenant

STATES = ("cur_state", "next_state", "intended_status")


class Freezing(PaperMachines):
    def __init__(self) -> None:
        super().__init__()
        self.frozen: list[str] = []

    def freeze(self, name: str) -> None:
        self.frozen.append(name)


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


# -- boots ------------------------------------------------------------------------------------------------------------


def test_a_slow_boot(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="slow_boot", seconds=300))
    instance = tenant.rent()
    tenant.clock.advance(299)
    assert tenant.show(instance)["actual_status"] == "loading"
    tenant.clock.advance(1)
    assert tenant.show(instance)["actual_status"] == "running"


def test_a_stuck_boot_bills_its_disk_for_ever(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="stuck_boot"))
    instance = tenant.rent()
    tenant.clock.advance(86_400)
    row = tenant.show(instance)
    assert (row["actual_status"], row["intended_status"]) == ("loading", "running")
    assert tenant.meters(instance) == {"disk"}


def test_a_failed_boot_is_created_and_stopped_with_the_daemons_words(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="failed_boot", seconds=30))
    instance = tenant.rent()
    tenant.clock.advance(29)
    assert tenant.show(instance)["actual_status"] == "loading"
    tenant.clock.advance(1)
    row = tenant.show(instance)
    assert [row[name] for name in STATES] == ["stopped"] * 3 and row["actual_status"] == "created"
    assert "OCI runtime create failed" in row["status_msg"]
    assert tenant.meters(instance) == {"disk"}
    assert tenant.machines.look(f"vast-{instance}").phase is MachinePhase.GONE


def test_the_gpu_that_was_sold_and_one_that_was_not(tenant: Tenant) -> None:
    def inside(**wanted: object) -> SimulatedGpus | None:
        instance = tenant.rent(tenant.offer(**wanted)["id"])
        return tenant.machines.requests[f"vast-{instance}"].gpus

    wanted = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 2}}
    assert inside(**wanted) == SimulatedGpus("NVIDIA GeForce RTX 4090", 2, 24564)
    tenant.cloud.faults.add(Fault(kind="no_gpu"))
    assert inside(**wanted) is None
    tenant.cloud.faults.add(Fault(kind="wrong_gpu"))
    wrong = inside(**wanted)
    assert wrong is not None and wrong.count == 2 and "4090" not in wrong.name


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_host_that_dies_is_shown_and_billed_as_running() -> None:
    machines = Freezing()
    tenant = Tenant(machines=machines)
    tenant.cloud.faults.add(Fault(kind="host_dies", seconds=60))
    instance = tenant.running()
    tenant.clock.advance(57)
    tenant.show(instance)
    assert machines.frozen == []
    tenant.clock.advance(600)
    assert tenant.show(instance)["actual_status"] == "running"
    assert machines.frozen == [f"vast-{instance}"] and tenant.meters(instance) == {"disk", "compute"}


def test_a_host_that_is_offline_takes_no_further_gpus(tenant: Tenant) -> None:
    instance = tenant.running()
    host = tenant.cloud.vast.contracts.all[instance].host
    tenant.cloud.lose_contact(str(instance))
    host.free = host.gpus
    for _ in range(3):
        tenant.clock.advance(60)
        assert tenant.show(instance)["actual_status"] == "offline"
    assert host.free == host.gpus and tenant.meters(instance) == set()
    tenant.put(instance, state="stopped")
    tenant.put(instance, state="running")
    assert tenant.meters(instance) == set()


def test_an_instance_that_does_not_start_uses_up_no_fault(tenant: Tenant) -> None:
    for kind in ("stuck_boot", "host_dies", "no_gpu"):
        tenant.cloud.faults.add(Fault(kind=kind))
    tenant.rent(target_state="stopped")
    assert len(tenant.cloud.faults.waiting()) == 3
    tenant.rent()
    assert tenant.cloud.faults.waiting() == []


def test_an_unknown_ask_is_nothing_that_could_be_gone(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="offer_gone"))
    assert tenant.create(1)[0] == 404 and len(tenant.cloud.faults.waiting()) == 1


def test_a_refusal_has_the_status_that_was_asked_for(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="throttled", status=503, seconds=9))
    answer = tenant.response("GET", "/users/current")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "9")


def test_a_destroy_that_is_acknowledged_and_ignored(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="terminate_ignored"))
    instance = tenant.running()
    assert tenant.destroy(instance) == (200, {"success": True})
    tenant.clock.advance(600)
    assert tenant.show(instance)["actual_status"] == "running" and "compute" in tenant.meters(instance)
    tenant.destroy(instance)
    assert tenant.cloud.bill.running() == set()


def test_a_destroy_that_takes_its_time_bills_on(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="terminate_acknowledged", seconds=100))
    instance = tenant.running()
    assert tenant.destroy(instance)[0] == tenant.destroy(instance)[0] == 200
    tenant.clock.advance(99)
    assert tenant.meters(instance) == {"disk", "compute"}
    tenant.clock.advance(10_000)
    assert tenant.ask("GET", f"/instances/{instance}/")[1] == {"instances": None}
    [line] = [line for line in tenant.cloud.bill.lines(str(instance)) if line.rate.meter == "compute"]
    assert line.quantity(tenant.clock()) * 3600 == 100, "billed to its end, whenever somebody looks"


def test_a_new_instance_may_be_missing_from_the_list_for_a_moment(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="list_lag", seconds=20))
    instance = tenant.rent()
    assert tenant.list()["instances"] == [] and tenant.show(instance)["id"] == instance
    tenant.clock.advance(20)
    assert [row["id"] for row in tenant.list()["instances"]] == [instance]


# -- interruptible ----------------------------------------------------------------------------------------------------


def test_an_interruptible_instance_pays_its_bid_and_not_the_least_one(tenant: Tenant) -> None:
    offer = tenant.offer()
    price = Decimal(str(offer["min_bid"])) + Decimal("0.01")
    instance = tenant.rent(offer["id"], price=float(price))
    tenant.clock.advance(3602)
    row = tenant.show(instance)
    assert row["is_bid"] is True and row["dph_base"] == float(price)
    [line] = [line for line in tenant.cloud.bill.lines(str(instance)) if line.rate.meter == "compute"]
    assert line.usd(tenant.clock()) == price


def test_preempted_it_is_stopped_at_once_and_its_disk_is_billed(tenant: Tenant) -> None:
    offer = tenant.offer()
    tenant.cloud.faults.add(Fault(kind="preempt", seconds=60, notice=30))
    instance = tenant.rent(offer["id"], price=offer["min_bid"])
    tenant.clock.advance(59)
    assert tenant.show(instance)["actual_status"] == "running"
    tenant.clock.advance(1000)
    row = tenant.show(instance)
    assert [row[name] for name in STATES] == ["stopped"] * 3
    assert tenant.meters(instance) == {"disk"}
    assert tenant.machines.look(f"vast-{instance}").phase is MachinePhase.OVER
    [line] = [line for line in tenant.cloud.bill.lines(str(instance)) if line.rate.meter == "compute"]
    assert line.quantity(tenant.clock()) * 3600 == 58, "billed to the moment that it was taken away"
    assert (
        tenant.search(machine_id={"eq": offer["machine_id"]}, num_gpus={"eq": offer["num_gpus"]}, type="bid")[0][
            "min_bid"
        ]
        > offer["min_bid"]
    )


def test_a_fault_of_preemption_waits_for_an_interruptible_instance(tenant: Tenant) -> None:
    tenant.cloud.faults.add(Fault(kind="preempt", seconds=1))
    instance = tenant.rent()
    tenant.clock.advance(60)
    assert tenant.show(instance)["actual_status"] == "running"
    assert len(tenant.cloud.faults.waiting()) == 1


def test_outbid_by_hand(tenant: Tenant) -> None:
    on_demand = tenant.running()
    interruptible = tenant.running(price=1.0)
    tenant.cloud.preempt(str(interruptible), notice_seconds=120)
    assert tenant.show(interruptible)["cur_state"] == "stopped"
    with pytest.raises(ValueError):
        tenant.cloud.preempt(str(on_demand))
    with pytest.raises(KeyError):
        tenant.cloud.preempt("7")


def test_it_comes_back_when_nobody_bids_more(tenant: Tenant) -> None:
    instance = tenant.running(price=1.0)
    tenant.cloud.preempt(str(instance))
    tenant.clock.advance(600)
    assert tenant.show(instance)["cur_state"] == "stopped"
    tenant.cloud.relent(str(instance))
    assert tenant.show(instance)["cur_state"] == "running"
    tenant.clock.advance(2)
    assert tenant.show(instance)["actual_status"] == "running" and "compute" in tenant.meters(instance)


def test_a_higher_bid_brings_it_back_and_is_what_it_pays(tenant: Tenant) -> None:
    instance = tenant.running(price=1.0)
    tenant.cloud.preempt(str(instance))
    assert tenant.ask("PUT", f"/instances/bid_price/{instance}/", {"price": 1.1}) == (200, {"success": True})
    assert tenant.show(instance)["cur_state"] == "stopped", "not enough"
    tenant.ask("PUT", f"/instances/bid_price/{instance}/", {"client_id": "me", "price": None})
    tenant.show(instance)
    tenant.clock.advance(2)
    row = tenant.show(instance)
    assert (row["actual_status"], row["dph_base"]) == ("running", 1.25), "the least bid that wins"


def test_a_lower_bid_than_the_least_one_loses_the_machine(tenant: Tenant) -> None:
    instance = tenant.running(price=1.0)
    tenant.ask("PUT", f"/instances/bid_price/{instance}/", {"price": 0.001})
    assert tenant.show(instance)["cur_state"] == "stopped"


def test_a_bid_is_changed_for_what_is_billed_from_now_on(tenant: Tenant) -> None:
    instance = tenant.running(price=1.0)
    tenant.clock.advance(3600)
    tenant.ask("PUT", f"/instances/bid_price/{instance}/", {"price": 2})
    tenant.clock.advance(3600)
    usd = sum(line.usd(tenant.clock()) for line in tenant.cloud.bill.lines() if line.rate.meter == "compute")
    assert usd == 3


def test_bids_that_are_refused(tenant: Tenant) -> None:
    instance, on_demand = tenant.running(price=1.0), tenant.running()
    for which, price, expected in (
        (instance, 33, (400, "invalid_price")),
        (instance, "much", (400, "invalid_args")),
        (on_demand, 1, (400, "invalid_args")),
        (7, 1, (404, "no_such_instance")),
    ):
        status, body = tenant.ask("PUT", f"/instances/bid_price/{which}/", {"price": price})
        assert (status, body["error"]) == expected
