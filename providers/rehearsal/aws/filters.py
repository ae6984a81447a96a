"""The filters that EC2 knows, for the listings that moto answers: moto only looks at a filter when there is something.

From the API reference of each action, https://docs.aws.amazon.com/AWSEC2/latest/APIReference/, 2026-11.
"""

from __future__ import annotations

from providers.rehearsal.aws.wire import Call, Refused

_TAGS = "tag-key tag-value"
_KNOWN = {
    "DescribeAvailabilityZones": "group-long-name group-name message opt-in-status region-name state zone-id zone-name "
    "zone-type parent-zone-id parent-zone-name",
    "DescribeImages": f"{_TAGS} architecture block-device-mapping.delete-on-termination "
    "block-device-mapping.device-name block-device-mapping.encrypted block-device-mapping.snapshot-id "
    "block-device-mapping.volume-size block-device-mapping.volume-type creation-date description ena-support "
    "hypervisor image-allowed image-id image-type is-public kernel-id manifest-location name owner-alias owner-id "
    "platform product-code product-code.type ramdisk-id root-device-name root-device-type source-image-id "
    "source-instance-id sriov-net-support state state-reason-code state-reason-message virtualization-type",
    "DescribeKeyPairs": f"{_TAGS} fingerprint key-name key-pair-id",
    "DescribeNetworkInterfaces": f"{_TAGS} addresses.private-ip-address addresses.primary association.public-ip "
    "attachment.attachment-id attachment.delete-on-termination attachment.device-index attachment.instance-id "
    "attachment.instance-owner-id attachment.status availability-zone description group-id group-name interface-type "
    "mac-address network-interface-id owner-id private-dns-name private-ip-address requester-id requester-managed "
    "source-dest-check status subnet-id vpc-id",
    "DescribeSecurityGroups": f"{_TAGS} description group-id group-name owner-id vpc-id ip-permission.cidr "
    "ip-permission.from-port ip-permission.group-id ip-permission.group-name ip-permission.protocol "
    "ip-permission.to-port egress.ip-permission.cidr egress.ip-permission.from-port egress.ip-permission.to-port",
    "DescribeSubnets": f"{_TAGS} availability-zone availabilityZone availability-zone-id available-ip-address-count "
    "cidr cidr-block cidrBlock default-for-az defaultForAz map-public-ip-on-launch owner-id state subnet-arn "
    "subnet-id vpc-id",
    "DescribeVolumes": f"{_TAGS} attachment.attach-time attachment.delete-on-termination attachment.device "
    "attachment.instance-id attachment.status availability-zone create-time encrypted fast-restored "
    "multi-attach-enabled size snapshot-id status volume-id volume-type",
    "DescribeVpcs": f"{_TAGS} cidr cidr-block-association.cidr-block dhcp-options-id is-default isDefault owner-id "
    "state vpc-id",
}


def check(call: Call) -> None:
    """Raises Refused for a filter that EC2 does not know."""
    if call.action not in _KNOWN:
        return
    for name in call.filters():
        if not name.startswith("tag:") and name not in _KNOWN[call.action].split():
            raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
