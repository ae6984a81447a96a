"""gpujob cost, as a person and a program see it."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.records import AttemptOutcome, Outcome
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import START, Scene

WORKED = {  # of the 100 minutes that the scene's charge is for
    "running_from": START + timedelta(minutes=5),
    "started_at": START + timedelta(minutes=10),
    "exited_at": START + timedelta(minutes=90),
    "gone_at": START + timedelta(minutes=100),
}


def test_by_several_ways(scene: Scene, gpujob: Command) -> None:
    scene.run("r-aaaaaa", created_at=START - timedelta(days=30))
    scene.run("r-bbbbbb", project="other", spec={"name": "mnist"})
    assert gpujob("cost", "--by", "project", "--by", "month", "--json").json == [
        {"project": "digits", "month": "2026-10", "amount_usd": "0.6"},
        {"project": "other", "month": "2026-11", "amount_usd": "0.6"},
    ]
    lines = gpujob("cost", "--by", "project", "--by", "month").text.splitlines()
    assert [line.split() for line in lines] == [
        ["PROJECT", "MONTH", "COST"],
        ["digits", "2026-10", "$0.60"],
        ["other", "2026-11", "$0.60"],
        ["total", "$1.20"],
    ]
    assert gpujob("cost", "--by", "run", "--by", "attempt", "--json").json[0] == {
        "run_id": "r-aaaaaa",
        "attempt": 1,
        "amount_usd": "0.6",
    }
    by_label = gpujob("cost", "--by", "label:team", "--by", "gpu", "--json").json
    assert by_label == [
        {"labels": {"team": "a"}, "gpu": "RTX4090", "amount_usd": "0.6"},
        {"labels": {"team": None}, "gpu": "RTX4090", "amount_usd": "0.6"},
    ]
    table = csv.reader(io.StringIO(gpujob("cost", "--by", "label:team", "--csv").text))
    assert [*table] == [["label:team", "amount_usd"], ["a", "0.6"], ["", "0.6"]]


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_filters(scene: Scene, gpujob: Command, form: str) -> None:
    scene.run("r-aaaaaa", created_at=START - timedelta(days=30))
    scene.run("r-bbbbbb", project="other", spec={"name": "mnist", "labels": {"team": "b"}})

    def runs(*filters: str) -> set[str]:
        said = {one: gpujob("cost", form, *one, *filters).text for one in ((), ("--by", "run"), ("--by", "use"))}
        found = {run for run in ("r-aaaaaa", "r-bbbbbb") if run in said[()]}
        assert found == {run for run in ("r-aaaaaa", "r-bbbbbb") if run in said["--by", "run"]}
        assert ("boot" in said["--by", "use"]) == bool(found)
        return found

    assert runs() == {"r-aaaaaa", "r-bbbbbb"}
    assert runs("--since", "2026-11") == runs("--since", "2026-10-22T08:30:01") == {"r-bbbbbb"}
    assert runs("--since", "2026-10-22T10:30:00+02:00") == {"r-aaaaaa", "r-bbbbbb"}
    assert runs("--until", "2026-11-01") == runs("--project", "digits") == runs("--label", "team=a") == {"r-aaaaaa"}
    assert runs("--provider", "vast", "--label", "team=b") == {"r-bbbbbb"}
    assert runs("--provider", "aws") == runs("--since", "2027-01") == set()


def test_what_was_for_nothing(scene: Scene, gpujob: Command) -> None:
    lost = {**WORKED, "outcome": AttemptOutcome.PREEMPTED}
    scene.run("r-aaaaaa", attempt=2, of_attempts={1: lost, 2: WORKED})
    scene.run("r-strays", outcome=Outcome.REAPED)
    assert gpujob("cost", "--by", "use", "--json").json == [
        {"use": "boot", "amount_usd": "0.06"},
        {"use": "setup", "amount_usd": "0.06"},
        {"use": "lost", "amount_usd": "0.48"},
        {"use": "after", "amount_usd": "0.12"},
        {"use": "work", "amount_usd": "0.48"},
        {"use": "reaped", "amount_usd": "0.6"},
    ]
    last = gpujob("cost").text.splitlines()[-1]
    assert last == (
        "of it for nothing: $1.32 (boot $0.12, failed attempts $0.48, after the job $0.12, machines of no run $0.60)"
    )
    assert gpujob("cost", "r-strays", "--by", "use", "--by", "run", "--json").json == [
        {"use": "reaped", "run_id": "r-strays", "amount_usd": "0.6"}
    ]


def test_what_one_of_something_costs(scene: Scene, gpujob: Command) -> None:
    scene.run("r-aaaaaa")
    scene.measured("r-aaaaaa", "samples", [1000.0, 3000.0])
    scene.run("r-bbbbbb")
    scene.measured("r-bbbbbb", "samples", [1000.0])
    scene.run("r-without")
    said = gpujob("cost", "--per", "samples", "--json")
    assert said.json == [
        {"run_id": "r-aaaaaa", "amount_usd": "0.6", "metric": "samples", "value": 3000.0, "usd_per": "0.0002"},
        {"run_id": "r-bbbbbb", "amount_usd": "0.6", "metric": "samples", "value": 1000.0, "usd_per": "0.0006"},
    ]
    assert "r-without" in said.err
    [both] = gpujob("cost", "--per", "samples", "--by", "project", "--json").json
    assert both == {"project": "digits", "amount_usd": "1.2", "metric": "samples", "value": 4000.0, "usd_per": "0.0003"}
    lines = gpujob("cost", "r-aaaaaa", "--per", "samples").text.splitlines()
    assert [line.split() for line in lines] == [
        ["RUN", "COST", "SAMPLES", "PER", "SAMPLES"],
        ["r-aaaaaa", "$0.60", "3,000", "$0.0002000"],
    ]
    assert gpujob("cost", "r-aaaaaa", "--per", "step", "--json").json[0]["value"] == 1


def test_focus_rows_of_what_was_asked_for(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    scene.run("r-aaaaaa")
    scene.run("r-bbbbbb", project="other")
    target = tmp_path / "costs.csv"
    said = gpujob("cost", "--focus", target, "--project", "other", "--account", "vast=me")
    assert said.out == b"" and "1 row in" in said.err
    [row] = csv.DictReader(io.StringIO(target.read_text()))
    assert (row["x_RunId"], row["BilledCost"], row["BillingAccountId"]) == ("r-bbbbbb", "0.6", "me")
    rows = [*csv.DictReader(io.StringIO(gpujob("cost", "--focus", "-").text))]
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("1.2")
    assert [*tmp_path.glob(".*.new")] == []


def test_an_export_that_fails_leaves_the_old_one(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    scene.run()
    (tmp_path / "costs.parquet").write_text("old")
    missing = gpujob("cost", "--focus", tmp_path / "nowhere" / "costs.csv")
    assert missing.code == 2 and "was not written" in missing.err
    said = gpujob("cost", "--focus", tmp_path / "costs.parquet", "--since", "2027-01")
    assert said.code in (0, 2)
    if said.code == 2:
        assert "extra `focus`" in said.err and (tmp_path / "costs.parquet").read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "colour"], "label:NAME"),
        (["--by", "label:"], "label:NAME"),
        (["--since", "yesterday"], "2026-11-21"),
        (["--label", "team"], "NAME=VALUE"),
        (["--csv", "--json"], "choose one"),
        (["--focus", "costs.xlsx"], ".parquet"),
        (["--focus", "costs.csv", "--by", "run"], "filters"),
        (["--account", "aws=1"], "--focus"),
        (["--per", "samples", "--by", "use"], "whole runs"),
    ],
)
def test_what_makes_no_sense_is_said(scene: Scene, gpujob: Command, arguments: list[str], said: str) -> None:
    wrong = gpujob("cost", *arguments)
    assert wrong.code == 2 and said in wrong.err and wrong.out == b""


def test_a_row_that_makes_no_sense_is_no_sum(scene: Scene, gpujob: Command) -> None:
    scene.run()
    with closing(sqlite3.connect(scene.home.root / "store.db")) as connection, connection:
        columns = [column for _, column, *_ in connection.execute("PRAGMA table_info(charges)") if column != "id"]
        named = ", ".join(f'"{column}"' for column in columns)
        broken = named.replace('"amount_usd"', "'12 dollars'")
        connection.execute(f"INSERT INTO charges ({named}) SELECT {broken} FROM charges")
    wrong = gpujob("cost", "--by", "month")
    assert wrong.code != 0 and "makes no sense" in wrong.err
