"""The state of a folder in git, so that a change in a figure can be laid beside a change in the code. Asks git only."""

from __future__ import annotations

import subprocess
from pathlib import Path

GIT_SECONDS = 5.0


def of(folder: Path) -> str | None:
    """Such as 1a2b3c4d5e6f, or 1a2b3c4d5e6f+ when something in it is not committed; None where there is no git."""
    if (commit := _git(folder, "rev-parse", "--short=12", "HEAD")) is None:
        return None
    return f"{commit}+" if _git(folder, "status", "--porcelain", "--", ".") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
