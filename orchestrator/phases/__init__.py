"""The life of a run: which function is which phase. One visit advances one run by one step.

quote -> provision -> boot -> probe -> ship -> start -> watch -> collect -> teardown -> settle, once per attempt.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.phases import booting, ending, renting, running
from orchestrator.phases.visit import Next, Visit
from orchestrator.records import Phase

PHASES: dict[Phase, Callable[[Visit], Next]] = {
    Phase.QUOTE: renting.quote,
    Phase.PROVISION: renting.provision,
    Phase.BOOT: booting.boot,
    Phase.PROBE: booting.probe,
    Phase.SHIP: running.ship,
    Phase.START: running.start,
    Phase.WATCH: running.watch,
    Phase.COLLECT: ending.collect,
    Phase.TEARDOWN: ending.teardown,
    Phase.SETTLE: ending.settle,
}

__all__ = ["PHASES", "Next", "Visit"]
