"""What a controller in the background is started with: nothing that a process list should not show."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrator import background
from orchestrator.home import Home


class Started:
    """A process that is not there, and what it was told."""

    env: ClassVar[dict[str, str]] = {}

    def __init__(self, *_: object, env: dict[str, str], **__: Any) -> None:
        Started.env = env
        read, write = os.pipe()
        self._read = os.fdopen(read, "rb")
        self.stdin = os.fdopen(write, "wb")


def test_a_process_list_shows_nothing_but_what_python_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Started)
    for name in ("HOMEBREW_GITHUB_API_TOKEN", "PATHWAYS_KEY", "TZKEY", "LANGSMITH_API_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "secret")
    for name in ("LC_ALL", "PYTHONPATH", "HOME"):
        monkeypatch.setenv(name, "C")
    background.ensure_running(Home(tmp_path), {})
    assert "secret" not in Started.env.values()
    assert {"LC_ALL", "PYTHONPATH", "HOME", "PATH", "GPUJOB_HOME"} <= set(Started.env)
