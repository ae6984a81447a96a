"""Clouds on a bad day: whatever goes wrong once, the job is done, nothing is left, and all of it is in our books.

The machines are processes here, which boot at once: what is looked at is what gpujob makes of a cloud's answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.machines.process import ProcessMachines
from tests.e2e.clouds import CLOUDS, ROUNDING, alive, booked, job_on, served, spoil
from tests.e2e.driver import Gpujob

pytestmark = pytest.mark.process

UNSEEN_SECONDS = 15


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[SimulatedCloud]:
    with served(request.param, machines=ProcessMachines()) as one:
        yield one


@pytest.fixture
def rented(gpujob: Gpujob, cloud: SimulatedCloud) -> Iterator[Gpujob]:
    gpujob.env.update(cloud.environment())
    yield gpujob
    assert alive(cloud) == []


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("no_capacity", {}),
        ("lost_reply", {"on": "create"}),
        ("error_after", {"on": "create"}),
        ("throttled", {"on": "create", "seconds": 1}),
        ("no_gpu", {}),
        ("wrong_gpu", {}),
        ("failed_boot", {"seconds": 1}),
        ("terminate_ignored", {}),
        ("terminate_acknowledged", {"seconds": 20}),
        ("error", {"on": "terminate", "times": 2}),
        ("outage", {"on": "get", "seconds": 5}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_day(rented: Gpujob, cloud: SimulatedCloud, kind: str, how: dict[str, object]) -> None:
    """Whatever goes wrong once, the job is done, nothing is left, and every machine that was made is in our books."""
    spoil(cloud, kind, **how)
    run = rented.submit(job_on(cloud, rented, "echo done", limits={"max_price_per_hour": "5"}))
    shown = rented.wait(run, timeout=240)
    assert shown["outcome"] == "succeeded", rented("show", run, "--events").stdout
    assert rented.log(run).endswith(b"done\n")
    assert cloud.faults.struck and cloud.faults.waiting() == []
    assert alive(cloud) == []
    made = [machine.name for machine in cloud.everything()]
    assert len(made) == len(set(made)), "no name was used for two machines"
    more = booked(rented, run) - cloud.bill.total()
    rate = max(Decimal(attempt["offer"]["usd_per_hour"]) for attempt in shown["attempts"])
    assert -ROUNDING < more < ROUNDING + rate * UNSEEN_SECONDS / 3600, "an end that nobody could see is counted late"
