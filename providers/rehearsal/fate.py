"""What befalls the host of a rented machine: it stands still or is cut off, may come back, and may be found out.

The same on every cloud; what a cloud does about a dead host once it has noticed is its own affair. Knows no bill.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from providers.rehearsal.faults import Faults
from providers.rehearsal.machines.base import Machines


class Turn(StrEnum):
    """What may happen to a host."""

    STANDS_STILL = "stands still"
    IS_CUT_OFF = "is cut off"
    IS_BACK = "is back"
    IS_NOTICED = "is noticed"


@dataclass(kw_only=True)
class Fate:
    """One machine's; nothing by default."""

    turns: list[tuple[datetime, Turn]] = field(default_factory=list)  # to come, in order
    died_at: datetime | None = None  # it stands still since then: nothing new is heard of it

    def befall(self, machines: Machines, name: str, now: datetime) -> datetime | None:
        """Let happen what is due to a machine that was made. When the cloud notices its death: once, and it is over."""
        while self.turns and self.turns[0][0] <= now:
            at, turn = self.turns.pop(0)
            if turn is Turn.STANDS_STILL:
                machines.freeze(name)
                self.died_at = at
            elif turn is Turn.IS_CUT_OFF:
                machines.isolate(name)
            elif turn is Turn.IS_BACK:
                machines.thaw(name)
                self.died_at = None
            else:
                self.turns.clear()
                return at
        return None


def take_fate(faults: Faults, now: datetime) -> Fate:
    """Of a machine that is made now; the fault that it comes from is used up."""
    fault = faults.take("create", "host_dies", "network_cut")
    if fault is None:
        return Fate()
    at, dies = now + timedelta(seconds=fault.seconds), fault.kind == "host_dies"
    turns = [(at, Turn.STANDS_STILL if dies else Turn.IS_CUT_OFF)]
    if fault.lasts:
        turns.append((at + timedelta(seconds=fault.lasts), Turn.IS_BACK))
    if dies and fault.notice and not 0 < fault.lasts <= fault.notice:
        turns.append((at + timedelta(seconds=fault.notice), Turn.IS_NOTICED))
    return Fate(turns=sorted(turns, key=lambda turn: turn[0]))
