"""The recipes in the docs that other programs read: units of systemd, and a workflow for CI."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from orchestrator.cli.group import gpujob

DOCS = Path(__file__).parents[1] / "docs"
TOP = click.Context(gpujob, info_name="gpujob")
PAGES = ["schedules.md", "postgresql.md"]


def block(page: str, kind: str) -> str:
    [found] = re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def accepted(command: str) -> None:
    program, name, *words = shlex.split(command.partition(" > ")[0])
    found = gpujob.get_command(TOP, name)
    assert Path(program).name == "gpujob" and found is not None
    found.make_context(name, words, parent=TOP)


@pytest.mark.parametrize("page", PAGES)
def test_a_unit_starts_a_controller_again_and_leaves_jobs_alone(page: str) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block(page, "ini"))
    accepted(unit["Service"]["ExecStart"])
    assert (unit["Service"]["Restart"], unit["Service"]["KillMode"]) == ("always", "process")


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize(("page", "whose"), [("schedules.md", "--user"), ("postgresql.md", "--system")])
def test_systemd_accepts_the_units(page: str, whose: str, tmp_path: Path) -> None:
    installed = Path(sys.executable).with_name("gpujob")
    text = re.sub(r"(?<=^ExecStart=)\S+", str(installed), block(page, "ini"), flags=re.MULTILINE)
    unit = tmp_path / "gpujob.service"
    unit.write_text(re.sub(r"^User=.*\n", "", text, flags=re.MULTILINE))
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = ["systemd-analyze", whose, "verify", str(unit)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    about_ours = [line for line in done.stderr.splitlines() if "gpujob" in line]
    assert about_ours == [] and done.returncode == 0, done.stderr


def test_the_workflow_submits_with_options_that_exist() -> None:
    workflow = YAML(typ="safe").load(block("schedules.md", "yml"))
    assert workflow["on"]["schedule"] == [{"cron": "0 2 * * *"}]
    [command] = [
        step["run"] for step in workflow["jobs"]["train"]["steps"] if step.get("run", "").startswith("gpujob ")
    ]
    accepted(command)
    assert "--wait" in command
