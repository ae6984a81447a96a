"""How fast one device multiplies matrices and moves bytes, and whether what it computes is right.

Knows no data sheet and nothing of the rest of the machine.
"""

from __future__ import annotations

import math

import torch
from machine import Machine, has_bf16
from timing import Plan, timed
from torch import Tensor

TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WRONG = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 2e-2, "bf16": 5e-2}  # relative errors that no rounding explains


def number_types(device: torch.device) -> tuple[str, ...]:
    """Those that the device computes with by itself. CPUs are asked for bf16, too, which only some are fast at."""
    if device.type == "cpu":
        return "fp32", "bf16"
    return tuple(TYPES) if has_bf16(device) else ("fp32", "fp16")


def matrix_tflops(machine: Machine, numbers: str, side: int, plan: Plan) -> tuple[float, float]:
    """10^12 operations a second for products of square matrices, and the relative error of one of them."""
    torch.set_float32_matmul_precision("high" if numbers == "tf32" else "highest")
    left, right = (torch.randn(side, side, device=machine.device).to(TYPES[numbers]) for _ in range(2))
    product = torch.empty_like(left)
    timing = timed(lambda: torch.mm(left, right, out=product), machine.elapsed, plan)
    torch.set_float32_matmul_precision("highest")
    return timing.per_second(2 * side**3) / 1e12, _error(left, right, product)


def _error(left: Tensor, right: Tensor, product: Tensor) -> float:
    """Of the last rows and columns, against the CPU's double precision."""
    true = left[-16:].cpu().double() @ right[:, -16:].cpu().double()
    error = (product[-16:, -16:].cpu().double() - true).norm() / true.norm()
    return float(error) if math.isfinite(error) else math.inf


def memory_gb_per_second(machine: Machine, size: int, plan: Plan) -> float:
    """Reading `size` bytes and writing as many, both counted, by one scaling of an array."""
    source = torch.ones(size // 4, device=machine.device)
    target = torch.empty_like(source)
    timing = timed(lambda: torch.mul(source, 2.0, out=target), machine.elapsed, plan)
    return timing.per_second(2 * size) / 1e9


def copies(machine: Machine, size: int, plan: Plan) -> dict[str, float]:
    """GB/s between main memory and a GPU, both ways, from pinned memory and from memory as programs usually have it."""
    on_device = torch.empty(size, dtype=torch.uint8, device=machine.device)
    rates = {}
    for kind in ("pinned", "pageable"):
        on_host = torch.ones(size, dtype=torch.uint8, pin_memory=kind == "pinned")
        ways = {
            f"host_to_device_{kind}_gb_per_second": (on_device, on_host),
            f"device_to_host_{kind}_gb_per_second": (on_host, on_device),
        }
        for name, (target, source) in ways.items():
            rates[name] = _copy_gb_per_second(target, source, machine, plan)
    return rates


def _copy_gb_per_second(target: Tensor, source: Tensor, machine: Machine, plan: Plan) -> float:
    timing = timed(lambda: target.copy_(source, non_blocking=True), machine.elapsed, plan)
    return timing.per_second(source.numel()) / 1e9
