"""What machines wrote, on a terminal and in a pipe: harmless on the first, byte for byte in the second."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.output import say
from orchestrator.cli.session import Session
from orchestrator.records import Event, Outcome, Phase
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.cli.test_terminal import Screen
from tests.orchestrator.scene import Scene

EVIL = "x\x1b]0;pwned\x07\x1b[2J\x9b31m\x1b]52;c;cHduZWQ=\x07\u202ey\r\x1b[1A"
COMMANDS = (
    ("logs",),
    ("show",),
    ("show", "--events"),
    ("show", "--json"),
    ("artifacts",),
    ("artifacts", "--json"),
    ("artifacts", "--pull", "here"),
    ("metrics",),
    ("metrics", "--plot"),
    ("metrics", "--json"),
    ("metrics", "no-such"),
)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen(monkeypatch)


@pytest.fixture
def hostile(scene: Scene) -> Scene:
    """A run of which every word that a machine or a cloud can choose is an attempt at the terminal."""
    run = scene.active("r-7k2m9x", error=EVIL, name=EVIL, attempt=2)
    store = scene.store()
    store.nudge(run.id)
    [lease] = store.claim("scene", limit=1, lease_seconds=60)
    lease.run.phase, lease.run.outcome, lease.run.ended_at = Phase.DONE, Outcome.FAILED, scene.now
    tried = [
        replace(
            attempt, error=EVIL, machine=f"{EVIL}{attempt.number}", offer={**attempt.offer, "gpu": EVIL, "region": EVIL}
        )
        for attempt in store.attempts(run.id)
    ]
    happened = Event(run_id=run.id, attempt=1, at=scene.now, phase=Phase.WATCH, kind="warning", text=EVIL)
    store.save(lease, lease.run, attempts=tried, events=[happened], due_in=None)
    store.close()
    scene.log(run.id, 1, f"{EVIL}\n".encode())
    scene.measured(run.id, EVIL, [1.0, 2.0])
    folder = scene.home.run(run.id)
    folder.artifacts.mkdir(parents=True)
    rows = [{"path": name, "bytes": 1, "sha256": "0" * 64} for name in (EVIL, "not\udcffutf8", "half\ud800")]
    folder.manifest.write_text(json.dumps({"files": rows}))
    return scene


@pytest.mark.parametrize("command", [("ps",), *COMMANDS], ids=" ".join)
def test_nothing_that_a_machine_chose_commands_the_terminal(
    hostile: Scene, screen: Screen, command: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = [command[0], *(() if command[0] == "ps" else ("r-7k2m9x",)), *command[1:]]
    session = Session(hostile.home, {}, ensure_running=hostile.want_controller)
    with screen.on():
        main(arguments, session=session)
    shown = re.sub(r"\x1b\[[0-9;]{0,8}m", "", screen.text)  # colours are ours
    assert shown, "nothing was shown"
    assert not re.findall(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]", shown)
    assert "pwned" not in shown or command[-1] == "--json"
    assert "Traceback" not in shown and "a bug in gpujob" not in shown


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_and_none_of_them_breaks_in_a_pipe(hostile: Scene, gpujob: Command, command: tuple[str, ...]) -> None:
    said = gpujob(command[0], "r-7k2m9x", *command[1:])
    assert "a bug in gpujob" not in said.err
    if "--json" in command:
        json.loads(said.out)


def test_a_pipe_gets_the_log_byte_for_byte(hostile: Scene, gpujob: Command) -> None:
    assert gpujob("logs", "r-7k2m9x", "--attempt", "1").out == f"{EVIL}\n".encode()


def test_names_that_are_no_utf8_are_the_same_in_json(hostile: Scene, gpujob: Command) -> None:
    names = {row["path"] for row in gpujob("artifacts", "r-7k2m9x", "--json").json}
    assert names == {EVIL, "not\udcffutf8", "half\ud800"}
    assert os.fsencode("not\udcffutf8") == b"not\xffutf8"


def test_json_for_a_pipe_that_is_not_utf8(hostile: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    main(["artifacts", "r-7k2m9x", "--json"], session=Session(hostile.home, {}, ensure_running=hostile.want_controller))
    sys.stdout.flush()
    assert len(json.loads(raw.getvalue())) == 3


def test_talk_keeps_its_colours_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[1mbold\x1b[0m \x1b]0;title\x07plain\x1b[2J")
    assert "title" not in capsys.readouterr().err
