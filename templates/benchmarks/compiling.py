"""torch.compile, where it can work: it runs a compiler of this machine, which images for running often lack."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch
from options import refuse
from torch import nn


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, to be compiled at its first step. Where that cannot work, refuse in one line."""
    if missing := missing_tool(device.type):
        refuse(f"--compile needs {missing}; or leave --compile out")
    try:
        torch.compile(_trial)(torch.ones(8, device=device))
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        refuse(f"--compile does not work on this machine: {lines[0]}; leave --compile out")
    made = torch.compile(model)
    assert isinstance(made, nn.Module)
    return made


def missing_tool(kind: str) -> str | None:
    """What torch.compile lacks for a device of this kind, and how to get it; None when nothing is known to lack."""
    if kind == "cuda" and not find_spec("triton"):
        return "Triton, which comes with PyTorch's builds for CUDA: python3 -m pip install triton"
    compilers = [os.environ.get("CC"), "gcc", "clang"] if kind == "cuda" else [os.environ.get("CXX"), "g++"]
    if not any(shutil.which(name) for name in compilers if name):
        return "a C++ compiler, and there is no g++ (Debian, Ubuntu: apt-get install g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's header files, and there is no Python.h (Debian, Ubuntu: apt-get install python3-dev)"
    return None


def _trial(values: torch.Tensor) -> torch.Tensor:
    return values * 2 + 1
