"""What a start of gpujob imports, and how it ends: whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.scene import Scene

pytestmark = pytest.mark.process

HEAVY = ("paramiko", "pydantic", "rich", "ruamel", "sqlalchemy", "cryptography", "jobs", "providers")


def run(*arguments: str, code: str = "pass", **env: str) -> subprocess.CompletedProcess[str]:
    """`gpujob ARGUMENTS` in a process of its own; `code` runs at its end."""
    program = f"import sys; from orchestrator.cli import main; code = main({list(arguments)!r}); {code}; sys.exit(code)"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
        timeout=60,
    )


def imported(*arguments: str, **env: str) -> set[str]:
    said = run(*arguments, code="print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)", **env)
    assert said.returncode == 0, said.stderr
    return set(said.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"]])
def test_help_imports_nothing_but_click(arguments: list[str]) -> None:
    assert imported(*arguments) & set(HEAVY) == set()


def test_import_gpujob_imports_nothing() -> None:
    program = "import sys, gpujob; print(*{name.partition('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(said.stdout.split()) & {*HEAVY, "click", "orchestrator"} == set()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_piped_list_needs_no_rich_and_no_pydantic(tmp_path: Path, options: list[str]) -> None:
    scene = Scene(tmp_path)
    scene.run()
    loaded = imported("ps", *options, GPUJOB_HOME=str(scene.home.root))
    assert loaded & {"rich", "pydantic", "paramiko", "ruamel", "cryptography"} == set()


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.run()
    scene.log("r-7k2m9x", 1, b"line\n" * 1_000_000)
    gpujob = f"{sys.executable} -c 'import sys; from orchestrator.cli import main; sys.exit(main())' logs r-7k2m9x"
    said = subprocess.run(
        ["bash", "-c", f"{gpujob} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env={**os.environ, "GPUJOB_HOME": str(scene.home.root)},
        check=True,
    )
    assert (said.stdout, said.stderr) == ("line\n141\n", "")


def test_a_bug_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    broken = "import orchestrator.cli.session as s; s.Session.find = lambda *_: 1 / 0; "
    program = f"{broken}import sys; from orchestrator.cli import main; sys.exit(main(['show', 'x']))"
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "GPUJOB_HOME": str(tmp_path)},
        check=False,
    )
    assert said.returncode == 1 and said.stderr.count("\n") == 1 and "ZeroDivisionError" in said.stderr
    [crash] = (tmp_path / "crash").iterdir()
    assert str(crash) in said.stderr and "Traceback" in crash.read_text()


def test_a_database_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    for url, words in (("nonsense", "sqlite:///"), ("mysql://x", "sqlite:///")):
        said = run("ps", GPUJOB_HOME=str(tmp_path), GPUJOB_DATABASE_URL=url)
        assert said.returncode == 1 and words in said.stderr and "bug" not in said.stderr
    (tmp_path / "store.db").write_text("this is no database, it is a text of some length " * 100)
    said = run("ps", GPUJOB_HOME=str(tmp_path))
    assert said.returncode == 1 and "bug" not in said.stderr and "store.db" in said.stderr
