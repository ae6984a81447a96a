"""The command line: one file per command, each of which parses, calls, renders and returns an exit code.

Owns no logic of runs. On the way to `--help` and `--version` nothing but click is imported.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, *, session: object | None = None) -> int:
    """Run one command line and return its exit code; `session` stands in for the user's home and environment."""
    from orchestrator.cli.errors import guarded
    from orchestrator.cli.group import gpujob

    return guarded(gpujob, arguments, session)
