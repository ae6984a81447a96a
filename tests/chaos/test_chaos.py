"""Nothing is left running and nothing is lost: many seeded rounds, a control that has to fail, and many controllers.

Each runs `python -m tests.chaos`, as a person would, since it forks from a process without threads.
GPUJOB_CHAOS_ROUNDS rounds instead of 60.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from tests.chaos.plans import Plan, When, draw

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("GPUJOB_CHAOS_ROUNDS", "60"))
AT_ONCE = 8 * (os.cpu_count() or 1)  # they mostly wait
CONTROLS = 8


def chaos(module: str, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


def needs_the_look_up(plan: Plan) -> bool:
    """A kill when a create is done and not answered; nothing else, so that the control is quick."""
    made = When(after="call", name="create", nth=1)
    return not plan.faults and plan.cancel is None and made in [strike.when for strike in plan.strikes]


def figure(table: str, name: str) -> int:
    found = re.search(rf"^\| {re.escape(name)} \| (\d+)", table, re.MULTILINE)
    assert found, table
    return int(found[1])


@pytest.mark.slow
@pytest.mark.timeout(300 + 6 * ROUNDS)
def test_rounds_of_chaos(tmp_path: Path) -> None:
    """Worth its minutes: it is the promise itself, with real kills and the clouds' own bills."""
    done = chaos(
        "tests.chaos", "--rounds", str(ROUNDS), "--at-once", str(AT_ONCE), "--keep", str(tmp_path / "rounds"),
        seconds=240 + 6 * ROUNDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert figure(done.stdout, "rounds") == ROUNDS
    assert figure(done.stdout, "failed rounds") == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_the_look_up_by_name_it_is_noticed(tmp_path: Path) -> None:
    """Worth its minute: a harness that cannot fail proves nothing."""
    seeds = islice((seed for seed in count(1) if needs_the_look_up(draw(seed))), CONTROLS)
    words = [word for seed in seeds for word in ("--seed", str(seed))]
    done = chaos("tests.chaos", "--blind", *words, "--keep", str(tmp_path / "rounds"), seconds=280)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert figure(done.stdout, "left running or left over") > 0
    assert figure(done.stdout, "machines made twice") > 0
    assert figure(done.stdout, "machines that are not booked as billed") > 0
    assert figure(done.stdout, "rounds that could not be carried out") == 0


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_three_controllers_on_one_database(tmp_path: Path) -> None:
    """Worth its minutes: no run is ever advanced by two at once, whoever is killed."""
    done = chaos("tests.chaos.shared_database", "--runs", "40", "--keep", str(tmp_path / "crowd"), seconds=580)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert done.stdout.startswith("40 runs by 3 controllers")
