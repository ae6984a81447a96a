"""Options of `gpujob submit` behind another command's `--`: what they change of a job. Parses nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import click

from jobs.problems import either
from orchestrator.cli.errors import Stop

_NOT_OF_THE_JOB = ("file", "detach", "wait", "dry_run", "yes", "as_json")  # of submit's parameters
_TAKEN = "it takes those that change a job, such as --image, --max-cost and -e: see `gpujob submit --help`"


def changes(words: Sequence[str], *, of: str) -> dict[str, object]:
    """Dotted keys of train.yaml and their values; `of` is the command, for error messages. Raises Stop."""
    from orchestrator.api import overrides
    from orchestrator.cli.submit import submit

    known = [parameter for parameter in submit.params if parameter.name not in _NOT_OF_THE_JOB]
    command = click.Command(f"gpujob {of} ... --", params=known, add_help_option=False)
    try:
        return overrides(**command.make_context(None, list(words)).params)
    except click.NoSuchOption as error:
        instead = f"did you mean {either(error.possibilities)}?" if error.possibilities else _TAKEN
        raise Stop(f"{error.option_name} is no option that `gpujob {of}` takes after `--`; {instead}") from None
    except click.UsageError as error:
        raise Stop(f"after `--`: {error.format_message()}") from None
