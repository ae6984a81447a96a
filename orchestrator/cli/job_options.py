"""Options of `gpujob submit` behind another command's `--`: what they change of a job. Parses nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import click

_NOT_OF_THE_JOB = ("file", "detach", "wait", "dry_run", "yes", "as_json")  # of submit's parameters


def changes(words: Sequence[str], *, of: str) -> dict[str, object]:
    """Dotted keys of train.yaml and their values; `of` is the command, for error messages."""
    from orchestrator.api import overrides
    from orchestrator.cli.submit import submit

    known = [parameter for parameter in submit.params if parameter.name not in _NOT_OF_THE_JOB]
    given = click.Command(f"gpujob {of} ... --", params=known).make_context(None, list(words)).params
    return overrides(**given)
