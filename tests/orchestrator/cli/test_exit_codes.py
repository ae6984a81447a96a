"""Which exit code a run ends with, and which one an error has."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from orchestrator.cli.errors import EXPECTED
from orchestrator.cli.exit_codes import MEANINGS, exit_code
from orchestrator.records import Outcome
from tests.orchestrator.scene import Scene

OUTCOMES = {
    Outcome.SUCCEEDED: 0,
    Outcome.FAILED: 1,
    Outcome.CANCELLED: 1,
    Outcome.LOST: 1,
    Outcome.ERROR: 1,
    Outcome.NO_CAPACITY: 10,
    Outcome.REFUSED: 11,
    Outcome.STOPPED_BY_BUDGET: 12,
    Outcome.TIMED_OUT: 12,
    Outcome.REAPED: 0,
}


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_code(scene: Scene, outcome: Outcome) -> None:
    assert exit_code(scene.run(outcome=outcome)) == OUTCOMES[outcome]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"artifacts_complete": False}, 3),
        ({"artifacts_complete": None}, 0),
        ({"artifacts_complete": False, "outcome": Outcome.FAILED}, 1),
        ({"artifacts_complete": False, "possibly_billing": True}, 13),
        ({"outcome": Outcome.FAILED, "possibly_billing": True}, 13),
        ({"outcome": None, "possibly_billing": True}, 13),
    ],
)
def test_what_outweighs_what(scene: Scene, changes: dict[str, Any], code: int) -> None:
    assert exit_code(scene.run(**changes)) == code


def test_every_code_has_a_meaning() -> None:
    assert set(OUTCOMES.values()) | set(EXPECTED.values()) | {3, 13, 130} == set(MEANINGS)


MODULES = (
    "jobs.bundle",
    "jobs.machine",
    "jobs.problems",
    "jobs.transport.base",
    "jobs.transport.keys",
    "jobs.transport.known_hosts",
    "orchestrator.prices",
    "orchestrator.secrets",
    "orchestrator.store.errors",
    "orchestrator.submission",
    "providers.errors",
)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_expected_exception_exists(name: str) -> None:
    """The table knows classes by name: a renamed one must not turn into a bug report."""
    homes = [module for module in MODULES if hasattr(importlib.import_module(module), name)]
    assert homes, f"no {name} in {MODULES}"
