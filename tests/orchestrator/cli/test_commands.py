"""Commands on a home filled by hand: data on stdout, talk on stderr, the right exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.records import Outcome, Phase
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene


def test_ps_lists_runs_newest_first(scene: Scene, gpujob: Command) -> None:
    scene.run("r-aaaaaa", name="old")
    scene.run("r-bbbbbb", name="new", created_at=scene.now, outcome=Outcome.FAILED)
    said = gpujob("ps")
    rows = [line.split() for line in said.text.splitlines()]
    assert [row[0] for row in rows] == ["RUN", "r-bbbbbb", "r-aaaaaa"]
    assert rows[1][1:3] == ["new", "failed"] and "$0.60" in rows[2]
    assert (said.code, said.err) == (0, "")


def test_ps_json_is_a_list(scene: Scene, gpujob: Command) -> None:
    scene.run()
    [row] = gpujob("ps", "--json").json
    assert (row["id"], row["outcome"], row["cost_usd"], row["gpu"]) == ("r-7k2m9x", "succeeded", "0.6", "RTX4090")


def test_ps_can_be_limited(scene: Scene, gpujob: Command) -> None:
    for number in range(3):
        scene.run(f"r-{number}")
    scene.active(project="other")

    def ids(*options: object) -> set[str]:
        return {row["id"] for row in gpujob("ps", "--json", *options).json}

    assert len(ids("--limit", 2)) == 2 and len(ids("--all")) == 4
    assert ids("--active") == ids("--project", "other") == {"r-active"}


def test_ps_without_runs_says_how_to_begin(gpujob: Command) -> None:
    said = gpujob("ps")
    assert said.out == b"" and "gpujob init" in said.err
    assert gpujob("ps", "--json").json == []


def test_ps_says_when_nobody_advances_runs(scene: Scene, gpujob: Command) -> None:
    scene.active()
    assert "gpujob controller" in gpujob("ps").err
    scene.now = datetime.now(UTC)  # the command has a clock of its own
    scene.store().register_controller("c-1", "elsewhere", 1)
    assert gpujob("ps").err == ""


def test_show_json_has_what_the_docs_promise(scene: Scene, gpujob: Command) -> None:
    run = scene.run(attempt=2, outcome=Outcome.FAILED, exit_code=3, error="exit code 3")
    scene.measured(run.id, "loss", [1.0, 0.5])
    shown = gpujob("show", run.id, "--json").json
    assert {"id", "name", "phase", "outcome", "exit_code", "provider", "cost_usd", "attempts", "metrics"} <= set(shown)
    assert (shown["outcome"], shown["exit_code"], shown["cost_usd"]) == ("failed", 3, "1.2")
    assert [(row["number"], row["outcome"], row["cost_usd"]) for row in shown["attempts"]] == [
        (1, "preempted", "0.6"),
        (2, "failed", "0.6"),
    ]
    assert shown["attempts"][0]["offer"]["offer_id"] == "vast-1"
    assert shown["metrics"] == {"loss": 0.5}
    assert shown["created_at"] == "2026-11-21T08:30:00Z"


@pytest.mark.parametrize("text", ["r-7k2m9x", "r-7k", "mnist"])
def test_a_run_is_found_by_id_prefix_or_name(scene: Scene, gpujob: Command, text: str) -> None:
    scene.run()
    said = gpujob("show", text)
    assert said.code == 0 and "r-7k2m9x" in said.text


@pytest.mark.parametrize("command", ["show", "logs", "metrics", "artifacts", "cost", "cancel", "wait", "ssh"])
def test_an_unknown_run_names_those_that_come_near(scene: Scene, gpujob: Command, command: str) -> None:
    scene.run(name="mnist-large")
    said = gpujob(command, "mnist-lrage")
    assert (said.code, said.out) == (2, b"")
    assert said.err == "gpujob: there is no run 'mnist-lrage'. Did you mean mnist-large?\n"


def test_an_ambiguous_prefix_asks_for_more(scene: Scene, gpujob: Command) -> None:
    scene.run("r-aaaaaa", name="x")
    scene.run("r-aaaabb", name="y")
    said = gpujob("show", "r-aaaa")
    assert said.code == 2 and "r-aaaaaa" in said.err and "r-aaaabb" in said.err


def test_logs_are_the_jobs_bytes_and_nothing_else(scene: Scene, gpujob: Command) -> None:
    run = scene.run(attempt=2)
    scene.log(run.id, 1, b"first\r\n\x1b[31m\xff\x00")
    scene.log(run.id, 2, b"no line end")
    said = gpujob("logs", run.id)
    assert said.out == b"first\r\n\x1b[31m\xff\x00no line end"
    assert "attempt 1" in said.err and "attempt 2" in said.err
    assert gpujob("logs", run.id, "--attempt", 2).out == b"no line end"
    assert gpujob("logs", "-f", run.id).out == said.out


def test_logs_of_a_single_attempt_come_without_talk(scene: Scene, gpujob: Command) -> None:
    run = scene.run()
    scene.log(run.id, 1, b"x" * 1_000_000)
    said = gpujob("logs", run.id)
    assert said.out == b"x" * 1_000_000 and said.err == ""


def test_logs_that_are_not_there_say_why(scene: Scene, gpujob: Command) -> None:
    scene.run("r-over", outcome=Outcome.NO_CAPACITY, attempt=0, error="nothing fits")
    scene.active(phase=Phase.BOOT)
    assert "nothing fits" in gpujob("logs", "r-over").err
    assert "boot" in gpujob("logs", "r-active").err
    said = gpujob("logs", "r-active", "--attempt", 5)
    assert said.code == 2 and "1 attempt" in said.err


def test_metrics_as_numbers_json_and_curves(scene: Scene, gpujob: Command) -> None:
    run = scene.run()
    scene.measured(run.id, "loss", [3.0, 1.0, 2.0])
    scene.measured(run.id, "accuracy", [0.1, 0.9])
    assert gpujob("metrics", run.id).text.splitlines()[1].split() == ["loss", "2", "1", "3", "3", "2"]
    assert [point["value"] for point in gpujob("metrics", run.id, "--json").json["loss"]] == [3.0, 1.0, 2.0]
    assert list(gpujob("metrics", run.id, "accuracy", "--json").json) == ["accuracy"]
    assert "loss, by step" in gpujob("metrics", run.id, "loss", "--plot").text
    wrong = gpujob("metrics", run.id, "los")
    assert wrong.code == 2 and "loss, accuracy" in wrong.err


def test_cost_lists_the_ledger_and_sums_it(scene: Scene, gpujob: Command) -> None:
    scene.run("r-aaaaaa", attempt=2)
    scene.run("r-bbbbbb", project="other")
    assert [row["amount_usd"] for row in gpujob("cost", "--json").json] == ["0.6"] * 3
    assert "$1.80" in gpujob("cost").text
    assert "$0.60" in gpujob("cost", "r-bbbbbb").text
    assert gpujob("cost", "--by", "project", "--json").json == [
        {"project": "digits", "amount_usd": "1.2"},
        {"project": "other", "amount_usd": "0.6"},
    ]
    assert gpujob("cost", "--by", "attempt", "--json").json[1] == {
        "run_id": "r-aaaaaa",
        "attempt": 2,
        "amount_usd": "0.6",
    }
    assert gpujob("cost", "--by", "month").text.splitlines()[1].split() == ["2026-11", "$1.80"]


def test_cost_of_nothing(gpujob: Command) -> None:
    assert gpujob("cost").out == b"" and gpujob("cost", "--json").json == []


def test_cancel_asks_once_and_is_idempotent(scene: Scene, gpujob: Command) -> None:
    scene.active()
    scene.run("r-over")
    said = gpujob("cancel", "r-active", "r-over")
    assert (said.code, said.out) == (0, b"")
    assert "asked to stop" in said.err and "over already: succeeded" in said.err
    assert scene.store().run("r-active").cancel_requested_at is not None
    assert scene.controllers_wanted == 1
    again = gpujob("cancel", "r-active")
    assert again.code == 0 and "asked before" in again.err


def test_cancel_of_what_is_over_starts_nothing(scene: Scene, gpujob: Command) -> None:
    scene.run()
    gpujob("cancel", "r-7k2m9x")
    assert scene.controllers_wanted == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"outcome": Outcome.FAILED, "error": "exit code 3"}, 1),
        ({"artifacts_complete": False}, 3),
        ({"outcome": Outcome.NO_CAPACITY}, 10),
        ({"outcome": Outcome.STOPPED_BY_BUDGET}, 12),
        ({"phase": Phase.TEARDOWN, "outcome": None, "possibly_billing": True}, 13),
    ],
)
def test_wait_ends_with_the_runs_code(scene: Scene, gpujob: Command, changes: dict[str, Any], code: int) -> None:
    run = scene.run(**changes)
    said = gpujob("wait", run.id)
    assert (said.code, said.out) == (code, b"")
    assert run.id in said.err


def test_wait_for_several_ends_with_the_first_that_did_not_succeed(scene: Scene, gpujob: Command) -> None:
    scene.run("r-good")
    scene.run("r-bad", outcome=Outcome.TIMED_OUT)
    assert gpujob("wait", "r-good", "r-bad").code == 12
    assert gpujob("wait", "r-good").code == 0


@pytest.mark.parametrize(("phase", "why"), [(Phase.BOOT, "no machine to reach yet"), (Phase.DONE, "is over")])
def test_ssh_and_exec_say_why_there_is_no_machine(scene: Scene, gpujob: Command, phase: Phase, why: str) -> None:
    run = scene.run(phase=phase)
    for arguments in (("ssh", run.id), ("exec", run.id, "--", "ls")):
        said = gpujob(*arguments)
        assert said.code == 1 and why in said.err


def test_schema_is_json_schema(gpujob: Command) -> None:
    schema = gpujob("schema").json
    assert schema["$schema"].startswith("https://json-schema.org/") and "run" in schema["properties"]


@pytest.mark.process  # click asks bash for its version
@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete ")])
def test_completion_code_is_on_stdout_alone(gpujob: Command, shell: str, words: str) -> None:
    said = gpujob("completion", shell)
    assert said.code == 0 and words in said.text and "_GPUJOB_COMPLETE" in said.text and said.err == ""


def test_runs_and_commands_are_completed(
    scene: Scene, gpujob: Command, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    scene.run()
    monkeypatch.setenv("_GPUJOB_COMPLETE", "bash_complete")
    for words, position, wanted in (
        ("gpujob show r-7", "2", "plain,r-7k2m9x"),
        ("gpujob show mn", "2", "plain,mnist"),
        ("gpujob ca", "1", "plain,cancel"),
        ("gpujob submit --provider lo", "3", "plain,local"),
        ("gpujob prices --gpu h200-", "3", "plain,H200-NVL"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", position)
        with pytest.raises(SystemExit):
            gpujob()
        assert capfdbinary.readouterr().out.decode().split() == [wanted]


def test_json_is_never_mixed_with_talk(scene: Scene, gpujob: Command) -> None:
    scene.active()
    for arguments in (["ps"], ["show", "r-active"], ["metrics", "r-active"], ["artifacts", "r-active"], ["cost"]):
        said = gpujob(*arguments, "--json")
        json.loads(said.out)
        assert said.err == ""
