"""RunInstances: what EC2 checks, in its order and its words, and the machine that comes of it.

moto checks next to nothing here and ignores the client token; it is only asked once all is well.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIEnvironment
from xml.sax.saxutils import unescape

from providers.rehearsal.aws import images
from providers.rehearsal.aws.catalog import WRONG_GPUS, on_demand
from providers.rehearsal.aws.disks import Volume, disk_form, volumes_wanted
from providers.rehearsal.aws.fleet import Rented, Trouble
from providers.rehearsal.aws.quotas import quota_of
from providers.rehearsal.aws.wire import Answer, Call, Refused, values_of
from providers.rehearsal.fate import take_fate
from providers.rehearsal.machines.base import MachineRequest, SimulatedGpus

if TYPE_CHECKING:
    from providers.rehearsal.aws.cloud import AwsCloud

_USER_DATA_BYTES = 16384
_NOT_PARAMETERS = ("Action", "Version", "ClientToken", "DryRun")
_INSTANCE_ID = re.compile(r"<instanceId>(i-[0-9a-f]+)</instanceId>")

_NO_CAPACITY = (
    "We currently do not have sufficient {type} capacity in the Availability Zone you requested ({zone}). Our system "
    "will be working on provisioning additional capacity. You can currently get {type} capacity by not specifying an "
    "Availability Zone in your request."
)
_VCPU_LIMIT = (
    "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance bucket that "
    "the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an "
    "adjustment to this limit."
)
BLOCKED = "This account is currently blocked and not recognized as a valid account. Please contact AWS Support."
_UNSUPPORTED = (
    "Your requested instance type ({type}) is not supported in your requested Availability Zone ({zone}). Please retry "
    "your request by not specifying an Availability Zone or choosing {zones}."
)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A RunInstances that has been found in order."""

    form: Mapping[str, str]
    type: str
    zone: str
    zones: tuple[str, ...]  # where it could be, in order; `zone` first
    image: Any
    spot: bool
    least: int
    most: int
    key: str
    user_data: str


class Launching:
    """One cloud's RunInstances, with the client tokens that it has seen."""

    def __init__(self, cloud: AwsCloud) -> None:
        self._cloud = cloud
        self._tokens: dict[tuple[str, str], tuple[tuple[tuple[str, str], ...], list[str]]] = {}

    def run(self, call: Call, environ: WSGIEnvironment) -> Answer:
        """Raises Refused."""
        key = self._token_of(call)
        parameters = tuple(sorted(pair for pair in call.form.items() if pair[0] not in _NOT_PARAMETERS))
        if key is not None and key in self._tokens:
            return self._again(call, environ, parameters, *self._tokens[key])
        wish = self._checked(call)
        self._refuse_by_fault(wish)
        count = self._within_quota(call.region, wish)
        made = self._make(call, environ, wish, count)
        if key is not None:
            self._tokens[key] = (parameters, [rented.id for rented in made])
        return self._cloud.describing.launched(call, environ, [rented.id for rented in made])

    def _token_of(self, call: Call) -> tuple[str, str] | None:
        """A request that names a zone or a subnet has a token of that zone: the same one elsewhere is another request.

        https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
        """
        if not (token := call.form.get("ClientToken")):
            return None
        return token, self._zone_named(call) or call.region

    def _again(
        self,
        call: Call,
        environ: WSGIEnvironment,
        parameters: tuple[tuple[str, str], ...],
        before: tuple[tuple[str, str], ...],
        ids: list[str],
    ) -> Answer:
        if parameters != before:
            message = (
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
            )
            raise Refused("IdempotentParameterMismatch", message)
        records = [self._cloud.fleet[each] for each in ids]
        dead = all(rented.state in ("shutting-down", "terminated") for rented in records)
        if dead and (self._cloud.refuses_spent_tokens or any(rented.forgotten for rented in records)):
            message = "The client token was used for an instance that has been terminated."
            raise Refused("IdempotentInstanceTerminated", message)
        return self._cloud.describing.launched(call, environ, ids)

    def _checked(self, call: Call) -> Wish:
        form, cloud = call.form, self._cloud
        image = self._image(call)
        instance_type = form.get("InstanceType", "m1.small")
        if not cloud.catalog.exists(instance_type):
            raise Refused("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
        zone = self._zone_named(call)
        zones = cloud.catalog.sold(call.region).get(instance_type, [])
        spot = form.get("InstanceMarketOptions.MarketType") == "spot"
        usage = "spot" if spot else "on-demand"
        if not zones or usage not in cloud.catalog.shape(instance_type)["SupportedUsageClasses"]:
            message = "The requested configuration is currently not supported. Please check the documentation."
            raise Refused("Unsupported", message)
        if zone and zone not in zones:
            raise Refused("Unsupported", _UNSUPPORTED.format(type=instance_type, zone=zone, zones=", ".join(zones)))
        machine = cloud.catalog.shape(instance_type)["ProcessorInfo"]["SupportedArchitectures"]
        if image.architecture not in machine:
            message = f"The architecture '{machine[0]}' of the specified instance type does not match the architecture "
            raise Refused("InvalidParameterValue", f"{message}'{image.architecture}' of the specified AMI.")
        self._check_names(call, spot)
        least, most = int(form.get("MinCount", "0")), int(form.get("MaxCount", "0"))
        if not 1 <= least <= most:
            raise Refused("InvalidParameterValue", f"Value ({least}, {most}) for minCount and maxCount is invalid.")
        free = [each for each in zones if (instance_type, each) not in cloud.sold_out] or zones
        return Wish(
            form=form,
            type=instance_type,
            zone=zone or free[0],
            zones=(zone,) if zone else tuple(free),
            image=image,
            spot=spot,
            least=least,
            most=most,
            key=form.get("KeyName", ""),
            user_data=_decoded(form.get("UserData", "")),
        )

    def _image(self, call: Call) -> Any:
        if not (name := call.form.get("ImageId", "")):
            raise Refused("MissingParameter", "The request must contain the parameter ImageId")
        if not re.fullmatch(r"ami-[0-9a-z]{8,17}", name):
            raise Refused("InvalidAMIID.Malformed", f'Invalid id: "{name}"')
        image = self._cloud.region(call.region).amis.get(name)
        if image is None:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{name}]' does not exist")
        return image

    def _zone_named(self, call: Call) -> str:
        """The zone that the request ties itself to; "" when AWS may choose."""
        subnets = [row.get("SubnetId", "") for row in call.members("NetworkInterface")]
        backend = self._cloud.region(call.region)
        known = {subnet.id: subnet for each in backend.subnets.values() for subnet in each.values()}
        for name in filter(None, [call.form.get("SubnetId", ""), *subnets]):
            if name not in known:
                raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{name}' does not exist")
            return str(known[name].availability_zone)
        zone = call.form.get("Placement.AvailabilityZone", "")
        if zone and zone not in {each.name for each in backend.zones[call.region]}:
            raise Refused("InvalidParameterValue", f"Invalid availability zone: [{zone}]")
        return zone

    def _check_names(self, call: Call, spot: bool) -> None:
        """The key pair, the security groups and what may be tagged."""
        backend = self._cloud.region(call.region)
        if (key := call.form.get("KeyName")) and key not in backend.key_pairs:
            raise Refused("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        nics = call.members("NetworkInterface")
        groups = call.listed("SecurityGroupId")
        if nics and (groups or call.listed("SecurityGroup") or call.form.get("SubnetId")):
            message = "Network interfaces and an instance-level subnet ID or security groups may not be specified"
            raise Refused("InvalidParameterCombination", f"{message} on the same request")
        for group in [*groups, *(name for nic in nics for name in values_of(nic, "SecurityGroupId"))]:
            if not re.fullmatch(r"sg-[0-9a-f]{8,17}", group):
                raise Refused("InvalidGroupId.Malformed", f'Invalid id: "{group}"')
            if backend.get_security_group_from_id(group) is None:
                raise Refused("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
        kinds = {row.get("ResourceType") for row in call.members("TagSpecification")}
        if not spot and "spot-instances-request" in kinds:
            message = "'spot-instances-request' is not a valid taggable resource type for this operation."
            raise Refused("InvalidParameterValue", message)

    def _refuse_by_fault(self, wish: Wish) -> None:
        """What the director of this cloud wants, and what is sold out."""
        fault = self._cloud.faults.take("create", "no_capacity", "offer_gone", "no_funds", "quota")
        kind = fault.kind if fault else ""
        if kind == "no_funds":
            raise Refused("Blocked", BLOCKED)
        if kind == "quota":
            raise _over_limit(wish.spot, 0)
        if kind or (wish.type, wish.zone) in self._cloud.sold_out:
            # 500, as EC2 answers: SDKs take it for a fault of the server and try again by themselves.
            # https://github.com/hammertime/hammertime/issues/29 and others; AWS's own list says so, too.
            raise Refused("InsufficientInstanceCapacity", _NO_CAPACITY.format(type=wish.type, zone=wish.zone), 500)
        price = _max_price(wish.form)
        least = self._cloud.spot.now(wish.type, wish.zone, self._cloud.clock()).usd
        if wish.spot and price and price < least:
            message = f"Your Spot request price of {price} is lower than the minimum required Spot request fulfillment"
            raise Refused("SpotMaxPriceTooLow", f"{message} price of {least}.")

    def _within_quota(self, region: str, wish: Wish) -> int:
        """How many there may be, at most MaxCount."""
        cloud, quota = self._cloud, quota_of(wish.type, spot=wish.spot)
        limit = cloud.quotas.value(quota.code, region)
        used = sum(
            cloud.catalog.vcpus(rented.type)
            for rented in cloud.fleet.everything()
            if rented.region == region
            and rented.state in ("pending", "running", "stopping")
            and quota_of(rented.type, spot=rented.spot) == quota
        )
        count = min(wish.most, int((limit - used) // cloud.catalog.vcpus(wish.type)))
        if count < wish.least:
            raise _over_limit(wish.spot, limit)
        return count

    def _make(self, call: Call, environ: WSGIEnvironment, wish: Wish, count: int) -> list[Rented]:
        wanted = volumes_wanted(call, *images.root_of(wish.image))
        kept = {key: value for key, value in call.form.items() if not key.startswith("BlockDeviceMapping.")}
        kept |= disk_form(wanted) | {"MinCount": str(count), "MaxCount": str(count)}
        if not (call.form.get("SubnetId") or any("SubnetId" in nic for nic in call.members("NetworkInterface"))):
            kept["Placement.AvailabilityZone"] = wish.zone
        status, _, raw = self._cloud.backing.ask(environ, kept)
        if status != 200:
            raise _said_by_moto(raw.decode(), status)
        ids = list(dict.fromkeys(_INSTANCE_ID.findall(raw.decode())))
        return [self._rented(call, wish, each, wanted) for each in ids]

    def _rented(self, call: Call, wish: Wish, instance_id: str, volumes: list[Volume]) -> Rented:
        cloud, now = self._cloud, self._cloud.clock()
        backend = cloud.region(call.region)
        shown = backend.get_instance(instance_id)
        _complete(shown, backend, volumes, now)
        shown.disable_api_termination = call.is_true("DisableApiTermination")
        explicit = [nic.get("DeleteOnTermination", "true") for nic in call.members("NetworkInterface")]
        for index, nic in shown.nics.items():
            nic.add_tags(tags_asked(call, "network-interface"))
            nic.delete_on_termination = index >= len(explicit) or explicit[index].lower() == "true"
        trouble, gpus = self._trouble(wish.spot, cloud.catalog.gpus(wish.type))
        rented = Rented(
            shown=shown,
            request=MachineRequest(
                name=instance_id,
                is_vm=True,
                user="ubuntu" if wish.image.root_device_name == "/dev/sda1" else "ec2-user",
                user_data=wish.user_data,
                authorized_keys=(backend.key_pairs[wish.key].public_key,) if wish.key else (),
                metadata_url=cloud.metadata_url(instance_id),
                gpus=gpus,
            ),
            region=call.region,
            zone=wish.zone,
            type=wish.type,
            spot=wish.spot,
            on_demand=on_demand(wish.type, call.region),
            max_price=_max_price(wish.form) or on_demand(wish.type, call.region),
            wants_address=shown.nics[0].public_ip is not None,
            created_at=now,
            trouble=trouble,
            token=call.form.get("ClientToken", ""),
        )
        if wish.spot:
            rented.spot_request = f"sir-{instance_id[-8:]}"
            rented.spot_tags = tags_asked(call, "spot-instances-request")
            shown.spot_instance_request_id = rented.spot_request
        cloud.billing.made(rented, [device.volume_id for device in shown.block_device_mapping.values()])
        cloud.billing.volumes_changed(call.region, now)
        cloud.fleet.add(rented)
        return rented

    def _trouble(self, spot: bool, gpus: SimulatedGpus | None) -> tuple[Trouble, SimulatedGpus | None]:
        """The faults that wait for a machine like this one, used up."""
        take, trouble = self._cloud.faults.take, Trouble(fate=take_fate(self._cloud.faults, self._cloud.clock()))
        boot = take("create", "slow_boot", "stuck_boot", "failed_boot")
        if boot is not None and boot.kind == "slow_boot":
            trouble.start_after = boot.seconds
        elif boot is not None and boot.kind == "failed_boot":
            trouble.fails_after = boot.seconds
        trouble.never_up = boot is not None and boot.kind == "stuck_boot"
        if spot and (fault := take("create", "preempt")) is not None:
            trouble.interrupted_after, trouble.notice = fault.seconds, fault.notice
        if (fault := take("list", "list_lag")) is not None:
            trouble.hidden_for = fault.seconds
        if gpus is not None and (fault := take("create", "no_gpu", "wrong_gpu")) is not None:
            gpus = WRONG_GPUS if fault.kind == "wrong_gpu" else None
        return trouble, gpus


def _said_by_moto(text: str, status: int) -> Refused:
    code, message = (re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message"))
    if code is not None and code[1] == "NoSuchEntity":
        return Refused("InvalidParameterValue", "Invalid IAM Instance Profile name")
    return Refused(code[1] if code else "InternalError", unescape(message[1]) if message else "", status)


def _over_limit(spot: bool, limit: float) -> Refused:
    if spot:
        return Refused("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    return Refused("VcpuLimitExceeded", _VCPU_LIMIT.format(limit=int(limit)))


def _decoded(user_data: str) -> str:
    try:
        raw = base64.b64decode(user_data, validate=True)
    except binascii.Error as error:
        raise Refused("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from error
    if len(raw) > _USER_DATA_BYTES:
        raise Refused("InvalidParameterValue", "User data is limited to 16384 bytes")
    return (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode(errors="replace")


def _max_price(form: Mapping[str, str]) -> Decimal | None:
    price = form.get("InstanceMarketOptions.SpotOptions.MaxPrice")
    return Decimal(price) if price else None


def _complete(shown: Any, backend: Any, volumes: list[Volume], now: datetime) -> None:
    """moto dates by the real clock, and forgets how fast a volume is to be."""
    shown.launch_time = now.replace(microsecond=0)
    for nic in shown.nics.values():
        nic.attach_time = shown.launch_time
    for device in shown.block_device_mapping.values():
        device.attach_time = shown.launch_time
        backend.volumes[device.volume_id].create_time = shown.launch_time
    for volume in volumes:
        record = backend.volumes[shown.block_device_mapping[volume.device].volume_id]
        record.iops, record.throughput = volume.iops, volume.mib_per_second


def tags_asked(call: Call, kind: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in call.members("TagSpecification"):
        if row.get("ResourceType") == kind:
            tags = Call(form=row).members("Tag")
            found |= {tag.get("Key", ""): tag.get("Value", "") for tag in tags}
    return found
