"""What of a suite is refused before anything is written, and the line that a person reads then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.benchmarks import revision
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene

SUITE = """\
name: night
image: none
tasks:
  mnist: {run: python3 mnist.py}
  gpt: {run: python3 gpt.py}
caps: {cost: 4}
"""

Write = Callable[[str], object]


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(revision, "of", lambda _: "1a2b3c4d5e6f")
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE)
    return file.write_text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--gpu", "RTX4090"), "--gpu cannot change a suite"),
        (("--provider", "vast"), "--provider cannot change a suite"),
        (("--gpu", "L4", "--provider", "vast", "--image", "none"), "--gpu and --provider cannot change a suite"),
    ],
)
def test_no_option_puts_other_machines_under_a_targets_name(
    scene: Scene, gpujob: Command, suite: Write, options: tuple[str, ...], named: str
) -> None:
    for words in (("bench", "run", "-d"), ("schedule", "add", "suite.yaml", "--cron", "0 2 * * *")):
        said = gpujob(*words, "--", *options)
        assert said.code == 2 and named in said.err and "--only TARGET" in said.err
    assert scene.store().runs() == [] and scene.store().benchmarks.sweeps() == []
    assert scene.store().timetable.schedules() == [] and scene.controllers_wanted == 0


def test_other_options_change_every_run_of_a_suite(scene: Scene, gpujob: Command, suite: Write) -> None:
    options = ("--image", "some/image:1", "--max-cost", "1", "-e", "EPOCHS=2")
    assert gpujob("bench", "run", "-d", "--", *options).code == 0
    specs = [run.spec for run in scene.store().runs()]
    assert [(spec["image"], spec["limits"]["max_cost"]) for spec in specs] == [("some/image:1", "1")] * 2


@pytest.mark.parametrize(
    ("text", "line", "write"),
    [
        ("tasks: {a: {run: echo}\n", "suite.yaml:2:1: not YAML: ", ""),
        ("", "suite.yaml: is empty; write at least ", "`tasks: "),
        ("- a\n", "suite.yaml:1:1: found a list instead of keys; begin with a key, such as ", "`tasks: "),
    ],
)
def test_what_cannot_be_read_is_said_as_of_a_job(
    tmp_path: Path, gpujob: Command, suite: Write, text: str, line: str, write: str
) -> None:
    suite(text)
    said = gpujob("bench", "run")
    assert said.code == 2 and said.err.startswith(line + write), said.err
    scheduled = gpujob("schedule", "add", "suite.yaml", "--cron", "0 2 * * *")
    assert scheduled.code == 2 and scheduled.err.removeprefix(f"{tmp_path}/").startswith(line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--dry-run",),
            "gpujob: --dry-run is no option that `gpujob bench run` takes after `--`; it takes those that",
        ),
        (
            ("-d",),
            "gpujob: -d is no option that `gpujob bench run` takes after `--`; it takes those that change a job",
        ),
        (("--help",), "gpujob: --help is no option that `gpujob bench run` takes after `--`; it takes those that"),
        (
            ("--imag", "x"),
            "gpujob: --imag is no option that `gpujob bench run` takes after `--`; did you mean `--image`",
        ),
        (("--image",), "gpujob: after `--`: Option '--image' requires an argument"),
        (("mnist",), "gpujob: after `--`: Got unexpected extra argument (mnist)"),
    ],
)
def test_what_stands_after_two_hyphens_and_is_no_option_of_a_job(
    scene: Scene, gpujob: Command, suite: Write, options: tuple[str, ...], line: str
) -> None:
    said = gpujob("bench", "run", "suite.yaml", "--", *options)
    assert said.code == 2 and said.err.startswith(line) and len(said.err.splitlines()) == 1, said.err
    assert scene.store().runs() == []


@pytest.mark.parametrize("words", [("submit", "suite.yaml"), ("prices", "--for", "suite.yaml")])
def test_a_suite_is_no_job_and_the_command_that_takes_it_is_named(
    scene: Scene, gpujob: Command, suite: Write, words: tuple[str, ...]
) -> None:
    said = gpujob(*words)
    assert (said.code, said.err) == (
        2,
        "gpujob: suite.yaml is a suite, not a job: `gpujob bench run suite.yaml` takes it\n",
    )
    assert scene.store().runs() == []


def test_a_suite_is_rehearsed_in_another_way(gpujob: Command, suite: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("no cloud is started for it")

    monkeypatch.setattr("orchestrator.rehearsal.simulated_clouds", started)
    said = gpujob("rehearse", "suite.yaml")
    assert said.code == 2 and len(said.err.splitlines()) == 1
    assert "`gpujob bench run suite.yaml` with their environment: docs/rehearsal.md" in said.err
    suite("tasks: {a: {run: echo}\n")
    assert gpujob("rehearse", "suite.yaml").err.startswith("suite.yaml:2:1: not YAML: ")
