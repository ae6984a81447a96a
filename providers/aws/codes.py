"""What EC2's error codes mean, as data: a code's kind, the quota behind a refusal, the permission behind another.

Pure. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html (2026-11-21); the codes for missing
capacity are those that Karpenter collected (aws/karpenter-provider-aws, pkg/errors/errors.go, 2026-08-21).
"""

from __future__ import annotations

import re
from enum import Enum, auto

from providers.errors import Ambiguous


class AskedBefore(Ambiguous):
    """The token was used with other parameters: an earlier call came through, and this one made nothing."""


class Kind(Enum):
    CAPACITY = auto()
    NOT_HERE = auto()
    QUOTA = auto()
    AUTH = auto()
    THROTTLE = auto()
    UNKNOWN_OUTCOME = auto()
    BAD_REQUEST = auto()
    TOKEN_SPENT = auto()
    TOKEN_MISMATCH = auto()
    NOT_FOUND = auto()
    IN_USE = auto()


_CODES: dict[Kind, tuple[str, ...]] = {
    Kind.CAPACITY: (
        "InsufficientInstanceCapacity",
        "UnfulfillableCapacity",
        "InsufficientCapacity",
        "InsufficientHostCapacity",
        "SpotMaxPriceTooLow",
        "ReservationCapacityExceeded",
    ),
    Kind.NOT_HERE: ("Unsupported", "UnsupportedOperation", "InsufficientFreeAddressesInSubnet"),
    Kind.QUOTA: (
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "MaxFleetCountExceeded",
        "VolumeLimitExceeded",
        "MaxIOPSLimitExceeded",
        "SecurityGroupLimitExceeded",
        "KeyPairLimitExceeded",
    ),
    Kind.AUTH: (
        "AuthFailure",
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "Blocked",
        "OptInRequired",
        "PendingVerification",
    ),
    Kind.THROTTLE: (
        "RequestLimitExceeded",
        "EC2ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "LimitExceededException",
        "SlowDown",
    ),
    Kind.UNKNOWN_OUTCOME: (
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalErrorException",
        "Unavailable",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "RequestTimeoutException",
    ),
    Kind.BAD_REQUEST: ("InvalidParameterValue", "InvalidParameterCombination", "InvalidUserData.Malformed"),
    Kind.TOKEN_SPENT: ("IdempotentInstanceTerminated",),
    Kind.TOKEN_MISMATCH: ("IdempotentParameterMismatch",),
    Kind.NOT_FOUND: ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"),
    Kind.IN_USE: ("DependencyViolation", "ResourceInUse", "VolumeInUse"),
}
_KINDS = {code: kind for kind, codes in _CODES.items() for code in codes}

# In a region that the account has not enabled every call is refused as if the key were wrong.
NOT_ENABLED = ("AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId", "OptInRequired")

# The quotas of running vCPUs: (GPU class, spot) -> code. G and VT share one, all P another; the rest are "standard".
# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html (2026-11-21)
QUOTAS = {
    ("G and VT", False): "L-DB2E81BA",
    ("P", False): "L-417A185B",
    ("G and VT", True): "L-3819A6DF",
    ("P", True): "L-7212CCBC",
    ("Standard (A, C, D, H, I, M, R, T, Z)", False): "L-1216C47A",
    ("Standard (A, C, D, H, I, M, R, T, Z)", True): "L-34B43A08",
}

_PERMISSION = re.compile(r"not authorized to perform: ?([\w-]+:\w+)")
_ENCODED = "Encoded authorization failure message:"
_LONGEST_MESSAGE = 1000
_IAM_NAMES = {"service-quotas": "servicequotas"}


def kind_of(code: str, status: int) -> Kind:
    """An unknown code is a refusal when the status is a 4xx; a 5xx says nothing of what was done."""
    if code in _KINDS:
        return _KINDS[code]
    if code.endswith(".NotFound"):
        return Kind.NOT_FOUND
    if status == 429:
        return Kind.THROTTLE
    if status in (401, 403):
        return Kind.AUTH
    return Kind.BAD_REQUEST if 400 <= status < 500 else Kind.UNKNOWN_OUTCOME


def quota_class(instance_type: str) -> str:
    family = instance_type.partition(".")[0]
    if family.startswith(("g", "vt")):
        return "G and VT"
    return "P" if family.startswith("p") else "Standard (A, C, D, H, I, M, R, T, Z)"


def quota_advice(instance_type: str, *, spot: bool, region: str) -> str:
    """Which quota it is and where it can be raised."""
    name = quota_class(instance_type)
    code = QUOTAS[(name, spot)]
    market = "spot" if spot else "on-demand"
    page = f"https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code}"
    return f"the quota of vCPUs for {market} {name} instances in {region} ({code}) is too low; raise it at {page}"


def permission(message: str, *, service: str, operation: str) -> str:
    """The permission that is missing: the one that AWS names, else the one that the call needs."""
    named = _PERMISSION.search(message)
    return named[1] if named else f"{_IAM_NAMES.get(service, service)}:{operation}"


def without_blob(message: str) -> str:
    """The message without the encoded part, which is long and which only AWS can read."""
    return message.partition(_ENCODED)[0].strip()[:_LONGEST_MESSAGE]
