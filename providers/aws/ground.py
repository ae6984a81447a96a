"""What a machine needs before it is launched: image, network, security group, key pair, and who may log in.

Owns how these are looked up and made. What is made carries the machine's tags, so that leftovers.py finds it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from providers.aws import mapping
from providers.aws.launch import Image
from providers.aws.mapping import Place
from providers.base import LaunchRequest, Now
from providers.errors import NotFound, OfferGone, ProviderError, Rejected, Unreachable

if TYPE_CHECKING:
    from providers.aws.client import Aws

IMAGE_KEPT = timedelta(hours=1)
NETWORK_TAG = "gpujob:network"  # on a VPC that is to be used instead of the default one
VISIBLE_SECONDS = 10.0  # what was made a moment ago may not be known everywhere in EC2
SSH_PORT = 22

# The name of the parameter that holds the newest image of a kind. AWS's own page leaves out `-gpu`, the parameters in
# use have it: both are tried. Ubuntu 22.04 where 24.04 is not there.
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html (2026-11-20)
_PARAMETER = "/aws/service/deeplearning/ami/x86_64/{slug}/latest/ami-id"
_RELEASES = ("24.04", "22.04")
_SLUGS = tuple(f"base-oss-nvidia-driver-{gpu}ubuntu-{release}" for release in _RELEASES for gpu in ("gpu-", ""))
# Where no parameter can be read: by the images' own names, as dstack does. The owner is AWS's for these images.
_IMAGE_OWNER = "898082745236"
_IMAGE_NAME = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu {release}) *"

Json = Mapping[str, Any]
Sleep = Callable[[float], None]


class Images:
    """The newest deep learning image of each region: Docker, NVIDIA's driver and container toolkit, Python."""

    def __init__(self, aws: Aws, now: Now) -> None:
        self._aws = aws
        self._now = now
        self._known: dict[str, tuple[datetime, Image]] = {}
        self._lock = threading.Lock()

    def newest(self, region: str) -> Image:
        """Raises Rejected when the region has none."""
        with self._lock:
            asked_at, image = self._known.get(region, (None, None))
        if image is not None and asked_at is not None and asked_at > self._now() - IMAGE_KEPT:
            return image
        image = _image(self._by_parameter(region) or self._by_name(region))
        with self._lock:
            self._known[region] = (self._now(), image)
        return image

    def _by_parameter(self, region: str) -> Json | None:
        for slug in _SLUGS:
            name = _PARAMETER.format(slug=slug)
            try:
                answer = self._aws.try_call(("ParameterNotFound",), "ssm", region, "get_parameter", Name=name)
            except ProviderError:
                return None  # not allowed, or not answered: the images' own names lead there, too
            if answer is not None:
                found = self._aws.call("ec2", region, "describe_images", ImageIds=[answer["Parameter"]["Value"]])
                return next(iter(found["Images"]), None)
        return None

    def _by_name(self, region: str) -> Json:
        for release in _RELEASES:
            found = self._aws.call(
                "ec2",
                region,
                "describe_images",
                Owners=[_IMAGE_OWNER],
                Filters=[
                    {"Name": "name", "Values": [_IMAGE_NAME.format(release=release)]},
                    {"Name": "architecture", "Values": ["x86_64"]},
                    {"Name": "state", "Values": ["available"]},
                ],
            )["Images"]
            if found:
                newest: Json = max(found, key=lambda row: (str(row.get("CreationDate", "")), str(row["ImageId"])))
                return newest
        raise Rejected(f"{region} has no deep learning image of AWS's", provider=mapping.PROVIDER)


def subnet(aws: Aws, place: Place) -> tuple[str, str]:
    """(subnet, VPC) in the zone: of the VPC that is tagged for us, else of the default one. Raises OfferGone."""
    filters = [{"Name": "availability-zone", "Values": [place.zone]}, {"Name": "state", "Values": ["available"]}]
    tagged = {"Name": "tag-key", "Values": [NETWORK_TAG]}
    vpcs = aws.call("ec2", place.region, "describe_vpcs", Filters=[tagged])["Vpcs"]
    own = {"Name": "vpc-id", "Values": [vpc["VpcId"] for vpc in vpcs]}
    narrowed = own if vpcs else {"Name": "default-for-az", "Values": ["true"]}
    rows = aws.pages("ec2", place.region, "describe_subnets", "Subnets", Filters=[*filters, narrowed])
    if not rows:
        where = "the VPC that is tagged gpujob:network" if vpcs else "a default VPC"
        raise OfferGone(f"there is no subnet of {where} in {place.zone}", provider=mapping.PROVIDER)
    roomiest = max(rows, key=lambda row: int(row.get("AvailableIpAddressCount", 0)))
    return str(roomiest["SubnetId"]), str(roomiest["VpcId"])


def security_group(aws: Aws, region: str, name: str, vpc: str, tags: Mapping[str, str]) -> str:
    """The group of this machine's own; made unless it is there."""
    made = aws.try_call(
        ("InvalidGroup.Duplicate",),
        "ec2",
        region,
        "create_security_group",
        GroupName=name,
        VpcId=vpc,
        Description=f"gpujob {name}: SSH from who made it",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": mapping.to_rows(tags)}],
    )
    if made is not None:
        return str(made["GroupId"])
    same = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
    rows = aws.call("ec2", region, "describe_security_groups", Filters=same)["SecurityGroups"]
    if not rows:
        raise Unreachable(f"EC2 knows the security group {name} and does not show it", provider=mapping.PROVIDER)
    return str(rows[0]["GroupId"])


def let_in(aws: Aws, region: str, group: str, networks: Sequence[str], sleep: Sleep) -> None:
    """SSH from these networks and from nowhere else; what is let in already is no error."""
    for network in networks:
        rule = {
            "IpProtocol": "tcp",
            "FromPort": SSH_PORT,
            "ToPort": SSH_PORT,
            "IpRanges": [{"CidrIp": network, "Description": "gpujob"}],
        }

        def authorize(rule: Json = rule) -> object:
            return aws.try_call(
                ("InvalidPermission.Duplicate",),
                "ec2",
                region,
                "authorize_security_group_ingress",
                GroupId=group,
                IpPermissions=[rule],
            )

        once_visible(authorize, sleep)


def key_pair(aws: Aws, region: str, request: LaunchRequest, tags: Mapping[str, str]) -> None:
    """The run's own public key under the machine's name, unless it is there or there is none."""
    if not request.public_key:
        return
    aws.try_call(
        ("InvalidKeyPair.Duplicate",),
        "ec2",
        region,
        "import_key_pair",
        KeyName=request.name,
        PublicKeyMaterial=request.public_key.encode(),
        TagSpecifications=[{"ResourceType": "key-pair", "Tags": mapping.to_rows(tags)}],
    )


def once_visible(ask: Callable[[], object], sleep: Sleep) -> None:
    """Ask again for a while when EC2 does not yet know what it has just made."""
    pause = 0.5
    waited = 0.0
    while True:
        try:
            ask()
        except NotFound:
            if waited >= VISIBLE_SECONDS:
                raise
            sleep(pause)
            waited, pause = waited + pause, pause * 2
        else:
            return


def _image(row: Json) -> Image:
    """Its volumes, the root first; instance stores are no volumes."""
    disks = [
        (str(disk["DeviceName"]), int(disk["Ebs"].get("VolumeSize") or 0))
        for disk in row.get("BlockDeviceMappings") or ()
        if "Ebs" in disk
    ]
    root = str(row.get("RootDeviceName") or "/dev/sda1")
    if root not in dict(disks):
        disks.append((root, 0))
    disks.sort(key=lambda disk: disk[0] != root)
    return Image(ami=str(row["ImageId"]), disks=tuple(disks))
