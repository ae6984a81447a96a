"""How many vCPUs an account may have running, by family and market, as Service Quotas counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.rehearsal.aws.wire import Answer, Call, Refused, json_answer

GENEROUS = 5000.0


@dataclass(frozen=True)
class Quota:
    code: str
    name: str
    families: str  # the first letters of instance types that it counts
    spot: bool


QUOTAS = (
    Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "acdhimrtz", False),
    Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "acdhimrtz", True),
    Quota("L-DB2E81BA", "Running On-Demand G and VT instances", "gv", False),
    Quota("L-3819A6DF", "All G and VT Spot Instance Requests", "gv", True),
    Quota("L-417A185B", "Running On-Demand P instances", "p", False),
    Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", "p", True),
)


class Quotas:
    """The values of one account; generous until they are set."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], float] = {}

    def set(self, code: str, vcpus: float, region: str = "") -> None:
        """In one region, or in all when none is named."""
        if code not in {quota.code for quota in QUOTAS}:
            raise ValueError(f"no quota {code}")
        self._values[code, region] = vcpus

    def value(self, code: str, region: str) -> float:
        return self._values.get((code, region), self._values.get((code, ""), GENEROUS))

    def answer(self, call: Call) -> Answer:
        """Service Quotas' own API."""
        if (service := call.body.get("ServiceCode")) != "ec2":
            raise Refused("NoSuchResourceException", f"The request failed because the service {service} has no quotas.")
        if call.action == "GetServiceQuota":
            code = call.body.get("QuotaCode")
            for quota in QUOTAS:
                if quota.code == code:
                    return json_answer({"Quota": self._shown(quota, call.region)})
            raise Refused("NoSuchResourceException", "The request failed because the specified quota does not exist.")
        if call.action == "ListServiceQuotas":
            return json_answer({"Quotas": [self._shown(quota, call.region) for quota in QUOTAS]})
        raise Refused("InvalidAction", f"{call.action} is not simulated.")

    def _shown(self, quota: Quota, region: str) -> Mapping[str, Any]:
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{region}:000000000000:ec2/{quota.code}",
            "QuotaCode": quota.code,
            "QuotaName": quota.name,
            "Value": self.value(quota.code, region),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }


def quota_of(instance_type: str, *, spot: bool) -> Quota:
    """The quota that counts this instance."""
    letter = instance_type[0]
    return next(quota for quota in QUOTAS if letter in quota.families and quota.spot == spot)
