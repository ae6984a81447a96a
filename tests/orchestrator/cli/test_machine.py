"""gpujob ssh and exec: which machine, by which way, in which directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.errors import Stop
from orchestrator.cli.ssh import ssh_command
from orchestrator.home import RunFolder
from orchestrator.world import access_to_json
from providers.base import LocalAccess, SshAccess
from tests.orchestrator.scene import Scene

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0lh1tXwHhKz0f3QW3oC0QnYqDLw8Z2kqJQ6VtV0C3e"


def there(**changes: object) -> SshAccess:
    values: dict[str, object] = {"host": "192.0.2.7", "port": 2222, "user": "root", "directory": "/opt/g", **changes}
    return SshAccess(**values)  # type: ignore[arg-type]


def test_ssh_accepts_only_the_pinned_key_and_offers_only_the_runs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.key.write_text("key")
    argv = ssh_command(there(host_keys=(KEY,), env={"GPUJOB_MACHINE": "it's"}), folder, "gpujob-r-1", terminal=True)
    assert argv[:5] == ["ssh", "-p", "2222", "-i", str(folder.key)]
    assert {"IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=gpujob-r-1", "-t"} <= set(argv)
    assert (tmp_path / "known_hosts").read_text() == f"gpujob-r-1 {KEY}\n"
    assert argv[-2] == "root@192.0.2.7"
    assert argv[-1].startswith("export GPUJOB_MACHINE='it'\"'\"'s'; cd /opt/g/shared/work")


def test_ssh_takes_the_key_that_the_controller_has_seen(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.known_hosts.write_text(json.dumps({"gpujob-r-1": [KEY], "gpujob-r-2": ["ssh-ed25519 OTHER"]}))
    ssh_command(there(), folder, "gpujob-r-1", terminal=False)
    assert (tmp_path / "known_hosts").read_text() == f"gpujob-r-1 {KEY}\n"


def test_ssh_trusts_nobody_who_was_not_seen(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no host key"):
        ssh_command(there(), RunFolder(tmp_path), "gpujob-r-1", terminal=False)


@pytest.fixture
def machine(tmp_path: Path) -> Scene:
    """A run whose machine is a directory on this computer."""
    made = Scene(tmp_path)
    directory = tmp_path / "machine"
    (directory / "shared/work").mkdir(parents=True)
    access = access_to_json(LocalAccess(directory=str(directory), env={"GPUJOB_MACHINE": "gpujob-r-active-1-1"}))
    made.active(notes_of_attempt={"access": access})
    return made


def gpujob(scene: Scene, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from orchestrator.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "GPUJOB_HOME": str(scene.home.root), **env},
        check=False,
        timeout=60,
    )


@pytest.mark.process
def test_exec_runs_beside_the_job_and_keeps_its_exit_code(machine: Scene) -> None:
    said = gpujob(machine, "exec", "r-active", "--", "sh", "-c", "pwd; echo $GPUJOB_MACHINE; echo oops >&2; exit 7")
    assert said.returncode == 7, said.stderr
    where, mark = said.stdout.splitlines()
    assert where.endswith("/machine/shared/work") and mark == "gpujob-r-active-1-1"
    assert said.stderr == "oops\n"


@pytest.mark.process
def test_exec_of_what_is_not_there(machine: Scene) -> None:
    assert gpujob(machine, "exec", "r-active", "--", "no-such-program").returncode == 127


@pytest.mark.process
def test_ssh_to_this_computer_is_a_shell_beside_the_job(machine: Scene, tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\npwd\necho $GPUJOB_MACHINE\n")
    shell.chmod(0o755)
    said = gpujob(machine, "ssh", "r-active", SHELL=str(shell))
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[0].endswith("/machine/shared/work")
    assert said.stdout.splitlines()[1] == "gpujob-r-active-1-1"
