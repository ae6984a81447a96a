"""gpujob from Python: the same runs as the command line shows, as values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import gpujob
import providers
from orchestrator import api, background
from orchestrator.home import Home
from orchestrator.records import Outcome, Phase
from providers.base import Provider, Settings
from tests.fakes.memory_provider import MemoryProvider, offer
from tests.orchestrator.scene import Scene, sha256


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path)
    monkeypatch.setenv("GPUJOB_HOME", str(made.home.root))

    def want(home: Home, env: Mapping[str, str]) -> None:
        made.want_controller(home, env)

    monkeypatch.setattr(background, "ensure_running", want)
    return made


def test_a_submitted_run_can_be_looked_at(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    job = {"run": "python train.py", "image": "none"}
    run = gpujob.submit(job, provider="local", max_cost=2.5, max_duration=timedelta(minutes=90), env={"EPOCHS": "3"})
    assert (run.name, run.phase, run.status, run.outcome, run.cost()) == ("job", "quote", "quote", None, Decimal(0))
    assert scene.controllers_wanted == 1
    kept = scene.store().run(run.id)
    assert (kept.spec["limits"]["max_cost"], kept.spec["env"]) == ("2.5", {"EPOCHS": "3"})
    assert gpujob.get(run.id) == run == gpujob.runs()[0]


def test_a_train_yaml_by_path(scene: Scene, tmp_path: Path) -> None:
    spec = tmp_path / "train.yaml"
    spec.write_text(json.dumps({"name": "mnist", "run": "true", "image": "none"}))
    for source in (spec, str(spec)):
        assert gpujob.submit(source, name="other", max_duration="2h", gpu="cpu", spot=False).name == "other"


def test_what_is_wrong_is_an_exception_with_every_mistake(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(gpujob.SpecError) as refused:
        gpujob.submit({"run": "x", "imagee": "none"}, gpu="RTX9999")
    assert "imagee" in str(refused.value) and "RTX9999" in str(refused.value)
    with pytest.raises(gpujob.SpecError, match="there is no such file"):
        gpujob.submit(tmp_path / "nowhere.yaml")
    with pytest.raises(gpujob.RunNotFound):
        gpujob.get("nowhere")
    assert gpujob.runs() == [] and scene.controllers_wanted == 0


def test_a_run_that_is_over(scene: Scene) -> None:
    row = scene.run(attempt=2, outcome=Outcome.FAILED, exit_code=3, error="exit code 3 <b>")
    scene.log(row.id, 1, b"first \xff\n")
    scene.log(row.id, 2, b"second\n")
    scene.measured(row.id, "loss", [1.0, 0.5])
    scene.bring_back(row.id, {"outputs/model.bin": b"weights"})
    run = gpujob.get("mnist").wait()
    assert (run.outcome, run.exit_code, run.is_over, run.succeeded) == ("failed", 3, True, False)
    assert run.logs() == "first \N{REPLACEMENT CHARACTER}\nsecond\n"
    assert run.metrics() == {"loss": [(0, 1.0), (1, 0.5)]}
    assert run.cost() == Decimal("1.2") == sum(charge.amount_usd for charge in run.charges())
    [artifact] = run.artifacts()
    assert (artifact.name, artifact.path.read_bytes(), artifact.bytes) == ("outputs/model.bin", b"weights", 7)
    assert artifact.sha256 == sha256(b"weights")
    assert run.report == run.folder / "report.html"


def test_how_it_looks_in_a_notebook(scene: Scene) -> None:
    scene.run(outcome=Outcome.FAILED, error="<script>alert(1)</script>", name="mnist")
    scene.measured("r-7k2m9x", "<i>loss", [0.5])
    run = gpujob.get("mnist")
    assert repr(run) == "<Run r-7k2m9x 'mnist' failed $0.60: <script>alert(1)</script>>"
    html = run._repr_html_()
    assert "<script>" not in html and "<i>" not in html and "&lt;script&gt;" in html and "$0.60" in html


def test_cancel_asks_and_says_when_it_is_too_late(scene: Scene) -> None:
    scene.active()
    scene.run("r-over")
    assert gpujob.get("r-active").cancel() is True
    assert gpujob.get("r-over").cancel() is False
    assert scene.store().run("r-active").cancel_requested_at is not None


def test_wait_has_a_timeout_and_tells_progress(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.active(phase=Phase.BOOT)
    with pytest.raises(TimeoutError, match="still in phase boot"):
        gpujob.get("r-active").wait(timeout=0, progress=True)
    assert "boot" in capfd.readouterr().err


def test_wait_returns_when_a_machine_possibly_still_bills(scene: Scene) -> None:
    scene.active(phase=Phase.TEARDOWN, possibly_billing=True)
    assert gpujob.get("r-active").wait().possibly_billing


def test_another_home_can_be_named(scene: Scene, tmp_path: Path) -> None:
    scene.run()
    assert gpujob.runs(home=tmp_path / "other") == []
    assert [run.id for run in gpujob.runs(home=scene.home.root)] == ["r-7k2m9x"]


@pytest.mark.parametrize(
    ("given", "written"),
    [("90m", "90m"), (90, "90s"), (1.5, "1.5s"), (1_000_000, "1000000s"), (timedelta(hours=2), "7200.0s")],
)
def test_durations_in_python(given: api.Duration, written: str) -> None:
    assert api.overrides(max_duration=given) == {"limits.max_duration": written}


def test_the_page_exports_what_it_says() -> None:
    assert all(getattr(gpujob, name) is not None for name in gpujob.__all__)
    assert set(gpujob._HOMES) == set(gpujob.__all__) == set(dir(gpujob))
    with pytest.raises(AttributeError):
        _ = gpujob.nothing
    assert gpujob.__doc__ is not None and os.linesep.join(gpujob.__doc__.splitlines())


def two_clouds(settings: Settings) -> Provider:
    found = [
        offer("dear", gpu="RTX4090", usd_per_hour="0.50", provider="vast"),
        offer("cheap", gpu="RTX4090", usd_per_hour="0.30", egress_usd_per_gb=Decimal("0.10"), provider="vast"),
        offer("other", gpu="L4", usd_per_hour="0.10", provider="vast", spot=True),
    ]
    return MemoryProvider(settings.now, name="vast", offers=found)


def broken(settings: Settings) -> Provider:
    raise RuntimeError("cannot be opened")


def test_prices_are_ranked_as_the_command_ranks_them(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"vast": f"{__name__}:two_clouds", "aws": f"{__name__}:broken"}
    monkeypatch.setattr(providers, "_REGISTER", places)
    found = gpujob.prices("RTX4090", hours=2)
    assert [(one.offer.offer_id, one.total_usd) for one in found] == [("cheap", Decimal("0.6")), ("dear", Decimal(1))]
    assert "cannot be opened" in found.unavailable["aws"] and found.passed_over == {}
    assert [one.offer.offer_id for one in gpujob.prices("RTX4090", hours=2, egress_gb=10)] == ["dear", "cheap"]
    assert gpujob.prices(["RTX4090", "L4"], provider=["vast"], spot=True)[0].offer.gpu == "L4"
    assert gpujob.prices("H200", provider="vast") == ()


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"gpu": "RTX4009"}, "did you mean RTX4090"),
        ({"provider": "vats"}, "no provider 'vats'"),
        ({"sort": "colour"}, "no order 'colour'"),
        ({"hours": -1}, "from 0 on"),
        ({"disk_gb": float("nan")}, "from 0 on"),
    ],
)
def test_a_question_about_prices_that_makes_no_sense(scene: Scene, question: dict[str, Any], words: str) -> None:
    with pytest.raises((gpujob.UnknownName, ValueError), match=words):
        gpujob.prices(**question)
