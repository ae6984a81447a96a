"""gpujob budget, and what submit says about budgets: code 12 when a month is used up, nothing made."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import providers
from orchestrator.records import Phase
from providers.base import Provider, Settings
from tests.fakes.memory_provider import MemoryProvider, offer
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import START, Scene


def paid(settings: Settings) -> Provider:
    return MemoryProvider(settings.now, name="paid", offers=[offer("one", usd_per_hour="0.30", provider="paid")])


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        providers, "_REGISTER", {"paid": f"{__name__}:paid", "local": "providers.local.provider:LocalProvider"}
    )


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: object) -> Path:
        path = tmp_path / "train.yaml"
        spec = {"name": "x", "run": "true", "image": "none", "project": "digits", "place": {"providers": ["paid"]}}
        path.write_text(json.dumps({**spec, **changes}))
        return path

    return write


@pytest.fixture(autouse=True)
def now(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command opens its own store, whose month has to be the scene's."""
    from orchestrator.store import store

    monkeypatch.setattr(store, "_utc_now", lambda: scene.now)


def test_a_budget_is_set_listed_and_removed(scene: Scene, gpujob: Command) -> None:
    scene.run()  # 60 cents on digits
    assert gpujob("budget", "set", "--monthly", "50", "--soft", "40").code == 0
    said = gpujob("budget", "set", "--project", "digits", "--monthly", "2")
    assert said.code == 0 and said.text.splitlines()[1].split()[:3] == ["digits", "2026-11", "$0.60"]
    both = gpujob("budget").text.splitlines()
    assert "MONTH (UTC)" in both[0] and both[1].startswith("all runs") and "$49.40" in both[1]
    assert both[2].split() == ["digits", "2026-11", "$0.60", "$0.60", "$2.00", "$1.40"]
    assert [row["project"] for row in gpujob("budget", "list", "--json").json] == [None, "digits"]
    assert gpujob("budget", "remove").code == 0 and gpujob("budget", "remove", "--project", "digits").code == 0
    assert gpujob("budget", "list", "--json").json == []
    assert "gpujob budget set" in gpujob("budget").err


def test_what_is_left_counts_what_live_machines_have_run_up(scene: Scene, gpujob: Command) -> None:
    """A dollar an hour since half an hour, nothing booked yet but 60 cents of a run that is over."""
    scene.run()
    meter: dict[str, Any] = {
        "name": "compute",
        "unit": "hour",
        "usd_per_unit": "1",
        "units_per_hour": "1",
        "runs": "exists",
    }
    meter |= {"granularity_seconds": 1, "minimum_seconds": 0, "source": "x"}
    run = scene.active("r-live", notes_of_attempt={"deadline": "2026-11-21T11:00:00+00:00"})
    store = scene.store()
    [attempt] = store.attempts(run.id)
    attempt.meters, attempt.billing_from = [meter], START.replace(hour=9, minute=0)
    with store._database.transaction() as connection:
        connection.execute(store._sql.save_attempts, [attempt.__dict__])
    store.close()
    gpujob("budget", "set", "--monthly", "10")
    [row] = gpujob("budget", "--json").json
    assert (row["spent_usd"], row["worst_usd"], row["left_usd"], row["live_machines"]) == ("1.7", "3.2", "8.3", 1)
    assert run.phase is Phase.WATCH


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set"], "--monthly USD"),
        (["set", "--monthly", "lots"], "write dollars"),
        (["set", "--monthly", "-3"], "write dollars"),
        (["set", "--monthly", "nan"], "write dollars"),
        (["set", "--monthly", "3", "--soft", "4"], "nobody would be warned"),
        (["set", "--monthly", "3", "--webhook", "file:///etc/passwd"], "https://"),
        (["set", "--monthly", "3", "--apprise", "nope://x"], "apprise cannot send to this nope:// address"),
        (["set", "--monthly", "3", "--command", ""], "program"),
        (["list", "--monthly", "3"], "belongs to `gpujob budget set`"),
        (["remove", "--json"], "--json belongs to"),
        (["remove", "--project", "speech"], "there is no budget of project 'speech'"),
        (["drop"], "drop"),
    ],
)
def test_wrong_usage_is_code_2(gpujob: Command, arguments: list[str], words: str) -> None:
    said = gpujob("budget", *arguments)
    assert (said.code, said.out) == (2, b"") and words in said.err
    assert gpujob("budget", "--json").json == []


def test_a_secret_address_is_not_shown(gpujob: Command) -> None:
    said = gpujob("budget", "set", "--monthly", "3", "--webhook", "https://hooks.example.org/T0/hunter2")
    shown = [said.text, said.err, gpujob("budget").text, gpujob("budget", "--json").text]
    assert not any("hunter2" in text for text in shown)
    assert gpujob("budget", "--json").json[0]["webhook"] == "https://hooks.example.org/..."


def test_without_apprise_nothing_is_stored_that_needs_it(gpujob: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    said = gpujob("budget", "set", "--monthly", "3", "--apprise", "slack://T0/B0/hunter2")
    assert said.code == 2 and "install gpujob with its extra `apprise`" in said.err and "hunter2" not in said.err
    assert gpujob("budget", "--json").json == []


def test_of_an_address_of_apprises_the_service_is_shown(gpujob: Command) -> None:
    said = gpujob("budget", "set", "--monthly", "3", "--apprise", "slack://${TOKENS}/#hunter2")
    assert said.code == 0 and "hunter2" not in said.text + said.err
    assert gpujob("budget", "--json").json[0]["apprise"] == "slack://..."


def test_a_project_without_runs_may_be_a_slip(gpujob: Command) -> None:
    assert "No run is booked on project 'digist' yet" in gpujob("budget", "set", "--project=digist", "--monthly=3").err


@pytest.mark.parametrize("options", [["--detach"], ["--dry-run"], ["--dry-run", "--json"]])
def test_a_month_that_is_used_up_is_code_12_and_makes_nothing(
    scene: Scene, gpujob: Command, job: Callable[..., Path], options: list[str]
) -> None:
    scene.run()
    gpujob("budget", "set", "--project", "digits", "--monthly", "0.60")
    said = gpujob("submit", job(), *options)
    assert (said.code, said.out) == (12, b"")
    assert "the budget of project digits for 2026-11 ($0.60) is used up: $0.60 is spent, $0.00 is left" in said.err
    assert "gpujob budget set --project digits --monthly USD" in said.err
    assert [run.id for run in scene.store().runs()] == ["r-7k2m9x"]
    assert gpujob("submit", job(project="speech"), *options).code == 0
    gpujob("budget", "set", "--project", "digits", "--monthly", "5")
    assert gpujob("submit", job(), *options).code == 0


def test_less_than_max_cost_is_said_and_accepted(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    scene.run()
    gpujob("budget", "set", "--monthly", "2")
    said = gpujob("submit", job(), "-d")
    assert said.code == 0
    assert "$1.40 is left of the budget of all runs for 2026-11 ($2.00), less than limits.max_cost ($10.00)" in said.err
    assert "is left" not in gpujob("submit", job(), "-d", "--max-cost", "1").err


def test_a_new_month_is_a_new_budget(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    scene.run()
    gpujob("budget", "set", "--monthly", "0.60")
    assert gpujob("submit", job(), "-d").code == 12
    scene.now = scene.now.replace(month=12, day=1)
    assert gpujob("budget", "--json").json[0]["spent_usd"] == "0"
    assert gpujob("submit", job(), "-d").code == 0


def test_what_costs_nothing_is_never_refused(scene: Scene, gpujob: Command, job: Callable[..., Path]) -> None:
    scene.run()
    gpujob("budget", "set", "--monthly", "0.60")
    assert gpujob("submit", job(place={"providers": ["local"]}), "-d").code == 0
