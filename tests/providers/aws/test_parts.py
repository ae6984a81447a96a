"""The parts that need no cloud: environment, cache, own address, prices, bill, and what is imported when."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.aws import bill, environment, mapping, public_prices
from providers.aws.address import OwnAddress
from providers.aws.cache import Cache
from providers.aws.catalog import Sold
from providers.aws.client import Aws
from providers.aws.ground import Images, once_visible
from providers.aws.machine_types import MachineType
from providers.aws.machines import Machines
from providers.aws.mapping import Place
from providers.aws.market import _on_demand_offers, _spot_offers
from providers.aws.prices import PriceList, Prices, Spot
from providers.aws.provider import AwsProvider
from providers.base import LaunchRequest, Settings
from providers.errors import NotFound, OfferGone, Rejected, Unreachable
from tests.fakes.clock import FakeClock

NO_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_CONFIG_FILE": "/nonexistent"}


class ScriptedAws:
    """Answers by operation; a list is used up one by one, an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def call(self, service: str, region: str, operation: str, **told: Any) -> Any:
        self.asked.append((operation, told))
        answer = self.answers.get(operation, {})
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def try_call(self, accept: object, service: str, region: str, operation: str, **told: Any) -> Any:
        return self.call(service, region, operation, **told)

    def launch(self, region: str, *, accept: object, **told: Any) -> Any:
        return self.call("ec2", region, "run_instances", **told)

    def pages(self, service: str, region: str, operation: str, key: str, **told: Any) -> Any:
        return self.call(service, region, operation, **told).get(key, [])

    def count(self, operation: str) -> int:
        return sum(asked == operation for asked, _ in self.asked)


@pytest.mark.parametrize(
    ("env", "service", "url"),
    [
        ({}, "ec2", None),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "ec2", "http://127.0.0.1:1"),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_EC2": "http://b"}, "ec2", "http://b"),
        ({"AWS_ENDPOINT_URL_SERVICE_QUOTAS": "http://q"}, "service-quotas", "http://q"),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "ec2", None),
    ],
)
def test_endpoints_are_those_of_awss_variables(env: dict[str, str], service: str, url: str | None) -> None:
    assert environment.endpoint(env, service) == url


@pytest.mark.parametrize(
    ("url", "simulated"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:5000", True),
        ("http://[::1]:5000", True),
        ("https://ec2.us-east-1.amazonaws.com", False),
        ("http://127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_only_loopback_is_a_rehearsal(tmp_path: Path, url: str, simulated: bool) -> None:
    provider = AwsProvider(Settings(home=tmp_path, env={"AWS_ENDPOINT_URL": url}, now=FakeClock()))
    assert provider.traits.simulated is simulated


def test_the_public_prices_follow_the_endpoint() -> None:
    assert environment.bulk_prices({}) == "https://pricing.us-east-1.amazonaws.com"
    assert environment.bulk_prices({"AWS_ENDPOINT_URL": "http://127.0.0.1:5/"}) == "http://127.0.0.1:5"


def test_accounts_and_rehearsals_do_not_share_what_is_remembered() -> None:
    envs: list[dict[str, str]] = [
        {},
        {"AWS_PROFILE": "work"},
        {"AWS_ACCESS_KEY_ID": "AKIA1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:5"},
    ]
    folders = {environment.cache_folder(env) for env in envs}
    assert len(folders) == 4 and not any("AKIA1" in folder for folder in folders)


@pytest.mark.parametrize(
    ("text", "networks"),
    [("", ()), ("203.0.113.7", ("203.0.113.7/32",)), (" 203.0.113.0/24 ,", ("203.0.113.0/24",))],
)
def test_named_networks(text: str, networks: tuple[str, ...]) -> None:
    assert environment.ssh_from({"GPUJOB_AWS_SSH_FROM": text}) == networks


def test_a_network_with_host_bits_is_a_slip() -> None:
    with pytest.raises(Rejected):
        environment.ssh_from({"GPUJOB_AWS_SSH_FROM": "203.0.113.7/24"})


def test_credentials_come_from_the_given_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-process")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-process")
    assert not Aws(NO_FILES).has_credentials()
    assert Aws({**NO_FILES, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}).has_credentials()
    files = tmp_path / "credentials"
    files.write_text("[work]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    named = {"AWS_SHARED_CREDENTIALS_FILE": str(files), "AWS_CONFIG_FILE": str(tmp_path / "config")}
    assert not Aws(named).has_credentials()
    work = Aws({**named, "AWS_PROFILE": "work"})
    assert work.has_credentials() and work.home_region == "eu-west-1"
    assert Aws({**named, "AWS_PROFILE": "work", "AWS_REGION": "us-west-2"}).home_region == "us-west-2"


def test_without_credentials_nothing_can_be_rented_and_it_says_what_to_set(tmp_path: Path) -> None:
    provider = AwsProvider(Settings(home=tmp_path, env=NO_FILES, now=FakeClock()))
    assert "AWS_ACCESS_KEY_ID" in str(provider.unusable())
    missing = AwsProvider(Settings(home=tmp_path, env={**NO_FILES, "AWS_PROFILE": "typo"}, now=FakeClock()))
    assert "typo" in str(missing.unusable())
    assert missing.check().problems


@pytest.mark.process
def test_the_provider_opens_without_boto3(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from providers.base import Settings; from providers.aws.provider import AwsProvider\n"
        "env = {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b'}\n"
        f"provider = AwsProvider(Settings(home=Path({str(tmp_path)!r}), env=env, now=lambda: datetime.now(UTC)))\n"
        "assert provider.unusable() is None\n"
        "print(sorted({'boto3', 'botocore', 'requests', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_document_is_kept_for_its_time_and_made_once(tmp_path: Path) -> None:
    clock, made = FakeClock(), []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"number": len(made)}

    cache = Cache(tmp_path / "deep" / "folder", clock)
    assert [cache.get("a", timedelta(hours=1), make)["number"] for _ in range(2)] == [1, 1]
    clock.advance(3599)
    assert Cache(tmp_path / "deep" / "folder", clock).get("a", timedelta(hours=1), make)["number"] == 1
    clock.advance(1)
    assert cache.get("a", timedelta(hours=1), make)["number"] == 2
    (tmp_path / "deep" / "folder" / "a.json").write_text('{"number": 7, "fetched_at": "20')
    assert Cache(tmp_path / "deep" / "folder", clock).get("a", timedelta(hours=1), make)["number"] == 3


def test_a_cache_that_cannot_be_written_still_answers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "folder", FakeClock())
    assert cache.get("a", timedelta(hours=1), lambda: {"number": 1})["number"] == 1


def test_the_own_address_is_asked_seldom_and_must_be_one() -> None:
    clock, said = FakeClock(), ["203.0.113.9\n", "198.51.100.1", "<html>"]
    asked: list[str] = []

    def ask(url: str) -> str:
        asked.append(url)
        return said.pop(0)

    address = OwnAddress({}, clock, ask)
    assert [address.networks() for _ in range(2)] == [("203.0.113.9/32",)] * 2
    clock.advance(31)
    assert address.networks() == ("198.51.100.1/32",)
    assert asked == ["https://checkip.amazonaws.com"] * 2
    clock.advance(31)
    with pytest.raises(Unreachable):
        address.networks()


def test_in_a_rehearsal_nobody_is_asked_for_the_address() -> None:
    def nobody(url: str) -> str:
        raise AssertionError(url)

    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:5"}
    assert OwnAddress(env, FakeClock(), nobody).networks() == ("127.0.0.1/32",)


def product(name: str, *prices: str, unit: str = "Hrs") -> str:
    dimensions = {str(number): {"unit": unit, "pricePerUnit": {"USD": usd}} for number, usd in enumerate(prices)}
    terms = {"OnDemand": {"T": {"priceDimensions": dimensions}}} if prices else {"Reserved": {}}
    return json.dumps({"product": {"attributes": {"instanceType": name}}, "terms": terms})


def test_the_price_list_without_an_on_demand_price(tmp_path: Path) -> None:
    """p5e has no on-demand term; capacity blocks have one of 0."""
    rows = [product("g5.xlarge", "1.0060000000"), product("p5e.48xlarge"), product("p4d.24xlarge", "0.0000000000")]
    aws = ScriptedAws(get_products=[{"PriceList": rows}, {"PriceList": []}])
    prices = Prices(aws, Cache(tmp_path, FakeClock()), FakeClock(), lambda region: [])  # type: ignore[arg-type]
    listed = prices.listed("eu-west-1", may_download=False)
    assert listed.on_demand == {"g5.xlarge": Decimal("1.006")}
    assert str(listed.on_demand["g5.xlarge"]) == "1.006"
    assert listed.gp3_usd_per_gb_month == Decimal("0.08")
    filters = {row["Field"]: row["Value"] for row in aws.asked[0][1]["Filters"]}
    assert filters["regionCode"] == "eu-west-1" and filters["marketoption"] == "OnDemand"
    assert (filters["tenancy"], filters["capacitystatus"], filters["preInstalledSw"]) == ("Shared", "Used", "NA")


def test_spot_prices_are_linuxs_newest(tmp_path: Path) -> None:
    """A service that ignores the filters must not bring in the price of Windows, or of yesterday."""

    def row(product_: str, price: str, hours_ago: int) -> dict[str, Any]:
        return {
            "InstanceType": "g5.xlarge",
            "AvailabilityZone": "us-east-1a",
            "ProductDescription": product_,
            "SpotPrice": price,
            "Timestamp": datetime(2026, 11, 21, 12, tzinfo=UTC) - timedelta(hours=hours_ago),
        }

    rows = [row("Linux/UNIX", "0.4", 5), row("Linux/UNIX", "0.3", 1), row("Windows", "0.9", 0)]
    aws = ScriptedAws(describe_spot_price_history={"SpotPriceHistory": rows})
    prices = Prices(aws, Cache(tmp_path, FakeClock()), FakeClock(), lambda region: [])  # type: ignore[arg-type]
    assert prices.spot("us-east-1", ["g5.xlarge"]).prices == {("g5.xlarge", "us-east-1a"): Decimal("0.3")}


def test_a_download_that_never_ends_is_given_up() -> None:
    with pytest.raises(Unreachable):
        list(public_prices._within(["line"] * 5000, -1, "url"))


def day(start: str, end: str, usage_type: str, usd: str, quantity: str, *, estimated: bool = False) -> dict[str, Any]:
    metrics = {
        "UnblendedCost": {"Amount": usd, "Unit": "USD"},
        "UsageQuantity": {"Amount": quantity, "Unit": "N/A"},
    }
    groups = [{"Keys": ["gpujob:name$gpujob-r-1-1-1", usage_type], "Metrics": metrics}]
    return {"TimePeriod": {"Start": start, "End": end}, "Estimated": estimated, "Groups": groups}


@pytest.mark.parametrize(
    ("usage_type", "meter"),
    [
        ("BoxUsage:g5.xlarge", "compute"),
        ("USW2-SpotUsage:g5.xlarge", "compute"),
        ("EU-EBS:VolumeUsage.gp3", "disk"),
        ("PublicIPv4:InUseAddress", "address"),
        ("USE1-DataTransfer-Out-Bytes", "traffic_out"),
        ("SomethingElse", None),
    ],
)
def test_usage_types_are_meters(usage_type: str, meter: str | None) -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    found = bill.charges_of(day("2026-11-21", "2026-11-22", usage_type, "2.0", "4"), now)
    assert [(name, charge.meter) for name, charge in found] == ([("gpujob-r-1-1-1", meter)] if meter else [])
    for _, charge in found:
        assert (charge.usd, charge.quantity, charge.usd_per_unit) == (Decimal("2.0"), Decimal(4), Decimal("0.5"))
        assert charge.end - charge.start == timedelta(days=1)


@pytest.mark.parametrize(
    ("now", "estimated", "final"),
    [
        (datetime(2026, 11, 22, 12, tzinfo=UTC), False, False),
        (datetime(2026, 11, 23, 1, tzinfo=UTC), False, True),
        (datetime(2026, 11, 23, 1, tzinfo=UTC), True, False),
    ],
)
def test_a_days_bill_is_final_a_day_later(now: datetime, estimated: bool, final: bool) -> None:
    row = day("2026-11-21", "2026-11-22", "BoxUsage:g5.xlarge", "2.0", "4", estimated=estimated)
    assert [charge.final for _, charge in bill.charges_of(row, now)] == [final]


@pytest.mark.parametrize(
    ("code", "ended", "free"),
    [
        ("Server.SpotInstanceTermination", "2026-11-21 12:59:59", True),
        ("Server.SpotInstanceTermination", "2026-11-21 13:00:00", False),
        ("Client.UserInitiatedShutdown", "2026-11-21 12:10:00", False),
    ],
)
def test_the_first_hour_is_free_only_when_aws_ends_it(code: str, ended: str, free: bool) -> None:
    row = {
        "LaunchTime": datetime(2026, 11, 21, 12, tzinfo=UTC),
        "StateReason": {"Code": code},
        "StateTransitionReason": f"{code} ({ended} GMT)",
        "Tags": mapping.to_rows({mapping.RATE: "0.3"}),
    }
    charge = bill.free_hour(row, datetime(2026, 11, 21, 18, tzinfo=UTC))
    assert (charge is not None) is free
    unknown = bill.free_hour({**row, "StateTransitionReason": ""}, datetime(2026, 11, 21, 18, tzinfo=UTC))
    assert unknown is None, "who does not know when it ended promises nothing"


def test_the_image_has_two_names_and_both_are_asked_for() -> None:
    found = {"ImageId": "ami-1", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": []}
    parameter = {"Parameter": {"Value": "ami-1"}}
    aws = ScriptedAws(get_parameter=[None, parameter], describe_images={"Images": [found]})
    image = Images(aws, FakeClock()).newest("us-east-1")  # type: ignore[arg-type]
    asked = [told["Name"].split("/")[6] for operation, told in aws.asked if operation == "get_parameter"]
    assert asked == ["base-oss-nvidia-driver-gpu-ubuntu-24.04", "base-oss-nvidia-driver-ubuntu-24.04"]
    assert image.ami == "ami-1" and aws.asked[-1][1] == {"ImageIds": ["ami-1"]}


def test_an_image_with_more_disks_has_its_root_first() -> None:
    """Instance stores are no volumes."""
    disks = [
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 10}},
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 75}},
    ]
    found = {"ImageId": "ami-1", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": disks}
    aws = ScriptedAws(get_parameter={"Parameter": {"Value": "ami-1"}}, describe_images={"Images": [found]})
    image = Images(aws, FakeClock()).newest("us-east-1")  # type: ignore[arg-type]
    assert image.disks == (("/dev/sda1", 75), ("/dev/sdf", 10))


def test_what_is_for_capacity_blocks_alone_is_no_offer_whatever_the_price_list_says() -> None:
    kind = MachineType(name="p5e.48xlarge", gpu="H200", gpu_count=8, gpu_memory_gb=141, vcpus=192, memory_gb=2000)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    listed = PriceList({"p5e.48xlarge": Decimal(40)}, Decimal("0.08"), now, "a list")
    spot = Spot({("p5e.48xlarge", "us-east-2a"): Decimal(20)}, now)
    for markets, count in ((("capacity-block",), 0), (("spot",), 1), (("on-demand", "spot"), 2)):
        sold = Sold({kind.name: replace(kind, markets=markets)}, {kind.name: ("us-east-2a",)})
        offers = [*_on_demand_offers("us-east-2", sold, listed), *_spot_offers("us-east-2", sold, listed, spot)]
        assert len(offers) == count


def test_what_ec2_has_just_made_may_not_be_known_everywhere() -> None:
    slept: list[float] = []
    answers: list[Exception | None] = [NotFound("no group"), NotFound("no group"), None]

    def ask() -> object:
        if (answer := answers.pop(0)) is not None:
            raise answer
        return None

    once_visible(ask, slept.append)
    assert slept == [0.5, 1.0]
    with pytest.raises(NotFound):
        once_visible(_always(NotFound("never")), slept.append)
    assert sum(slept) < 30


def _always(error: Exception) -> Callable[[], object]:
    def ask() -> object:
        raise error

    return ask


@pytest.mark.parametrize("misses", [2, 99])
def test_a_launch_waits_for_its_new_security_group_to_be_known(misses: int) -> None:
    """The launch is repeated with the same token; when the group never comes, nothing stays behind."""
    instance = {"InstanceId": "i-1", "State": {"Name": "pending"}, "LaunchTime": datetime(2026, 11, 21, tzinfo=UTC)}
    image = {"ImageId": "ami-1", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": []}
    aws = ScriptedAws(
        get_parameter={"Parameter": {"Value": "ami-1"}},
        describe_images={"Images": [image]},
        describe_vpcs={"Vpcs": []},
        describe_subnets={"Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1"}]},
        create_security_group={"GroupId": "sg-1"},
        describe_security_groups={"SecurityGroups": [{"GroupId": "sg-1", "Tags": []}]},
        describe_key_pairs={"KeyPairs": []},
        run_instances=[*[None] * misses, {"Instances": [instance]}],
    )
    clock, slept = FakeClock(), list[float]()
    address = OwnAddress({"AWS_ENDPOINT_URL": "http://127.0.0.1:5"}, clock)
    machines = Machines(aws, clock, address, simulated=True, sleep=slept.append)  # type: ignore[arg-type]
    place = Place(region="us-east-1", zone="us-east-1a", machine_type="g5.xlarge", spot=False)
    request = LaunchRequest(name="m", owner="a", run_id="r", attempt=1, deadline=clock(), disk_gb=1)
    told: dict[str, Any] = {"rate": lambda: Decimal(1), "disk_rate": Decimal("0.08")}
    if misses < 10:
        made = machines.create(place, request, **told)
        assert (made.id, made.name, made.owner) == ("us-east-1/i-1", "m", "a")
    else:
        with pytest.raises(OfferGone):
            machines.create(place, request, **told)
        assert aws.count("delete_security_group") == 1
    tokens = {told["ClientToken"] for operation, told in aws.asked if operation == "run_instances"}
    assert len(tokens) == 1 and len(slept) >= 2


def test_one_question_is_asked_for_all_machines() -> None:
    """Each costs a cent."""
    asked = []

    class CostExplorer:
        def try_call(self, *_: Any, **question: Any) -> dict[str, Any]:
            asked.append(question)
            return {"ResultsByTime": [day("2026-11-21", "2026-11-22", "BoxUsage:g5.xlarge", "2.0", "4")]}

    clock = FakeClock(datetime(2026, 11, 24, tzinfo=UTC))
    said = bill.Bill(CostExplorer(), clock)  # type: ignore[arg-type]
    since = datetime(2026, 11, 21, 5, tzinfo=UTC)
    assert [charge.usd for charge in said.charges("gpujob-r-1-1-1", since)] == [Decimal("2.0")]
    assert said.charges("gpujob-r-2-1-1", since + timedelta(hours=3)) == ()
    assert said.charges("gpujob-r-3-1-1", clock() - timedelta(hours=1)) == (), "nothing is known of it yet"
    assert len(asked) == 1
    clock.advance(bill.ASK_EVERY.total_seconds())
    said.charges("gpujob-r-1-1-1", since)
    assert len(asked) == 2
