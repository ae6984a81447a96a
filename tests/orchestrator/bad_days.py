"""What tests of bad days share: faults for a while, a controller that is killed, and both sides of the bill."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes.fake_machine import FakeMachine, Script
from tests.fakes.memory_provider import offer
from tests.orchestrator.living import Living

TWO = [offer("cheap", usd_per_hour="0.10"), offer("dear", usd_per_hour="0.20")]
ENDLESS = Script(seconds=math.inf)


def booked(living: Living) -> Decimal:
    return round(living.store.spent(["r-1"])["r-1"], 10)


def billed(living: Living) -> Decimal:
    return round(living.cloud.billed(), 10)


def during(living: Living, start: float, end: float, fault: Exception, really: Any) -> Callable[..., Any]:
    """The call, failing from `start` to `end` seconds from now."""
    began = living.clock()

    def call(*arguments: Any, **named: Any) -> Any:
        if start <= (living.clock() - began).total_seconds() < end:
            raise fault
        return really(*arguments, **named)

    return call


def killed(living: Living, owner: Any, name: str, *, before: bool = False) -> None:
    """The controller is killed in the middle of this call, once; then another one takes over."""
    really = getattr(owner, name)

    def deadly(*arguments: Any, **named: Any) -> None:
        if not before:
            really(*arguments, **named)
        raise SystemExit("kill -9")

    setattr(owner, name, deadly)
    with pytest.raises(SystemExit):
        living.seconds(30)
    setattr(owner, name, really)
    living.controller = living.new_controller()


def job(living: Living, number: int = 1) -> FakeMachine:
    return living.machines[f"gpujob-r-1-{number}-1"]
