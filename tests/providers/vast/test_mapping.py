"""A launch in Vast.ai's words, and its instances and bills in ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.base import Instance, InstanceStatus, LocalAccess, RegistryLogin, Runs, SshAccess
from providers.errors import Rejected, Unreachable
from providers.vast import mapping
from providers.vast.standing import standing
from tests.fakes.clock import START
from tests.providers.vast.wire import RUNNING, STOPPED, instance, offer
from tests.providers.wire import request


def seen(**changes: Any) -> Instance:
    row = instance(**changes)
    return mapping.instance(row, standing(row, START), now=START, progress="")


# -- a launch ---------------------------------------------------------------------------------------------------------


def test_a_create_never_leaves_a_stopped_machine_that_bills() -> None:
    """Without `cancel_unavail` a host without room means a stopped instance; a `price` would make it interruptible."""
    body = mapping.create_body(offer(), request(), now=START)
    assert body["cancel_unavail"] is True
    assert "price" not in body
    assert (body["client_id"], body["image"], body["runtype"]) == ("me", "python:3.12", "ssh_direc ssh_proxy")
    assert body["label"] == "gpujob-r-abc123-1-1"


def test_a_spot_machine_bids_what_was_offered() -> None:
    body = mapping.create_body(offer("bid:7", usd_per_hour=Decimal("0.2")), request(), now=START)
    assert body["price"] == 0.2 and body["cancel_unavail"] is True


@pytest.mark.parametrize(("wanted", "disk"), [(1, 8), (8, 8), (19.5, 20)])
def test_the_disk_is_at_least_eight_gb(wanted: float, disk: int) -> None:
    assert mapping.create_body(offer(), request(disk_gb=wanted), now=START)["disk"] == disk


def test_a_machine_remembers_whose_it_is_in_an_object_of_variables() -> None:
    env = mapping.create_body(offer(), request(env={"EPOCHS": "3"}), now=START)["env"]
    assert env == {
        "EPOCHS": "3",
        "GPUJOB_OWNER": "alice",
        "GPUJOB_RUN": "r-abc123",
        "GPUJOB_ATTEMPT": "1",
        "GPUJOB_DEADLINE": str(int(START.replace(hour=13).timestamp())),
        "GPUJOB_USD_PER_HOUR": "0.34",
    }


def test_too_many_variables_are_refused_before_anything_is_rented() -> None:
    with pytest.raises(Rejected, match="32768"):
        mapping.create_body(offer(), request(env={"A": "x" * 33_000}), now=START)


def test_a_private_image_is_pulled_with_its_login() -> None:
    login = RegistryLogin(server="ghcr.io", username="alice", password="rehearsal-token")
    body = mapping.create_body(offer(), request(registry=login), now=START)
    assert body["image_login"] == "-u alice -p rehearsal-token ghcr.io"
    assert "rehearsal-token" in mapping.secrets(request(registry=login))
    assert "image_login" not in mapping.create_body(offer(), request(), now=START)


@pytest.mark.parametrize("password", ["two words", "quo'te", 'quo"te', "back\\slash", ""])
def test_a_password_that_would_be_taken_apart_is_refused_and_not_shown(password: str) -> None:
    login = RegistryLogin(server="ghcr.io", username="alice", password=password)
    with pytest.raises(Rejected) as caught:
        mapping.create_body(offer(), request(registry=login), now=START)
    assert not password or password not in str(caught.value)


def test_without_an_image_there_is_one_with_pytorch() -> None:
    assert "pytorch" in mapping.create_body(offer(), request(image=None), now=START)["image"]


# -- an instance ------------------------------------------------------------------------------------------------------


def test_an_instance_knows_all_that_is_asked_of_it_later() -> None:
    found = seen()
    assert (found.id, found.name, found.provider, found.owner) == ("101", "gpujob-r-abc123-1-1", "vast", "alice")
    assert (found.run_id, found.attempt, found.region, found.host_id) == ("r-abc123", 1, "US", "5501")
    assert found.created_at == START and found.deadline is not None
    assert found.usd_per_hour == Decimal("0.34"), "not dph_total, which has the disk in it"


def test_the_way_there_is_direct_and_the_proxy_is_another() -> None:
    found = seen(**RUNNING)
    assert isinstance(found.access, SshAccess)
    assert (found.access.host, found.access.port, found.access.user) == ("203.0.113.7", 41022, "root")
    assert found.access.env == {"GPUJOB_MACHINE": found.name} and found.access.directory == ".gpujob/machine"
    assert found.access.host_keys == (), "the SSH server is Vast.ai's own"
    [proxy] = found.other_access
    assert isinstance(proxy, SshAccess) and (proxy.host, proxy.port) == ("ssh4.vast.ai", 20544)


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        ({"ports": None}, [("ssh4.vast.ai", 20544)]),
        ({"ports": {"8080/tcp": [{"HostPort": "40001"}]}}, [("ssh4.vast.ai", 20544)]),
        ({"ports": {"22/tcp": None}}, [("ssh4.vast.ai", 20544)]),
        ({"public_ipaddr": None}, [("ssh4.vast.ai", 20544)]),
        ({"ssh_host": None}, [("203.0.113.7", 41022)]),
        ({"ssh_port": None}, [("203.0.113.7", 41022)]),
        ({"ports": None, "image_runtype": "jupyter_direc ssh_direc ssh_proxy"}, [("ssh4.vast.ai", 20545)]),
        ({"ports": None, "ssh_host": ""}, []),
    ],
)
def test_a_host_is_never_reached_at_the_others_port(changes: dict[str, Any], ways: list[tuple[str, int]]) -> None:
    found = seen(**{**RUNNING, **changes})
    reached = [access for access in (found.access, *found.other_access) if access is not None]
    assert not any(isinstance(access, LocalAccess) for access in reached)
    assert [(access.host, access.port) for access in reached if isinstance(access, SshAccess)] == ways
    assert found.status is (InstanceStatus.RUNNING if ways else InstanceStatus.BOOTING)


def test_a_machine_that_does_not_run_has_no_way_there() -> None:
    """Its proxy's address stays in the row."""
    assert seen().access is None and seen().other_access == ()
    assert seen(actual_status="exited", **STOPPED).access is None


def test_the_rate_is_the_gpus_also_while_it_is_stopped() -> None:
    stopped = seen(actual_status="exited", dph_total=0.344167, instance={"gpuCostPerHour": 0}, **STOPPED)
    assert stopped.usd_per_hour == Decimal("0.34")
    assert seen(dph_base=None).usd_per_hour == Decimal("0.34"), "what was agreed when it was rented"


def test_gpus_are_billed_while_it_runs_and_the_disk_as_long_as_it_exists() -> None:
    meters = {meter.name: meter for meter in seen().meters}
    assert (meters["compute"].runs, meters["compute"].usd_per_hour) == (Runs.RUNNING, Decimal("0.34"))
    assert meters["disk"].runs is Runs.EXISTS
    assert meters["disk"].usd_per_hour == Decimal("0.15") * 20 / 720
    assert all(meter.granularity_seconds == 1 and meter.source for meter in meters.values())


def test_traffic_has_its_price_and_counts_nothing_before_the_bill() -> None:
    meters = {meter.name: meter for meter in seen().meters}
    assert (meters["traffic_in"].usd_per_unit, meters["traffic_out"].usd_per_unit) == (
        Decimal("0.001"),
        Decimal("0.002"),
    )
    assert meters["traffic_in"].usd_per_hour == meters["traffic_out"].usd_per_hour == 0


def test_an_instance_of_ours_whose_variables_cannot_be_read_is_never_left_out_of_a_list() -> None:
    """It bills: a list without it would lie. One of another name is nobody's business."""
    with pytest.raises(Unreachable, match="gpujob-r-abc123-1-1"):
        mapping.owner_of(instance(extra_env="-e A=b"))
    assert mapping.owner_of(instance(label="jupyter", extra_env="-e A=b")) == ""


@pytest.mark.parametrize("env", [None, [], {}, [["A"]], [None]])
def test_an_instance_that_does_not_show_its_variables_is_known_by_its_label(env: Any) -> None:
    found = seen(extra_env=env)
    assert (found.owner, found.run_id, found.attempt, found.deadline) == ("", "r-abc123", 1, None)
    assert mapping.owner_of(instance(extra_env=env)) == ""


def test_variables_may_come_as_an_object() -> None:
    assert mapping.owner_of(instance(extra_env={"GPUJOB_OWNER": "bob"})) == "bob"


def test_an_instance_that_has_not_begun_is_described() -> None:
    found = seen(actual_status=None, start_date=None, status_msg=None, label=None, geolocation=None, dph_base=None)
    assert found.status is InstanceStatus.PENDING and found.created_at == START and found.region == "unknown"


# -- a bill -----------------------------------------------------------------------------------------------------------


def bill(*items: dict[str, Any], source: str = "instance-101") -> dict[str, Any]:
    return {"source": source, "amount": 0.5, "items": list(items)}


def item(kind: str, amount: float, description: str = "", **changes: Any) -> dict[str, Any]:
    start = int(START.timestamp())
    made = {"type": kind, "start": start, "end": start + 3600, "amount": amount, "description": description}
    return {**made, **changes}


def charged(*items: dict[str, Any], hours: float = 24, gone: bool = True, **options: Any) -> list[Any]:
    rows = [bill(item("gpu", 99), source="instance-1011"), bill(*items)]
    now = START + timedelta(hours=hours)
    return mapping.charges(rows, options.get("machine", seen()), since=options.get("since", START), gone=gone, now=now)


def test_each_part_of_the_bill_is_a_charge() -> None:
    found = charged(
        item("gpu", 0.34, "1.000 hours at $0.340/hour"),
        item("disk", 0.004, "0.028 GB-months at $0.150/GB/month"),
        item("bwd", 0.002, "2.000 GB at $0.001/GB"),
        item("bwu", 0.001, "0.500 GB at $0.002/GB"),
    )
    assert [(charge.meter, charge.usd, charge.unit) for charge in found] == [
        ("compute", Decimal("0.34"), "hour"),
        ("disk", Decimal("0.004"), "GB-month"),
        ("traffic_in", Decimal("0.002"), "GB"),
        ("traffic_out", Decimal("0.001"), "GB"),
    ]
    assert found[0].quantity == 1 and found[0].usd_per_unit == Decimal("0.34")
    assert all("0.001" in charge.source for charge in found), "that amounts are rounded is said"


def test_a_machine_that_is_gone_has_no_meters_and_its_bill_still_has_rates() -> None:
    found = charged(item("disk", 0.004, "0.028 GB-months at $0.150/GB/month"), machine=replace(seen(), meters=()))
    assert found[0].usd_per_unit == Decimal("0.150")


def test_what_was_too_little_to_show_is_counted_nevertheless() -> None:
    [charge] = charged(item("gpu", 0.0, "0.001 hours at $0.340/hour"))
    assert charge.usd == 0 and charge.quantity == Decimal("0.001")


def test_a_part_that_is_new_to_us_is_not_dropped() -> None:
    [charge] = charged(item("sla", -0.05))
    assert (charge.meter, charge.usd) == ("sla", Decimal("-0.05"))


def test_another_instances_bill_is_not_ours() -> None:
    assert charged() == []


def test_a_bill_is_final_some_time_after_the_machine_is_gone() -> None:
    assert not charged(item("gpu", 0.34), gone=False)[0].final
    assert not charged(item("gpu", 0.34), hours=1.1)[0].final
    assert charged(item("gpu", 0.34))[0].final


def test_a_charge_does_not_begin_before_its_machine() -> None:
    machine = replace(seen(), created_at=START + timedelta(milliseconds=700))
    assert charged(item("gpu", 0.34), machine=machine)[0].start == machine.created_at
    assert charged(item("gpu", 0.34), since=START + timedelta(hours=2)) == []
