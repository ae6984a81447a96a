"""The documentation says what the program does: help texts, exit codes, fields of --json, faults, permissions."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from jobs.machine import FileEntry
from jobs.metrics import series
from jobs.spec import Spec
from orchestrator.benchmarks.comparing import Measured, Pair
from orchestrator.budgets import account
from orchestrator.cli import bench_documents, documents
from orchestrator.cli.command import Command
from orchestrator.cli.exit_codes import MEANINGS
from orchestrator.cli.group import COMMANDS, gpujob
from orchestrator.cli.session import Session
from orchestrator.clouds import Checked
from orchestrator.placement import Ranked, Ranking
from orchestrator.price_series import Paid, Series, Step
from orchestrator.reaper import Found, Verdict
from orchestrator.records import FiringKind
from orchestrator.reports.price_chart import History
from orchestrator.store.rows import BudgetRow, CellRow, ChangeRow, FiringRow, ResultRow, ScheduleRow, SweepRow
from orchestrator.submission import Plan
from orchestrator.together import Together
from providers.base import Check, Instance, InstanceStatus, Offer
from providers.rehearsal.faults import ON_MACHINES, ON_THE_WIRE, Fault
from tests.orchestrator.scene import START, Scene

DOCS = Path(__file__).parents[1] / "docs"
TOP = click.Context(gpujob, info_name="gpujob")


def command(name: str) -> Command:
    found = gpujob.get_command(TOP, name)
    assert isinstance(found, Command)
    return found


def generator() -> ModuleType:
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current() -> None:
    assert (DOCS / "cli.md").read_text() == generator().reference(), "run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_examples_and_exit_codes(name: str) -> None:
    found = command(name)
    assert found.help and found.name == name
    assert found.get_short_help_str(200) == COMMANDS[name].help, "the list of commands says the same as the command"
    assert found.examples and all(f"gpujob {name}" in example for example in found.examples)
    assert {0, 2} <= set(found.exits) <= set(MEANINGS)
    assert all(option.help for option in found.params if isinstance(option, click.Option))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_only_use_options_that_exist(name: str) -> None:
    known = {word for parameter in command(name).params for word in (*parameter.opts, *parameter.secondary_opts)}
    for example in command(name).examples:
        for part in re.split(r"&&|\||\$\(", example):
            words = part.split(" -- ")[0].split()
            if words[:2] == ["gpujob", name]:
                assert {word for word in words if word.startswith("-")} <= known, example


def fields(section: str, part: int = 0) -> set[str]:
    """The fields in one table of a section of docs/json.md."""
    text = (DOCS / "json.md").read_text().split(f"## gpujob {section}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return set(re.findall(r"^\| `(\w+)` \|", tables[part], re.MULTILINE))


def test_every_field_of_json_is_documented(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    run = scene.run()
    scene.measured(run.id, "loss", [0.5])
    session = Session(scene.home, {})
    shown = documents.show_document(session, run)
    [charge] = session.store.charges()
    listed = documents.run_document(run, [], charge.amount_usd, now=START)
    ranked = Ranked(offer(), Decimal(1))
    plan = Plan(Spec(name="mnist", run="true"), Ranking((ranked,), {}), Decimal(1))
    assert set(listed) == fields("ps")
    assert set(shown) == fields("ps") | fields("show")
    assert set(shown["attempts"][0]) == fields("show", 1)
    assert set(documents.charge_document(charge)) == fields("cost")
    assert set(documents.offer_document(ranked, now=START)) == fields("prices")
    assert set(documents.plan_document(plan, now=START)) == fields("submit --dry-run")
    appeared = documents.appeared_document(ranked, now=START, under=Decimal(2))
    assert set(appeared) == fields("prices") | fields("prices --watch")
    checked = Checked(provider="local", simulated=False, check=Check())
    assert set(documents.check_document(checked)) == fields("check")
    found = Found(instance=instance(), verdict=Verdict.STRAY, why="")
    assert set(documents.found_document(found, "left")) == fields("reap")
    budget = BudgetRow(project="", monthly_usd=Decimal(1), set_at=START)
    assert set(documents.budget_document(account(budget, Decimal(0), [], START))) == fields("budget list")
    plan_of_times = schedule()
    assert set(documents.schedule_document(plan_of_times, Decimal(0), None)) == fields("schedule list")
    fired = FiringRow(schedule_id="s-1", planned_at=START, at=START, kind=FiringKind.FIRED)
    assert set(documents.firing_document(fired, Together())) == fields("schedule list", 1)
    assert set(documents.coming_document(START, START)) == fields("schedule next")
    assert set(documents.artifact_document(FileEntry("a", 1, 0, "x"))) == fields("artifacts")
    [point] = documents.metrics_document(series(scene.home.run(run.id).metrics))["loss"]
    assert set(point) == fields("metrics")
    session.close()


def test_every_field_of_a_benchmark_is_documented(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    run = scene.run()
    at: dict[str, Any] = {"suite": "s", "task": "t", "target": "cpu", "provider": "local", "sweep_id": "b-1"}
    at |= {"machine": "m", "gpu": None, "gpu_count": 0, "is_simulated": False, "unit": "s", "better": "lower"}
    at |= {"work": None, "is_main": True, "repeats": [1.0], "usd_per_hour": Decimal(0), "at": START, "testbed": {}}
    row = ResultRow(run_id=run.id, metric="m", value=1.0, **at)
    sweep = SweepRow(id="b-1", suite="s", file="f", host="h", created_at=START)
    cell = CellRow(sweep_id="b-1", number=0, run_id=run.id, task="t", target="cpu", gpu="cpu", provider="local")
    shown = bench_documents.sweep(sweep, [cell], Together((run,), {}, {run.id: Decimal(0)}), {run.id: [row]})
    assert set(shown) == fields("bench show")
    assert set(shown["runs"][0]) == fields("bench show", 1)
    [pair] = bench_documents.comparison([Pair("t", Measured(row, 1.0, Decimal(0)), Measured(row, 2.0, None))], ())[
        "measured"
    ]
    assert set(pair["first"]) - set(bench_documents.result(row)) == fields("bench compare")
    change = ChangeRow(
        run_id=run.id, metric="m", suite="s", series="k", noticed_by="r", noticed_at=START, before=1.0, after=2.0,
        p_value=0.1, is_worse=True, differs={},
    )  # fmt: skip
    assert set(bench_documents.change(change)) == fields("bench history")


def schedule() -> ScheduleRow:
    row: dict[str, Any] = {"id": "s-1", "name": "nightly", "host": "laptop", "file": "/x.yaml", "overrides": {}}
    row |= {"cron": "0 2 * * *", "tz": "UTC", "added_at": START, "planned_at": START, "due_at": START}
    return ScheduleRow(**row)


def test_every_field_of_a_price_history_is_documented() -> None:
    at, usd = START, Decimal("0.30")
    of: dict[str, Any] = {"provider": "vast", "spot": False, "is_simulated": False}
    one = Series(steps=(Step(at, usd),), **of)
    run = Paid(run_id="r-1", attempt=1, region="US", at=at, usd_per_hour=usd, **of)
    history = History(gpu="L4", gpu_count=1, since=START, until=START, series=[one], paid=[run])
    shown = documents.history_document(history)
    assert set(shown) == fields("prices --history")
    assert set(shown["series"][0]) == fields("prices --history", 1)
    assert set(shown["series"][0]["points"][0]) == {"at", "usd_per_hour"}
    assert set(shown["paid"][0]) == fields("prices --history", 2)


def instance() -> Instance:
    return Instance(
        id="1",
        name="gpujob-r-1-1-1",
        provider="vast",
        owner="ada",
        run_id="r-1",
        attempt=1,
        status=InstanceStatus.RUNNING,
        created_at=START,
    )


def offer() -> Offer:
    return Offer(
        provider="local",
        offer_id="local",
        region="",
        gpu=None,
        gpu_count=0,
        gpu_memory_gb=None,
        vcpus=2,
        memory_gb=8,
        disk_gb=None,
        spot=False,
        usd_per_hour=Decimal(0),
        fetched_at=START,
        source="test",
    )


def test_every_fault_is_explained_in_its_own_words() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "rehearsal.md").read_text(), re.MULTILINE))
    for kind, meaning in {**ON_THE_WIRE, **ON_MACHINES}.items():
        assert rows.get(kind) == meaning, kind
    assert {field.name for field in dataclasses.fields(Fault)} <= set(rows)


def test_the_policy_for_aws_allows_what_is_called_and_nothing_else() -> None:
    text = (DOCS / "clouds.md").read_text()
    [policy] = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    granted = [statement["Action"] for statement in json.loads(policy)["Statement"]]
    actions = [action for one in granted for action in ([one] if isinstance(one, str) else one)]
    # Tags at a launch need a permission of their own, the account's first spot machine a role; who one is needs none.
    needed = {*calls_to_aws(), "ec2:CreateTags", "iam:CreateServiceLinkedRole"} - {"sts:GetCallerIdentity"}
    assert sorted(actions) == sorted(needed)


def calls_to_aws() -> set[str]:
    """As IAM spells them: the service and the operation of every call in the provider's source."""
    service_at = {"call": 0, "pages": 0, "try_call": 1}
    found = {"ec2:RunInstances"}  # Aws.launch
    for path in (DOCS.parent / "providers/aws").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in service_at:
                at = service_at[node.func.attr]
                words = [ast.literal_eval(node.args[index]) for index in (at, at + 2)]
                found.add(f"{words[0].replace('-', '')}:{''.join(word.title() for word in words[1].split('_'))}")
    return found
