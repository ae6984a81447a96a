"""Another AWS account behind the same endpoint: it knows nothing of the first one's machines and may make none.

What it says of them is what EC2 says of any id that it does not know (InvalidInstanceID.NotFound).
"""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from providers.rehearsal.aws.backing import Backing
from providers.rehearsal.aws.describing import chosen
from providers.rehearsal.aws.launching import BLOCKED
from providers.rehearsal.aws.wire import Answer, Call, Refused, xml_answer

_OF_NOBODY = ("DescribeRegions", "DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "DescribeSpotPriceHistory")


class OtherAccount:
    """`account` is its number."""

    def __init__(self) -> None:
        self._backing = Backing()

    @property
    def account(self) -> str:
        return self._backing.account

    def answer(self, call: Call, environ: WSGIEnvironment) -> Answer | None:
        """None for what is the same for every account. Raises Refused."""
        if call.service != "ec2" or call.action in _OF_NOBODY:
            return None
        if call.action in ("DescribeInstances", "TerminateInstances"):
            chosen(call, ())
            return xml_answer(call.action, "<reservationSet/>")
        if call.action == "RunInstances":
            raise Refused("Blocked", BLOCKED)
        return self._backing.ask(environ)
