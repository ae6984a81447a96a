"""A launch as text and arguments: the client token, the user data, what RunInstances is told. Pure."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.aws import mapping
from providers.aws.machine_types import GIB
from providers.aws.mapping import Place
from providers.base import GB, LaunchRequest
from providers.errors import Rejected

SWITCH_LEAST_MINUTES = 1

_USER_DATA = """\
#!/bin/sh
shutdown -h +{minutes}
umask 077
"""

# sshd comes up with a host key that cloud-init makes; ours takes its place, and is the only one that is shown.
_HOST_KEY = """\
printf '%s\\n' {key} >/etc/ssh/gpujob_host_key
sed -i -e '1i HostKey /etc/ssh/gpujob_host_key' -e '/^[[:space:]]*HostKey[[:space:]]/d' /etc/ssh/sshd_config
systemctl restart ssh 2>/dev/null || service ssh restart 2>/dev/null || pkill -HUP -x sshd || true
"""

# Docker's socket is for its group, whose members are read at login: so this comes before our host key lets us in.
_LOGIN = """\
usermod -aG docker {user} 2>/dev/null || true
home=$(getent passwd {user} | cut -d: -f6)
mkdir -p "$home/.ssh"
grep -qxF {key} "$home/.ssh/authorized_keys" 2>/dev/null || printf '%s\\n' {key} >>"$home/.ssh/authorized_keys"
chown -R {user}: "$home/.ssh" && chmod 700 "$home/.ssh" && chmod 600 "$home/.ssh/authorized_keys"
"""

_ED25519 = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]+")


@dataclass(frozen=True, kw_only=True)
class Image:
    """The machine image. `disks` are the device and the GiB of every volume that it brings; the root is the first."""

    ami: str
    disks: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a machine stands on in its zone."""

    image: Image
    subnet: str
    security_group: str


def client_token(place: Place, name: str) -> str:
    """The same for the same machine in the same zone, so that EC2 makes it once however often it is asked.

    A token is good for one zone only: in the next zone the same token would make a second machine.
    https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html (2026-11-21). 64 characters are allowed.
    """
    parts = (name, place.region, place.zone, place.machine_type, place.market)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def user_data(request: LaunchRequest, now: datetime) -> str:
    """A script for cloud-init. Its first command is the switch: whatever fails later, the machine ends itself.

    With InstanceInitiatedShutdownBehavior=terminate a shutdown from inside is the end of it; a `halt` would not be.
    The host key is this machine's alone; who may read user data (the account, and the job itself) may know it.
    """
    minutes = max(SWITCH_LEAST_MINUTES, math.ceil((request.deadline - now).total_seconds() / 60))
    parts = [_USER_DATA.format(minutes=minutes)]
    if request.public_key:
        parts.append(_LOGIN.format(user=mapping.USER, key=shlex.quote(request.public_key.strip())))
    if request.host_key:
        parts.append(_HOST_KEY.format(key=shlex.quote(request.host_key.strip())))
    return "".join(parts)


def public_host_key(private: str) -> str:
    """The two words of the public half; "" when there is no key."""
    if not private:
        return ""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(private.encode(), password=None)
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except ValueError:
        raise Rejected("the host key is not an unencrypted OpenSSH private key", provider=mapping.PROVIDER) from None
    if _ED25519.fullmatch(line) is None:
        raise Rejected("the host key is not an ed25519 key", provider=mapping.PROVIDER)
    return line


def disk_gib(request: LaunchRequest, image: Image) -> int:
    """The root volume. What the image brings is full of the image: what the job asked for comes on top."""
    return math.ceil(request.disk_gb * GB / GIB) + image.disks[0][1]


def arguments(
    place: Place, request: LaunchRequest, ground: Ground, tags: Mapping[str, str], now: datetime
) -> dict[str, Any]:
    """What RunInstances is told."""
    marked = ["instance", "volume", "network-interface", *(["spot-instances-request"] if place.spot else [])]
    told: dict[str, Any] = {
        "ClientToken": client_token(place, request.name),
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": ground.image.ami,
        "InstanceType": place.machine_type,
        "UserData": user_data(request, now),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMappings": _disks(request, ground.image),
        # One hop more than usual: a container asks for the spot notice over the bridge.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"},
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": ground.subnet,
                "Groups": [ground.security_group],
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "TagSpecifications": [{"ResourceType": kind, "Tags": mapping.to_rows(tags)} for kind in marked],
    }
    if request.public_key:
        told["KeyName"] = request.name
    if place.spot:
        told["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": _spot(request.max_usd_per_hour)}
    return told


def _disks(request: LaunchRequest, image: Image) -> list[dict[str, Any]]:
    """Every volume of the image, to be deleted with the machine: for others than the root EC2's default is to keep."""
    root, *others = image.disks
    return [
        _disk(root[0], disk_gib(request, image)),
        *(_disk(device, gib) for device, gib in others),
    ]


def _disk(device: str, gib: int) -> dict[str, Any]:
    return {"DeviceName": device, "Ebs": {"VolumeSize": gib, "VolumeType": "gp3", "DeleteOnTermination": True}}


def _spot(most: Decimal | None) -> dict[str, str]:
    options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    return options if most is None else {**options, "MaxPrice": str(most)}
