"""gpujob schedule, as a person types it: what is kept, what is said, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import schedules
from orchestrator.benchmarks import revision
from orchestrator.records import FiringKind, Outcome, Phase
from orchestrator.store.rows import FiringRow
from orchestrator.world import World
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene

YAML = "name: mnist\nimage: none\nrun: python train.py\nplace: {providers: [local]}\n"
NIGHTLY = ("schedule", "add", "job/train.yaml", "--cron", "0 2 * * *", "--tz", "Europe/Berlin")


@pytest.fixture(autouse=True)
def now(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command opens its own store, whose time has to be the scene's: 2026-11-21 09:30 UTC."""
    from orchestrator.store import store

    monkeypatch.setattr(store, "_utc_now", lambda: scene.now)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = YAML) -> Path:
        path = tmp_path / "job" / "train.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    write()
    return write


def fire(scene: Scene, at: str) -> None:
    """What a controller does, at a time."""
    scene.now = datetime.fromisoformat(at)
    store = scene.store()
    schedules.fire_due(World(store=store, home=scene.home, env={}, clock=lambda: scene.now))
    store.close()


def test_a_schedule_is_added_listed_shown_and_removed(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    added = gpujob(*NIGHTLY, "--monthly", "20", "--overlap", "queue", "--", "-e", "EPOCHS=3", "--provider", "local")
    assert (added.code, added.text) == (0, "mnist\n")
    assert "mnist: next at Sun 2026-11-22 02:00 CET, Mon 2026-11-23 02:00 CET" in added.err
    assert "`gpujob controller` on this computer. None runs now: docs/schedules.md" in added.err
    assert gpujob("schedule").text.splitlines()[1].split("  ")[:3] == ["mnist", "active", "0 2 * * * Europe/Berlin"]
    [listed] = gpujob("schedule", "list", "--json").json
    assert listed["overrides"] == {"env.EPOCHS": "3", "place.providers": ["local"]}
    assert (listed["planned_at"], listed["last"]) == ("2026-11-22T01:00:00Z", None)
    fire(scene, "2026-11-22T01:00:01+00:00")
    [run] = gpujob("ps", "--json").json
    fire(scene, "2026-11-23T01:00:01+00:00")
    shown = gpujob("schedule", "show", "mnist", "--json").json
    assert [(row["planned_at"], row["kind"], row["run_id"]) for row in shown["firings"]] == [
        ("2026-11-23T01:00:00Z", "waiting", None),
        ("2026-11-22T01:00:00Z", "fired", run["id"]),
    ]
    assert shown["state"] == "waiting" and shown["next"][0]["planned_at"] == "2026-11-24T01:00:00Z"
    mark = gpujob("show", run["id"], "--json").json["schedule"]
    assert mark == {"id": shown["id"], "name": "mnist", "planned_at": "2026-11-22T01:00:00Z"}
    assert "schedule   mnist, for 2026-11-22 01:00:00 UTC" in gpujob("show", run["id"]).text
    page = gpujob("schedule", "show", shown["id"])
    assert f"fired    {run['id']}  quote" in page.text and f"for the end of {run['id']}" in page.text
    assert "$0.00 of $20.00" in page.text and "No controller runs in this home" in page.err
    removed = gpujob("schedule", "remove", "mnist")
    assert (removed.code, removed.out) == (0, b"") and f"{run['id']} goes on" in removed.err
    assert removed.err.startswith("mnist is removed; its runs stay.\n")
    assert gpujob("schedule", "list", "--json").json == [] and not list((scene.home.root / "schedules").iterdir())
    assert "gpujob schedule add" in gpujob("schedule").err


SUITE = """\
name: night
image: none
tasks: {one: {run: ./one}, two: {run: ./two}}
targets: {cpu: {gpus: [cpu], providers: [local]}}
"""


def ended(scene: Scene, run_id: str, **changes: Any) -> None:
    """What a controller does at the end of a run that cost 60 cents."""
    store = scene.store()
    store.nudge(run_id)
    [lease] = [one for one in store.claim("scene", limit=9, lease_seconds=60) if one.run.id == run_id]
    run = replace(lease.run, **{"phase": Phase.DONE, "outcome": Outcome.SUCCEEDED, "ended_at": scene.now, **changes})
    store.save(lease, run, charges=[scene.charge(run, 1)], due_in=None)
    store.close()
    scene.now += timedelta(minutes=2)  # the leases of the others are over


def test_a_night_of_a_suite_shows_how_its_runs_ended_and_what_they_cost(
    scene: Scene, gpujob: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "of", lambda _: None)
    (tmp_path / "suite.yaml").write_text(SUITE)
    gpujob("schedule", "add", "suite.yaml", "--cron", "0 2 * * *")
    fire(scene, "2026-11-22T02:00:01+00:00")
    sweep = gpujob("schedule", "show", "night", "--json").json["firings"][0]["sweep_id"]
    one, two = (run["run_id"] for run in gpujob("bench", "show", sweep, "--json").json["runs"])
    ended(scene, one)
    assert f"fired   {sweep}  1 of 2 are over  $0.60" in gpujob("schedule", "show", "night").text
    ended(scene, two, outcome=Outcome.FAILED)
    assert f"fired   {sweep}  1 of 2 did not succeed  $1.20" in gpujob("schedule", "show", "night").text
    [firing] = gpujob("schedule", "show", "night", "--json").json["firings"]
    assert (firing["runs"], firing["over"], firing["did_not_succeed"], firing["cost_usd"]) == (2, 2, 1, "1.2")
    assert gpujob("schedule", "list", "--json").json[0]["last"] == firing
    (tmp_path / "suite.yaml").unlink()
    fire(scene, "2026-11-23T02:00:01+00:00")
    newest = gpujob("schedule", "show", "night", "--json").json["firings"][0]
    assert (newest["kind"], newest["runs"], newest["cost_usd"]) == ("failed", 0, None)


def test_a_time_that_failed_is_told_in_the_list(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY)
    job().unlink()
    fire(scene, "2026-11-22T01:00:01+00:00")
    assert "2026-11-22 01:00 UTC: failed there is no " in gpujob("schedule", "list").text
    assert gpujob("schedule", "list", "--json").json[0]["last"]["kind"] == "failed"


def test_a_time_that_nobody_fires_is_overdue(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY, "--jitter", "1h")
    due = datetime.fromisoformat(gpujob("schedule", "next", "mnist", "--json").json[0]["due_at"])
    overdue = "overdue since Sun 2026-11-22 02:00 CET"
    scene.now = due + timedelta(seconds=5)
    assert overdue not in gpujob("schedule").text, "a controller that is there looks every two seconds"
    scene.now = due + timedelta(seconds=11)
    assert overdue in gpujob("schedule").text and overdue in gpujob("schedule", "show", "mnist").text
    gpujob("schedule", "pause", "mnist")
    assert "overdue" not in gpujob("schedule").text


def test_who_is_told_is_kept_and_no_address_is_shown(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    told = ("--webhook", "https://ada:pw@hooks.example.org/ROOM/${HOOK_KEY}", "--apprise", "slack://${TOKENS}/#gpu")
    added = gpujob(*NIGHTLY, *told, "--command", "notify-send 'the night'", env={"HOOK_KEY": "hunter2"})
    assert added.code == 0 and "Without this shell HOOK_KEY, TOKENS cannot be found" in added.err
    [listed] = gpujob("schedule", "list", "--json").json
    assert (listed["webhook"], listed["apprise"]) == ("https://hooks.example.org/...", "slack://...")
    assert listed["command"] == ["notify-send", "the night"]
    page = gpujob("schedule", "show", "mnist")
    assert "tells      https://hooks.example.org/..., slack://..., notify-send 'the night'" in page.text
    assert "ROOM" not in page.text + page.err + str(listed) and "hunter2" not in added.err


def test_pause_and_resume(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY)
    assert gpujob("schedule", "pause", "mnist").code == 0
    fire(scene, "2026-11-22T01:00:01+00:00")
    assert gpujob("schedule", "list", "--json").json[0]["state"] == "paused" and gpujob("ps", "--json").json == []
    assert "paused" in gpujob("schedule", "next", "mnist").err
    assert "next at Mon 2026-11-23 02:00 CET" in gpujob("schedule", "resume", "mnist").err
    assert "next at Mon 2026-11-23 02:00 CET" in gpujob("schedule", "resume", "mnist").err, "twice is as good as once"
    fire(scene, "2026-11-23T01:00:01+00:00")
    assert len(gpujob("ps", "--json").json) == 1


def test_the_next_times(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    scene.now = datetime.fromisoformat("2027-03-27T12:00:00+00:00")
    gpujob("schedule", "add", "job", "--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--name", "n", "--jitter", "10m")
    lines = gpujob("schedule", "next", "n", "-n", "2").text.splitlines()
    assert lines[1].startswith("Sun 2027-03-28 03:00 CEST  2027-03-28 01:00  2027-03-28 01:0"), "02:30 does not exist"
    assert lines[2].startswith("Mon 2027-03-29 02:30 CEST  2027-03-29 00:30") and len(lines) == 3
    coming = gpujob("schedule", "next", "n", "--json").json
    assert len(coming) == 5 and all(row["planned_at"] <= row["due_at"] for row in coming)


def test_run_now_makes_a_run_at_once(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY)
    said = gpujob("schedule", "run-now", "mnist")
    assert said.code == 0 and scene.controllers_wanted == 1
    assert gpujob("show", said.text.strip(), "--json").json["schedule"]["name"] == "mnist"
    job("name: x\nrum: true\n")
    assert gpujob("schedule", "run-now", "mnist").code == 2


def test_run_now_keeps_to_the_budget(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY, "--monthly", "0.5")
    [row] = gpujob("schedule", "list", "--json").json
    store = scene.store()
    run = scene.run()  # for 60 cents
    mark = FiringRow(schedule_id=row["id"], planned_at=scene.now, at=scene.now, kind=FiringKind.FIRED, run_id="r-x")
    other = store.to_write([(replace(run, id="r-other", due_at=None), [])])
    store.timetable.fire_by_hand(replace(mark, run_id=run.id), other)
    store.close()
    assert gpujob("schedule", "list", "--json").json[0]["spent_usd"] == "0.6"
    said = gpujob("schedule", "run-now", "mnist")
    assert said.code == 12 and "$0.50 for 2026-11 are used up: $0.60 is spent" in said.err


def test_a_frozen_schedule_needs_no_file_any_more(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY, "--frozen")
    job().unlink()
    assert gpujob("schedule", "run-now", "mnist").code == 0
    assert "frozen when it was added" in gpujob("schedule", "show", "mnist").text


def test_secrets_that_only_this_shell_has_are_named(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    job(YAML + "secrets: [HF_TOKEN, OTHER_KEY]\n")
    (scene.home.root / "secrets.env").touch(mode=0o600)
    (scene.home.root / "secrets.env").write_text("OTHER_KEY=x\n")
    added = gpujob(*NIGHTLY, env={"HF_TOKEN": "hunter2"})
    assert added.code == 0 and "Without this shell HF_TOKEN cannot be found" in added.err
    assert "OTHER_KEY" not in added.err and "hunter2" not in added.err
    fire(scene, "2026-11-22T01:00:01+00:00")
    assert "HF_TOKEN not set" in gpujob("schedule", "list", "--json").json[0]["last"]["text"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "job"), "say when"),
        (("add",), "say which: gpujob schedule add FILE"),
        (("add", "nothing.yaml", "--cron", "0 2 * * *"), "there is no nothing.yaml"),
        (("add", "job", "--cron", "0 2 * *"), "write five fields"),
        (("add", "job", "--cron", "61 2 * * *"), "bad minute"),
        (("add", "job", "--cron", "0 0 30 2 *"), "bad day-of-month"),
        (("add", "job", "--cron", "0 2 * * *", "--tz", "Europe/Berln"), "did you mean Europe/Berlin"),
        (("add", "job", "--cron", "*/5 * * * *", "--jitter", "5m"), "300 s is not less than the 300 s between"),
        (("add", "job", "--cron", "0 2 * * *", "--jitter", "5"), "--jitter: "),
        (("add", "job", "--cron", "0 2 * * *", "--monthly", "0"), "--monthly: "),
        (("add", "job", "--cron", "0 2 * * *", "--name", "a b"), "--name 'a b'"),
        (
            ("add", "job", "--cron", "0 2 * * *", "--", "--detach"),
            "--detach is no option that `gpujob schedule add` takes",
        ),
        (("add", "job", "--cron", "0 2 * * *", "--", "--max-cost", "x"), "limits.max_cost"),
        (("add", "job", "--cron", "0 2 * * *", "--webhook", "hooks.example.org"), "--webhook: write an address"),
        (("add", "job", "--cron", "0 2 * * *", "--apprise", "nope://x"), "--apprise: "),
        (("add", "job", "--cron", "0 2 * * *", "--command", " "), "--command: write a program"),
        (("list", "--command", "true"), "--command belongs to `gpujob schedule add`"),
        (("show", "nigtly"), "did you mean nightly"),
        (("pause",), "say which: gpujob schedule pause NAME"),
        (("pause", "nightly", "--json"), "--json belongs to"),
        (("list", "--cron", "0 2 * * *"), "--cron belongs to `gpujob schedule add`"),
        (("run-now", "nightly", "--", "--provider", "local"), "belong to `gpujob schedule add`"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_kept(
    scene: Scene, gpujob: Command, job: Callable[..., Path], arguments: tuple[str, ...], words: str
) -> None:
    gpujob(*NIGHTLY, "--name", "nightly")
    said = gpujob("schedule", *arguments)
    assert said.code == 2 and words in said.err.replace("\n", " ")
    assert [row["name"] for row in gpujob("schedule", "list", "--json").json] == ["nightly"]
    assert len(list((scene.home.root / "schedules").iterdir())) == 1


def test_a_name_is_given_once(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    gpujob(*NIGHTLY)
    said = gpujob(*NIGHTLY)
    assert said.code == 2 and "there is a schedule 'mnist' already" in said.err
    assert len(list((scene.home.root / "schedules").iterdir())) == 1


def test_a_schedule_of_another_home_says_where_it_belongs(
    scene: Scene, gpujob: Command, job: Callable[..., Path]
) -> None:
    gpujob(*NIGHTLY)
    [folder] = (scene.home.root / "schedules").iterdir()
    folder.rename(scene.home.root / "elsewhere")
    said = gpujob("schedule", "run-now", "mnist")
    assert said.code == 2 and "in another home" in said.err
    scene.now += timedelta(days=1)
    fire(scene, scene.now.isoformat())
    assert gpujob("ps", "--json").json == []
