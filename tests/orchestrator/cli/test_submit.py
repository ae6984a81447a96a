"""gpujob submit: what it asks, refuses and prints; attached with a controller that the test plays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.session import Session
from orchestrator.records import Outcome, Phase, Run
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene

JOB = {"name": "mnist", "image": "none", "run": "python train.py", "place": {"providers": ["local"]}}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.yaml").write_text(json.dumps(JOB))
    return folder / "train.yaml"


def test_detached_prints_the_id_alone(scene: Scene, gpujob: Command, spec: Path) -> None:
    said = gpujob("submit", spec, "--detach")
    [run] = scene.store().runs()
    assert (said.code, said.text) == (0, f"{run.id}\n")
    assert "at most $10.00 and 1d 00h" in said.err
    assert scene.controllers_wanted == 1


def test_detached_json_is_what_show_prints(gpujob: Command, spec: Path) -> None:
    submitted = gpujob("submit", spec.parent, "-d", "--json").json
    assert (submitted["phase"], submitted["outcome"], submitted["attempts"]) == ("quote", None, [])
    assert gpujob("show", submitted["id"], "--json").json == submitted


def test_options_stand_in_for_the_file(scene: Scene, gpujob: Command, spec: Path) -> None:
    options = ("--name", "other", "--max-cost", "2.50", "--max-duration", "90m", "--spot", "--max-price", "0.50")
    variables = ("-e", "EPOCHS=3", "-e", "EQUATION=a=b", "--provider", "ssh", "--provider", "local", "--gpu", "4090:2")
    assert gpujob("submit", spec, "-d", *options, *variables).code == 0
    [run] = scene.store().runs()
    assert (run.name, run.spec["limits"]["max_cost"], run.spec["place"]["spot"]) == ("other", "2.5", "allow")
    assert run.spec["env"] == {"EPOCHS": "3", "EQUATION": "a=b"}
    assert list(run.spec["place"]["providers"]) == ["ssh", "local"]
    assert run.spec["resources"]["gpu"][0]["name"] == "RTX4090"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.yaml"], "there is no nowhere.yaml; `gpujob init`"),
        (["job/train.yaml", "--provider", "asw"], "asw"),
        (["job/train.yaml", "--gpu", "RTX9999"], "RTX9999"),
        (["job/train.yaml", "-e", "EPOCHS"], "NAME=VALUE"),
        (["job/train.yaml", "-e", "=3"], "NAME=VALUE"),
        (["job/train.yaml", "--max-cost", "lots"], "max_cost"),
        (["job/train.yaml", "--detach", "--wait"], "choose one"),
    ],
)
def test_wrong_usage_is_code_2_and_creates_nothing(
    scene: Scene, gpujob: Command, spec: Path, arguments: list[str], words: str
) -> None:
    said = gpujob("submit", *arguments)
    assert (said.code, said.out) == (2, b"") and words in said.err
    assert scene.store().runs() == []


def test_every_mistake_of_the_file_has_its_line(gpujob: Command, spec: Path) -> None:
    spec.write_text("run: x\nimagee: none\nlimits:\n  max_cost: lots\n")
    said = gpujob("submit", spec)
    assert said.code == 2
    assert f"{spec}:2:1: imagee: " in said.err and f"{spec}:4:13: limits.max_cost: " in said.err


def test_a_secret_that_is_not_set(gpujob: Command, spec: Path) -> None:
    spec.write_text(json.dumps({**JOB, "secrets": ["HF_TOKEN"]}))
    said = gpujob("submit", spec)
    assert said.code == 2 and "HF_TOKEN" in said.err


def test_a_big_workdir_is_refused_where_nobody_can_be_asked(scene: Scene, gpujob: Command, spec: Path) -> None:
    with (spec.parent / "data.bin").open("wb") as sparse:
        sparse.truncate(3_000_000_000)
    said = gpujob("submit", spec, "-d")
    assert said.code == 2 and "3.0 GB" in said.err and "data.bin" in said.err and "--yes" in said.err
    assert scene.store().runs() == []


def attached(scene: Scene, spec: Path, *options: str, **end: object) -> int:
    """Submit and stay; in each pause the run goes one step further."""
    over = {"phase": Phase.DONE, "outcome": Outcome.SUCCEEDED, "artifacts_complete": True, **end}
    steps: list[Callable[[Run], object]] = [
        lambda run: scene.move(run, phase=Phase.BOOT, attempt=1),
        lambda run: scene.move(run, phase=Phase.WATCH),
        lambda run: scene.log(run.id, 1, b"epoch 1\r"),
        lambda run: scene.log(run.id, 1, b"\xff\x1b[0m"),
        lambda run: scene.move(run, **over, ended_at=scene.now),
    ]
    ahead = iter(steps)

    def pause(_seconds: float) -> None:
        [run] = scene.store().runs(active=True)
        next(ahead)(run)

    session = Session(scene.home, {}, ensure_running=scene.want_controller, sleep=pause)
    return main(["submit", str(spec), *options], session=session)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({}, 0),
        ({"outcome": Outcome.FAILED, "error": "the job ended with exit code 3"}, 1),
        ({"artifacts_complete": False}, 3),
        ({"outcome": Outcome.STOPPED_BY_BUDGET}, 12),
    ],
)
def test_attached_gives_the_jobs_bytes_the_story_and_the_code(
    scene: Scene, spec: Path, capfdbinary: pytest.CaptureFixture[bytes], end: dict[str, object], code: int
) -> None:
    assert attached(scene, spec, **end) == code
    out, err = capfdbinary.readouterr()
    assert out == b"epoch 1\r\xff\x1b[0m"
    talk = err.decode()
    assert [word for word in ("boot", "watch") if word in talk] == ["boot", "watch"]
    assert "vast 1x RTX4090  $0.36/h" in talk and str(end.get("error", "")) in talk


def test_attached_json_is_one_object(scene: Scene, spec: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert attached(scene, spec, "--json") == 0
    out, err = capfdbinary.readouterr()
    assert json.loads(out)["outcome"] == "succeeded"
    assert b"boot" in err


def test_wait_is_quiet_until_the_end(scene: Scene, spec: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert attached(scene, spec, "--wait", outcome=Outcome.FAILED) == 1
    out, err = capfdbinary.readouterr()
    assert out == b"" and b"boot" not in err and b"failed" in err


def test_ctrl_c_detaches_and_says_how_to_come_back(
    scene: Scene, spec: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    session = Session(scene.home, {}, ensure_running=scene.want_controller, sleep=interrupted)
    assert main(["submit", str(spec)], session=session) == 130
    [run] = scene.store().runs()
    talk = capfdbinary.readouterr().err.decode()
    assert f"gpujob logs -f {run.id}" in talk and f"gpujob cancel {run.id}" in talk
    assert run.cancel_requested_at is None
