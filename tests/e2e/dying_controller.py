"""A controller that kills itself with -9 at one exact place: `python -m tests.e2e.dying_controller PHASE before|after`.

It is the real controller; only the phase function is wrapped. `before`: the row is claimed, nothing done yet.
`after`: the work of the visit is done in the world and not yet written to the store, the worst moment there is.
"""

from __future__ import annotations

import os
import signal
import sys

from orchestrator import background
from orchestrator.home import Home
from orchestrator.phases import PHASES, Next, Visit
from orchestrator.records import Phase


def main() -> int:
    phase, moment = Phase(sys.argv[1]), sys.argv[2]
    original = PHASES[phase]

    def deadly(visit: Visit) -> Next:
        if moment == "after":
            original(visit)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    PHASES[phase] = deadly
    return background.serve(Home.find(), os.environ, until_idle=True)


if __name__ == "__main__":
    sys.exit(main())
