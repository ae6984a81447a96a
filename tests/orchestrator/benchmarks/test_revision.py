"""What git says of a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.benchmarks import revision

pytestmark = pytest.mark.process

_WHO = ("-c", "user.name=me", "-c", "user.email=me@example.org")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", "-C", str(folder), *_WHO, *arguments], text=True).strip()


def test_a_commit_and_changes_to_it(tmp_path: Path) -> None:
    assert revision.of(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert revision.of(tmp_path) is None, "nothing is committed yet"
    (tmp_path / "suite.yaml").write_text("tasks: {}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert revision.of(tmp_path) == commit
    (tmp_path / "suite.yaml").write_text("tasks: {one: {}}")
    assert revision.of(tmp_path) == f"{commit}+"
