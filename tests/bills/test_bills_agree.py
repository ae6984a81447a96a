"""The ledger is the cloud's own bill, to the rounding of the cloud: whatever became of a machine.

GPUJOB_BILL_RUNS runs per cloud instead of 12; every one is drawn from its number.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pytest

from orchestrator.records import Outcome
from tests.bills import accounts
from tests.bills.renter import Case, drawn, market_moves, renting

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

RUNS = int(os.environ.get("GPUJOB_BILL_RUNS", "12"))


@pytest.mark.parametrize("name", ["aws", "runpod", "vast"])
def test_drawn_runs(name: str, tmp_path: Path) -> None:
    with renting(name, tmp_path) as renter:
        outcomes = [renter.rent(n, drawn(random.Random(f"{name} {n}"), name)).outcome for n in range(RUNS)]
        renter.settle()
        assert accounts.alive(renter.cloud) == []
        assert accounts.wrong(renter.cloud, renter.store) == {}
        assert len(accounts.billed(renter.cloud)) >= RUNS / 2 and len(set(outcomes)) > 1


def test_the_estimate_alone_follows_the_market(tmp_path: Path) -> None:
    """Who has not activated the tag never gets a bill by machine: then the estimate must be right, also of hours in
    which nobody looked. What is allowed are the seconds in which our and the cloud's looks at a machine differ."""
    with renting("aws", tmp_path) as renter:
        renter.cloud.deny("ce:GetCostAndUsage")
        for number in range(max(6, RUNS // 4)):
            dice = random.Random(f"market {number}")
            away = (dice.uniform(60, 3600), dice.uniform(600, 5 * 3600)) if dice.random() < 0.5 else (math.inf, 0.0)
            seconds = dice.uniform(1800, 6 * 3600)
            run = renter.rent(number, Case(seconds=seconds, spot=True, moves=market_moves(dice, most=5), away=away))
            assert run.outcome is Outcome.SUCCEEDED
        renter.settle()
        differences = accounts.differences(renter.cloud, renter.store)
        rates = [row.rate_usd for row in renter.store.charges() if row.meter == "compute"]
        assert len(set(rates)) > len(differences), "prices have moved under machines"
        assert {machine: usd for machine, usd in differences.items() if abs(usd) > max(rates) * 10 / 3600} == {}
