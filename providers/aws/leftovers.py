"""What a machine's name may leave behind: volumes, security groups, key pairs. Found by tag, deleted when they can be.

They cost nothing (a volume does), and each counts against a quota. A security group can only go after its machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from providers.aws import mapping

if TYPE_CHECKING:
    from providers.aws.client import Aws

_LATER = ("DependencyViolation", "VolumeInUse", "IncorrectState", "ResourceInUse", "InvalidGroup.InUse")
_ALREADY = ("InvalidGroup.NotFound", "InvalidVolume.NotFound", "InvalidKeyPair.NotFound", "InvalidGroupId.Malformed")
_VOLUME_STATES = ["creating", "available", "in-use", "error"]  # one that is "deleting" goes by itself

Filters = list[dict[str, Any]]


@dataclass(frozen=True)
class Leftover:
    """`kind` is a person's word for it."""

    kind: str
    id: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


def of_name(aws: Aws, region: str, name: str) -> list[Leftover]:
    return _volumes(aws, region, _name_filter(name)) + _free(aws, region, _name_filter(name))


def made_before_launch(aws: Aws, region: str, name: str) -> list[Leftover]:
    """Without the volumes: those are made by the launch itself, and may be about to be attached."""
    return _free(aws, region, _name_filter(name))


def of_owner(aws: Aws, region: str, owner: str) -> dict[str, list[Leftover]]:
    """By the name of their machine; of everybody when `owner` is empty."""
    found: dict[str, list[Leftover]] = defaultdict(list)
    filters = owner_filter(owner)
    for leftover in _volumes(aws, region, filters) + _free(aws, region, filters):
        if name := leftover.tags.get(mapping.NAME):
            found[name].append(leftover)
    return dict(found)


def owner_filter(owner: str) -> Filters:
    return [
        {"Name": f"tag:{mapping.OWNER}", "Values": [owner]} if owner else {"Name": "tag-key", "Values": [mapping.NAME]}
    ]


def remove(aws: Aws, region: str, leftovers: Sequence[Leftover]) -> None:
    """Delete what can be deleted now; what is still in use is left for the next time."""
    for leftover in leftovers:
        if leftover.kind == "volume":
            aws.try_call(_LATER + _ALREADY, "ec2", region, "delete_volume", VolumeId=leftover.id)
        elif leftover.kind == "key pair":
            aws.try_call(_ALREADY, "ec2", region, "delete_key_pair", KeyName=leftover.id)
        else:
            aws.try_call(_LATER + _ALREADY, "ec2", region, "delete_security_group", GroupId=leftover.id)


def _name_filter(name: str) -> Filters:
    return [{"Name": f"tag:{mapping.NAME}", "Values": [name]}]


def _volumes(aws: Aws, region: str, filters: Filters) -> list[Leftover]:
    there = [*filters, {"Name": "status", "Values": _VOLUME_STATES}]
    rows = aws.pages("ec2", region, "describe_volumes", "Volumes", Filters=there)
    return [Leftover("volume", row["VolumeId"], mapping.tags_of(row)) for row in rows]


def _free(aws: Aws, region: str, filters: Filters) -> list[Leftover]:
    groups = aws.pages("ec2", region, "describe_security_groups", "SecurityGroups", Filters=filters)
    keys = aws.call("ec2", region, "describe_key_pairs", Filters=filters)["KeyPairs"]
    return [
        *(Leftover("security group", row["GroupId"], mapping.tags_of(row)) for row in groups),
        *(Leftover("key pair", row["KeyName"], mapping.tags_of(row)) for row in keys),
    ]
