"""The main job on each simulated cloud, its machines containers: trained, brought home, billed as the cloud bills."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from jobs import checkpoints
from jobs.transport import keys
from providers import open_provider
from providers.base import LaunchRequest, OfferQuery, Settings
from providers.rehearsal.cloud import SimulatedCloud
from tests.e2e.clouds import CLOUDS, GPUS, ROUNDING, SMALL, WITH_SPOT, alive, booked, job_on, outcomes, served
from tests.e2e.driver import Gpujob

pytestmark = [pytest.mark.process, pytest.mark.docker]

TEMPLATE = Path(__file__).parents[2] / "templates/mnist/train.yaml"
TORCH = "gpujob-test:torch"


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[SimulatedCloud]:
    with served(request.param) as one:
        yield one


@pytest.fixture
def rented(gpujob: Gpujob, cloud: SimulatedCloud) -> Iterator[Gpujob]:
    """gpujob with the way to that cloud only. At the end nothing is left there."""
    gpujob.env.update(cloud.environment())
    yield gpujob
    assert alive(cloud) == []


@pytest.mark.slow
def test_the_template_is_trained(rented: Gpujob, cloud: SimulatedCloud) -> None:
    """A network really learns, in the image, on a machine that really boots: that takes its half minute."""
    where = ["--provider", cloud.name, "--gpu", GPUS[cloud.name], "--image", TORCH, "-e", "EPOCHS=2"]
    run = rented.show(rented.submit(TEMPLATE, *where, "--max-price", "2"))["id"]
    shown = rented.wait(run, timeout=240)
    assert shown["outcome"] == "succeeded", rented("show", run, "--events").stdout
    assert shown["metrics"]["accuracy"] > 0.8
    assert {artifact["path"] for artifact in shown["artifacts"]} == {"outputs/model.pt", "outputs/result.json"}
    assert shown["attempts"][-1]["provider"] == cloud.name
    assert abs(booked(rented, run) - cloud.bill.total()) < ROUNDING
    assert alive(cloud) == []
    assert b"SIMULATED" in (rented.home / "runs" / run / "report.html").read_bytes()


def test_what_the_job_sees(rented: Gpujob, cloud: SimulatedCloud) -> None:
    """Its own variables and secrets, the GPU that was asked for, and nobody's keys."""
    rented.env["HF_TOKEN"] = "hf-secret-value"
    look = "nvidia-smi -L; echo $EPOCHS ${#HF_TOKEN}; env | grep -c -E '_API_KEY=|HOST_KEY=' || true; pwd; id -u"
    run = rented.submit(job_on(cloud, rented, look, env={"EPOCHS": "3"}, secrets=["HF_TOKEN"]))
    assert rented.wait(run)["outcome"] == "succeeded", rented("show", run, "--events").stdout
    gpu, seen, keys, folder, user = rented.log(run).decode().splitlines()
    assert gpu.startswith("GPU 0: SIMULATED")
    assert (seen, keys, user) == ("3 15", "0", "0")
    assert folder.endswith("/work")
    everything = b"".join(path.read_bytes() for path in rented.home.rglob("*") if path.is_file())
    assert b"hf-secret-value" not in everything


CHECKPOINTED = """\
import json, os, pathlib, signal, sys, time
folder = pathlib.Path("checkpoints")
folder.mkdir(exist_ok=True)
done = max((int(path.name) for path in folder.iterdir()), default=0)
print("from", done, flush=True)
for step in range(done + 1, int(sys.argv[1]) + 1):
    time.sleep(0.2)
    new = folder / f".{step}"
    new.write_text(str(step))
    new.rename(folder / str(step))
print("done", flush=True)
"""


@pytest.mark.parametrize("cloud", WITH_SPOT, indirect=True)
def test_a_spot_machine_that_is_taken_away_is_replaced(rented: Gpujob, cloud: SimulatedCloud) -> None:
    """The next attempt goes on from the newest checkpoint; both machines are in the bill, and in ours."""
    spec = job_on(
        cloud,
        rented,
        "python3 job.py 60",
        place={"providers": [cloud.name], "spot": "only"},
        checkpoint={"path": "checkpoints", "every": "1s"},
        limits={"max_price_per_hour": "5"},
    )
    (spec.parent / "job.py").write_text(CHECKPOINTED)
    run = rented.submit(spec)
    folder = rented.home / "runs" / run / "checkpoints"
    rented.until(run, lambda _: folder.exists() and checkpoints.newest(folder) is not None, timeout=90)
    [machine] = [machine for machine in cloud.everything() if machine.alive]
    with cloud.lock:
        cloud.preempt(machine.id, notice_seconds=20.0)
    shown = rented.wait(run, timeout=180)
    assert shown["outcome"] == "succeeded", rented("show", run, "--events").stdout
    assert outcomes(shown) == ["preempted", "succeeded"]
    log = rented.log(run).decode().splitlines()
    assert log[0] == "from 0" and log[-1] == "done"
    assert int(next(line for line in log[1:] if line.startswith("from")).split()[1]) > 0
    assert abs(booked(rented, run) - cloud.bill.total()) < ROUNDING


@pytest.mark.slow
def test_a_machine_ends_itself_at_its_deadline(cloud: SimulatedCloud, tmp_path: Path) -> None:
    """Nobody watches it and no key of the account is on it; EC2 counts its deadline in minutes, so it takes one."""
    settings = Settings(home=tmp_path, env={**os.environ, **cloud.environment()}, now=lambda: datetime.now(UTC))
    provider = open_provider(cloud.name, settings)
    query = OfferQuery(gpus=(GPUS[cloud.name],), gpu_count=1, max_usd_per_hour=Decimal(5))
    offer = provider.offers(query).cheapest()
    assert offer is not None
    request = LaunchRequest(
        name="gpujob-r-alone-1-1",
        owner="nobody",
        run_id="r-alone",
        attempt=1,
        deadline=datetime.now(UTC) + timedelta(seconds=15),
        disk_gb=10,
        image=SMALL,
        public_key=keys.ensure(tmp_path / "key"),
    )
    provider.create(offer, request)
    until = time.monotonic() + 150
    while alive(cloud) and time.monotonic() < until:
        time.sleep(0.5)
    assert alive(cloud) == []
    assert cloud.bill.running() == set()
    [machine] = cloud.everything()
    assert machine.ended_at is not None and machine.ended_at > request.deadline - timedelta(seconds=2), "not before"
    assert machine.ended_at < request.deadline + timedelta(seconds=60), "within a minute"
