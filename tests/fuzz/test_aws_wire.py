"""AWS through boto3, whose answers are nonsense: no socket is opened, boto3 is handed the bytes that came.

XML that is well-formed and not AWS's (a page of a proxy's) must never read as an empty list: that would say that a
machine is gone.
"""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from hypothesis import example, given
from hypothesis import strategies as st

from providers.aws.address import OwnAddress
from providers.aws.client import Asked, Aws, translate
from providers.aws.machines import Machines
from providers.errors import Ambiguous, ProviderError, Throttled, Unreachable
from tests.fakes.clock import START, FakeClock
from tests.fuzz import sense
from tests.fuzz.nonsense import HTML, WORDS, examples, statuses
from tests.providers.aws.test_translate import LAUNCH, LOOK

Json = dict[str, Any]

ENV = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-key",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_MAX_ATTEMPTS": "1",
}
_NAMESPACE = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
INSTANCES = f"""<?xml version="1.0"?><DescribeInstancesResponse {_NAMESPACE}><requestId>r</requestId><reservationSet>
<item><instancesSet><item><instanceId>i-0abc</instanceId><instanceType>g5.xlarge</instanceType>
<instanceState><code>16</code><name>running</name></instanceState><launchTime>2026-11-21T12:00:00.000Z</launchTime>
<ipAddress>203.0.113.7</ipAddress><tagSet><item><key>gpujob:name</key><value>gpujob-r-1-1-1</value></item>
<item><key>gpujob:owner</key><value>alice</value></item></tagSet></item></instancesSet></item></reservationSet>
</DescribeInstancesResponse>"""
PAGES = (HTML, "<a/>", "<html/>", "", "{}", "null", "<", "<a>" * 100, INSTANCES.replace("<requestId>r</requestId>", ""),
         INSTANCES.replace("reservationSet", "otherSet"))  # fmt: skip


class _Raw:
    """What AWSResponse reads."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode("utf-8", "replace")

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [self._bytes]

    def read(self, *_: Any) -> bytes:
        return self._bytes


class Wired(Aws):
    """boto3, which is handed this answer to everything."""

    def __init__(self) -> None:
        super().__init__(ENV)
        self.status, self.text = 200, ""
        self.headers: dict[str, str] = {}

    def _client(self, service: str, region: str, *, launches: bool = False) -> Any:
        client = super()._client(service, region, launches=True)  # one try: the others would wait
        client.meta.events.register("before-send", self._answer, unique_id="fuzz")
        return client

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, self.status, dict(self.headers), _Raw(self.text))  # type: ignore[arg-type]


AWS = Wired()


def machines() -> Machines:
    clock = FakeClock()
    return Machines(AWS, clock, OwnAddress(ENV, clock), simulated=True, sleep=clock.advance)


@st.composite
def cut(draw: st.DrawFn) -> str:
    """The XML with a piece of it left out, doubled, or replaced."""
    start = draw(st.integers(0, len(INSTANCES)))
    end = draw(st.integers(start, min(len(INSTANCES), start + 200)))
    put = draw(st.one_of(st.just(""), st.sampled_from(WORDS), st.text(max_size=10), st.just(INSTANCES[start:end] * 2)))
    return INSTANCES[:start] + put + INSTANCES[end:]


@given(st.one_of(cut(), st.sampled_from(PAGES), st.text(max_size=100)), statuses)
@example(INSTANCES.replace("<code>16</code>", "<code>x</code>"), 200)
@example(INSTANCES.replace("2026-11-21T12:00:00.000Z", "yesterday"), 200)
@example(INSTANCES.replace("<key>gpujob:owner</key>", ""), 200)
@examples(200)
def test_a_machine_is_shown_or_is_an_error(text: str, status: int) -> None:
    AWS.status, AWS.text = status, text
    for look in (
        lambda: machines().row("us-east-1", "i-0abc"),
        lambda: machines()._rows("us-east-1", "gpujob-r-1-1-1"),
    ):
        try:
            look()
        except ProviderError as error:
            sense.error(error)
    try:
        sense.instance(machines().get("us-east-1", "i-0abc"))
    except ProviderError as error:
        sense.error(error)


@pytest.mark.parametrize("text", PAGES)
def test_a_page_that_is_not_awss_never_says_that_a_machine_is_gone(text: str) -> None:
    AWS.status, AWS.text = 200, text
    with pytest.raises(Unreachable):
        machines().get("us-east-1", "i-0abc")
    with pytest.raises(Unreachable):
        machines().owned_by("alice", "us-east-1")
    with pytest.raises(Ambiguous):
        made = AWS.launch("us-east-1", accept=(), InstanceType="g5.xlarge", MinCount=1, MaxCount=1)
        assert made is not None and made["Instances"]


def test_the_answer_of_these_tests_is_one() -> None:
    AWS.status, AWS.text = 200, INSTANCES
    found = machines().get("us-east-1", "i-0abc")
    assert (found.id, found.owner, found.created_at) == ("us-east-1/i-0abc", "alice", START)


@given(
    st.sampled_from(WORDS), st.sampled_from(WORDS), st.integers(100, 599),
    st.sampled_from(("1", "²", "9" * 400, "-1", "NaN", "")), st.sampled_from((LAUNCH, LOOK)),
)  # fmt: skip
@example("RequestLimitExceeded", "x", 503, "²", LOOK)
@example("RequestLimitExceeded", "x", 503, "9" * 400, LOOK)
@example("A" * 20_000, " " * 500_000, 400, "", LOOK)
@examples(200)
def test_every_refusal_is_an_error_of_ours(code: str, message: str, status: int, after: str, asked: Asked) -> None:
    from botocore.exceptions import ClientError

    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": after}}
    refusal: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    error = translate(ClientError(refusal, "RunInstances"), asked)
    assert isinstance(error, ProviderError)
    sense.error(error)
    if isinstance(error, Throttled):
        assert 0 < error.after <= 3600
