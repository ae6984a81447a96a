"""What RunInstances is told: the token, the switch in the user data, disks, tags, spot."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from providers.aws import launch, mapping
from providers.aws.launch import Ground, Image
from providers.aws.mapping import Place
from providers.base import LaunchRequest
from providers.errors import Rejected

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PLACE = Place(region="us-east-1", zone="us-east-1a", machine_type="g5.xlarge", spot=False)
IMAGE = Image(ami="ami-1", disks=(("/dev/sda1", 75),))
GROUND = Ground(image=IMAGE, subnet="subnet-1", security_group="sg-1")
REQUEST = LaunchRequest(
    name="gpujob-r-abc123-1-1",
    owner="alice",
    run_id="r-abc123",
    attempt=1,
    deadline=NOW + timedelta(hours=2),
    disk_gb=40,
    public_key="ssh-ed25519 AAAAC3Nz run",
)


def told(place: Place = PLACE, request: LaunchRequest = REQUEST, ground: Ground = GROUND) -> dict[str, Any]:
    return launch.arguments(place, request, ground, mapping.tags_for(request, host_key=""), NOW)


def private(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())


def test_a_token_is_the_machines_own_in_its_zone() -> None:
    token = launch.client_token(PLACE, REQUEST.name)
    assert token == launch.client_token(PLACE, REQUEST.name)
    assert len(token) <= 64 and token.isascii()
    others = [
        launch.client_token(PLACE, "gpujob-r-abc123-1-2"),
        launch.client_token(replace(PLACE, zone="us-east-1b"), REQUEST.name),
        launch.client_token(replace(PLACE, region="us-east-2"), REQUEST.name),
        launch.client_token(replace(PLACE, machine_type="g5.2xlarge"), REQUEST.name),
        launch.client_token(replace(PLACE, spot=True), REQUEST.name),
    ]
    assert len({token, *others}) == 6


@pytest.mark.parametrize(
    ("left", "minutes"),
    [
        (timedelta(hours=2), 120),
        (timedelta(seconds=61), 2),
        (timedelta(seconds=1), 1),
        (timedelta(0), 1),
        (-timedelta(hours=1), 1),
    ],
)
def test_the_first_command_on_the_machine_is_its_switch(left: timedelta, minutes: int) -> None:
    script = launch.user_data(replace(REQUEST, deadline=NOW + left), NOW)
    assert script.splitlines()[:2] == ["#!/bin/sh", f"shutdown -h +{minutes}"]


def test_the_machine_gets_our_host_key_and_lets_our_key_in() -> None:
    key = Ed25519PrivateKey.generate()
    request = replace(REQUEST, host_key=private(key))
    script = launch.user_data(request, NOW)
    assert request.host_key.strip() in script and "HostKey /etc/ssh/gpujob_host_key" in script
    assert "'ssh-ed25519 AAAAC3Nz run'" in script
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert launch.public_host_key(request.host_key) == public
    assert request.host_key not in repr(request)


@pytest.mark.parametrize("wrong", ["no key", private(generate_private_key(SECP256R1()))], ids=["text", "ecdsa"])
def test_a_host_key_that_is_none_is_refused_without_showing_it(wrong: str) -> None:
    with pytest.raises(Rejected) as caught:
        launch.public_host_key(wrong)
    assert wrong not in str(caught.value)


def test_user_data_fits() -> None:
    request = replace(REQUEST, host_key=private(Ed25519PrivateKey.generate()))
    assert len(launch.user_data(request, NOW).encode()) < 16384


def test_a_shutdown_from_inside_is_the_end_of_the_machine() -> None:
    assert told()["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_no_volume_outlives_the_machine_and_the_image_has_its_own_room() -> None:
    image = Image(ami="ami-1", disks=(("/dev/sda1", 75), ("/dev/sdf", 10)))
    disks = told(ground=replace(GROUND, image=image))["BlockDeviceMappings"]
    assert all(disk["Ebs"]["DeleteOnTermination"] and disk["Ebs"]["VolumeType"] == "gp3" for disk in disks)
    assert [(disk["DeviceName"], disk["Ebs"]["VolumeSize"]) for disk in disks] == [("/dev/sda1", 113), ("/dev/sdf", 10)]
    assert 113 * 2**30 - 75 * 2**30 >= 40 * 10**9


def test_all_that_is_made_carries_the_machines_tags() -> None:
    marked = {row["ResourceType"]: row["Tags"] for row in told()["TagSpecifications"]}
    assert set(marked) == {"instance", "volume", "network-interface"}
    tags = {row["Key"]: row["Value"] for row in marked["volume"]}
    assert tags["gpujob:name"] == tags["Name"] == REQUEST.name
    assert (tags["gpujob:owner"], tags["gpujob:run"], tags["gpujob:attempt"]) == ("alice", "r-abc123", "1")
    assert tags["gpujob:deadline"] == str(int(REQUEST.deadline.timestamp()))


def test_the_metadata_server_needs_a_token_and_answers_containers() -> None:
    options = told()["MetadataOptions"]
    assert options == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"}


def test_one_address_in_one_group_in_one_zone() -> None:
    [card] = told()["NetworkInterfaces"]
    assert (card["SubnetId"], card["Groups"], card["AssociatePublicIpAddress"]) == ("subnet-1", ["sg-1"], True)
    assert card["DeleteOnTermination"]
    assert (told()["MinCount"], told()["MaxCount"]) == (1, 1)


def test_spot_is_one_time_and_never_dearer_than_allowed() -> None:
    spot = replace(PLACE, spot=True)
    assert "InstanceMarketOptions" not in told()
    market = told(spot)["InstanceMarketOptions"]
    assert market["MarketType"] == "spot" and "MaxPrice" not in market["SpotOptions"]
    options = told(spot, replace(REQUEST, max_usd_per_hour=Decimal("0.80")))["InstanceMarketOptions"]["SpotOptions"]
    assert options["MaxPrice"] == "0.80"
    assert (options["SpotInstanceType"], options["InstanceInterruptionBehavior"]) == ("one-time", "terminate")
    assert "spot-instances-request" in {row["ResourceType"] for row in told(spot)["TagSpecifications"]}


def test_a_request_without_a_key_names_none() -> None:
    assert "KeyName" not in told(request=replace(REQUEST, public_key=""))
    assert told()["KeyName"] == REQUEST.name


@pytest.mark.process
def test_the_user_data_does_what_it_says(tmp_path: Path) -> None:
    """Run by a shell, with a root of its own and programs that only say what they were asked."""
    etc, home, bin_ = tmp_path / "etc", tmp_path / "home", tmp_path / "bin"
    for folder in (etc, home, bin_):
        folder.mkdir()
    (etc / "sshd_config").write_text("Include x\nHostKey /etc/ssh/ssh_host_rsa_key\n#HostKey y\nHostKeyAlgorithms z\n")
    said = tmp_path / "said"
    for program in ("shutdown", "systemctl", "chown", "usermod"):
        (bin_ / program).write_text(f'#!/bin/sh\necho {program} "$@" >>{said}\n')
        (bin_ / program).chmod(0o755)
    (bin_ / "getent").write_text(f"#!/bin/sh\necho ubuntu:x:1000:1000::{home}:/bin/bash\n")
    (bin_ / "getent").chmod(0o755)
    request = replace(REQUEST, host_key=private(Ed25519PrivateKey.generate()))
    script = launch.user_data(request, NOW).replace("/etc/ssh", str(etc))
    for _ in range(2):
        env = {"PATH": f"{bin_}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-eu", "-c", script], env=env, check=True, timeout=30)
    assert said.read_text().splitlines()[0] == "shutdown -h +120"
    assert (etc / "gpujob_host_key").read_text() == request.host_key
    assert (etc / "gpujob_host_key").stat().st_mode & 0o777 == 0o600
    key = f"HostKey {etc}/gpujob_host_key"
    assert (etc / "sshd_config").read_text() == f"{key}\nInclude x\n#HostKey y\nHostKeyAlgorithms z\n"
    assert (home / ".ssh" / "authorized_keys").read_text() == f"{request.public_key}\n"
    order = said.read_text().splitlines()
    assert order.index("usermod -aG docker ubuntu") < order.index("systemctl restart ssh"), "groups count at login"
