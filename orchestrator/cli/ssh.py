"""gpujob ssh: a shell on a run's machine, by the system's own ssh with the run's key and the pinned host key."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from jobs.transport.known_hosts import KnownHosts
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import run_argument
from orchestrator.cli.place import machine_of, working_directory
from orchestrator.cli.session import Session, pass_session
from orchestrator.home import RunFolder
from providers.base import LocalAccess, SshAccess


@command(
    "ssh",
    examples=("gpujob ssh mnist",),
    exits=(exit_codes.DONE, exit_codes.JOB_FAILED, exit_codes.USAGE),
)
@run_argument
@pass_session
def ssh(session: Session, run: str) -> None:
    """Open a shell on a run's machine.

    Needs OpenSSH's client. Only the host key that was pinned for this very machine is accepted. For a job on this
    computer it is a shell in the job's working directory. Leaving the shell changes nothing about the run.
    """
    found = session.find(run)
    attempt, access = machine_of(session, found)
    folder = session.home.run(found.id)
    session.close()
    if isinstance(access, LocalAccess):
        _open_shell_here(access, session.env)
        return
    argv = ssh_command(access, folder, attempt.machine, terminal=sys.stdin.isatty())
    if shutil.which(argv[0]) is None:
        raise Stop("there is no ssh on this computer: install OpenSSH's client", exit_codes.JOB_FAILED)
    os.execvp(argv[0], argv)


def ssh_command(access: SshAccess, folder: RunFolder, machine: str, *, terminal: bool) -> list[str]:
    """What to call; writes the pinned host keys where ssh can read them."""
    keys = access.host_keys or KnownHosts(folder.known_hosts).of(machine)
    if not keys:
        raise Stop("no host key is pinned for this machine: nobody has reached it yet", exit_codes.JOB_FAILED)
    known = folder.root / "known_hosts"
    known.write_text("".join(f"{machine} {key}\n" for key in keys))
    options = {
        "HostKeyAlias": machine,
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
    }
    key = Path(access.key_path).expanduser() if access.key_path else folder.key
    identity = ["-i", str(key), "-o", "IdentitiesOnly=yes"] if key.exists() else []
    return [
        *("ssh", "-p", str(access.port), *identity),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        *(("-t",) if terminal else ()),
        f"{access.user}@{access.host}",
        _there(access),
    ]


def _there(access: SshAccess) -> str:
    """The first words of the remote shell: its mark, by which the machine's end finds it, and where the job is."""
    marks = "".join(f"export {name}={shlex.quote(value)}; " for name, value in access.env.items())
    return f'{marks}cd {shlex.quote(working_directory(access))} 2>/dev/null; exec "${{SHELL:-/bin/sh}}" -l'


def _open_shell_here(access: LocalAccess, env: Mapping[str, str]) -> None:
    place = next((path for path in (working_directory(access), access.directory) if Path(path).is_dir()), None)
    if place is None:
        raise Stop(f"{access.directory} is gone", exit_codes.JOB_FAILED)
    shell = env.get("SHELL") or "/bin/sh"
    os.chdir(place)
    os.execvpe(shell, [shell], {**env, **access.env})
