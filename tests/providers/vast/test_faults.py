"""VastProvider on bad days of the simulated cloud: what it answers, whether the instance is found, and who pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from providers.base import Instance
from providers.base import InstanceStatus as Status
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoFunds,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from providers.rehearsal.faults import Fault
from providers.vast import client
from providers.vast.pace import CREATE
from tests.providers.tenants import NAME
from tests.providers.vast.tenant import QUERY, SPOT, Tenant, renting
from tests.providers.wire import request

pytestmark = pytest.mark.process


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    with renting(tmp_path) as tenant:
        yield tenant


class TestOnTheWire:
    @pytest.mark.parametrize(
        ("kind", "status"), [("lost_reply", 0), ("error_after", 500), ("error_after", 502), ("error_after", 504)]
    )
    def test_a_create_whose_reply_is_lost_made_what_its_label_finds(
        self, tenant: Tenant, kind: str, status: int
    ) -> None:
        tenant.fault(kind, on="create", status=status)
        with pytest.raises(Ambiguous):
            tenant.create()
        assert tenant.alive() == [NAME]
        assert [asked.call for asked in tenant.cloud.requests].count("create") == 1, "the SDK would repeat it"
        found = tenant.provider.find(NAME, tenant.offer)
        assert found is not None and (found.run_id, found.owner) == ("r-abc123", "alice")
        assert tenant.create().id == found.id and tenant.alive() == [NAME]
        tenant.end(found.id)
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    @pytest.mark.parametrize("status", [0, 500, 502, 503])
    def test_a_create_that_fails_on_the_wire_is_ambiguous_too(self, tenant: Tenant, status: int) -> None:
        tenant.fault("error", on="create", status=status)
        with pytest.raises(Ambiguous) as caught:
            tenant.create()
        assert caught.value.created_id is None
        assert tenant.provider.find(NAME, tenant.offer) is None and tenant.alive() == []
        tenant.later(10)
        assert tenant.create().name == NAME

    def test_a_create_that_takes_too_long_is_ambiguous(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(client._SECONDS, CREATE, 0.2)
        tenant.fault("slow", on="create", seconds=1.0)
        with pytest.raises(Ambiguous):
            tenant.create()

    @pytest.mark.parametrize("kind", ["lost_reply", "error", "outage"])
    def test_what_was_made_and_cannot_be_described_is_ambiguous_by_its_id(self, tenant: Tenant, kind: str) -> None:
        tenant.fault(kind, on="get", seconds=1, status=503)
        with pytest.raises(Ambiguous) as caught:
            tenant.create()
        [machine] = tenant.cloud.everything()
        assert caught.value.created_id == machine.id
        tenant.later(3)
        assert tenant.provider.get(machine.id).run_id == "r-abc123"

    @pytest.mark.parametrize("status", [0, 500, 503])
    def test_an_outage_says_nothing(self, tenant: Tenant, status: int) -> None:
        made = tenant.create()
        tenant.later(10)
        tenant.fault("outage", seconds=60, status=status)
        asks: list[Callable[[], object]] = [
            lambda: tenant.provider.get(made.id),
            lambda: tenant.provider.list("alice"),
            lambda: tenant.provider.find(NAME, tenant.offer),
            lambda: tenant.provider.terminate(made.id),
            lambda: tenant.provider.charges(made, made.created_at),
            lambda: tenant.another().offers(QUERY),
        ]
        for ask in asks:
            tenant.later(4)
            with pytest.raises(Unreachable):
                ask()
        assert not tenant.provider.check().usable and tenant.alive() == [NAME]
        tenant.later(61)
        assert tenant.provider.list("alice")[0].id == made.id

    @pytest.mark.parametrize("on", ["get", "list"])
    def test_an_error_is_not_an_end(self, tenant: Tenant, on: str) -> None:
        made = tenant.create()
        tenant.provider.terminate(made.id)
        tenant.later(5)
        tenant.fault("error", on=on, times=5, status=502)
        with pytest.raises(Unreachable):
            tenant.provider.get(made.id) if on == "get" else tenant.provider.list("alice")

    @pytest.mark.parametrize(("seconds", "after"), [(20, 20), (0, 12)])
    def test_throttled_is_honoured(self, tenant: Tenant, seconds: float, after: float) -> None:
        """Nobody says for how long: after a create that came too early it is twelve seconds."""
        tenant.fault("throttled", on="create", seconds=seconds)
        with pytest.raises(Throttled) as caught:
            tenant.create()
        assert caught.value.after == after
        asked = [each.call for each in tenant.cloud.requests].count("create")
        tenant.later(after - 3)
        with pytest.raises(Throttled) as caught:
            tenant.create()
        assert 0 < caught.value.after <= 3
        assert [each.call for each in tenant.cloud.requests].count("create") == asked, "nothing was sent"
        tenant.later(3)
        assert tenant.create().name == NAME and tenant.alive() == [NAME]

    def test_while_throttled_what_was_seen_is_served_for_a_while(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.later(10)
        assert tenant.provider.get(made.id).status is Status.RUNNING
        tenant.later(5)
        tenant.fault("throttled", on="list", seconds=300, times=9)
        tenant.fault("throttled", on="get", seconds=300, times=9)
        assert tenant.provider.get(made.id).status is Status.RUNNING
        tenant.later(60)
        with pytest.raises(Throttled):
            tenant.provider.get(made.id)

    def test_a_terminate_whose_reply_is_lost_is_asked_again(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.fault("lost_reply", on="terminate")
        with pytest.raises(Unreachable):
            tenant.provider.terminate(made.id)
        tenant.later(4)
        assert tenant.end(made.id) == 1

    def test_the_documented_limits_are_never_met(self, tenant: Tenant) -> None:
        """Ten machines at once, made, watched and ended: each refusal costs seconds, and twelve after a create."""
        made: list[Instance] = []
        while len(made) < 10:
            try:
                tenant.offer = tenant.cheapest(replace(QUERY, gpus=("RTX4090", "RTX3090", "RTX3060")))
                made.append(tenant.create(f"gpujob-r-abc123-1-{len(made) + 1}"))
            except Throttled as error:
                assert "rate limit" in str(error), "said by us, not by the cloud"
                tenant.later(error.after)
        for _ in range(15):
            assert all(tenant.provider.get(each.id).name == each.name for each in made)
            tenant.later(2)
        while made:
            try:
                tenant.provider.terminate(made[-1].id)
                made.pop()
            except Throttled as error:
                assert "rate limit" in str(error)
                tenant.later(error.after)
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    def test_a_key_that_does_not_work_any_more(self, tenant: Tenant) -> None:
        made = tenant.create()
        assert isinstance(tenant.settings.env, dict)
        tenant.settings.env["VAST_API_KEY"] = "rehearsal-vast-key-of-yesterday"
        tenant.later(5)
        asks: list[Callable[[], object]] = [
            lambda: tenant.provider.get(made.id),
            lambda: tenant.provider.terminate(made.id),
            lambda: tenant.provider.list("alice"),
            lambda: tenant.provider.charges(made, made.created_at),
        ]
        for ask in asks:
            with pytest.raises(AuthFailed, match="VAST_API_KEY"):
                ask()
        assert "VAST_API_KEY" in tenant.provider.check().problems[0] and tenant.alive() == [NAME]


class TestOnMachines:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault(kind="no_capacity"), OfferGone),
            (Fault(kind="offer_gone"), OfferGone),
            (Fault(kind="offer_gone", status=400), OfferGone),
            (Fault(kind="no_funds"), NoFunds),
            (Fault(kind="quota"), QuotaExceeded),
        ],
        ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else value.__name__,
    )
    def test_a_clear_no_makes_nothing(self, tenant: Tenant, fault: Fault, error: type[ProviderError]) -> None:
        """Without `cancel_unavail` a host without room would mean a stopped instance that bills its disk."""
        tenant.cloud.faults.add(fault)
        with pytest.raises(error):
            tenant.create()
        assert tenant.alive() == [] and tenant.cloud.bill.total() == 0
        tenant.later(10)
        tenant.offer = tenant.cheapest()
        assert tenant.create().name == NAME

    def test_an_ask_that_was_taken_is_not_offered_again(self, tenant: Tenant) -> None:
        tenant.fault("offer_gone")
        with pytest.raises(OfferGone):
            tenant.create()
        assert tenant.offer.offer_id not in {each.offer_id for each in tenant.provider.offers(QUERY)}

    def test_a_bid_that_is_too_low_leaves_an_instance_that_is_named(self, tenant: Tenant) -> None:
        """The answer is an error, and there is an instance, stopped, whose disk is billed."""
        tenant.offer = tenant.cheapest(SPOT)
        host = tenant.cloud.vast.market.hosts[int(tenant.offer.host_id)]
        host.min_bid_per_gpu *= 2
        with pytest.raises(Ambiguous) as caught:
            tenant.create()
        assert caught.value.created_id is not None and tenant.alive() == [NAME]
        assert tenant.provider.get(caught.value.created_id).status is Status.PREEMPTED
        tenant.end(caught.value.created_id)
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    def test_a_price_that_rose_is_not_paid(self, tenant: Tenant) -> None:
        host = tenant.cloud.vast.market.hosts[int(tenant.offer.host_id)]
        most, host.usd_per_gpu = tenant.offer.usd_per_hour, host.usd_per_gpu * 2
        with pytest.raises(OfferGone, match=r"above \$"):
            tenant.create(max_usd_per_hour=most)
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    def test_a_slow_boot_is_seen_to_go_on(self, tenant: Tenant) -> None:
        tenant.fault("slow_boot", seconds=100)
        made = tenant.create()
        seen = []
        for _ in range(9):
            tenant.later(10)
            seen.append(tenant.provider.get(made.id))
        assert seen[-1].status is Status.BOOTING and len({one.progress for one in (made, *seen)}) > 1
        tenant.later(20)
        assert tenant.provider.get(made.id).access is not None

    def test_a_boot_that_is_stuck_makes_no_progress_and_bills_its_disk(self, tenant: Tenant) -> None:
        tenant.fault("stuck_boot")
        made = tenant.create()
        seen = []
        for _ in range(5):
            tenant.later(60)
            seen.append(tenant.provider.get(made.id))
        assert {one.status for one in seen} == {Status.BOOTING} and len({one.progress for one in seen}) == 1
        assert tenant.cloud.bill.total(made.id) > 0
        tenant.end(made.id)
        assert tenant.cloud.bill.running() == set()

    def test_a_boot_that_fails_is_said(self, tenant: Tenant) -> None:
        tenant.fault("failed_boot", seconds=20)
        made = tenant.create()
        tenant.later(25)
        seen = tenant.provider.get(made.id)
        assert seen.status is Status.FAILED and "OCI runtime create failed" in seen.detail
        tenant.end(made.id)
        assert tenant.cloud.bill.running() == set()

    def test_a_bid_that_was_outbid_is_taken_away_and_still_billed(self, tenant: Tenant) -> None:
        made = tenant.spot()
        tenant.cloud.preempt(made.id)
        tenant.later(5)
        seen = tenant.provider.get(made.id)
        assert (seen.status, seen.access) == (Status.PREEMPTED, None) and "billed" in seen.detail
        assert tenant.cloud.bill.running() != set()
        tenant.end(made.id)
        assert tenant.cloud.bill.running() == set()

    def test_a_bid_costs_what_was_bid(self, tenant: Tenant) -> None:
        made = tenant.spot()
        assert tenant.offer.spot and made.usd_per_hour == tenant.offer.usd_per_hour
        tenant.later(3600)
        tenant.end(made.id)
        [compute] = [one for one in tenant.cloud.bill.lines(made.id) if one.rate.meter == "compute"]
        assert compute.rate.usd_per_unit == tenant.offer.usd_per_hour

    def test_without_credit_it_is_a_stop_and_no_preemption(self, tenant: Tenant) -> None:
        made = tenant.spot()
        tenant.cloud.vast.account.top_up(-tenant.cloud.vast.account.credit)
        tenant.later(40)
        seen = tenant.provider.get(made.id)
        assert seen.status is Status.STOPPED and "credit" in seen.detail
        assert "credit" in tenant.provider.check().problems[0]
        with pytest.raises(NoFunds):
            tenant.create("gpujob-r-abc123-2-1")

    def test_one_wrong_read_does_not_end_a_run(self, tenant: Tenant) -> None:
        """Seen on the real cloud: a running instance reads `exited` once, or after a reboot for a while."""
        made = tenant.create()
        tenant.later(10)
        assert tenant.provider.get(made.id).status is Status.RUNNING
        tenant.cloud.machines.halt(f"vast-{made.id}")  # its container ends
        statuses = []
        for _ in range(8):
            tenant.later(3)
            statuses.append(tenant.provider.get(made.id).status)
        assert statuses[0] not in (Status.STOPPED, Status.FAILED, Status.PREEMPTED)
        assert statuses[-1] is Status.STOPPED

    def test_a_host_that_went_away_is_a_failure(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.later(10)
        tenant.cloud.lose_contact(made.id)
        for _ in range(5):
            tenant.later(5)
            seen = tenant.provider.get(made.id)
        assert seen.status is Status.FAILED and "offline" in seen.detail
        assert tenant.end(made.id) == 1

    def test_a_host_that_dies_still_reads_running(self, tenant: Tenant) -> None:
        tenant.fault("host_dies", seconds=60)
        made = tenant.create()
        tenant.later(120)
        assert tenant.provider.get(made.id).status is Status.RUNNING, "only the agent's silence tells"

    @pytest.mark.parametrize("kind", ["terminate_ignored", "terminate_acknowledged"])
    def test_success_is_only_a_promise(self, tenant: Tenant, kind: str) -> None:
        made = tenant.create()
        tenant.fault(kind, seconds=30)
        tenant.provider.terminate(made.id)
        tenant.later(4)
        assert tenant.provider.get(made.id).status is Status.RUNNING
        tenant.end(made.id)
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    def test_a_list_that_lags_hides_nothing_that_we_made(self, tenant: Tenant) -> None:
        tenant.fault("list_lag", seconds=30)
        made = tenant.create()
        tenant.later(4)
        assert tenant.provider.get(made.id).id == made.id, "the instance itself is asked"
        assert tenant.create().id == made.id and tenant.alive() == [NAME]

    def test_after_a_lost_reply_a_list_that_lags_finds_it_later(self, tenant: Tenant) -> None:
        tenant.fault("lost_reply", on="create")
        tenant.fault("list_lag", seconds=30)
        with pytest.raises(Ambiguous):
            tenant.create()
        assert tenant.provider.find(NAME, tenant.offer) is None
        tenant.later(31)
        assert tenant.provider.find(NAME, tenant.offer) is not None

    def test_another_process_knows_the_same(self, tenant: Tenant) -> None:
        """What is known of an instance is at the cloud, not in the memory of whoever made it."""
        made = tenant.create()
        tenant.later(10)
        other = tenant.another()
        [seen] = other.list("alice")
        assert (seen.id, seen.name, seen.deadline) == (made.id, made.name, made.deadline)
        assert (seen.usd_per_hour, seen.meters) == (made.usd_per_hour, made.meters)
        assert other.create(tenant.offer, request()).id == made.id
        other.close()
