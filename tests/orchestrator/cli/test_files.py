"""gpujob init and artifacts: files come whole, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.init import templates
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene


def test_init_lists_the_templates(gpujob: Command) -> None:
    said = gpujob("init")
    assert said.code == 0 and "mnist" in [line.split()[0] for line in said.text.splitlines()]


@pytest.mark.parametrize("name", sorted(templates()))
def test_init_copies_a_template(scene: Scene, gpujob: Command, tmp_path: Path, name: str) -> None:
    said = gpujob("init", name, "mine")
    assert said.code == 0 and "gpujob submit mine/train.yaml" in said.err
    assert "mine/train.yaml" in said.text.splitlines()
    assert (tmp_path / "mine/train.yaml").read_text() == (templates()[name] / "train.yaml").read_text()
    assert not list((tmp_path / "mine").rglob("__pycache__"))


def test_init_never_overwrites(gpujob: Command, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/train.yaml").write_text("mine")
    said = gpujob("init", "mnist")
    assert said.code == 2 and "mnist/train.yaml exists already" in said.err
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == ["train.yaml"]
    assert (tmp_path / "mnist/train.yaml").read_text() == "mine"


def test_init_of_an_unknown_template(gpujob: Command) -> None:
    said = gpujob("init", "mnits")
    assert said.code == 2 and "mnist" in said.err


FILES = {
    "outputs/model.bin": b"weights" * 1000,
    "outputs/deep/er/log.txt": b"",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}": b"x",
}


def test_artifacts_are_listed(scene: Scene, gpujob: Command) -> None:
    scene.run()
    scene.bring_back("r-7k2m9x", FILES)
    said = gpujob("artifacts", "mnist")
    assert said.code == 0 and all(name in said.text for name in FILES) and "3 files" in said.text
    listed = gpujob("artifacts", "mnist", "--json").json
    assert [(row["path"], row["bytes"]) for row in listed] == sorted((name, len(data)) for name, data in FILES.items())


def test_artifacts_are_copied_whole(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    scene.run()
    scene.bring_back("r-7k2m9x", FILES)
    assert gpujob("artifacts", "mnist", "--pull", "here").code == 0
    copied = {
        str(path.relative_to(tmp_path / "here")): path for path in (tmp_path / "here").rglob("*") if path.is_file()
    }
    assert {name: path.read_bytes() for name, path in copied.items()} == FILES


def test_an_artifact_that_is_damaged_here_is_not_copied(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    scene.run()
    scene.bring_back("r-7k2m9x", FILES)
    (scene.home.run("r-7k2m9x").artifacts / "outputs/model.bin").write_bytes(b"weights" * 999 + b"broken!")
    (scene.home.run("r-7k2m9x").artifacts / "outputs/deep/er/log.txt").unlink()
    said = gpujob("artifacts", "mnist", "--pull", "here")
    assert said.code == 3
    assert "outputs/model.bin: " in said.err and "outputs/deep/er/log.txt: " in said.err
    assert [path.name for path in (tmp_path / "here").rglob("*") if path.is_file()] == [
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    ]


def test_incomplete_artifacts_are_code_3(scene: Scene, gpujob: Command) -> None:
    scene.run(artifacts_complete=False)
    said = gpujob("artifacts", "mnist")
    assert said.code == 3 and "--events" in said.err


def test_a_run_without_artifacts(scene: Scene, gpujob: Command) -> None:
    scene.active()
    said = gpujob("artifacts", "r-active")
    assert (said.code, said.out) == (0, b"") and "nothing back yet" in said.err
