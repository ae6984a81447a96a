"""gpujob completion: the code that a shell needs to complete commands, options and runs."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.output import data, say

_INSTALL = {
    "bash": 'eval "$(gpujob completion bash)"    in ~/.bashrc',
    "zsh": 'eval "$(gpujob completion zsh)"    in ~/.zshrc, after compinit',
    "fish": "gpujob completion fish > ~/.config/fish/completions/gpujob.fish",
}


@command(
    "completion",
    examples=(*(line.partition("    ")[0] for line in _INSTALL.values()),),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the code for completion in a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    data(kind(ctx.find_root().command, {}, "gpujob", "_GPUJOB_COMPLETE").source())
    if sys.stdout.isatty():
        say(f"To install it: {_INSTALL[shell]}")
