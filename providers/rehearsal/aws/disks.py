"""The volumes that come with an instance, by EC2's rules for block device mappings. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from providers.rehearsal.aws.wire import Call, Refused


@dataclass(frozen=True, kw_only=True)
class Volume:
    device: str
    gigabytes: int
    kind: str = "gp3"
    dies_with_it: bool = False  # the default of every volume but the root's: it stays behind, and costs
    encrypted: bool = False
    iops: int | None = None  # that were asked for; each kind has some of its own
    mib_per_second: int | None = None


def volumes_wanted(call: Call, root_device: str, snapshot_gigabytes: int) -> list[Volume]:
    """The image's root volume with what the request changes of it, and the request's own."""
    root = Volume(device=root_device, gigabytes=snapshot_gigabytes, dies_with_it=True)
    found = {root_device: root}
    for row in call.members("BlockDeviceMapping"):
        device = row.get("DeviceName", "")
        if "NoDevice" in row or row.get("VirtualName"):
            continue  # local disks are there anyway
        base = found.get(device) or Volume(device=device, gigabytes=0)
        found[device] = wanted = replace(
            base,
            gigabytes=int(row.get("Ebs.VolumeSize") or base.gigabytes),
            kind=row.get("Ebs.VolumeType") or (base.kind if device == root_device else "gp2"),
            dies_with_it=row.get("Ebs.DeleteOnTermination", str(base.dies_with_it)).lower() == "true",
            encrypted=row.get("Ebs.Encrypted", "false").lower() == "true",
            iops=int(row["Ebs.Iops"]) if "Ebs.Iops" in row else None,
            mib_per_second=int(row["Ebs.Throughput"]) if "Ebs.Throughput" in row else None,
        )
        _check(wanted, root)
    return list(found.values())


def disk_form(volumes: Iterable[Volume]) -> dict[str, str]:
    """As the request would have said it."""
    form = {}
    for number, volume in enumerate(volumes, start=1):
        key = f"BlockDeviceMapping.{number}"
        form[f"{key}.DeviceName"] = volume.device
        form[f"{key}.Ebs.VolumeSize"] = str(volume.gigabytes)
        form[f"{key}.Ebs.VolumeType"] = volume.kind
        form[f"{key}.Ebs.DeleteOnTermination"] = str(volume.dies_with_it).lower()
        form[f"{key}.Ebs.Encrypted"] = str(volume.encrypted).lower()
    return form


def _check(wanted: Volume, root: Volume) -> None:
    if not wanted.gigabytes:
        raise Refused("MissingParameter", "The request must contain the parameter size or snapshotId")
    if wanted.device == root.device and wanted.gigabytes < root.gigabytes:
        message = f"Volume of size {wanted.gigabytes}GB is smaller than snapshot, expect size >= {root.gigabytes}GB"
        raise Refused("InvalidBlockDeviceMapping", message)
