"""The ledger is the cloud's own bill, to the rounding of the cloud: whatever became of a machine.

GPUJOB_BILL_RUNS runs per cloud instead of 12; every one is drawn from its number.
"""

from __future__ import annotations

import os
import random
from decimal import Decimal
from pathlib import Path

import pytest

from tests.bills.renter import drawn, renting

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

RUNS = int(os.environ.get("GPUJOB_BILL_RUNS", "12"))
# Per machine: Vast.ai rounds each amount of a bill to a tenth of a cent, RunPod to the last digit of a double.
ROUNDING = {"aws": Decimal("0.000001"), "runpod": Decimal("0.00001"), "vast": Decimal("0.0031")}


@pytest.mark.parametrize("name", ["aws", "runpod", "vast"])
def test_drawn_runs(name: str, tmp_path: Path) -> None:
    with renting(name, tmp_path) as renter:
        outcomes = [renter.rent(n, drawn(random.Random(f"{name} {n}"), name)).outcome for n in range(RUNS)]
        renter.settle()
        assert renter.alive() == []
        wrong = {machine: usd for machine, usd in renter.differences().items() if abs(usd) > ROUNDING[name]}
        assert wrong == {}
        assert len(renter.differences()) >= RUNS / 2 and len(set(outcomes)) > 1
