"""EC2's instance types as we offer them: which are left out and why, their GPUs by canonical names, their sizes.

Pure. Reads rows of DescribeInstanceTypes and of the public price file, and families.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from providers import gpus, sent
from providers.base import GB

Json = Mapping[str, Any]

MIB = 2**20
GIB = 2**30

# The open-source kernel driver of the image needs Turing or later.
# https://github.com/NVIDIA/open-gpu-kernel-modules#compatible-gpus (2026-11-21)
_BEFORE_TURING = ("V100", "P100", "K80", "M60", "K520", "M2050")


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One instance type. `gpu` is canonical, or EC2's own word when it is unknown; None without a GPU."""

    name: str
    gpu: str | None
    gpu_count: int
    gpu_memory_gb: float | None
    vcpus: int
    memory_gb: float
    markets: tuple[str, ...] = ("on-demand", "spot")

    @classmethod
    def from_json(cls, row: Json) -> MachineType:
        return cls(**{**row, "markets": tuple(row["markets"])})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def general_families() -> tuple[str, ...]:
    return tuple(_table()["general"])


def patterns() -> list[str]:
    """What DescribeInstanceTypes is asked for: every family that has GPUs, also of later years, and those without."""
    return ["g*", "p*", *(f"{family}.*" for family in general_families())]


def described(rows: Iterable[Json]) -> list[MachineType]:
    """Those of DescribeInstanceTypes' rows that a job can have. One that makes no sense is left out."""
    found = []
    for row in rows:
        with suppress(KeyError, TypeError, ValueError, OverflowError, AttributeError):
            found.append(_described(row))
    return [machine for machine in found if machine is not None]


def priced(row: Mapping[str, str]) -> MachineType | None:
    """An instance type as a row of the public price file has it; None when it is none of ours or makes no sense."""
    name = row.get("Instance Type", "")
    family, _, size = name.partition(".")
    memory, unit = (*row.get("Memory", "").replace(",", "").split(), "", "")[:2]
    if size.startswith("metal") or "Graviton" in row.get("Physical Processor", "") or unit != "GiB":
        return None
    count, vcpus, gigabytes = sent.whole(row.get("GPU", "")), sent.whole(row.get("vCPU", "")), sent.number(memory)
    gpu = _families().get(family)
    if (gpu is None or not count) and family not in general_families():
        return None
    if not vcpus or not gigabytes:
        return None
    return MachineType(
        name=name,
        gpu=gpu,
        gpu_count=count if gpu else 0,
        gpu_memory_gb=gpus.specification(gpu).memory_gb if gpu else None,
        vcpus=vcpus,
        memory_gb=gigabytes * GIB / GB,
    )


def _described(row: Json) -> MachineType | None:
    name = str(row["InstanceType"])
    family = name.partition(".")[0]
    if row.get("BareMetal") or "x86_64" not in row.get("ProcessorInfo", {}).get("SupportedArchitectures", ()):
        return None
    kinds = row.get("GpuInfo", {}).get("Gpus", ())
    if not kinds and family not in general_families():
        return None  # a p or g family with other accelerators
    if kinds and not _is_whole_nvidia(kinds):
        return None
    gpu, memory_gb = _gpu(kinds[0], family) if kinds else (None, None)
    return MachineType(
        name=name,
        gpu=gpu,
        gpu_count=int(kinds[0]["Count"]) if kinds else 0,
        gpu_memory_gb=memory_gb,
        vcpus=int(row["VCpuInfo"]["DefaultVCpus"]),
        memory_gb=int(row["MemoryInfo"]["SizeInMiB"]) * MIB / GB,
        markets=tuple(row.get("SupportedUsageClasses", ())),
    )


def _is_whole_nvidia(kinds: Iterable[Json]) -> bool:
    """A part of a GPU has a count of 0 (g6f, gr6f: `GpuPartitionSize` says how much of one it is)."""
    return all(
        kind.get("Manufacturer", "").upper() == "NVIDIA"
        and int(kind.get("Count", 0)) > 0
        and not str(kind.get("Name", "")).upper().startswith(_BEFORE_TURING)
        for kind in kinds
    )


def _gpu(kind: Json, family: str) -> tuple[str, float]:
    """The canonical name and its memory. EC2 says 22888 MiB for the L4 and the A10G, a hair less than their 24 GB, so
    that a wish for 24 GB would not find them: the maker's figure is taken for every GPU that we know."""
    word = sent.words(kind.get("Name"))
    reported = int(kind.get("MemoryInfo", {}).get("SizeInMiB", 0)) * MIB / GB
    name = gpus.canonical(word)
    if name is None:
        name = _one_of(gpus.ambiguous(word), family, reported)
    return (name, gpus.specification(name).memory_gb) if name else (word, reported)


def _one_of(meant: tuple[str, ...], family: str, memory_gb: float) -> str | None:
    """Which of several GPUs of one word: by its family, else by its memory where that leaves one."""
    listed = _families().get(family)
    if listed in meant:
        return listed
    near = [name for name in meant if abs(gpus.specification(name).memory_gb - memory_gb) < 0.1 * memory_gb]
    return near[0] if len(near) == 1 else None


def _families() -> Mapping[str, str]:
    return {row["name"]: row["gpu"] for row in _table()["family"]}


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("families.toml").read_text(encoding="utf-8"))
