"""The command line in this process, on a home filled by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.cli.session import Session
from tests.orchestrator.scene import Scene


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path)
    monkeypatch.setenv("GPUJOB_HOME", str(made.home.root))
    monkeypatch.delenv("GPUJOB_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def gpujob(scene: Scene, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run a command line; nothing is started in the background."""

    def call(*arguments: object, env: dict[str, str] | None = None) -> Said:
        session = Session(scene.home, env or {}, ensure_running=scene.want_controller)
        code = main([str(argument) for argument in arguments], session=session)
        out, err = capfdbinary.readouterr()
        return Said(code, out, err.decode())

    return call
