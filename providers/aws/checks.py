"""Whether we could rent on EC2 as things are: login, permissions, quotas, network. Makes nothing and costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

from providers.aws import codes
from providers.aws.ground import NETWORK_TAG
from providers.aws.prices import PRICING_REGION
from providers.base import Check
from providers.errors import ProviderError

if TYPE_CHECKING:
    from providers.aws.client import Aws
    from providers.aws.ground import Images

_GPU_QUOTAS = {(name, spot): code for (name, spot), code in codes.QUOTAS.items() if not name.startswith("Standard")}
_EXAMPLE_TYPE = "g4dn.xlarge"

Finding = tuple[str, str]  # (problem, note), either may be empty


def check(aws: Aws, images: Images, region: str) -> Check:
    """All questions at once, about one region."""
    try:
        who = aws.call("sts", region, "get_caller_identity")
    except ProviderError as error:
        return Check(problems=(str(error),))
    questions: list[Callable[[], list[Finding]]] = [
        lambda: _launch_permission(aws, images, region),
        lambda: _group_permission(aws, region),
        lambda: _quotas(aws, region),
        lambda: _network(aws, region),
        lambda: _prices(aws),
    ]
    with ThreadPoolExecutor(max_workers=len(questions)) as pool:
        answers = list(pool.map(_answered, questions))
    findings = [finding for answer in answers for finding in answer]
    return Check(
        problems=tuple(problem for problem, _ in findings if problem),
        notes=(f"account {who['Account']}, {who['Arn']}, asked in {region}", *(note for _, note in findings if note)),
    )


def _answered(question: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return question()
    except ProviderError as error:
        return [(str(error), "")]


def _launch_permission(aws: Aws, images: Images, region: str) -> list[Finding]:
    """A dry run answers DryRunOperation when it would have been allowed."""
    image = images.newest(region)
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "gpujob:name", "Value": "gpujob-check"}]}]
    aws.try_call(
        ("DryRunOperation",),
        "ec2",
        region,
        "run_instances",
        DryRun=True,
        ImageId=image.ami,
        InstanceType=_EXAMPLE_TYPE,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tags,
    )
    return [("", f"machines may be launched, from {image.ami}")]


def _group_permission(aws: Aws, region: str) -> list[Finding]:
    aws.try_call(
        ("DryRunOperation",),
        "ec2",
        region,
        "create_security_group",
        DryRun=True,
        GroupName="gpujob-check",
        Description="gpujob check",
    )
    return []


def _quotas(aws: Aws, region: str) -> list[Finding]:
    """A new account's quotas for GPUs are often 0. A permission that is missing here stops nothing."""
    try:
        values = {key: _quota(aws, region, code) for key, code in _GPU_QUOTAS.items()}
    except ProviderError as error:
        return [("", f"the quotas are not known: {error}")]
    known = {key: value for key, value in values.items() if value is not None}
    none = [key for key, value in known.items() if value == 0]
    some = [f"{_market(spot)} {name} {value:f}" for (name, spot), value in known.items() if value]
    advice = [codes.quota_advice(_a_type_of(name), spot=spot, region=region) for name, spot in none]
    if known and not some:
        return [(text, "") for text in advice]
    quotas = [("", f"vCPU quotas in {region}: {', '.join(some)}")] if some else []
    return [*quotas, *(("", text) for text in advice)]


def _quota(aws: Aws, region: str, code: str) -> Decimal | None:
    answer = aws.try_call(
        ("NoSuchResourceException",), "service-quotas", region, "get_service_quota", ServiceCode="ec2", QuotaCode=code
    )
    return Decimal(str(answer["Quota"]["Value"])).quantize(Decimal(1)) if answer else None


def _network(aws: Aws, region: str) -> list[Finding]:
    for wanted in (
        {"Name": "tag-key", "Values": [NETWORK_TAG]},
        {"Name": "is-default", "Values": ["true"]},
    ):
        if aws.call("ec2", region, "describe_vpcs", Filters=[wanted])["Vpcs"]:
            return []
    text = f"there is no default VPC in {region}: make one (aws ec2 create-default-vpc), or tag one {NETWORK_TAG}"
    return [(text, "")]


def _prices(aws: Aws) -> list[Finding]:
    example = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": _EXAMPLE_TYPE}]
    try:
        aws.call("pricing", PRICING_REGION, "get_products", ServiceCode="AmazonEC2", Filters=example, MaxResults=1)
    except ProviderError as error:
        return [("", f"prices come from the public file, which takes longer: {error}")]
    return []


def _market(spot: bool) -> str:
    return "spot" if spot else "on-demand"


def _a_type_of(quota_class: str) -> str:
    return "p5.48xlarge" if quota_class == "P" else _EXAMPLE_TYPE
