"""Machine images that a client may start from, and the SSM parameters that name the newest ones.

The names are those of AWS's Deep Learning Base AMIs; moto has none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

DEEP_LEARNING_OWNER = "898082745236"
_PARAMETERS = "/aws/service/deeplearning/ami"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One public image; its id differs from region to region."""

    name: str
    owner: str
    made: datetime
    root_gb: int
    root_device: str = "/dev/sda1"
    architecture: str = "x86_64"
    description: str = ""
    parameter: str = ""  # the SSM parameter that names it, without the root of all of them

    def id_in(self, region: str) -> str:
        return "ami-0" + sha256(f"{self.name}/{region}".encode()).hexdigest()[:16]


def _deep_learning(ubuntu: str, day: str, *, parameter: bool, arm: bool = False) -> Image:
    machine = "arm64" if arm else "x86_64"
    return Image(
        name=f"Deep Learning {'ARM64 ' if arm else ''}Base OSS Nvidia Driver GPU AMI (Ubuntu {ubuntu}) {day}",
        owner=DEEP_LEARNING_OWNER,
        made=datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC),
        root_gb=75,
        architecture=machine,
        description="Supported EC2 instances: G4dn, G5, G6, Gr6, G6e, P4d, P4de, P5, P5e, P5en, P6-B200, P6-B300.",
        parameter=f"{machine}/base-oss-nvidia-driver-gpu-ubuntu-{ubuntu}" if parameter else "",
    )


IMAGES = (
    _deep_learning("24.04", "20260911", parameter=False),
    _deep_learning("24.04", "20261016", parameter=True),
    _deep_learning("22.04", "20260911", parameter=False),
    _deep_learning("22.04", "20261016", parameter=True),
    _deep_learning("24.04", "20261016", parameter=True, arm=True),
    Image(
        name="ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20261020",
        owner="099720109477",
        made=datetime(2026, 10, 20, tzinfo=UTC),
        root_gb=8,
    ),
    Image(
        name="al2023-ami-2023.9.20261013.0-kernel-6.1-x86_64",
        owner="137112412989",
        made=datetime(2026, 10, 13, tzinfo=UTC),
        root_gb=8,
        root_device="/dev/xvda",
    ),
)


def register(backend: Any, region: str) -> None:
    """Put the images into one of moto's regions, unless they are there."""
    from moto.ec2.models.amis import Ami

    for image in IMAGES:
        if image.id_in(region) in backend.amis:
            continue
        shown = _ami_class(Ami)(
            backend,
            image.id_in(region),
            name=image.name,
            description=image.description,
            owner_id=image.owner,
            owner_alias="amazon",
            public=True,
            virtualization_type="hvm",
            architecture=image.architecture,
            root_device_type="ebs",
            root_device_name=image.root_device,
            image_location=f"amazon/{image.name}",
            hypervisor="xen",
            creation_date=image.made,
            region_name=f"{region}a",
        )
        shown.root_gb = shown.ebs_snapshot.volume.size = image.root_gb
        backend.amis[shown.id] = shown


def named(parameter: str, region: str, *, slug_has_gpu: bool) -> str | None:
    """The image id behind an SSM parameter. AWS's own page writes the name without `-gpu`, where none is found."""
    for image in IMAGES:
        slug = image.parameter if slug_has_gpu else image.parameter.replace("driver-gpu-", "driver-")
        if slug and parameter == f"{_PARAMETERS}/{slug}/latest/ami-id":
            return image.id_in(region)
    return None


def is_ours(parameter: str) -> bool:
    return parameter.startswith(_PARAMETERS)


def root_of(shown: Any) -> tuple[str, int]:
    """Root device and the size of its snapshot in GB."""
    return shown.root_device_name or "/dev/sda1", int(getattr(shown, "root_gb", 8))


def _ami_class(base: Any) -> Any:
    """moto says 15 GB on a magnetic disk that stays behind, whatever the image."""

    def block_device_mappings(self: Any) -> list[dict[str, Any]]:
        ebs = {
            "SnapshotId": self.ebs_snapshot.id,
            "VolumeSize": self.root_gb,
            "DeleteOnTermination": True,
            "VolumeType": "gp3",
            "Encrypted": False,
        }
        return [{"DeviceName": self.root_device_name, "Ebs": ebs}]

    body = {"block_device_mappings": property(block_device_mappings), "root_gb": 8}
    return type("PublicImage", (base,), body)
