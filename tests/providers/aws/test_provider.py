"""AwsProvider on the simulated EC2: offers, images, networks, doors, what is left behind, bills, checks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.aws import mapping
from providers.aws.address import OwnAddress
from providers.aws.provider import NOTICE, AwsProvider
from providers.base import InstanceStatus, OfferQuery, Settings
from providers.errors import AuthFailed, NotFound, OfferGone, Rejected, Unreachable
from providers.rehearsal.faults import Fault
from tests.providers.aws.conftest import ONE_A10G, Tenant

pytestmark = pytest.mark.process

ANY_GPU = OfferQuery(gpu_count=1, spot=None)


def moto(tenant: Tenant) -> Any:
    """The simulated EC2's own records."""
    return tenant.cloud.region("us-east-1")


def rules_of(tenant: Tenant, name: str) -> set[tuple[str, int, int]]:
    """(network, first port, last port) that may come in."""
    named = [{"Name": "group-name", "Values": [name]}]
    [group] = tenant.ec2("describe_security_groups", Filters=named)["SecurityGroups"]
    rules = group["IpPermissions"]
    return {(net["CidrIp"], rule["FromPort"], rule["ToPort"]) for rule in rules for net in rule["IpRanges"]}


def test_offers_are_of_each_zone_and_market(tenant: Tenant) -> None:
    offers = tenant.provider.offers(replace(ONE_A10G, spot=None))
    small = {offer.offer_id: offer for offer in offers if "/g5.xlarge/" in offer.offer_id}
    assert {"us-east-1a/g5.xlarge/on-demand", "us-east-1a/g5.xlarge/spot", "us-east-1b/g5.xlarge/spot"} <= set(small)
    on_demand = small["us-east-1a/g5.xlarge/on-demand"]
    assert (on_demand.usd_per_hour, on_demand.gpu, on_demand.gpu_memory_gb) == (Decimal("1.006"), "A10G", 24)
    assert (on_demand.disk_usd_per_gb_month, on_demand.vcpus) == (Decimal("0.08"), 4)
    spot = {offer.usd_per_hour for offer in small.values() if offer.spot}
    assert len(spot) > 1 and max(spot) < on_demand.usd_per_hour, "each zone has its own spot price"
    assert {offer.source for offer in small.values() if offer.spot} == {"EC2 spot price history"}
    assert all(offer.source.startswith("AWS price list, 20") for offer in small.values() if not offer.spot)


def test_what_is_only_reserved_fractional_old_or_not_x86_is_not_offered(tenant: Tenant) -> None:
    kinds = {offer.offer_id.split("/")[1] for offer in tenant.provider.offers(replace(ANY_GPU, spot=False))}
    families = {kind.partition(".")[0] for kind in kinds}
    assert {"g4dn", "g5", "p5"} <= families
    assert not families & {"p5e", "g6f", "gr6f", "p3dn", "g5g"} and "g4dn.metal" not in kinds


def test_an_l4_fits_a_wish_for_24_gb(tenant: Tenant) -> None:
    assert tenant.provider.offers(OfferQuery(gpus=("L4",), gpu_count=1, gpu_memory_gb=24))


def test_without_gpus_only_general_machines(tenant: Tenant) -> None:
    offers = tenant.provider.offers(OfferQuery(vcpus=4, memory_gb=16))
    assert offers and {offer.gpu for offer in offers} == {None}
    assert not any("/t3." in offer.offer_id for offer in offers)


def test_a_second_look_asks_nobody_and_another_process_asks_only_for_spot(tenant: Tenant) -> None:
    tenant.provider.offers(replace(ANY_GPU, regions=("us-east-1",)))
    tenant.strike()
    tenant.provider.offers(replace(ANY_GPU, regions=("us-east-1",)))
    assert len(tenant.cloud.requests) == 0
    tenant.another().offers(ONE_A10G)
    assert len(tenant.cloud.requests) == 0
    tenant.another().offers(replace(ONE_A10G, spot=True))
    assert len(tenant.cloud.requests) == 1
    tenant.cloud.clock.advance(301)
    tenant.provider.offers(replace(ONE_A10G, spot=True))
    assert len(tenant.cloud.requests) == 2


def test_one_silent_region_does_not_keep_from_renting_elsewhere(tenant: Tenant, tmp_path: Path) -> None:
    tenant.provider.offers(ONE_A10G)  # the regions and us-east-1 are known now
    tenant.cloud.clock.advance(301)
    tenant.strike(Fault(kind="error", on="offers", times=5))  # three for one region, two that the other gets over
    offers = tenant.provider.offers(OfferQuery(gpus=("A10G",), gpu_count=1, spot=True))
    assert len({offer.region for offer in offers}) == 1


def test_who_may_not_see_spot_prices_still_has_machines_on_demand(tenant: Tenant) -> None:
    tenant.cloud.deny("ec2:DescribeSpotPriceHistory")
    fresh = tenant.another()
    assert not any(offer.spot for offer in fresh.offers(replace(ONE_A10G, spot=None)))
    with pytest.raises(AuthFailed, match="ec2:DescribeSpotPriceHistory"):
        fresh.offers(replace(ONE_A10G, spot=True))


def test_who_may_not_ask_the_price_list_reads_the_public_file(tenant: Tenant, tmp_path: Path) -> None:
    tenant.cloud.deny("pricing:*")
    fresh = AwsProvider(Settings(home=tmp_path, env=tenant.env, now=tenant.cloud.clock))
    offers = fresh.offers(ONE_A10G)
    assert {offer.usd_per_hour for offer in offers if "/g5.xlarge/" in offer.offer_id} == {Decimal("1.006")}
    assert all(offer.source.startswith("AWS public price file, 20") for offer in offers)
    anywhere = fresh.offers(OfferQuery(gpus=("A10G",), gpu_count=1))
    assert {offer.region for offer in anywhere} == {"us-east-1"}, "one large file, not one for every region"


def test_prices_without_an_account(tenant: Tenant, tmp_path: Path) -> None:
    env = {"AWS_ENDPOINT_URL": tenant.cloud.url, "AWS_SHARED_CREDENTIALS_FILE": "/x", "AWS_CONFIG_FILE": "/x"}
    nobody = AwsProvider(Settings(home=tmp_path, env=env, now=tenant.cloud.clock))
    assert "AWS_ACCESS_KEY_ID" in str(nobody.unusable())
    [g5] = [offer for offer in nobody.offers(ONE_A10G) if "/g5.xlarge/" in offer.offer_id]
    assert (g5.offer_id, g5.usd_per_hour, g5.gpu_memory_gb) == ("us-east-1/g5.xlarge/on-demand", Decimal("1.006"), 24)
    kinds = {offer.offer_id.split("/")[1] for offer in nobody.offers(replace(ANY_GPU, regions=("us-west-2",)))}
    assert "p4d.24xlarge" in kinds and not kinds & {"p5e.48xlarge", "p3dn.24xlarge", "g6f.xlarge", "g5g.xlarge"}
    with pytest.raises(Rejected):
        nobody.create(g5, tenant.request())
    assert nobody.check().problems


@pytest.mark.parametrize("slug_has_gpu", [True, False], ids=["with-gpu", "as-on-awss-page"])
def test_the_image_is_found_by_either_name_of_its_parameter(tenant: Tenant, slug_has_gpu: bool) -> None:
    tenant.cloud.slug_has_gpu = slug_has_gpu
    assert _image_of(tenant).startswith("Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)")


@pytest.mark.parametrize("why", ["no-parameter", "no-permission"])
def test_without_the_parameter_the_image_is_found_by_its_name(tenant: Tenant, why: str) -> None:
    tenant.cloud.has_parameters = why != "no-parameter"
    if why == "no-permission":
        tenant.cloud.deny("ssm:GetParameter")
    name = _image_of(tenant)
    assert name == "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261016", "the newest"


def _image_of(tenant: Tenant) -> str:
    machine = tenant.another().create(tenant.offer(), tenant.request())
    ami = tenant.cloud.fleet[machine.id.split("/")[1]].shown.image_id
    tenant.end(machine)
    return str(moto(tenant).amis[ami].name)


def test_the_disk_holds_the_image_and_what_the_job_asked_for(tenant: Tenant) -> None:
    machine = tenant.rent(disk_gb=100)
    [disk] = [meter for meter in machine.meters if meter.name == "disk"]
    assert disk.units_per_hour * mapping.HOURS_PER_MONTH == 94 + 75
    volumes = [volume for volume in moto(tenant).volumes.values() if _tags(volume).get("gpujob:name") == machine.name]
    assert [volume.size for volume in volumes] == [169]
    tenant.end(machine)


def _tags(resource: Any) -> dict[str, str]:
    return {row["key"]: row["value"] for row in resource.get_tags()}


def test_only_this_computer_may_log_in(tenant: Tenant) -> None:
    machine = tenant.rent()
    assert rules_of(tenant, machine.name) == {("127.0.0.1/32", 22, 22)}
    tenant.end(machine)


def test_a_computer_that_moves_is_let_in_from_where_it_is_now(tenant: Tenant) -> None:
    where = ["198.51.100.7\n"]
    env = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal"}
    address = OwnAddress(env, tenant.cloud.clock, lambda url: where[0])
    settings = Settings(home=tenant.home, env=tenant.env, now=tenant.cloud.clock)
    provider = AwsProvider(settings, address=address)
    machine = provider.create(tenant.offer(), tenant.request())
    assert rules_of(tenant, machine.name) == {("198.51.100.7/32", 22, 22)}
    where[0] = "203.0.113.80"
    tenant.cloud.clock.advance(61)
    provider.get(machine.id)
    assert ("203.0.113.80/32", 22, 22) in rules_of(tenant, machine.name)
    where[0] = "<html>"
    tenant.cloud.clock.advance(61)
    assert provider.get(machine.id).status is InstanceStatus.RUNNING, "the address is not worth an error"
    with pytest.raises(Unreachable, match="GPUJOB_AWS_SSH_FROM"):
        provider.create(tenant.offer(), tenant.request())
    tenant.end(machine)


def test_networks_may_be_named(tenant: Tenant) -> None:
    provider = tenant.another(GPUJOB_AWS_SSH_FROM="203.0.113.0/24, 198.51.100.1/32")
    machine = provider.create(tenant.offer(), tenant.request())
    assert rules_of(tenant, machine.name) == {("203.0.113.0/24", 22, 22), ("198.51.100.1/32", 22, 22)}
    tenant.end(machine)
    with pytest.raises(Rejected, match="GPUJOB_AWS_SSH_FROM"):
        tenant.another(GPUJOB_AWS_SSH_FROM="everywhere").create(tenant.offer(), tenant.request())


def test_a_zone_without_a_subnet_is_another_offers_turn(tenant: Tenant) -> None:
    offer = tenant.offer()
    subnets = moto(tenant).subnets
    hidden = {zone: subnets.pop(zone) for zone in list(subnets) if zone == offer.location}
    try:
        with pytest.raises(OfferGone, match=f"no subnet of a default VPC in {offer.location}"):
            tenant.provider.create(offer, tenant.request())
    finally:
        subnets.update(hidden)


def test_what_a_create_left_half_made_is_listed_and_can_be_ended(tenant: Tenant) -> None:
    request = tenant.request()
    tags = {**mapping.tags_for(request, host_key=""), mapping.ASKED: "1763720000"}
    tenant.ec2(
        "create_security_group",
        GroupName=request.name,
        Description="left",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": mapping.to_rows(tags)}],
    )
    [half] = tenant.provider.list(request.owner)
    assert (half.id, half.name, half.status) == (f"us-east-1/{request.name}", request.name, InstanceStatus.TERMINATING)
    assert "security group sg-" in half.detail and (half.run_id, half.attempt) == (request.run_id, 1)
    assert tenant.provider.get(half.id).name == request.name
    assert tenant.provider.find(request.name, tenant.offer()) is None, "there is no machine to adopt"
    tenant.provider.terminate(half.id)
    with pytest.raises(NotFound):
        tenant.provider.get(half.id)
    assert tenant.provider.list(request.owner) == []


def test_a_group_that_is_still_in_use_is_tried_again_later(tenant: Tenant) -> None:
    """EC2 says DependencyViolation for as long as a machine uses it."""
    machine, other = tenant.rent(), tenant.request()
    named = [{"Name": "group-name", "Values": [machine.name]}]
    group = tenant.ec2("describe_security_groups", Filters=named)["SecurityGroups"][0]["GroupId"]
    tags = mapping.to_rows(mapping.tags_for(other, host_key=""))
    tenant.ec2("create_tags", Resources=[group], Tags=tags)
    left = f"us-east-1/{other.name}"
    tenant.provider.terminate(left)
    assert "security group" in tenant.provider.get(left).detail
    tenant.end(machine)
    tenant.provider.terminate(left)
    with pytest.raises(NotFound):
        tenant.provider.get(left)


def test_a_machine_is_gone_only_with_all_that_it_had(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.provider.terminate(machine.id)
    tenant.cloud.clock.advance(5)
    seen = tenant.provider.get(machine.id)
    assert seen.status is InstanceStatus.TERMINATING and "left: security group" in seen.detail
    assert "key pair" in seen.detail and [one.id for one in tenant.provider.list(machine.owner)] == [machine.id]
    tenant.provider.terminate(machine.id)
    with pytest.raises(NotFound):
        tenant.provider.get(machine.id)
    assert machine.name not in moto(tenant).key_pairs
    assert not [group for group in moto(tenant).describe_security_groups() if group.name == machine.name]


def test_a_volume_that_stayed_behind_is_deleted(tenant: Tenant) -> None:
    machine = tenant.rent()
    tags = mapping.to_rows({mapping.NAME: machine.name, mapping.OWNER: machine.owner})
    told = {"AvailabilityZone": "us-east-1a", "Size": 10, "VolumeType": "gp3"}
    marked = [{"ResourceType": "volume", "Tags": tags}]
    volume = tenant.ec2("create_volume", **told, TagSpecifications=marked)["VolumeId"]
    tenant.end(machine)
    left = tenant.ec2("describe_volumes", Filters=[{"Name": "tag-key", "Values": [mapping.NAME]}])["Volumes"]
    assert volume not in [row["VolumeId"] for row in left]


def test_things_of_the_same_name_that_are_not_ours_are_left_alone(tenant: Tenant) -> None:
    request = tenant.request()
    tenant.ec2("import_key_pair", KeyName=request.name, PublicKeyMaterial=request.public_key.encode())
    machine = tenant.provider.create(tenant.offer(), request)
    tenant.end(machine)
    assert request.name in moto(tenant).key_pairs


def test_a_create_that_was_cut_off_goes_on_with_what_is_there(tenant: Tenant) -> None:
    offer, request = tenant.offer(), tenant.request()
    tenant.cloud.deny("ec2:RunInstances", "ec2:DeleteSecurityGroup", "ec2:DeleteKeyPair")
    with pytest.raises(AuthFailed):
        tenant.provider.create(offer, request)
    assert [half.name for half in tenant.provider.list(request.owner)] == [request.name]
    tenant.cloud._denied.clear()
    machine = tenant.provider.create(offer, request)
    assert len(tenant.made(request.name)) == 1
    tenant.end(machine)


def test_the_rate_of_a_spot_machine_is_its_zones_at_the_launch(tenant: Tenant) -> None:
    offer = tenant.offer(spot=True)
    dear = replace(offer, usd_per_hour=offer.usd_per_hour * 2)
    tenant.cloud.clock.advance(60)
    machine = tenant.provider.create(dear, tenant.request())
    assert machine.usd_per_hour == offer.usd_per_hour
    tenant.end(machine)


def test_a_price_that_has_gone_above_the_cap_is_not_paid(tenant: Tenant) -> None:
    offer, request = tenant.offer(), tenant.request(max_usd_per_hour=Decimal("1.005"))
    with pytest.raises(OfferGone, match=r"costs \$1.006 per hour now"):
        tenant.provider.create(offer, request)
    assert tenant.made(request.name) == []


def test_cost_explorer_is_asked_a_day_later_and_once_an_hour(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.provider.get(machine.id)
    tenant.cloud.clock.advance(3600)
    tenant.end(machine)
    tenant.strike()
    assert tenant.provider.charges(machine, machine.created_at) == ()
    assert tenant.calls("charges") == 0, "nothing can be there yet, and the question costs a cent"
    tenant.cloud.clock.advance(3 * 86400)
    charges = tenant.provider.charges(machine, machine.created_at)
    assert tenant.calls("charges") == 1
    tenant.provider.charges(machine, machine.created_at)
    assert tenant.calls("charges") == 1
    compute = [charge for charge in charges if charge.meter == "compute"]
    assert sum(charge.usd for charge in compute) == pytest.approx(Decimal("1.006"), rel=Decimal("0.01"))
    assert all(charge.final and charge.source == "AWS Cost Explorer" for charge in charges)
    assert {charge.meter for charge in charges} >= {"compute", "disk", "address"}


def test_who_may_not_see_the_bill_has_none(tenant: Tenant) -> None:
    machine = tenant.rent()
    tenant.end(machine)
    tenant.cloud.clock.advance(3 * 86400)
    tenant.cloud.deny("ce:*")
    assert tenant.another().charges(machine, machine.created_at) == ()


def test_a_check_names_every_quota_of_zero(tenant: Tenant) -> None:
    tenant.cloud.quotas.set("L-417A185B", 0)
    found = tenant.provider.check()
    assert found.usable and any("L-417A185B" in note for note in found.notes)
    assert any("on-demand G and VT 5000" in note for note in found.notes)
    for code in ("L-DB2E81BA", "L-3819A6DF", "L-7212CCBC"):
        tenant.cloud.quotas.set(code, 0)
    problems = tenant.provider.check().problems
    assert len(problems) == 4 and all("raise it at https://" in problem for problem in problems)


@pytest.mark.parametrize("action", ["ec2:RunInstances", "ec2:CreateTags", "ec2:CreateSecurityGroup"])
def test_a_check_names_the_permission_that_is_missing(tenant: Tenant, action: str) -> None:
    tenant.cloud.deny(action)
    assert any(action in problem for problem in tenant.provider.check().problems)


@pytest.mark.parametrize("action", ["pricing:*", "servicequotas:*"])
def test_a_permission_that_only_helps_is_a_note(tenant: Tenant, action: str) -> None:
    tenant.cloud.deny(action)
    found = tenant.provider.check()
    assert found.usable and any("AccessDenied" in note for note in found.notes)


def test_the_spot_notice_is_seen_on_the_machine_and_only_then(tenant: Tenant) -> None:
    machine = tenant.rent(spot=True)
    tenant.provider.get(machine.id)
    instance_id = machine.id.split("/")[1]
    url = tenant.cloud.metadata_url(instance_id)
    assert notice(url) == ""
    tenant.cloud.preempt(instance_id, notice_seconds=120)
    assert '"action": "terminate"' in notice(url)
    assert '"action": "terminate"' in notice(url, without="curl")
    assert notice("http://127.0.0.1:9") == "", "no metadata server is no notice"
    tenant.end(machine)


def notice(url: str, *, without: str = "") -> str:
    script = NOTICE.replace(f"command -v {without}", "false") if without else NOTICE
    env: Mapping[str, str] = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_SERVICE_ENDPOINT": url}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def test_a_rehearsal_that_covers_only_half_is_refused(tenant: Tenant, tmp_path: Path) -> None:
    env = {key: value for key, value in tenant.env.items() if key != "AWS_ENDPOINT_URL"}
    half = {**env, "AWS_ENDPOINT_URL_EC2": tenant.cloud.url}
    provider = AwsProvider(Settings(home=tmp_path, env=half, now=tenant.cloud.clock))
    assert provider.traits.simulated
    with pytest.raises(Rejected, match="EC2 is simulated here and pricing is not"):
        provider.offers(ONE_A10G)


def test_a_deadline_is_kept_to_the_second(tenant: Tenant) -> None:
    request = tenant.request(deadline=tenant.cloud.clock() + timedelta(minutes=90))
    machine = tenant.provider.create(tenant.offer(), request)
    told = tenant.cloud.fleet[machine.id.split("/")[1]].request.user_data
    assert told.splitlines()[1] == "shutdown -h +90"
    tenant.end(machine)
