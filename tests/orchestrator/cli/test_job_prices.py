"""What one job will cost, before it is rented: `prices --for`, the first line of `submit`, and its --dry-run."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import gpujob as api
import providers
from jobs.spec import Spec
from orchestrator.cli import offer_list
from orchestrator.estimates import Basis
from providers.base import Provider, Settings, Traits
from tests.fakes.memory_provider import MemoryProvider, Outage, offer
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import OFFER, START, Scene
from tests.test_docs import fields

YAML: dict[str, Any] = {
    "name": "mnist",
    "project": "digits",
    "run": "python train.py",
    "resources": {"gpu": ["RTX3090", "RTX4090", "H100-SXM"]},
    "limits": {"max_duration": "30m", "max_cost": 2},
    "secrets": ["NOT_AT_HAND"],
}


def market(settings: Settings) -> Provider:
    facts: dict[str, Any] = {"provider": "market", "fetched_at": settings.now()}
    offers = [
        offer("old", usd_per_hour="0.20", gpu="RTX3090", **facts),
        offer("usual", usd_per_hour="0.30", gpu="RTX4090", **facts),
        offer("dear", usd_per_hour="0.90", gpu="RTX4090", **facts),
        offer("fast", usd_per_hour="3.00", gpu="H100-SXM", **facts),
        offer("far", usd_per_hour="0.01", gpu="L4", **facts),
    ]
    return MemoryProvider(settings.now, name="market", offers=offers)


def rehearsed(settings: Settings) -> Provider:
    made = offer("pod", usd_per_hour="0.01", gpu="RTX4090", provider="rehearsed", fetched_at=settings.now())
    return MemoryProvider(
        settings.now, name="rehearsed", offers=[made], traits=Traits(is_container=True, simulated=True)
    )


def silent(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="silent")
    cloud.faults.outages.append(Outage(0, 3600))
    return cloud


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def register(*names: str) -> None:
        monkeypatch.setattr(providers, "_REGISTER", {name: f"{__name__}:{name}" for name in names})

    register("market")
    return register


@pytest.fixture(autouse=True)
def job(scene: Scene, tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    path = folder / "train.yaml"
    path.write_text(json.dumps(YAML))
    return path


def ran(scene: Scene, run_id: str = "r-1", *, seconds: float = 600, notes: Any = None, **of_offer: Any) -> None:
    """The job succeeded, for 60 cents, 60 seconds after its machine was made, which was gone 30 seconds later."""
    spec = Spec.model_validate({**YAML, "secrets": []}).to_json()
    began = START + timedelta(seconds=60)
    when = {
        "billing_from": START,
        "running_from": START + timedelta(seconds=40),
        "started_at": began,
        "exited_at": began + timedelta(seconds=seconds),
        "gone_at": began + timedelta(seconds=seconds + 30),
        "provider": "market",
        "offer": {**OFFER, "provider": "market", **of_offer},
    }
    scene.run(run_id, spec=spec, of_attempts={1: when}, notes=notes or {})


def listed(gpujob: Command, job: Path, *options: object) -> dict[str, dict[str, Any]]:
    return {row["offer_id"]: row for row in gpujob("prices", "--for", job, *options, "--json").json}


def test_offers_are_ranked_by_what_the_job_would_cost_there(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene)
    rows = listed(gpujob, job)
    assert list(rows) == ["usual", "old", "fast", "dear"], "and nothing that the job did not ask for"
    assert rows["usual"]["total_usd"] == "0.0575", "600 s of work and 90 around it"
    assert rows["usual"]["expected_seconds"] == 690.0 and rows["usual"]["rests_on"] == "1 earlier run on RTX4090"
    assert rows["usual"]["basis"] == "runs" and rows["usual"]["earlier_runs"] == 1
    assert rows["fast"]["basis"] == "tflops" and rows["fast"]["rests_on"].endswith("by data-sheet TFLOP/s: a guess")
    assert list(listed(gpujob, job, "--sort", "time")) == ["fast", "usual", "dear", "old"]


def test_the_frontier_is_what_nothing_beats_in_time_and_money(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene)
    rows = listed(gpujob, job)
    assert {name for name, row in rows.items() if row["frontier"]} == {"usual", "fast"}


def test_a_person_sees_time_total_and_what_they_rest_on(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene)
    said = gpujob("prices", "--for", job)
    assert "* $0.06" in said.text and "11m 30s" in said.text and "TIME" in said.text.splitlines()[0]
    assert "~" in said.text, "a guess is marked as one"
    assert "1 earlier run on RTX4090" in said.text
    assert "TIME on 1x RTX4090: 1 earlier run on RTX4090" in said.err
    assert "TIME on 1x RTX3090, 1x H100-SXM: scaled from 1 earlier run on RTX4090 by data-sheet TFLOP/s" in said.err
    assert "no other offer is both cheaper and sooner done" in said.err


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_it_fits(
    scene: Scene, gpujob: Command, job: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    ran(scene)
    monkeypatch.setattr(offer_list, "layout", lambda: {"terminal": True, "width": width})
    shown = re.sub(r"\x1b\[[0-9;]*m", "", gpujob("prices", "--for", job).text)
    assert max(map(len, shown.splitlines())) <= width
    assert {"WHERE", "GPU", "TOTAL", "TIME"} <= set(shown.splitlines()[0].split())


def test_nothing_known_is_said_and_can_be_stated(gpujob: Command, job: Path) -> None:
    said = gpujob("prices", "--for", job)
    assert "TIME: nothing known: limits.max_duration, 30m 00s, assumed" in said.err
    stated = listed(gpujob, job, "--hours", "0.25")
    assert {row["rests_on"] for row in stated.values()} == {"nothing known: 15m 00s assumed"}
    assert stated["usual"]["total_usd"] == "0.075" and stated["usual"]["job_seconds_least"] is None


def test_options_stand_in_for_what_the_file_says(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene, notes={"fetched_bytes": 3 * 10**9})
    assert list(listed(gpujob, job, "--gpu", "L4")) == ["far"]
    assert gpujob("prices", "--for", job, "--spot", "--json").json == []
    other = listed(gpujob, job, "-e", "EPOCHS=100")
    assert other["usual"]["rests_on"] == "1 earlier run on RTX4090, with other arguments"


def test_files_that_are_sent_and_brought_back_are_paid(
    scene: Scene, gpujob: Command, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear: dict[str, Any] = {"ingress_usd_per_gb": Decimal(10), "egress_usd_per_gb": Decimal("0.1")}

    def billed(settings: Settings) -> Provider:
        return MemoryProvider(settings.now, name="billed", offers=[offer("x", gpu="RTX4090", **dear)])

    monkeypatch.setitem(globals(), "billed", billed)
    monkeypatch.setattr(providers, "_REGISTER", {"billed": f"{__name__}:billed"})
    (job.parent / "weights.bin").write_bytes(bytes(10_000_000))
    ran(scene, notes={"fetched_bytes": 3 * 10**9})
    [row] = listed(gpujob, job).values()
    hour = Decimal("0.36") * Decimal(row["expected_seconds"]) / 3600
    assert Decimal(row["total_usd"]) - hour == pytest.approx(Decimal("0.40"), abs=Decimal("0.001"))
    [without] = listed(gpujob, job, "--egress", 0, "--ingress", 0).values()
    assert Decimal(without["total_usd"]) == pytest.approx(hour)


def test_a_rehearsal_is_told_apart_and_beats_nothing_real(
    scene: Scene, gpujob: Command, job: Path, clouds: Callable[..., None]
) -> None:
    clouds("market", "rehearsed")
    ran(scene, source="simulated: market")
    rows = listed(gpujob, job)
    assert rows["pod"]["simulated"] and rows["pod"]["rests_on"] == "1 earlier run on RTX4090, simulated"
    assert rows["old"]["frontier"] and rows["old"]["rests_on"].endswith(
        "assumed; 1 earlier run on simulated machines not counted"
    )
    said = gpujob("prices", "--for", job)
    assert "rehearsed (simulated)" in said.text


def test_a_cloud_that_does_not_answer_is_named(gpujob: Command, job: Path, clouds: Callable[..., None]) -> None:
    clouds("market", "silent")
    said = gpujob("prices", "--for", job)
    assert said.code == 0 and "silent: silent does not answer" in said.err
    clouds("silent")
    assert gpujob("prices", "--for", job).code == 10


def test_csv_and_json_have_documented_fields(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene)
    [first, *_] = listed(gpujob, job).values()
    assert set(first) == fields("prices") | fields("prices --for")
    [row, *_] = csv.DictReader(io.StringIO(gpujob("prices", "--for", job, "--csv").text))
    assert list(row) == list(first)
    assert set(Basis) == set(re.findall(r"`(\w+)`", basis_line()))


def basis_line() -> str:
    text = (Path(__file__).parents[3] / "docs" / "json.md").read_text()
    [line] = re.findall(r"^\| `basis` \| (.*) \|$", text, re.MULTILINE)
    return str(line)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--sort", "time"], "--sort time goes with --for"),
        (["-e", "A=1"], "--env goes with --for"),
        (["--for", "job", "--history", "L4"], "leave out --history"),
        (["--for", "job", "--watch", "--under", "1"], "leave out --watch"),
        (["--html", "x.html"], "--html goes with --history or --for"),
        (["--for", "job/none.yaml"], "there is no job/none.yaml"),
        (["--for", "job", "--gpu", "RTX9999"], "RTX9999"),
    ],
)
def test_what_does_not_go_together_is_said(gpujob: Command, options: list[str], told: str) -> None:
    said = gpujob("prices", *options)
    assert said.code == 2 and told in said.err


def test_the_page_shows_the_frontier_and_names_what_is_simulated(
    scene: Scene, gpujob: Command, job: Path, clouds: Callable[..., None], tmp_path: Path
) -> None:
    clouds("market", "rehearsed")
    ran(scene)
    hostile = job.read_text().replace("python train.py", "python <b>")
    job.write_text(hostile)
    target = tmp_path / "page.html"
    said = gpujob("prices", "--for", job, "--html", target)
    page = target.read_text()
    assert said.code == 0 and f"written to {target}" in said.err
    assert page.count("<svg") == 2 and "Simulated: nobody sells these" in page
    assert ">1 H100-SXM market<" in page or ">1<" in page
    assert "1 earlier run on RTX4090" in page and "scaled from" in page
    assert "<script" not in page and "http-equiv" in page


def test_submit_says_what_it_cost_before_and_the_most(scene: Scene, gpujob: Command, job: Path) -> None:
    def line() -> str:
        said = gpujob("submit", job, "-d", env={"NOT_AT_HAND": "x"})
        assert said.code == 0, said.err
        return next(line for line in said.err.splitlines() if "  mnist  " in line)

    assert line().endswith("  mnist  at most $2.00 and 30m 00s")
    ran(scene, "r-1")
    ran(scene, "r-2", seconds=660)
    assert line().endswith(
        "  mnist  expected $0.60 and 10m 30s of work (2 earlier runs on RTX4090, with other files), "
        "at most $2.00 and 30m 00s"
    )


def test_submit_warns_of_limits_that_are_less_than_what_it_took(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene)
    said = gpujob("submit", job, "-d", "--max-cost", "0.50", "--max-duration", "5m", env={"NOT_AT_HAND": "x"})
    assert "limits.max_cost is less than what the job took before" in said.err
    assert "limits.max_duration is less than what the job took before" in said.err


def test_a_plan_says_what_is_expected_and_why(scene: Scene, gpujob: Command, job: Path) -> None:
    ran(scene)
    job.write_text(json.dumps({**YAML, "secrets": [], "resources": {"gpu": "RTX4090"}}))
    plan = gpujob("submit", job, "--dry-run", "--json").json
    assert (plan["expected_usd"], plan["expected_seconds"]) == ("0.0575", 690.0)
    assert plan["rests_on"] == plan["offers"][0]["rests_on"] == "1 earlier run on RTX4090"
    assert set(plan["offers"][0]) == fields("prices") | (fields("prices --for") - {"frontier"}) | {"why_not"}
    said = gpujob("submit", job, "--dry-run")
    assert "Expected $0.06 and 11m 30s at market: 10m 00s of work (1 earlier run on RTX4090)" in said.err
    assert "At the very worst $" in said.err


def test_from_python(scene: Scene, job: Path) -> None:
    ran(scene)
    first, *others = api.prices(for_=job)
    assert first.offer.offer_id == "usual" and first.is_best and others
    assert first.estimate is not None and first.estimate.rests_on == "1 earlier run on RTX4090"
    [quick, *_] = api.prices(["RTX4090", "H100-SXM"], for_=json.loads(job.read_text()), sort="time")
    assert quick.offer.offer_id == "fast"
    with pytest.raises(ValueError, match="for_"):
        api.prices("L4", sort="time")
