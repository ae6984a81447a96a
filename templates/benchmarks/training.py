"""One step of training, the same for every model: precision, compiling, and gradients shared between processes.

Knows machines and options; models, data and figures are its callers'.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

import torch
from compiling import compiled
from machine import Machine, this_machine
from reporting import Report
from timing import Plan
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Weights = Iterable[nn.Parameter]

_AMP = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def on_this_machine(measure: Callable[[argparse.Namespace, Machine, Report], int], options: argparse.Namespace) -> int:
    """Measure with the processes and the device that the options ask for; of several, the first one reports."""
    with this_machine(options) as machine:
        return measure(options, machine, Report(os.environ.get("GPUJOB_METRICS"), speaks=machine.rank == 0))


class Training:
    """A model that learns. `module` is the model alone, for whoever wants to look at it between steps."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Weights], torch.optim.Optimizer],
        machine: Machine,
        options: argparse.Namespace,
    ) -> None:
        self.module = model.to(machine.device)
        self._machine = machine
        self._amp = options.amp
        self._new_optimizer = optimizer
        self._at_first = {name: value.clone() for name, value in self.module.state_dict().items()}
        self._model: nn.Module = self.module
        if machine.world > 1:
            self._model = DistributedDataParallel(self.module, device_ids=[machine.device] if machine.on_gpu else None)
        if options.compile:
            self._model = compiled(self._model, machine.device)
        self.restart()

    def restart(self) -> None:
        """Back to the weights of the beginning, without compiling anything again."""
        self.module.load_state_dict(self._at_first)
        self._optimizer = self._new_optimizer(self.module.parameters())
        self._scaler = torch.amp.GradScaler(self._machine.device.type, enabled=self._amp == "fp16")

    def step(self, inputs: Tensor, targets: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Learn from one batch; returns its loss, on the device, so that nothing waits for it."""
        self._optimizer.zero_grad(set_to_none=True)
        with self.precision():
            loss = loss_of(self._model(inputs), targets)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def precision(self) -> torch.autocast:
        return torch.autocast(self._machine.device.type, _AMP[self._amp], enabled=self._amp != "none")

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.module.parameters())


def plan(options: argparse.Namespace, machine: Machine) -> Plan:
    """How its steps are timed, by the options or by what suits the device."""
    warmup = options.warmup or (10 if machine.on_gpu else 2)
    if options.smoke:
        return Plan(warmup, options.windows or 2, options.steps or 1)
    return Plan(warmup, options.windows or 5, options.steps)


def arithmetic(options: argparse.Namespace) -> str:
    """In which numbers a training computes, in words, as the data sheets' table names them."""
    if options.amp != "none":
        return str(options.amp)
    return "tf32" if options.tf32 else "fp32"


def conditions(options: argparse.Namespace, machine: Machine, batch: int) -> str:
    """What somebody must know to get the same figure again."""
    compiled_or_not = ", compiled" if options.compile else ""
    smoke = "\nsmoke: tiny shapes; the figures say nothing about this machine" if options.smoke else ""
    return f"{machine}\n{arithmetic(options)}{compiled_or_not}, batches of {batch} per process{smoke}"
