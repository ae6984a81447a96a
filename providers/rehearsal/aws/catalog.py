"""What the simulated regions sell: instance types, where, at which on-demand price, with which GPU inside.

Shapes and zones are moto's, which are AWS's own; prices are a table. Types without a row here are not sold, which also
keeps the listings short.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

from providers.rehearsal.aws.backing import Backing
from providers.rehearsal.machines.base import SimulatedGpus

# US dollars per hour, Linux, on demand, us-east-1. From the public price list as of 2026-07-20 by way of
# https://github.com/aws/karpenter-provider-aws (zz_generated.pricing_aws.go): g4dn.xlarge, g5.xlarge, g6.xlarge,
# g6e.xlarge, g7e.2xlarge, p4d, p5, p5en, p6. The others are of the right size, no more.
_US_EAST_1 = {
    "c6i": "large .085 xlarge .17 2xlarge .34 4xlarge .68 8xlarge 1.36 12xlarge 2.04 16xlarge 2.72",
    "g4dn": "xlarge .526 2xlarge .752 4xlarge 1.204 8xlarge 2.176 12xlarge 3.912 16xlarge 4.352 metal 7.824",
    "g5": "xlarge 1.006 2xlarge 1.212 4xlarge 1.624 8xlarge 2.448 12xlarge 5.672 16xlarge 4.096 24xlarge 8.144"
    " 48xlarge 16.288",
    "g5g": "xlarge .42 2xlarge .556 4xlarge .828 8xlarge 1.372 16xlarge 2.744",
    "g6": "xlarge .8048 2xlarge .9776 4xlarge 1.3232 8xlarge 2.0144 12xlarge 4.6016 16xlarge 3.3968 24xlarge 6.6752"
    " 48xlarge 13.3504",
    "g6e": "xlarge 1.861 2xlarge 2.24208 4xlarge 3.00424 8xlarge 4.52856 12xlarge 10.49264 16xlarge 7.57719"
    " 24xlarge 15.06559 48xlarge 30.13118",
    "g6f": "large .202 xlarge .243 2xlarge .486 4xlarge .971",
    "g7e": "2xlarge 3.36312 4xlarge 4.49 8xlarge 6.744 12xlarge 15.67 24xlarge 31.3 48xlarge 62.6",
    "gr6": "4xlarge 1.5392 8xlarge 2.4464",
    "m6i": "large .096 xlarge .192 2xlarge .384 4xlarge .768 8xlarge 1.536 12xlarge 2.304 16xlarge 3.072",
    "m7i": "large .1008 xlarge .2016 2xlarge .4032 4xlarge .8064 8xlarge 1.6128 12xlarge 2.4192 16xlarge 3.2256",
    "p3dn": "24xlarge 31.212",
    "p4d": "24xlarge 21.957642",
    "p4de": "24xlarge 27.44705",
    "p5": "4xlarge 6.88 48xlarge 55.04",
    "p5e": "48xlarge 0",  # reservations only: no on-demand row in any price list
    "p5en": "48xlarge 63.296",
    "p6-b200": "48xlarge 113.9328",
    "p6-b300": "48xlarge 142.416",
    "t3": "micro .0104 small .0208 medium .0416 large .0832 xlarge .1664 2xlarge .3328",
}
_REGIONS = {"us-east-1": "1", "us-east-2": "1", "us-west-2": "1", "eu-west-1": "1.115", "eu-central-1": "1.25"}
_ELSEWHERE = "1.15"

# As nvidia-smi writes them, with its total of memory in MiB.
_GPUS = {
    "g4dn": ("Tesla T4", 15360),
    "g5": ("NVIDIA A10G", 23028),
    "g5g": ("NVIDIA T4G", 15360),
    "g6": ("NVIDIA L4", 23034),
    "g6e": ("NVIDIA L40S", 46068),
    "g6f": ("NVIDIA L4-3Q", 3072),
    "g7e": ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887),
    "gr6": ("NVIDIA L4", 23034),
    "p3dn": ("Tesla V100-SXM2-32GB", 32768),
    "p4d": ("NVIDIA A100-SXM4-40GB", 40960),
    "p4de": ("NVIDIA A100-SXM4-80GB", 81920),
    "p5": ("NVIDIA H100 80GB HBM3", 81559),
    "p5e": ("NVIDIA H200", 143771),
    "p5en": ("NVIDIA H200", 143771),
    "p6-b200": ("NVIDIA B200", 183359),
    "p6-b300": ("NVIDIA B300 SXM6 AC", 275040),
}
WRONG_GPUS = SimulatedGpus("Tesla K80", 1, 11441)

# What a Linux hour comes to on other systems, on demand and on the spot market alike.
PRODUCTS = {"Linux/UNIX": "1", "Red Hat Enterprise Linux": "1.1", "SUSE Linux": "1.12", "Windows": "1.4"}


class Catalog:
    """Reads moto's tables with the first question."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._zones: dict[str, dict[str, list[str]]] = {}

    def sold(self, region: str) -> dict[str, list[str]]:
        """Instance type -> the zones of the region where it is offered, both sorted."""
        if region not in self._zones:
            found: dict[str, list[str]] = {}
            for instance_type, zone in sorted(self._backing.offerings(region)):
                if instance_type in _prices():
                    found.setdefault(instance_type, []).append(zone)
            self._zones[region] = found
        return self._zones[region]

    def shape(self, instance_type: str) -> dict[str, Any]:
        """As DescribeInstanceTypes has it."""
        return self._backing.instance_types[instance_type]

    def exists(self, instance_type: str) -> bool:
        return instance_type in self._backing.instance_types

    def vcpus(self, instance_type: str) -> int:
        return int(self.shape(instance_type)["VCpuInfo"]["DefaultVCpus"])

    def gpus(self, instance_type: str) -> SimulatedGpus | None:
        card = _GPUS.get(family(instance_type))
        if card is None:
            return None
        count = sum(row["Count"] for row in self.shape(instance_type)["GpuInfo"]["Gpus"])
        return SimulatedGpus(card[0], max(1, count), card[1])


def family(instance_type: str) -> str:
    return instance_type.partition(".")[0]


def on_demand(instance_type: str, region: str) -> Decimal:
    """US dollars per hour, Linux; 0 where it is not sold on demand."""
    factor = Decimal(_REGIONS.get(region, _ELSEWHERE))
    return (_prices()[instance_type] * factor).quantize(Decimal("0.000001")).normalize()


@lru_cache(maxsize=1)
def _prices() -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for name, row in _US_EAST_1.items():
        words = row.split()
        found |= {f"{name}.{size}": Decimal(usd) for size, usd in zip(words[::2], words[1::2], strict=True)}
    return found
