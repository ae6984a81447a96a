"""Every bad day of EC2 as a caller meets it, with the cloud's own books beside: over real boto3, on loopback."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from providers.base import InstanceStatus, OfferQuery
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoCapacity,
    NotFound,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from providers.rehearsal.faults import Fault
from tests.providers.aws.conftest import ONE_A10G, Tenant

pytestmark = pytest.mark.process


def nothing_left(tenant: Tenant, owner: str) -> bool:
    return not tenant.another().list(owner)


def refused(tenant: Tenant, error: type[ProviderError], *, spot: bool = False) -> str:
    """What is said of a create that fails in this way."""
    with pytest.raises(error) as caught:
        tenant.provider.create(tenant.offer(spot=spot), tenant.request())
    return str(caught.value)


@pytest.mark.parametrize("kind", ["no_capacity", "offer_gone"])
def test_no_capacity_is_said_at_once_and_leaves_nothing(tenant: Tenant, kind: str) -> None:
    """EC2 says it with an HTTP 500, which boto3 would repeat."""
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind=kind))
    with pytest.raises(NoCapacity):
        tenant.provider.create(offer, request)
    assert tenant.calls("create") == 1
    assert tenant.made(request.name) == [] and nothing_left(tenant, request.owner)


def test_a_spot_price_above_the_cap_is_no_capacity(tenant: Tenant) -> None:
    offer = tenant.offer(spot=True)
    with pytest.raises(OfferGone):
        tenant.provider.create(offer, tenant.request(max_usd_per_hour=Decimal("0.0001")))


def test_a_quota_is_named_and_leaves_nothing(tenant: Tenant) -> None:
    tenant.cloud.quotas.set("L-DB2E81BA", 0)
    offer, request = tenant.offer(), tenant.request()
    with pytest.raises(QuotaExceeded, match="L-DB2E81BA"):
        tenant.provider.create(offer, request)
    assert nothing_left(tenant, request.owner)


def test_offers_of_a_quota_that_is_used_up_are_left_out_for_a_while(tenant: Tenant) -> None:
    tenant.cloud.quotas.set("L-DB2E81BA", 0)
    before = {offer.offer_id for offer in tenant.provider.offers(OfferQuery(gpu_count=1, spot=None))}
    offer = tenant.offer()
    with pytest.raises(QuotaExceeded):
        tenant.provider.create(offer, tenant.request())
    left = {offer.offer_id for offer in tenant.provider.offers(OfferQuery(gpu_count=1, spot=None))}
    gone = before - left
    assert gone and all(offer_id.startswith(offer.region) and offer_id.endswith("/on-demand") for offer_id in gone)
    assert all(offer_id.split("/")[1].startswith("g") for offer_id in gone), "the P family has a quota of its own"
    tenant.cloud.clock.advance(601)
    assert {offer.offer_id for offer in tenant.provider.offers(OfferQuery(gpu_count=1, spot=None))} >= gone


def test_the_quota_of_spot_is_another_one(tenant: Tenant) -> None:
    tenant.cloud.quotas.set("L-3819A6DF", 0)
    assert "L-3819A6DF" in refused(tenant, QuotaExceeded, spot=True)


def test_an_account_that_is_blocked(tenant: Tenant) -> None:
    tenant.strike(Fault(kind="no_funds"))
    assert "Blocked" in refused(tenant, AuthFailed)


@pytest.mark.parametrize(
    "action", ["ec2:RunInstances", "ec2:CreateTags", "ec2:CreateSecurityGroup", "ec2:ImportKeyPair"]
)
def test_a_missing_permission_is_named_and_leaves_nothing(tenant: Tenant, action: str) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.cloud.deny(action)
    with pytest.raises(AuthFailed, match=f"the permission {action} is missing"):
        tenant.provider.create(offer, request)
    tenant.cloud._denied.clear()
    assert tenant.made(request.name) == [] and nothing_left(tenant, request.owner)


def test_the_role_for_spot_may_be_missing(tenant: Tenant) -> None:
    offer = tenant.offer(spot=True)
    tenant.cloud.deny("iam:CreateServiceLinkedRole")
    with pytest.raises(AuthFailed, match="iam:CreateServiceLinkedRole"):
        tenant.provider.create(offer, tenant.request())


def test_a_throttled_launch_is_a_clear_no_that_may_be_repeated(tenant: Tenant) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind="throttled", on="create", seconds=7))
    with pytest.raises(Throttled) as caught:
        tenant.provider.create(offer, request)
    assert caught.value.after == 7 and tenant.calls("create") == 1
    machine = tenant.provider.create(offer, request)
    assert len(tenant.made(request.name)) == 1
    tenant.end(machine)


@pytest.mark.parametrize("fault", [Fault(kind="lost_reply", on="create"), Fault(kind="error_after", on="create")])
def test_a_machine_whose_making_was_not_confirmed_is_found_by_its_name(tenant: Tenant, fault: Fault) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(fault)
    with pytest.raises(Ambiguous):
        tenant.provider.create(offer, request)
    assert tenant.calls("create") == 1 and len(tenant.made(request.name)) == 1
    keys = tenant.ec2("describe_key_pairs")["KeyPairs"]
    assert request.name in [key["KeyName"] for key in keys], "what may be in use stays"
    found = tenant.another().find(request.name, offer)
    assert found is not None and found.name == request.name and found.usd_per_hour == offer.usd_per_hour
    tenant.end(found)
    assert nothing_left(tenant, request.owner)


def test_after_a_lost_reply_the_same_create_gives_the_same_machine(tenant: Tenant) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind="lost_reply", on="create"))
    with pytest.raises(Ambiguous):
        tenant.provider.create(offer, request)
    machine = tenant.another().create(offer, request)
    assert len(tenant.made(request.name)) == 1
    tenant.end(machine)


def test_the_client_token_holds_when_the_list_lags(tenant: Tenant) -> None:
    """The look-up by name finds nothing yet: only the token keeps EC2 from making a second machine."""
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind="list_lag", seconds=40), Fault(kind="lost_reply", on="create"))
    with pytest.raises(Ambiguous):
        tenant.provider.create(offer, request)
    again = tenant.another()
    assert again.find(request.name, offer) is None
    try:
        again.create(offer, request)
    except ProviderError as error:
        assert isinstance(error, Ambiguous), error
    assert len(tenant.made(request.name)) == 1
    tenant.cloud.clock.advance(60)
    found = again.find(request.name, offer)
    assert found is not None
    tenant.end(found)


def test_other_parameters_under_the_same_token_mean_that_a_machine_was_made(tenant: Tenant) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind="list_lag", seconds=40), Fault(kind="lost_reply", on="create"))
    with pytest.raises(Ambiguous):
        tenant.provider.create(offer, request)
    with pytest.raises(Ambiguous, match="IdempotentParameterMismatch"):
        tenant.another().create(offer, replace(request, deadline=request.deadline + timedelta(hours=3)))
    tenant.cloud.clock.advance(60)
    found = tenant.provider.find(request.name, offer)
    assert found is not None and len(tenant.made(request.name)) == 1
    tenant.end(found)


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "dead-machine-again"])
def test_a_token_of_a_machine_that_has_ended(tenant: Tenant, refuses: bool) -> None:
    """EC2 refuses it, or answers with the dead machine as if it were a new one."""
    tenant.cloud.refuses_spent_tokens = refuses
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind="list_lag", seconds=40))
    machine = tenant.provider.create(offer, request)
    with tenant.cloud.lock:
        tenant.cloud.fleet.end(tenant.cloud.fleet[machine.id.split("/")[1]], tenant.cloud.clock())
    tenant.cloud.clock.advance(5)
    with pytest.raises(OfferGone):
        tenant.provider.create(offer, request)
    assert tenant.made(request.name) == ["terminated"] and nothing_left(tenant, request.owner)


def test_a_name_is_used_once_also_when_its_machine_is_forgotten(tenant: Tenant) -> None:
    """EC2 shows a terminated machine for an hour; its token it knows for longer."""
    offer, request = tenant.offer(), tenant.request()
    tenant.end(tenant.provider.create(offer, request))
    with pytest.raises(OfferGone, match="used once"):
        tenant.provider.create(offer, request)
    tenant.cloud.clock.advance(2 * 3600)
    with pytest.raises(Ambiguous, match="asked for before"):
        tenant.provider.create(offer, request)
    assert tenant.made(request.name) == ["terminated"] and nothing_left(tenant, request.owner)


def test_a_new_machine_that_ec2_does_not_know_yet_is_not_gone(tenant: Tenant) -> None:
    tenant.strike(Fault(kind="list_lag", seconds=30))
    machine = tenant.rent()
    seen = tenant.provider.get(machine.id)
    assert (seen.id, seen.name, seen.status) == (machine.id, machine.name, InstanceStatus.PENDING)
    tenant.provider.terminate(machine.id)
    assert tenant.provider.get(machine.id).name == machine.name
    tenant.cloud.clock.advance(31)
    assert tenant.provider.get(machine.id).status is InstanceStatus.RUNNING
    tenant.end(machine)


def test_an_outage_during_a_launch_makes_nothing_and_is_no_answer(tenant: Tenant) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.strike(Fault(kind="outage", seconds=30))
    with pytest.raises(Unreachable):
        tenant.provider.create(offer, request)
    tenant.cloud.clock.advance(31)
    assert tenant.made(request.name) == [] and nothing_left(tenant, request.owner)


def test_an_outage_never_means_that_a_machine_is_gone(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.strike(Fault(kind="outage", seconds=30))
    for question in (
        lambda: tenant.provider.get(machine.id),
        lambda: tenant.provider.list(machine.owner),
        lambda: tenant.provider.find(machine.name, tenant.offer()),
        lambda: tenant.provider.terminate(machine.id),
    ):
        with pytest.raises(Unreachable):
            question()
    tenant.cloud.clock.advance(31)
    tenant.end(machine)


def test_errors_that_pass_are_not_noticed(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.strike(Fault(kind="error", on="get"), Fault(kind="lost_reply", on="get"))
    assert tenant.provider.get(machine.id).name == machine.name
    tenant.end(machine)


def test_throttling_that_stays_says_how_long_to_wait(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.strike(Fault(kind="throttled", on="get", times=3, seconds=2))
    with pytest.raises(Throttled) as caught:
        tenant.provider.get(machine.id)
    assert caught.value.after == 2
    tenant.end(machine)


def test_a_list_that_lacks_a_region_is_no_list(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.strike(Fault(kind="error", on="list", times=5))  # three for one region, two that the other gets over
    with pytest.raises(Unreachable):
        tenant.provider.list(machine.owner)
    tenant.end(machine)


def test_a_terminate_that_is_ignored_is_repeated_and_one_that_is_late_is_waited_for(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.strike(Fault(kind="terminate_ignored"), Fault(kind="terminate_acknowledged", seconds=20))
    for _ in range(3):
        tenant.provider.terminate(machine.id)
        tenant.cloud.clock.advance(5)
        assert tenant.provider.get(machine.id).name == machine.name
    tenant.end(machine)
    assert nothing_left(tenant, machine.owner)


def test_a_machine_that_ec2_gives_up_on_has_failed(tenant: Tenant) -> None:
    tenant.strike(Fault(kind="failed_boot", seconds=3))
    machine = tenant.rent()
    tenant.cloud.clock.advance(10)
    seen = tenant.provider.get(machine.id)
    assert seen.status is InstanceStatus.FAILED and "Server.InternalError" in seen.detail
    tenant.end(machine)


def test_a_slow_boot_is_pending_and_has_no_address(tenant: Tenant) -> None:
    tenant.strike(Fault(kind="slow_boot", seconds=60))
    machine = tenant.rent()
    seen = tenant.provider.get(machine.id)
    assert (seen.status, seen.access) == (InstanceStatus.PENDING, None)
    tenant.cloud.clock.advance(61)
    assert tenant.provider.get(machine.id).status is InstanceStatus.RUNNING
    tenant.end(machine)


def test_a_preempted_machine_says_so_until_it_is_cleared_away_and_its_first_hour_is_free(tenant: Tenant) -> None:
    tenant.strike(Fault(kind="preempt", seconds=600))
    machine = tenant.rent(spot=True)
    tenant.cloud.clock.advance(700)
    for seen in (tenant.provider.get(machine.id), *tenant.another().list(machine.owner)):
        assert seen.status is InstanceStatus.PREEMPTED and "Server.SpotInstanceTermination" in seen.detail
    [charge] = tenant.provider.charges(machine, machine.created_at)
    assert (charge.meter, charge.final) == ("compute", True) and charge.usd == 0
    billed = [line for line in tenant.cloud.bill.lines(machine.id.split("/")[1]) if line.rate.meter == "compute"]
    assert sum(line.usd(tenant.cloud.clock()) for line in billed) == 0
    tenant.end(machine)


def test_a_machine_that_ends_itself_is_not_waited_for(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.provider.get(machine.id)
    machines = tenant.cloud.machines
    machines.end_from_inside(machine.id.split("/")[1])  # type: ignore[attr-defined]
    tenant.cloud.clock.advance(1)
    tenant.cloud.tick()
    tenant.cloud.clock.advance(10)
    assert tenant.provider.get(machine.id).status is InstanceStatus.FAILED
    tenant.end(machine)


def test_a_region_that_is_not_enabled_does_not_hide_the_others(tenant: Tenant) -> None:
    offers = tenant.provider.offers(OfferQuery(gpus=("A10G",), gpu_count=1))
    assert {offer.region for offer in offers} == {"us-east-1", "us-west-2"}
    machine = tenant.rent()
    tenant.cloud.regions = ("us-east-1",)
    try:
        assert [seen.name for seen in tenant.provider.list(machine.owner)] == [machine.name]
        fresh = tenant.provider.offers(ONE_A10G)
        assert fresh
    finally:
        tenant.cloud.regions = ("us-east-1", "us-west-2")
    tenant.end(machine)


def test_a_wrong_key_is_said(tenant: Tenant) -> None:
    stranger = tenant.another(AWS_ACCESS_KEY_ID="rehearsal-wrong")
    with pytest.raises(AuthFailed):
        stranger.offers(ONE_A10G)
    assert stranger.check().problems
    with pytest.raises(AuthFailed):
        stranger.get("us-east-1/i-0123456789abcdef0")


def test_what_is_unknown_is_not_found(tenant: Tenant) -> None:
    for unknown in (
        "us-east-1/i-0123456789abcdef0",
        "us-east-1/i-x",
        "us-east-1/gpujob-never",
        "nothing",
        "us-east-1/",
    ):
        with pytest.raises(NotFound):
            tenant.provider.get(unknown)
        tenant.provider.terminate(unknown)
