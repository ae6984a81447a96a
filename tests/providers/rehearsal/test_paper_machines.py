"""Machines on paper: whoever stands for the inside of one is heard as long as the machine runs, and no longer."""

from __future__ import annotations

import pytest

from providers.rehearsal.machines.base import MachineRequest
from providers.rehearsal.machines.paper import PaperMachines


@pytest.fixture
def machines() -> PaperMachines:
    made = PaperMachines()
    made.start(MachineRequest(name="one"))
    return made


@pytest.mark.parametrize("how", ["halt", "freeze", "isolate", "remove", "end_from_inside"])
def test_a_machine_that_is_taken_away_or_dies_falls_silent(machines: PaperMachines, how: str) -> None:
    assert machines.answers("one")
    getattr(machines, how)("one")
    assert not machines.answers("one")


@pytest.mark.parametrize(("how", "back"), [("halt", "resume"), ("freeze", "thaw"), ("isolate", "thaw")])
def test_one_that_comes_back_is_heard_again(machines: PaperMachines, how: str, back: str) -> None:
    getattr(machines, how)("one")
    getattr(machines, back)("one")
    assert machines.answers("one")
