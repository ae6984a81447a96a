"""Machines that nobody looks after, on every simulated cloud: found by their owner, ended, paid for; nobody else's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.transport import keys
from providers import open_provider
from providers.base import Instance, LaunchRequest, OfferQuery, Provider, Settings
from providers.errors import Throttled
from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.machines.paper import PaperMachines
from tests.e2e.clouds import CLOUDS, GPUS, ROUNDING, alive, booked, served, spoil
from tests.e2e.driver import Gpujob

pytestmark = pytest.mark.process

OWNER = "ada"
UNSEEN_SECONDS = 15  # an end that nobody could see is counted late


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[SimulatedCloud]:
    with served(request.param, machines=PaperMachines()) as one:
        yield one


@pytest.fixture
def user(gpujob: Gpujob, cloud: SimulatedCloud) -> Gpujob:
    gpujob.env.update(cloud.environment(), GPUJOB_OWNER=OWNER)
    return gpujob


@dataclass(frozen=True)
class Elsewhere:
    """Another computer with the same keys."""

    cloud: SimulatedCloud
    folder: Path

    @property
    def provider(self) -> Provider:
        settings = Settings(home=self.folder, env=self.cloud.environment(), now=lambda: datetime.now(UTC))
        return open_provider(self.cloud.name, settings)

    def orders(self, name: str, *, owner: str = OWNER, run: str) -> Instance:
        offer = self.provider.offers(OfferQuery(gpus=(GPUS[self.cloud.name],), gpu_count=1, disk_gb=10))[0]
        request = LaunchRequest(
            name=name,
            owner=owner,
            run_id=run,
            attempt=1,
            deadline=datetime.now(UTC) + timedelta(hours=1),
            disk_gb=10,
            image="python:3.12",
            public_key=keys.ensure(self.folder / "key"),
            host_key=keys.private_text(self.folder / "key"),
        )
        while True:
            try:
                return self.provider.create(offer, request)
            except Throttled as error:
                time.sleep(error.after)


@pytest.fixture
def elsewhere(cloud: SimulatedCloud, tmp_path: Path) -> Elsewhere:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return Elsewhere(cloud, folder)


def test_what_a_finished_run_left_is_ended_and_booked(
    user: Gpujob, cloud: SimulatedCloud, elsewhere: Elsewhere
) -> None:
    run = user.submit(user.job(run="true"))
    assert user.wait(run)["outcome"] == "succeeded"
    while user.controller_pid() is not None:  # its last look would find the machine before we do
        time.sleep(0.1)
    stray = elsewhere.orders(f"gpujob-{run}-1-9", run=run)
    elsewhere.orders("gpujob-r-somebody-1-1", owner="somebody-else", run=run)
    spoil(cloud, "terminate_ignored")

    looked = user("reap", "--json", "--provider", cloud.name)
    assert looked.returncode == 13 and "--yes" in looked.stderr
    [found] = json.loads(looked.stdout)
    assert (found["machine"], found["verdict"], found["action"]) == (stray.name, "stray", "left")
    assert len(alive(cloud)) == 2, "to look is not to touch"

    done = user("reap", "--json", "--yes", "--provider", cloud.name)
    assert done.returncode == 0, done.stderr
    assert [row["action"] for row in json.loads(done.stdout)] == ["ended"]
    assert alive(cloud) == ["gpujob-r-somebody-1-1"]
    [ended] = [row for row in user.json("ps", "--all") if row["name"].startswith("stray-")]
    assert ended["outcome"] == "reaped"
    billed = sum(line.usd(cloud.clock()) for line in cloud.bill.lines() if line.machine == stray.id.split("/")[-1])
    assert stray.usd_per_hour is not None
    unseen = stray.usd_per_hour * UNSEEN_SECONDS / 3600
    assert abs(booked(user, ended["id"]) - billed) < ROUNDING + unseen
    assert user("reap", "--provider", cloud.name).returncode == 0


def test_from_another_computer_it_takes_the_keys_and_the_owners_name(
    user: Gpujob, cloud: SimulatedCloud, elsewhere: Elsewhere
) -> None:
    elsewhere.orders("gpujob-r-lost-1-1", run="r-lost")
    just_made = user("reap", "--json", "--yes", "--provider", cloud.name)
    assert just_made.returncode == 13
    assert [row["verdict"] for row in json.loads(just_made.stdout)] == ["newborn"]
    assert alive(cloud) == ["gpujob-r-lost-1-1"]


def test_a_cloud_that_does_not_answer_is_not_taken_for_an_empty_one(user: Gpujob, cloud: SimulatedCloud) -> None:
    spoil(cloud, "outage", seconds=600)
    looked = user("reap", "--provider", cloud.name, timeout=180)
    assert looked.returncode == 13
    assert f"{cloud.name}: what it holds is not known" in looked.stderr
