"""RunpodProvider on bad days of the simulated cloud: what it answers, whether the pod is found, and who pays."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base import Instance, InstanceStatus, OfferQuery, RegistryLogin, Settings
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoCapacity,
    NoFunds,
    NotFound,
    ProviderError,
    Throttled,
    Unreachable,
)
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.runpod.cloud import RunpodCloud
from providers.rehearsal.web import Served
from providers.runpod import client, mapping
from providers.runpod.provider import RunpodProvider
from tests.providers.tenants import NAME, Renter

pytestmark = pytest.mark.process

QUERY = OfferQuery(gpus=("RTX4090",), gpu_count=1, disk_gb=20)


class Tenant(Renter[RunpodCloud, RunpodProvider]):
    def __init__(self, cloud: RunpodCloud, home: Path) -> None:
        self.cloud = cloud
        self.settings = Settings(home=home, env=cloud.environment(), now=cloud.clock)
        self.provider = RunpodProvider(self.settings)
        self.offer = next(each for each in self.provider.offers(QUERY) if each.offer_id.startswith("secure:"))


@pytest.fixture
def cloud() -> Iterator[RunpodCloud]:
    cloud = RunpodCloud(PaperMachines(), boot_seconds=5, rate_limits=True)
    with Served(cloud):
        yield cloud


@pytest.fixture
def tenant(cloud: RunpodCloud, tmp_path: Path) -> Iterator[Tenant]:
    tenant = Tenant(cloud, tmp_path)
    yield tenant
    tenant.provider.close()


class TestOnTheWire:
    @pytest.mark.parametrize("kind", ["lost_reply", "error_after"])
    def test_a_create_whose_reply_is_lost_made_a_pod_that_its_name_finds(self, tenant: Tenant, kind: str) -> None:
        tenant.fault(kind, on="create")
        with pytest.raises(Ambiguous):
            tenant.create()
        assert tenant.alive() == [NAME]
        found = tenant.provider.find(NAME, tenant.offer)
        assert found is not None and found.run_id == "r-abc123"
        assert tenant.create().id == found.id and tenant.alive() == [NAME]
        tenant.end(found.id)
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    @pytest.mark.parametrize("status", [0, 500, 502, 503])
    def test_a_create_that_fails_on_the_wire_is_ambiguous_too(self, tenant: Tenant, status: int) -> None:
        tenant.fault("error", on="create", status=status)
        with pytest.raises(Ambiguous):
            tenant.create()
        assert tenant.provider.find(NAME, tenant.offer) is None and tenant.alive() == []
        assert tenant.create().name == NAME

    def test_a_create_that_takes_too_long_is_ambiguous(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "CREATE_SECONDS", 0.2)
        tenant.fault("slow", on="create", seconds=1.0)
        with pytest.raises(Ambiguous):
            tenant.create()

    @pytest.mark.parametrize("status", [0, 503])
    def test_an_outage_says_nothing(self, tenant: Tenant, status: int) -> None:
        made = tenant.create()
        tenant.later(10)
        tenant.fault("outage", seconds=60, status=status)
        for ask in (
            lambda: tenant.provider.get(made.id),
            lambda: tenant.provider.list("alice"),
            lambda: tenant.provider.find(NAME, tenant.offer),
            lambda: tenant.provider.terminate(made.id),
            lambda: tenant.provider.charges(made, made.created_at),
        ):
            with pytest.raises(Unreachable):
                ask()
        assert not tenant.provider.check().usable and tenant.alive() == [NAME]
        tenant.later(61)
        assert tenant.provider.get(made.id).status is InstanceStatus.RUNNING

    @pytest.mark.parametrize(("seconds", "after"), [(12, 12), (0, 5)])
    def test_throttled_is_honoured(self, tenant: Tenant, seconds: float, after: float) -> None:
        tenant.fault("throttled", on="create", seconds=seconds)
        with pytest.raises(Throttled) as caught:
            tenant.create()
        assert caught.value.after == after
        asked = len(tenant.cloud.requests)
        with pytest.raises(Throttled) as caught:
            tenant.create()
        assert 0 < caught.value.after <= after and len(tenant.cloud.requests) == asked, "nothing was sent"
        tenant.later(after)
        assert tenant.create().name == NAME and tenant.alive() == [NAME]

    def test_a_terminate_whose_reply_is_lost_is_asked_again(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.fault("lost_reply", on="terminate")
        with pytest.raises(Unreachable):
            tenant.provider.terminate(made.id)
        assert tenant.end(made.id) == 1

    def test_ten_pods_boot_within_the_limit(self, tenant: Tenant) -> None:
        """The simulated cloud refuses more than 60 requests a minute, as the documented example does."""
        made = [tenant.create(f"gpujob-r-abc123-1-{number}") for number in range(10)]
        seen: set[str] = set()
        for _ in range(60):
            seen |= {each.id for each in made if tenant.provider.get(each.id).access is not None}
            tenant.later(1)
        assert len(seen) == 10
        assert max(sum(1 for each in tenant.cloud.requests if each.path.startswith("/v2/")), 0) < 60

    def test_a_key_that_is_switched_off(self, tenant: Tenant) -> None:
        made = tenant.create()
        for key in tenant.cloud.account.keys.values():
            key.enabled = False
        tenant.later(5)
        for ask in (lambda: tenant.provider.get(made.id), lambda: tenant.provider.terminate(made.id)):
            with pytest.raises(AuthFailed, match="RUNPOD_API_KEY"):
                ask()
        assert "does not accept the key" in tenant.provider.check().problems[0]


class TestOnMachines:
    @pytest.mark.parametrize(
        ("kind", "error"), [("no_capacity", NoCapacity), ("offer_gone", NoCapacity), ("no_funds", NoFunds)]
    )
    def test_a_clear_no_makes_nothing(self, tenant: Tenant, kind: str, error: type[ProviderError]) -> None:
        tenant.fault(kind)
        with pytest.raises(error):
            tenant.create()
        assert tenant.alive() == [] and tenant.cloud.bill.total() == 0
        assert tenant.create().name == NAME

    def test_a_slow_boot_is_seen_to_go_on(self, tenant: Tenant) -> None:
        tenant.fault("slow_boot", seconds=100)
        made = tenant.create()
        tenant.later(90)
        assert tenant.provider.get(made.id).status is InstanceStatus.BOOTING
        tenant.later(20)
        assert tenant.provider.get(made.id).access is not None

    def test_a_boot_that_is_stuck_makes_no_progress_and_bills(self, tenant: Tenant) -> None:
        tenant.fault("stuck_boot")
        made = tenant.create()
        seen = []
        for _ in range(5):
            tenant.later(60)
            seen.append(tenant.provider.get(made.id))
        assert {one.status for one in seen} == {InstanceStatus.BOOTING} and len({one.progress for one in seen}) == 1
        assert tenant.cloud.bill.total(made.id) > 0
        tenant.end(made.id)
        assert tenant.cloud.bill.running() == set()

    def test_a_boot_that_fails_is_said(self, tenant: Tenant) -> None:
        tenant.fault("failed_boot", seconds=20)
        made = tenant.create()
        tenant.later(25)
        assert tenant.provider.get(made.id).status is InstanceStatus.FAILED

    def test_a_pod_that_is_taken_away_is_gone(self, tenant: Tenant) -> None:
        tenant.fault("preempt", seconds=60)
        made = tenant.create()
        tenant.later(61)
        with pytest.raises(NotFound):
            tenant.provider.get(made.id)
        assert tenant.provider.list("alice") == []

    def test_a_pod_that_somebody_stopped_is_not_reachable_and_not_preempted(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.later(10)
        tenant.cloud.pods.stop(tenant.cloud.pods.get(made.id))
        tenant.later(5)
        seen = tenant.provider.get(made.id)
        assert (seen.status, seen.access) == (InstanceStatus.STOPPED, None)
        assert seen.usd_per_hour == made.usd_per_hour and seen.meters == made.meters
        tenant.end(made.id)

    @pytest.mark.parametrize(("kind", "least"), [("terminate_ignored", 2), ("terminate_acknowledged", 2)])
    def test_a_204_is_only_a_promise(self, tenant: Tenant, kind: str, least: int) -> None:
        made = tenant.create()
        tenant.fault(kind, seconds=30)
        assert tenant.end(made.id) >= least
        assert tenant.alive() == [] and tenant.cloud.bill.running() == set()

    def test_a_list_that_lags_hides_nothing_that_we_made(self, tenant: Tenant) -> None:
        tenant.fault("list_lag", seconds=30)
        made = tenant.create()
        tenant.later(4)
        assert tenant.provider.get(made.id).id == made.id, "the pod itself is asked"
        assert tenant.create().id == made.id and tenant.alive() == [NAME]

    def test_after_a_lost_reply_a_list_that_lags_finds_it_later(self, tenant: Tenant) -> None:
        tenant.fault("lost_reply", on="create")
        tenant.fault("list_lag", seconds=30)
        with pytest.raises(Ambiguous):
            tenant.create()
        assert tenant.provider.find(NAME, tenant.offer) is None
        tenant.later(31)
        assert tenant.provider.find(NAME, tenant.offer) is not None

    def test_a_community_pod_without_an_address_is_given_up(self, tenant: Tenant) -> None:
        for host in tenant.cloud.market.hosts:
            host.has_public_ip = False
        tenant.offer = next(each for each in tenant.provider.offers(QUERY) if each.offer_id.startswith("community:"))
        made = tenant.create()
        tenant.later(6)
        assert tenant.provider.get(made.id).status is InstanceStatus.BOOTING
        tenant.later(95)
        assert tenant.provider.get(made.id).status is InstanceStatus.FAILED
        assert all(each.offer_id.startswith("secure:") for each in tenant.provider.offers(QUERY))

    def test_another_process_knows_the_same(self, tenant: Tenant) -> None:
        """What is known of a pod is at the cloud, not in the memory of whoever made it."""
        made = tenant.create()
        tenant.later(10)
        other = RunpodProvider(tenant.settings)
        [seen] = other.list("alice")
        assert (seen.id, seen.deadline, seen.usd_per_hour) == (made.id, made.deadline, made.usd_per_hour)
        other.close()


class TestMoney:
    def test_the_bill_is_the_clouds(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.later(2.5 * 3600)
        tenant.end(made.id)
        charges = tenant.provider.charges(made, made.created_at)
        assert charges and not any(charge.final for charge in charges)
        assert abs(sum(charge.usd for charge in charges) - tenant.cloud.bill.total(made.id)) < Decimal("0.000001")
        hours = sum(charge.quantity for charge in charges if charge.meter == "compute")
        assert abs(hours - Decimal("2.5")) < Decimal("0.01")
        tenant.later(3 * 3600)
        assert all(charge.final for charge in tenant.provider.charges(made, made.created_at))

    def test_our_meters_come_to_the_clouds_bill(self, tenant: Tenant) -> None:
        made = tenant.create(disk_gb=100.0)
        tenant.later(36_000)
        tenant.end(made.id)
        ours = sum((meter.usd_per_hour * 10 for meter in made.meters), Decimal(0))
        assert abs(ours - tenant.cloud.bill.total(made.id)) < Decimal("0.01")

    def test_a_bill_that_is_late_is_not_taken_for_none(self, tmp_path: Path) -> None:
        cloud = RunpodCloud(PaperMachines(), billing_lag=3600)
        with Served(cloud):
            tenant = Tenant(cloud, tmp_path)
            made = tenant.create()
            tenant.later(600)
            tenant.end(made.id)
            assert tenant.provider.charges(made, made.created_at) == ()
            tenant.later(3600)
            assert tenant.provider.charges(made, made.created_at) != ()
            tenant.provider.close()


class TestRegistries:
    def test_nothing_of_it_is_left(self, tenant: Tenant) -> None:
        login = RegistryLogin(server="ghcr.io", username="user", password="pa55")
        made = tenant.create(registry=login)
        [kept] = tenant.cloud.account.registries.values()
        assert (kept["username"], kept["password"]) == ("user", "pa55")
        assert [one.id for one in tenant.provider.list("alice")] == [made.id]
        tenant.end(made.id)
        assert tenant.cloud.account.registries == {}

    def test_a_pod_that_ended_itself_leaves_its_login_to_be_found(self, tenant: Tenant) -> None:
        made = tenant.create(registry=RegistryLogin(server="ghcr.io", username="user", password="pa55"))
        tenant.cloud.pods.terminate(tenant.cloud.pods.get(made.id))
        tenant.later(5)
        [left] = tenant.provider.list("alice")
        assert (left.name, left.run_id) == (NAME, "r-abc123")
        tenant.end(left.id)
        assert tenant.cloud.account.registries == {} and tenant.provider.list("alice") == []


class TestFromInside:
    def run(self, tenant: Tenant, made: Instance, tmp_path: Path) -> None:
        given = tenant.cloud.machines.requests[made.id].env  # type: ignore[attr-defined]
        end = tmp_path / "end"
        end.write_text(mapping.END_SCRIPT)
        env = {
            "PATH": os.environ["PATH"],
            **{name: value for name, value in given.items() if name.startswith("RUNPOD")},
        }
        subprocess.run(["sh", str(end)], env=env, check=False, timeout=60, capture_output=True)

    @pytest.mark.parametrize("faults", [0, 1])
    def test_a_pod_ends_itself_by_its_own_key(self, tenant: Tenant, tmp_path: Path, faults: int) -> None:
        """With a fault, v2 refuses it and GraphQL does it."""
        made = tenant.create()
        tenant.later(10)
        tenant.provider.get(made.id)
        if faults:
            tenant.fault("error", on="terminate")
        self.run(tenant, made, tmp_path)
        asked = [each.path.partition("/pods")[0] for each in tenant.cloud.requests if each.call == "terminate"]
        assert asked == ["/v2", "/graphql"][: faults + 1] and tenant.alive() == []

    def test_the_start_command_runs_what_was_packed(self) -> None:
        script = "printf '%s|' \"it's\" 'a \"quoted\"' \\$HOME $((1 + 1)) `echo x`\n"
        args = shlex.split(mapping.in_one_line(script))
        done = subprocess.run(args, check=True, timeout=60, capture_output=True, text=True)
        assert done.stdout == 'it\'s|a "quoted"|$HOME|2|x|'

    def test_the_start_script_is_what_a_pod_gets(self, tenant: Tenant) -> None:
        made = tenant.create()
        tenant.later(10)
        tenant.provider.get(made.id)
        asked = tenant.cloud.machines.requests[made.id]  # type: ignore[attr-defined]
        assert asked.command[:2] == ("sh", "-c") and asked.env["GPUJOB_PUBLIC_KEY"] == "ssh-ed25519 AAAApublic"
        subprocess.run(["sh", "-n", "-c", asked.command[2]], check=True, timeout=60)


def test_the_account_by_the_sdk(tenant: Tenant) -> None:
    """The one call that goes by RunPod's own SDK; nothing in the environment of this process points to the cloud."""
    assert "RUNPOD_API_BASE_URL" not in os.environ
    found = tenant.provider.check()
    assert found.usable and any("$1000" in note for note in found.notes), json.dumps(found.notes)
    assert any(each.path == "/graphql" and each.call == "other" for each in tenant.cloud.requests)


def test_prices_without_an_account(cloud: RunpodCloud, tmp_path: Path) -> None:
    env = {"RUNPOD_API_BASE_URL": cloud.url}
    without = RunpodProvider(Settings(home=tmp_path, env=env, now=cloud.clock))
    found = without.offers(QUERY)
    assert {each.gpu for each in found} == {"RTX4090"} and all(each.usd_per_hour > 0 for each in found)
    assert all(each.path == "/graphql" for each in cloud.requests)
    without.close()
