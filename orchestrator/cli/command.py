"""What every command has: a help text with examples and exit codes. Imports click and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from orchestrator.cli.exit_codes import MEANINGS


class Command(click.Command):
    """A click command whose help ends with examples and the exit codes that it may return."""

    def __init__(self, *args: Any, examples: Sequence[str], exits: Sequence[int], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.exits = tuple(sorted(exits))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), MEANINGS[code]) for code in self.exits])


def command(
    name: str, *, examples: Sequence[str], exits: Sequence[int], **settings: Any
) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command."""
    return click.command(name, cls=Command, examples=examples, exits=exits, **settings)
