"""The simulated AWS: one application for every service that gpujob speaks to, around moto's.

EC2's instances, prices, quotas, images and bills are answered here; the rest (networks, key pairs, tags, volumes, IAM,
S3, ...) is moto's. What is not simulated is refused, never answered by an empty list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from providers.rehearsal.aws import costs, ec2, images, metadata, pricelist, wire
from providers.rehearsal.aws.backing import Backing
from providers.rehearsal.aws.billing import Billing
from providers.rehearsal.aws.catalog import Catalog
from providers.rehearsal.aws.describing import Describing
from providers.rehearsal.aws.fleet import Fleet
from providers.rehearsal.aws.launching import Launching, tags_asked
from providers.rehearsal.aws.other_account import OtherAccount
from providers.rehearsal.aws.quotas import Quotas
from providers.rehearsal.aws.spot import SpotMarket
from providers.rehearsal.aws.wire import Answer, Call, Refused
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.cloud import Commons, Machine
from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.base import Machines

ACCESS_KEY = "rehearsalAKIA0000000"
OTHER_KEY = "rehearsalAKIA1111111"
REGIONS = ("us-east-1", "us-west-2", "eu-central-1")

_CALLS = {
    "RunInstances": "create",
    "TerminateInstances": "terminate",
    "DescribeInstanceTypes": "offers",
    "DescribeInstanceTypeOfferings": "offers",
    "DescribeSpotPriceHistory": "offers",
    "GetProducts": "offers",
    "GetCostAndUsage": "charges",
}
_DENIED = (
    "You are not authorized to perform this operation. User: {user} is not authorized to perform: {action} because no "
    "identity-based policy allows the {action} action. Encoded authorization failure message: {blob}"
)


class AwsCloud(Commons):
    """Implements SimulatedCloud. Attributes without an underscore may be changed at any time.

    sold_out              (instance type, zone): RunInstances finds no capacity there
    quotas                vCPUs that may run; `quotas.set("L-DB2E81BA", 0)`
    refuses_spent_tokens  the token of a terminated instance is an error; if not, the dead instance is answered again
    slug_has_gpu          how the SSM parameter of the machine image is written; has_parameters: whether it exists
    cost_delay_hours      how far Cost Explorer lags behind
    """

    name = "aws"

    def __init__(
        self,
        machines: Machines,
        *,
        clock: SimulatedClock | None = None,
        latency_seconds: float = 0.0,
        regions: Sequence[str] = REGIONS,
    ) -> None:
        super().__init__(machines, clock=clock, latency_seconds=latency_seconds)
        self.regions = tuple(regions)
        self.sold_out: set[tuple[str, str]] = set()
        self.refuses_spent_tokens = True
        self.slug_has_gpu = True
        self.has_parameters = True
        self.cost_delay_hours = 8.0
        self.backing = Backing()
        self._other = OtherAccount()
        self.catalog = Catalog(self.backing)
        self.quotas = Quotas()
        self.spot = SpotMarket()
        self.billing = Billing(self.bill, lambda region: list(self.region(region).volumes.values()), self.spot)
        self.fleet = Fleet(machines, self.billing, self.spot, self.clock)
        self.describing = Describing(self)
        self.launching = Launching(self)
        self._denied: list[str] = []
        self._opened: set[str] = set()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        from werkzeug.wrappers import Response

        status, headers, body = self._answer(environ)
        return Response(body, status=status, headers=headers)(environ, start_response)

    def deny(self, *actions: str) -> None:
        """The account's key may not do these any more: `ec2:RunInstances`, `pricing:*`."""
        self._denied += actions

    def is_denied(self, action: str) -> bool:
        return any(fnmatchcase(action, pattern) for pattern in self._denied)

    def check_allowed(self, action: str) -> None:
        """Raises Refused in EC2's words."""
        if self.is_denied(action):
            user = f"arn:aws:iam::{self.backing.account}:user/rehearsal"
            message = _DENIED.format(user=user, action=action, blob="cmVoZWFyc2Fs" * 12)
            raise Refused("UnauthorizedOperation", message, 403)

    def region(self, name: str) -> Any:
        """moto's records of a region, with the public images in it."""
        backend = self.backing.ec2(name)
        if name not in self._opened:
            images.register(backend, name)
            self._opened.add(name)
        return backend

    def metadata_url(self, instance_id: str) -> str:
        """What an instance finds at 169.254.169.254."""
        return f"{self.machine_url}{metadata.PREFIX}{instance_id}" if self.url else ""

    def call_of(self, environ: WSGIEnvironment) -> str:
        if environ["PATH_INFO"].startswith(pricelist.PREFIX):
            return "offers"
        if environ["PATH_INFO"].startswith(metadata.PREFIX):
            return "metadata"
        call = wire.read(environ)
        if call.action == "DescribeInstances":
            return "get" if call.listed("InstanceId") else "list"
        return _CALLS.get(call.action, "other")

    def about(self, environ: WSGIEnvironment) -> tuple[str, str]:
        call = wire.read(environ)
        if call.action == "RunInstances":
            return call.action, tags_asked(call, "instance").get("Name", "")
        return call.action, ",".join(self.fleet.name_of(each) for each in call.listed("InstanceId"))

    def refusal(self, fault: Fault, environ: WSGIEnvironment) -> Answer:
        call = wire.read(environ)
        if fault.kind == "throttled":
            error = _throttled(call.service)
        elif fault.status == 503:
            error = Refused("Unavailable", "The server is overloaded and can't handle the request.", 503)
        else:
            error = Refused("InternalError", "An internal error has occurred.", fault.status or 500)
        status, headers, body = wire.refused(error, call)
        if fault.kind == "throttled" and fault.seconds:
            headers["Retry-After"] = f"{fault.seconds:g}"
        return fault.status or status, headers, body

    def tick(self) -> None:
        self.fleet.tick()

    def everything(self) -> Sequence[Machine]:
        with self.lock:
            return [self.fleet.machine(rented) for rented in self.fleet.everything()]

    def preempt(self, machine_id: str, *, notice_seconds: float = 0.0) -> None:
        with self.lock:
            rented = self.fleet[machine_id]
            if not rented.spot:
                raise ValueError(f"{machine_id} is not a spot instance")
            self.fleet.interrupt(rented, notice_seconds)

    def move_prices(self, factor: Decimal, *, seconds: float = 0.0) -> None:
        with self.lock:
            self.spot.move(factor, self.clock() + timedelta(seconds=seconds))

    def traffic(self, machine_id: str, gb_out: float | Decimal) -> None:
        """So much went from it to the internet."""
        with self.lock:
            self.billing.traffic_out(self.fleet[machine_id].id, Decimal(str(gb_out)), self.clock())

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": "rehearsal-secret",
            "AWS_DEFAULT_REGION": self.regions[0],
            "AWS_REGION": self.regions[0],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def environment_of_another(self) -> dict[str, str]:
        return {**self.environment(), "AWS_ACCESS_KEY_ID": OTHER_KEY}

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path = environ["PATH_INFO"]
        if path.startswith(pricelist.PREFIX):
            return pricelist.bulk_file(self, path)
        if path.startswith(metadata.PREFIX):
            return metadata.answer(self, environ)
        call = wire.read(environ)
        try:
            return self._service(call, environ)
        except Refused as error:
            return wire.refused(error, call)

    def _service(self, call: Call, environ: WSGIEnvironment) -> Answer:
        self._check_key(call, environ)
        if call.access_key == OTHER_KEY and (said := self._other.answer(call, environ)) is not None:
            return said
        services: dict[str, Callable[[], Answer]] = {
            "ec2": lambda: ec2.answer(self, call, environ),
            "pricing": lambda: pricelist.answer(self, call),
            "servicequotas": lambda: self.quotas.answer(call),
            "ce": lambda: costs.answer(self, call),
            "ssm": lambda: self._parameters(call, environ),
            "sts": lambda: self._identity(call, environ),
        }
        if call.service != "ec2" and self.is_denied(f"{call.service}:{call.action}"):
            user = f"arn:aws:iam::{self.backing.account}:user/rehearsal"
            message = f"User: {user} is not authorized to perform: {call.service}:{call.action}"
            is_json = call.service in wire.JSON_SERVICES
            raise Refused("AccessDeniedException" if is_json else "AccessDenied", message, 400 if is_json else 403)
        return services.get(call.service, lambda: self.backing.ask(environ))()

    def _check_key(self, call: Call, environ: WSGIEnvironment) -> None:
        """A key that is not ours, and a region that this account has not."""
        if not call.access_key:
            if "X-Amz-Signature" in environ.get("QUERY_STRING", ""):
                return  # a presigned URL of S3
            raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        if call.access_key not in (ACCESS_KEY, OTHER_KEY):
            raise _bad_key(call.service)
        if call.service in ("ec2", "ssm", "servicequotas") and call.region not in self.regions:
            raise _bad_key(call.service)  # AWS says the same of a region that is not enabled

    def _parameters(self, call: Call, environ: WSGIEnvironment) -> Answer:
        name = str(call.body.get("Name", ""))
        if call.action != "GetParameter" or not images.is_ours(name):
            return self.backing.ask(environ)
        found = images.named(name, call.region, slug_has_gpu=self.slug_has_gpu) if self.has_parameters else None
        if found is None:
            return wire.json_answer({"__type": "ParameterNotFound"}, 400)
        arn = f"arn:aws:ssm:{call.region}::parameter{name}"
        shown = {"Name": name, "Type": "String", "Value": found, "Version": 12, "ARN": arn, "DataType": "text"}
        return wire.json_answer({"Parameter": shown})

    def _identity(self, call: Call, environ: WSGIEnvironment) -> Answer:
        if call.action != "GetCallerIdentity":
            return self.backing.ask(environ)
        account = self._other.account if call.access_key == OTHER_KEY else self.backing.account
        inside = f"<Arn>arn:aws:iam::{account}:user/rehearsal</Arn><UserId>AIDAREHEARSAL</UserId>"
        text = (
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            f"{inside}<Account>{account}</Account></GetCallerIdentityResult>"
            "<ResponseMetadata><RequestId>rehearsal</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )
        return 200, {"Content-Type": "text/xml"}, text.encode()


def _throttled(service: str) -> Refused:
    if service == "ec2":
        return Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
    if service == "s3":
        return Refused("SlowDown", "Please reduce your request rate.", 503)
    if service in wire.JSON_SERVICES:
        return Refused("ThrottlingException", "Rate exceeded", 400)
    return Refused("Throttling", "Rate exceeded", 400)


def _bad_key(service: str) -> Refused:
    if service == "ec2":
        return Refused("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    code = "UnrecognizedClientException" if service in wire.JSON_SERVICES else "InvalidClientTokenId"
    message = "The security token included in the request is invalid."
    return Refused(code, message, 400 if service in wire.JSON_SERVICES else 403)
