"""EC2's actions: which are answered here, which by moto, and which are refused because moto would do them wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from wsgiref.types import WSGIEnvironment

from providers.rehearsal.aws import filters
from providers.rehearsal.aws.backing import CODES
from providers.rehearsal.aws.describing import chosen, groups_of
from providers.rehearsal.aws.fleet import Rented
from providers.rehearsal.aws.wire import Answer, Call, Refused, xml, xml_answer

if TYPE_CHECKING:
    from providers.rehearsal.aws.cloud import AwsCloud

# moto makes instances by these that nobody would bill, and drops half of what was asked for.
_NOT_SIMULATED = ("CreateFleet", "RequestSpotFleet", "RequestSpotInstances", "CreateCapacityReservation")


def answer(cloud: AwsCloud, call: Call, environ: WSGIEnvironment) -> Answer:
    """Raises Refused."""
    _check(cloud, call)
    own: dict[str, Callable[[], Answer]] = {
        "RunInstances": lambda: cloud.launching.run(call, environ),
        "DescribeInstances": lambda: cloud.describing.instances(call, environ),
        "TerminateInstances": lambda: _terminate(cloud, call),
        "StopInstances": lambda: _stop(cloud, call),
        "StartInstances": lambda: _start(cloud, call),
        "DescribeRegions": lambda: _regions(cloud, call),
        "DescribeInstanceTypes": lambda: cloud.describing.types(call, environ),
        "DescribeInstanceTypeOfferings": lambda: cloud.describing.offerings(call),
        "DescribeSpotPriceHistory": lambda: cloud.describing.spot_prices(call),
        "DescribeSpotInstanceRequests": lambda: cloud.describing.spot_requests(call),
        "CancelSpotInstanceRequests": lambda: _cancel(call),
        "DeleteSecurityGroup": lambda: _delete_group(cloud, call, environ),
    }
    cloud.region(call.region)
    done = own.get(call.action, lambda: cloud.backing.ask(environ))()
    cloud.billing.volumes_changed(call.region, cloud.clock())
    return done


def _check(cloud: AwsCloud, call: Call) -> None:
    """Permissions first, then whether it is only a try."""
    if call.action in _NOT_SIMULATED:
        raise Refused("UnsupportedOperation", f"{call.action} is not simulated.")
    cloud.check_allowed(f"ec2:{call.action}")
    filters.check(call)
    if call.action == "RunInstances":
        if call.members("TagSpecification"):
            cloud.check_allowed("ec2:CreateTags")  # tags at the launch need this permission, too
        spot = call.form.get("InstanceMarketOptions.MarketType") == "spot"
        if spot and cloud.is_denied("iam:CreateServiceLinkedRole"):
            message = "The provided credentials do not have permission to create the service-linked role for EC2 Spot."
            raise Refused("AuthFailure.ServiceLinkedRoleCreationNotPermitted", message, 403)
    if call.is_true("DryRun"):
        raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def _terminate(cloud: AwsCloud, call: Call) -> Answer:
    """All or none: one unknown id, and nothing is terminated. Again for what is terminated is no error."""
    rented = _named(cloud, call)
    for each in rented:
        if each.shown.disable_api_termination and not each.is_over:
            message = f"The instance '{each.id}' may not be terminated. Modify its 'disableApiTermination' instance"
            raise Refused("OperationNotPermitted", f"{message} attribute and try again.")
    before = {each.id: each.state for each in rented}
    for each in rented:
        _end(cloud, each)
    current = {each.id: each.state if each.is_over else "shutting-down" for each in rented}
    return _changes(call, before, current)


def _end(cloud: AwsCloud, rented: Rented) -> None:
    if rented.state in ("shutting-down", "terminated") or rented.acknowledged_until is not None:
        return
    fault = cloud.faults.take("terminate", "terminate_ignored", "terminate_acknowledged")
    if fault is None:
        cloud.fleet.end(rented, cloud.clock())
    elif fault.kind == "terminate_acknowledged":
        cloud.fleet.promise_end(rented, fault.seconds)


def _stop(cloud: AwsCloud, call: Call) -> Answer:
    rented = _named(cloud, call)
    for each in rented:
        if each.spot:
            message = f"You can't stop the Spot Instance '{each.id}' because it is associated with a one-time Spot"
            raise Refused("UnsupportedOperation", f"{message} Instance request.")
        if each.state not in ("running", "stopping", "stopped"):
            raise Refused("IncorrectInstanceState", f"The instance '{each.id}' is not in a state for it.")
    before = {each.id: each.state for each in rented}
    for each in rented:
        cloud.fleet.stop(each, cloud.clock())
    return _changes(call, before, {each.id: each.state for each in rented})


def _start(cloud: AwsCloud, call: Call) -> Answer:
    rented = _named(cloud, call)
    for each in rented:
        if each.state not in ("stopped", "running", "pending"):
            message = f"The instance '{each.id}' is not in a state from which it can be started."
            raise Refused("IncorrectInstanceState", message)
    before = {each.id: each.state for each in rented}
    for each in rented:
        if each.state == "stopped":
            cloud.fleet.start(each)
    return _changes(call, before, {each.id: each.state for each in rented})


def _regions(cloud: AwsCloud, call: Call) -> Answer:
    asked = call.listed("RegionName")
    if unknown := [name for name in asked if name not in cloud.regions]:
        raise Refused("InvalidParameterValue", f"Invalid region name: {unknown[0]}")
    rows = [
        {"regionName": name, "regionEndpoint": f"ec2.{name}.amazonaws.com", "optInStatus": "opt-in-not-required"}
        for name in cloud.regions
        if not asked or name in asked
    ]
    return xml_answer(call.action, xml({"regionInfo": rows}))


def _cancel(call: Call) -> Answer:
    """The request is cancelled, the instance runs on."""
    rows = [{"spotInstanceRequestId": name, "state": "cancelled"} for name in call.listed("SpotInstanceRequestId")]
    return xml_answer(call.action, xml({"spotInstanceRequestSet": rows}))


def _delete_group(cloud: AwsCloud, call: Call, environ: WSGIEnvironment) -> Answer:
    """Not while an instance uses it, however short before its end; moto does not look."""
    backend = cloud.region(call.region)
    group = call.form.get("GroupId") or call.form.get("GroupName", "")
    record = backend.get_security_group_by_name_or_id(group)
    used = {
        used
        for rented in cloud.fleet.everything()
        if rented.region == call.region and not rented.is_over
        for used in groups_of(rented)
    }
    if record is not None and record.id in used:
        raise Refused("DependencyViolation", f"resource {record.id} has a dependent object")
    return cloud.backing.ask(environ)


def _named(cloud: AwsCloud, call: Call) -> list[Rented]:
    if not call.listed("InstanceId"):
        raise Refused("MissingParameter", "The request must contain the parameter InstanceId")
    return chosen(call, cloud.fleet.known(call.region))


def _changes(call: Call, before: dict[str, str], current: dict[str, str]) -> Answer:
    rows = [
        {
            "instanceId": name,
            "currentState": {"code": CODES[current[name]], "name": current[name]},
            "previousState": {"code": CODES[before[name]], "name": before[name]},
        }
        for name in before
    ]
    return xml_answer(call.action, xml({"instancesSet": rows}))
