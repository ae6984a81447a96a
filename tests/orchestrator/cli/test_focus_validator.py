"""What `gpujob cost --focus` writes, judged by the FOCUS project's own validator in a Python of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.records import AttemptOutcome, ChargeKind
from tests.conftest import IMPOSSIBLE
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import OFFER, START, Scene
from tests.support.own_venv import CHECKOUT, made_once

VENV = CHECKOUT / ".venv-focus"
# numpy below 2, which it wants, knows no newer Python than 3.12 and no newer pyarrow.
RECIPE = ("focus-validator==2.2.1", "pyarrow<22")
# What holds for machines that are rented by the hour. Its rules for what we have not (commitments, capacity
# reservations, sub accounts, availability zones, a second currency) are left out.
HOLDS = (
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "REGION_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
)
# FOCUS wants null where there is no invoice; the validator cannot know that and wants a value everywhere.
KNOWN = {"InvoiceId-C-005-C"}

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]


def python() -> Path | None:
    """A Python 3.12 that starts: on the PATH, where pyenv puts one also when it has none, or one of pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for found in (shutil.which("python3.12"), *sorted(versions.glob("3.12.*/bin/python3.12"))):
        if found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return Path(found)
    return None


@pytest.fixture(scope="module")
def validator() -> Path:
    """Its folder of packages: it looks for a file of its own from there."""
    found = python()
    if found is None:
        pytest.skip(f"{IMPOSSIBLE}: the FOCUS validator needs a Python 3.12, which no package of this system has")

    def make() -> None:
        subprocess.run([found, "-m", "venv", VENV], check=True, timeout=120)
        subprocess.run([VENV / "bin/pip", "install", "-q", *RECIPE], check=True, timeout=1500)

    made_once(VENV, " ".join((str(found), *RECIPE)).encode(), make)
    return next(VENV.glob("lib/python3*/site-packages"))


def judged(validator: Path, file: Path) -> dict[str, str]:
    """The verdict on every rule of FOCUS 1.2."""
    command: list[str | Path] = [
        VENV / "bin/focus-validator",
        "--validate-version",
        "1.2",
        "--block-download",
        "--data-file",
        file,
    ]
    done = subprocess.run(
        [*command, "--applicability-criteria", ",".join(HOLDS)],
        cwd=validator,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    verdicts = dict(re.findall(r"([A-Za-z]+-[A-Z]-\d{3}-[A-Z]): (PASS|FAIL|SKIPPED)", done.stdout))
    assert len(verdicts) > 500, done.stdout[-2000:] + done.stderr[-2000:]
    return verdicts


def failures(validator: Path, file: Path) -> set[str]:
    return {rule for rule, verdict in judged(validator, file).items() if verdict == "FAIL"}


def test_the_validator_has_no_complaint(validator: Path, scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    """Slow: the validator takes ten seconds, and its environment some minutes the first time (550 MB)."""
    spot = {"offer": {**OFFER, "spot": True, "region": "SE"}, "outcome": AttemptOutcome.PREEMPTED}
    bill = {"kind": ChargeKind.SETTLEMENT, "source": "the cloud's bill"}
    scene.run(
        attempt=2,
        of_attempts={1: spot},
        charges=[
            {"meter": "disk", "unit": "GB-month", "quantity": Decimal("0.01"), "rate_usd": Decimal("0.1"),
             "amount_usd": Decimal("0.001")},
            {"meter": "address", "quantity": Decimal("0.5"), "rate_usd": Decimal("0.005"),
             "amount_usd": Decimal("0.0025")},
            {"quantity": Decimal("-0.1"), "amount_usd": Decimal("-0.036")},
            {**bill, "quantity": Decimal("0.2"), "amount_usd": Decimal("-0.0123")},
            {**bill, "amount_usd": Decimal("0.01"), "at": START + timedelta(days=30)},
            {**bill, "meter": "traffic_out", "unit": "GB", "quantity": Decimal(3), "rate_usd": Decimal("0.01"),
             "amount_usd": Decimal("0.03")},
        ],
    )  # fmt: skip
    scene.run("r-without", spec={"name": "mnist"}, of_attempts={1: {"instance_id": None}})
    export = tmp_path / "costs.csv"
    assert gpujob("cost", "--focus", export).code == 0
    assert failures(validator, export) == KNOWN


@pytest.mark.parametrize(
    ("right", "wrong", "column"),
    [(",Usage,", ",Rent,", "ChargeCategory"), (",Hours,", ",,", "PricingUnit")],
)
def test_the_validator_would_complain(
    validator: Path, scene: Scene, gpujob: Command, tmp_path: Path, right: str, wrong: str, column: str
) -> None:
    """Slow: as above. The control: a wrong word and a unit that is missing are found.

    A price that does not fit is not: the rule's `ChargeClass <> 'Correction'` is never true of a null. Our own test of
    the rows holds the product to the digit.
    """
    scene.run()
    export = tmp_path / "costs.csv"
    gpujob("cost", "--focus", export)
    export.write_text(export.read_text().replace(right, wrong))
    assert column in {rule.partition("-")[0] for rule in failures(validator, export)}
