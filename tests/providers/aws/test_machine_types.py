"""Which of EC2's instance types a job can have, and what they are called here."""

from __future__ import annotations

from typing import Any

import pytest

from providers import gpus
from providers.aws import machine_types
from providers.aws.machine_types import MachineType


def row(name: str, gpu: str | None = None, count: int = 1, mib: int = 24576, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "InstanceType": name,
        "BareMetal": False,
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "VCpuInfo": {"DefaultVCpus": 8},
        "MemoryInfo": {"SizeInMiB": 32768},
        "SupportedUsageClasses": ["on-demand", "spot"],
    }
    if gpu is not None:
        kind = {"Name": gpu, "Manufacturer": "NVIDIA", "Count": count, "MemoryInfo": {"SizeInMiB": mib}}
        found["GpuInfo"] = {"Gpus": [kind]}
    return {**found, **changes}


def only(found: dict[str, Any]) -> MachineType:
    [machine] = machine_types.described([found])
    return machine


@pytest.mark.parametrize(
    ("found", "gpu", "memory_gb"),
    [
        (row("g4dn.xlarge", "T4", mib=16384), "T4", 16),
        (row("g5.xlarge", "A10G", mib=22888), "A10G", 24),
        (row("g6.xlarge", "L4", mib=22888), "L4", 24),
        (row("g6e.xlarge", "L40S", mib=45776), "L40S", 48),
        (row("g7e.2xlarge", "RTX PRO Server 6000", mib=98304), "RTX-PRO-6000", 96),
        (row("p4d.24xlarge", "A100", 8, 40960), "A100-40GB", 40),
        (row("p4de.24xlarge", "A100", 8, 81920), "A100-80GB", 80),
        (row("p5.4xlarge", "H100", mib=81920), "H100-SXM", 80),
        (row("p5en.48xlarge", "H200", 8, 144384), "H200", 141),
        (row("p6-b300.48xlarge", "B300", 8, 275040), "B300", 268),
        (row("p9.48xlarge", "A100", 8, 81920), "A100-80GB", 80),  # a family of a later year, told apart by its memory
    ],
    ids=lambda value: value["InstanceType"] if isinstance(value, dict) else None,
)
def test_gpus_have_canonical_names_and_the_makers_memory(found: dict[str, Any], gpu: str, memory_gb: float) -> None:
    machine = only(found)
    assert (machine.gpu, machine.gpu_memory_gb) == (gpu, memory_gb)


def test_a_gpu_that_nobody_knows_keeps_its_word_and_what_is_said_of_it() -> None:
    machine = only(row("g99.xlarge", "Z1", mib=2**20 * 1000 // 2**20 * 1000))
    assert machine.gpu == "Z1" and machine.gpu_memory_gb == pytest.approx(1000 * 1000 * 2**20 / 1e9)


def test_one_word_for_several_gpus_is_not_guessed() -> None:
    assert only(row("p9.48xlarge", "H100", mib=81920)).gpu == "H100"


@pytest.mark.parametrize(
    "found",
    [
        row("g5g.xlarge", "T4g", ProcessorInfo={"SupportedArchitectures": ["arm64"]}),
        row("p3dn.24xlarge", "V100", 8, 32768),
        row("p2.xlarge", "K80"),
        row("g3.4xlarge", "M60"),
        row("g6f.xlarge", "L4", 0, 2861),
        row("g4ad.xlarge", GpuInfo={"Gpus": [{"Name": "Radeon Pro V520", "Manufacturer": "AMD", "Count": 1}]}),
        row("g4dn.metal", "T4", 8, BareMetal=True),
        row("m7g.large", ProcessorInfo={"SupportedArchitectures": ["arm64"]}),
        row("p99.large"),
    ],
    ids=lambda found: found["InstanceType"],
)
def test_what_the_image_or_a_job_cannot_use_is_not_sold(found: dict[str, Any]) -> None:
    assert machine_types.described([found]) == []


def test_sizes_are_in_gb_of_ten_to_the_nine() -> None:
    machine = only(row("m7i.2xlarge"))
    assert (machine.gpu, machine.gpu_count, machine.vcpus) == (None, 0, 8)
    assert machine.memory_gb == pytest.approx(34.36, abs=0.01)


def test_a_type_survives_the_cache() -> None:
    machine = only(row("p5.4xlarge", "H100", mib=81920, SupportedUsageClasses=["spot", "capacity-block"]))
    assert MachineType.from_json(machine.to_json()) == machine


def test_the_table_of_families_names_gpus_that_exist() -> None:
    table = machine_types._table()
    assert {family["gpu"] for family in table["family"]} <= set(gpus.names())
    assert all(family["source"].startswith("https://") and family["recorded"] for family in table["family"])
