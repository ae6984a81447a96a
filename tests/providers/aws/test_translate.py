"""Each of EC2's answers as what the caller does next: the table of codes, and what never got an answer."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from providers.aws import codes
from providers.aws.client import Asked, translate
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoCapacity,
    NotFound,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unreachable,
)

LAUNCH = Asked(
    service="ec2", region="eu-west-1", operation="run_instances", creates=True, machine_type="g5.xlarge", spot=False
)
LOOK = Asked(service="ec2", region="eu-west-1", operation="describe_instances")
URL = "https://ec2.eu-west-1.amazonaws.com/"

CAPACITY = [
    ("InsufficientInstanceCapacity", 500),
    ("UnfulfillableCapacity", 400),
    ("InsufficientCapacity", 500),
    ("SpotMaxPriceTooLow", 400),
    ("ReservationCapacityExceeded", 400),
]
QUOTA = [
    ("VcpuLimitExceeded", 400),
    ("InstanceLimitExceeded", 400),
    ("MaxSpotInstanceCountExceeded", 400),
    ("MaxFleetCountExceeded", 400),
    ("VolumeLimitExceeded", 400),
    ("MaxIOPSLimitExceeded", 400),
]
AUTH = [
    ("AuthFailure", 401),
    ("UnauthorizedOperation", 403),
    ("AccessDenied", 403),
    ("AccessDeniedException", 400),
    ("InvalidClientTokenId", 403),
    ("UnrecognizedClientException", 400),
    ("RequestExpired", 400),
    ("Blocked", 400),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403),
]
THROTTLE = [
    ("RequestLimitExceeded", 503),
    ("EC2ThrottledException", 400),
    ("ThrottlingException", 400),
    ("TooManyRequestsException", 429),
]
UNKNOWN = [
    ("InternalError", 500),
    ("InternalFailure", 500),
    ("Unavailable", 503),
    ("ServiceUnavailable", 503),
    ("SomethingNew", 500),
    ("502", 502),
]
BAD = [
    ("InvalidParameterValue", 400),
    ("InvalidParameterCombination", 400),
    ("InvalidUserData.Malformed", 400),
    ("SomethingNew", 400),
]


def refusal(code: str, status: int = 400, message: str = "said", **headers: str) -> ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return ClientError(answer, "AnOperation")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        *((*row, NoCapacity) for row in CAPACITY),
        ("Unsupported", 400, OfferGone),
        ("InsufficientFreeAddressesInSubnet", 400, OfferGone),
        *((*row, QuotaExceeded) for row in QUOTA),
        *((*row, AuthFailed) for row in AUTH),
        *((*row, Throttled) for row in THROTTLE),
        *((*row, Ambiguous) for row in UNKNOWN),
        *((*row, Rejected) for row in BAD),
        ("IdempotentInstanceTerminated", 400, OfferGone),
        ("IdempotentParameterMismatch", 400, codes.AskedBefore),
        ("InvalidInstanceID.NotFound", 400, NotFound),
        ("DependencyViolation", 400, Throttled),
    ],
)
def test_what_a_refused_launch_means(code: str, status: int, expected: type[ProviderError]) -> None:
    error = translate(refusal(code, status), LAUNCH)
    assert type(error) is expected
    assert error.provider == "aws" and code in str(error) and "RunInstances in eu-west-1" in str(error)


@pytest.mark.parametrize(("code", "status"), UNKNOWN)
def test_elsewhere_an_unclear_answer_is_none(code: str, status: int) -> None:
    assert type(translate(refusal(code, status), LOOK)) is Unreachable


@pytest.mark.parametrize(
    ("error", "at_launch", "elsewhere"),
    [
        (EndpointConnectionError(endpoint_url=URL), Unreachable, Unreachable),
        (ConnectTimeoutError(endpoint_url=URL), Unreachable, Unreachable),
        (ReadTimeoutError(endpoint_url=URL), Ambiguous, Unreachable),
        (ConnectionClosedError(endpoint_url=URL), Ambiguous, Unreachable),
        (ResponseParserError("not XML"), Ambiguous, Unreachable),
        (OSError("reset"), Ambiguous, Unreachable),
        (NoCredentialsError(), AuthFailed, AuthFailed),
        (TokenRetrievalError(provider="sso", error_msg="expired"), AuthFailed, AuthFailed),
        (ParamValidationError(report="no such parameter"), Rejected, Rejected),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_answer_means(error: Exception, at_launch: type[ProviderError], elsewhere: type[ProviderError]) -> None:
    assert type(translate(error, LAUNCH)) is at_launch
    assert type(translate(error, LOOK)) is elsewhere


@pytest.mark.parametrize(
    ("machine_type", "spot", "code"),
    [
        ("g5.xlarge", False, "L-DB2E81BA"),
        ("p5.48xlarge", False, "L-417A185B"),
        ("g4dn.xlarge", True, "L-3819A6DF"),
        ("p6-b200.48xlarge", True, "L-7212CCBC"),
        ("m7i.large", False, "L-1216C47A"),
    ],
)
def test_a_quota_is_named_with_where_to_raise_it(machine_type: str, spot: bool, code: str) -> None:
    asked = Asked(
        service="ec2", region="eu-west-1", operation="run_instances", creates=True, machine_type=machine_type, spot=spot
    )
    said = str(translate(refusal("VcpuLimitExceeded"), asked))
    assert f"https://eu-west-1.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code}" in said


@pytest.mark.parametrize(
    ("message", "asked", "permission"),
    [
        ("You are not authorized to perform this operation.", LAUNCH, "ec2:RunInstances"),
        (
            (
                "You are not authorized to perform this operation. User: arn:aws:iam::1:user/a is not authorized to "
                "perform: ec2:CreateTags on resource: arn. Encoded authorization failure message: c2VjcmV0"
            ),
            LAUNCH,
            "ec2:CreateTags",
        ),
        ("denied", Asked(service="ssm", region="eu-west-1", operation="get_parameter"), "ssm:GetParameter"),
        (
            "denied",
            Asked(service="service-quotas", region="eu-west-1", operation="get_service_quota"),
            "servicequotas:GetServiceQuota",
        ),
    ],
)
def test_a_missing_permission_is_named(message: str, asked: Asked, permission: str) -> None:
    said = str(translate(refusal("UnauthorizedOperation", 403, message), asked))
    assert f"the permission {permission} is missing" in said
    assert "c2VjcmV0" not in said


def test_a_refused_key_may_be_a_region_that_is_not_enabled() -> None:
    assert "has not enabled eu-west-1" in str(translate(refusal("AuthFailure", 401), LOOK))


@pytest.mark.parametrize(
    ("headers", "after"), [({"retry-after": "17"}, 17.0), ({}, 5.0), ({"retry-after": "soon"}, 5.0)]
)
def test_how_long_to_wait_when_throttled(headers: dict[str, str], after: float) -> None:
    error = translate(refusal("RequestLimitExceeded", 503, **headers), LAUNCH)
    assert isinstance(error, Throttled) and error.after == after


def test_every_code_has_one_kind() -> None:
    listed = [code for group in codes._CODES.values() for code in group]
    assert len(listed) == len(set(listed))
