"""Where a benchmark computes: the device of this process, the other processes of it, and their common clock.

Knows no model. What cannot be had here is refused before anything is computed: measuring a CPU in place of a GPU that
somebody pays for is worse than not measuring.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from options import refuse
from torch import distributed


class Machine:
    """One process and its device, out of `world` processes that work together."""

    def __init__(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self.device = device
        self.rank = rank
        self.world = world

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def name(self) -> str:
        """As the maker calls it."""
        return torch.cuda.get_device_name(self.device) if self.on_gpu else cpu_name()

    def __str__(self) -> str:
        threads = torch.get_num_threads()
        what = "GPU" if self.on_gpu else f"CPU, {threads} thread{'s' * (threads > 1)}"
        several = f", {self.world} processes" if self.world > 1 else ""
        return f"{self.name} ({what}{several}), PyTorch {torch.__version__}"

    def elapsed(self, action: Callable[[], object]) -> float:
        """Seconds that an action took, to the end of what it started on the device, on the slowest process."""
        self.meet()
        began = time.perf_counter()
        action()
        self.synchronize()
        return self._slowest(time.perf_counter() - began)

    def meet(self) -> None:
        """Wait until all processes are here, and their devices have nothing left to do."""
        self.synchronize()
        if self.world > 1:
            self._slowest(0.0)

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def _slowest(self, seconds: float) -> float:
        if self.world == 1:
            return seconds
        agreed = torch.tensor(seconds, dtype=torch.float64, device=self.device)
        distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
        return float(agreed)  # waits for it


@contextmanager
def this_machine(options: argparse.Namespace) -> Iterator[Machine]:
    """The machine that the options ask for; under torchrun with the other processes, one GPU each."""
    rank, local, world = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    device = choose(options.device, local if world > 1 else None)
    check_precision(options, device)
    set_arithmetic(tf32=options.tf32, seed=options.seed)
    if options.smoke:
        torch.set_num_threads(1)  # on shapes so small, threads would only wait for each other
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Machine(device, rank, world)
    except torch.cuda.OutOfMemoryError:
        refuse(f"{Machine(device).name} has too little memory for this; write a smaller --batch-size")
    finally:
        if world > 1:
            distributed.destroy_process_group()


_TORCHRUN = (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))


def choose(wanted: str | None, local_rank: int | None) -> torch.device:
    """The device. `local_rank`: which of several processes on this machine this is, None when it is alone."""
    if wanted == "cpu" or (wanted is None and not torch.cuda.is_available()):
        _say_that_a_gpu_lies_idle(asked=wanted is not None)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        refuse(f"--device {wanted}: {_why_no_gpu()}; --device cpu measures the CPU")
    index = torch.device(wanted or "cuda").index
    if index is not None and local_rank is not None:
        refuse(f"--device {wanted} is one GPU, and torchrun started several processes; write --device cuda")
    index = index if index is not None else local_rank or 0
    if index >= torch.cuda.device_count():
        refuse(f"GPU {index} is asked for, and there are {torch.cuda.device_count()}, counted from 0")
    return torch.device("cuda", index)


def check_precision(options: argparse.Namespace, device: torch.device) -> None:
    if options.amp == "fp16" and device.type == "cpu":
        refuse("--amp fp16 is for GPUs: CPUs have no fast half precision; --amp bf16 works on a CPU")
    if options.amp == "bf16" and device.type == "cuda" and not has_bf16(device):
        refuse(f"--amp bf16: {torch.cuda.get_device_name(device)} has no bfloat16 hardware; use --amp fp16")


def has_bf16(device: torch.device) -> bool:
    """Whether a GPU computes bfloat16 itself: from Ampere on. PyTorch would emulate it on older ones."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def set_arithmetic(*, tf32: bool, seed: int) -> None:
    """float32 is float32, in matrix products and in convolutions, unless TensorFloat-32 is asked for."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True  # shapes stay the same, so the best kernel is worth a search
    torch.manual_seed(seed)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _say_that_a_gpu_lies_idle(*, asked: bool) -> None:
    if not asked and nvidia_smi("-L"):
        print(f"note: {_why_no_gpu()}; this measures the CPU", flush=True)


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built without CUDA"
    if listed := nvidia_smi("-L"):
        return f"nvidia-smi lists {listed.splitlines()[0]}, which this PyTorch ({torch.__version__}) cannot use"
    return "PyTorch finds no GPU"


def nvidia_smi(*arguments: str) -> str:
    """What nvidia-smi answers; nothing where there is none."""
    if not shutil.which("nvidia-smi"):
        return ""
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
