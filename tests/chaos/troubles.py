"""How each fault of faults.py is drawn: how likely, with which figures, where, and what a run may then end with.

Data for plans.py. A test holds it against faults.py: a new kind of fault has to find its place here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from providers.rehearsal.faults import Fault

Draw = Callable[[random.Random], Sequence[Fault]]

_EVERYWHERE = ("aws", "runpod", "vast")
_CALLS = {"create": 6, "get": 3, "terminate": 4, "list": 2, "offers": 2, "charges": 1, "other": 2, "": 1}
_STATUS = (0, 0, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One thing, or a couple of things, that a cloud does wrong.

    ends            outcomes that a run may have because of it; {} when the run has to get over it
    needs_cancel    without somebody who ends the run it would wait for ten minutes, which is more than a round has
    """

    kind: str
    draw: Draw
    weight: float = 1.0
    clouds: tuple[str, ...] = _EVERYWHERE
    spot: bool = False
    ends: frozenset[str] = frozenset()
    needs_cancel: bool = False
    deadline_seconds: float = 240.0


def _wire(kind: str, *, least: float = 0.0, most: float = 0.0, times: int = 1, status: bool = False) -> Draw:
    def draw(dice: random.Random) -> list[Fault]:
        [call] = dice.choices(list(_CALLS), list(_CALLS.values()))
        return [
            Fault(
                kind=kind,
                on=call,
                times=dice.randint(1, times),
                skip=dice.choice((0, 0, 0, 1)),
                seconds=round(dice.uniform(least, most), 1),
                status=dice.choice(_STATUS) if status else 0,
            )
        ]

    return draw


def _machine(
    kind: str, *, least: float = 0.0, most: float = 0.0, times: int = 1, notice: float = 0.0, lasts: float = 0.0
) -> Draw:
    def draw(dice: random.Random) -> list[Fault]:
        return [
            Fault(
                kind=kind,
                times=dice.randint(1, times),
                seconds=round(dice.uniform(least, most), 1),
                notice=round(dice.uniform(0.0, notice), 1),
                lasts=round(dice.uniform(0.5, lasts), 1) if lasts else 0.0,
            )
        ]

    return draw


def _couple(first: Draw, kind: str, on: str, **how: float) -> Draw:
    """A fault on machines, and one on the wire that makes it felt."""
    return lambda dice: [*first(dice), Fault(kind=kind, on=on, **how)]  # type: ignore[arg-type]


_REFUSED = frozenset({"refused"})
_NOTHING_LEFT = frozenset({"no_capacity", "refused"})

TROUBLES = (
    Trouble(kind="outage", draw=_wire("outage", least=0.5, most=8.0, status=True), weight=2),
    Trouble(kind="throttled", draw=_wire("throttled", most=3.0, times=3), weight=2),
    Trouble(kind="error", draw=_wire("error", times=2, status=True), weight=2),
    Trouble(kind="lost_reply", draw=_wire("lost_reply", times=2), weight=3),
    Trouble(kind="error_after", draw=_wire("error_after", times=2, status=True), weight=3),
    Trouble(kind="slow", draw=_wire("slow", least=0.5, most=6.0, times=2), weight=2),
    Trouble(kind="no_capacity", draw=_machine("no_capacity", times=3)),
    Trouble(kind="offer_gone", draw=_machine("offer_gone", times=3)),
    Trouble(kind="no_funds", draw=_machine("no_funds"), weight=0.5, ends=_REFUSED),
    Trouble(kind="quota", draw=_machine("quota", times=2), weight=0.5, clouds=("aws", "vast"), ends=_NOTHING_LEFT),
    Trouble(kind="slow_boot", draw=_machine("slow_boot", least=1.0, most=10.0)),
    Trouble(kind="stuck_boot", draw=_machine("stuck_boot"), weight=0.5, needs_cancel=True),
    Trouble(kind="failed_boot", draw=_machine("failed_boot", least=0.2, most=3.0)),
    Trouble(kind="no_gpu", draw=_machine("no_gpu")),
    Trouble(kind="wrong_gpu", draw=_machine("wrong_gpu")),
    Trouble(
        kind="preempt",
        draw=_machine("preempt", least=0.0, most=8.0, notice=4.0),
        clouds=("aws", "vast"),
        weight=2,
        spot=True,
    ),
    Trouble(
        kind="host_dies",
        draw=_machine("host_dies", least=0.0, most=6.0),
        weight=0.5,
        needs_cancel=True,
        deadline_seconds=420.0,
    ),
    Trouble(
        kind="network_cut",
        draw=_machine("network_cut", least=0.0, most=6.0),
        weight=0.4,
        needs_cancel=True,
        deadline_seconds=420.0,
    ),
    Trouble(kind="host_dies", draw=_machine("host_dies", most=6.0, lasts=15.0), weight=0.7, deadline_seconds=300.0),
    Trouble(kind="network_cut", draw=_machine("network_cut", most=6.0, lasts=15.0), weight=0.7, deadline_seconds=300.0),
    Trouble(kind="terminate_ignored", draw=_machine("terminate_ignored", times=2), weight=1.5),
    Trouble(kind="terminate_acknowledged", draw=_machine("terminate_acknowledged", least=1.0, most=12.0), weight=1.5),
    Trouble(kind="list_lag", draw=_machine("list_lag", least=1.0, most=20.0)),
)

# A list that lags is felt by those only who have lost an answer.
COUPLES = (
    Trouble(
        kind="list_lag",
        draw=_couple(_machine("list_lag", least=2.0, most=30.0), "lost_reply", "create"),
        weight=1.5,
    ),
    Trouble(
        kind="list_lag",
        draw=_couple(_machine("list_lag", least=65.0, most=90.0), "error_after", "create"),
        weight=0.3,
        deadline_seconds=360.0,
    ),
    Trouble(
        kind="terminate_ignored",
        draw=_couple(_machine("terminate_ignored"), "lost_reply", "terminate"),
        weight=0.7,
    ),
)
