"""A user puts another account's key in place while a run goes on, at every simulated cloud, then the right one."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.machines.process import ProcessMachines
from tests.e2e.clouds import CLOUDS, ROUNDING, alive, booked, job_on, served
from tests.e2e.driver import Gpujob

pytestmark = pytest.mark.process

UNSEEN_SECONDS = 20  # an end that nobody could see is counted late; no machine that is taken here costs $5 per hour


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[SimulatedCloud]:
    with served(request.param, machines=ProcessMachines()) as one:
        yield one


def with_key_of(user: Gpujob, env: dict[str, str]) -> None:
    """What the user exports from now on; the controller that had the old key is ended."""
    user.kill_controller()
    user.env.update(env)


def test_a_key_that_was_swapped_ends_nothing_and_put_back_everything(gpujob: Gpujob, cloud: SimulatedCloud) -> None:
    gpujob.env.update(cloud.environment())
    run = gpujob.submit(job_on(cloud, gpujob, gpujob.held, limits={"max_price_per_hour": "5"}))
    gpujob.until(run, lambda shown: shown["started_at"] is not None, timeout=240)
    [machine] = alive(cloud)

    with_key_of(gpujob, cloud.environment_of_another())
    gpujob.let_go()
    waited = gpujob("wait", run)
    assert waited.returncode == 13, waited.stderr
    shown = gpujob.show(run)
    assert shown["possibly_billing"] and shown["outcome"] is None
    assert alive(cloud) == [machine], "another account cannot end it, and nobody may say that it is gone"
    told = gpujob("show", run, "--events").stdout
    assert "POSSIBLY STILL BILLING" in told and machine in told and "credentials of account" in told

    with_key_of(gpujob, cloud.environment())
    assert gpujob("wait", run).returncode == 13, "it is not known yet"
    shown = gpujob.until(run, lambda shown: shown["outcome"] is not None, timeout=240)
    assert (shown["outcome"], shown["possibly_billing"]) == ("succeeded", False)
    assert gpujob("wait", run).returncode == 0
    assert alive(cloud) == []
    assert [one.name for one in cloud.everything()] == [machine]
    more = booked(gpujob, run) - cloud.bill.total()
    assert -ROUNDING < more < ROUNDING + Decimal(5) * UNSEEN_SECONDS / 3600
