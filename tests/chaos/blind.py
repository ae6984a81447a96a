"""The negative control: a controller without the look-up by name and without the reaper.

Everything else is the real controller. The chaos rounds have to notice what it does. Knows no round.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def put_on() -> None:
    """In this process no machine is ever found by its name, and no cloud's list is looked at for strays."""
    from orchestrator import reaper
    from orchestrator.phases import booting, ending, renting

    def sees_nothing(_: Any) -> None:
        return None

    def rests(*_: Any) -> int:
        return 0

    setattr(renting, "look_up", sees_nothing)  # noqa: B010 - mypy takes a plain assignment for a mistake
    setattr(ending, "look_up", sees_nothing)  # noqa: B010
    for module in (booting, ending, renting):  # who does not look has nothing to wait for
        setattr(module, "LISTING_LAG", timedelta(0))  # noqa: B010
    for name in ("watch", "look_once"):
        setattr(reaper.Reaper, name, rests)
