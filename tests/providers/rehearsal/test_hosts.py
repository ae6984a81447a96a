"""Hosts that die, come back and are found out: the same on every simulated cloud, but for what the cloud then does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.rehearsal.fate import take_fate
from providers.rehearsal.faults import Fault, Faults
from providers.rehearsal.machines.paper import PaperMachines
from tests.providers.rehearsal.aws_account import Account
from tests.providers.rehearsal.runpod_scene import Scene
from tests.providers.rehearsal.vast_tenant import Tenant

BEGAN = datetime(2026, 11, 21, tzinfo=UTC)


class Seen(PaperMachines):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def freeze(self, name: str) -> None:
        self.seen.append(f"{name} frozen")

    def isolate(self, name: str) -> None:
        self.seen.append(f"{name} isolated")

    def thaw(self, name: str) -> None:
        self.seen.append(f"{name} back")


@pytest.mark.parametrize(
    ("fault", "seen", "noticed_after"),
    [
        (Fault(kind="host_dies", seconds=10), {10: "m frozen"}, None),
        (Fault(kind="host_dies", seconds=10, lasts=5), {10: "m frozen", 15: "m back"}, None),
        (Fault(kind="host_dies", seconds=10, notice=5), {10: "m frozen"}, 15),
        (Fault(kind="host_dies", seconds=10, notice=5, lasts=30), {10: "m frozen"}, 15),
        (Fault(kind="host_dies", seconds=10, notice=30, lasts=5), {10: "m frozen", 15: "m back"}, None),
        (Fault(kind="network_cut", seconds=10, lasts=5, notice=3), {10: "m isolated", 15: "m back"}, None),
    ],
)
def test_what_befalls_a_host_and_when(fault: Fault, seen: dict[int, str], noticed_after: int | None) -> None:
    machines, faults = Seen(), Faults([fault])
    fate = take_fate(faults, BEGAN)
    found: dict[int, str] = {}
    noticed: list[datetime] = []
    for second in range(60):
        before = len(machines.seen)
        if (at := fate.befall(machines, "m", BEGAN + timedelta(seconds=second))) is not None:
            noticed.append(at)
        found.update(
            dict.fromkeys([second] * (len(machines.seen) - before), machines.seen[-1] if machines.seen else "")
        )
    assert found == seen
    assert noticed == ([] if noticed_after is None else [BEGAN + timedelta(seconds=noticed_after)])
    assert faults.waiting() == []


def test_all_of_it_may_be_over_before_anybody_looks() -> None:
    machines = Seen()
    fate = take_fate(Faults([Fault(kind="host_dies", seconds=10, notice=5)]), BEGAN)
    assert fate.befall(machines, "m", BEGAN + timedelta(days=1)) == BEGAN + timedelta(seconds=15)
    assert fate.befall(machines, "m", BEGAN + timedelta(days=2)) is None


def test_vast_shows_a_dead_host_as_offline_and_bills_it_no_more() -> None:
    tenant = Tenant()
    tenant.cloud.faults.add(Fault(kind="host_dies", seconds=60, notice=30))
    instance = tenant.running()
    tenant.clock.advance(80)
    assert tenant.show(instance)["actual_status"] == "running"
    tenant.clock.advance(1000)
    assert tenant.show(instance)["actual_status"] == "offline" and tenant.meters(instance) == set()
    ends = {line.end for line in tenant.cloud.bill.lines(str(instance))}
    assert ends == {tenant.cloud.everything()[0].created_at + timedelta(seconds=90)}


def test_runpod_ends_a_pod_on_a_dead_host_and_has_not_charged_since_its_death() -> None:
    scene = Scene()
    scene.fail("host_dies", seconds=100, notice=50)
    id = scene.pod()["id"]
    scene.pass_time(120)
    assert scene.get(id)["status"] == "RUNNING"
    scene.pass_time(1000)
    assert scene.get(id)["status"] == "EXITED" and scene.cloud.bill.running() == set()
    assert scene.usd(id, "compute") == pytest.approx(0.69 * 100 / 3600)


def test_a_host_that_is_back_is_looked_at_again() -> None:
    scene = Scene()
    scene.fail("host_dies", seconds=100, lasts=50)
    id = scene.pod()["id"]
    assert scene.get(id)["runtime"] is not None
    scene.pass_time(120)
    scene.machines.end_from_inside(id)
    assert scene.get(id)["runtime"] is not None, "nothing new is heard of a dead host"
    scene.pass_time(40)
    assert scene.get(id)["runtime"] is None


@pytest.mark.parametrize(("spot", "state", "meters"), [(False, "stopped", {"disk"}), (True, "terminated", set())])
def test_aws_retires_a_dead_host(spot: bool, state: str, meters: set[str]) -> None:
    account = Account()
    account.cloud.faults.add(Fault(kind="host_dies", seconds=100, notice=50))
    instance_id = account.running(spot=spot)
    account.advance(120)
    assert account.state(instance_id) == "running"
    account.advance(100)
    account.advance(10)
    row = account.row(instance_id)
    assert (row["State"]["Name"], row["StateReason"]["Code"]) == (state, "Server.ScheduledStop")
    assert account.meters(instance_id) == meters
    [compute] = [line for line in account.cloud.bill.lines(instance_id) if line.rate.meter == "compute"]
    assert round(compute.quantity(account.clock()) * 3600) == Decimal(150)


def test_each_machine_takes_one_boot_fault_and_leaves_the_others() -> None:
    account, scene, tenant = Account(), Scene(), Tenant()
    kinds = ("stuck_boot", "slow_boot", "failed_boot")
    for cloud in (account.cloud, scene.cloud, tenant.cloud):
        cloud.faults.add(*(Fault(kind=kind, seconds=5) for kind in kinds))
    account.run(), scene.pod(), tenant.rent()
    for cloud in (account.cloud, scene.cloud, tenant.cloud):
        assert [fault.kind for fault in cloud.faults.waiting()] == ["slow_boot", "failed_boot"], cloud.name
