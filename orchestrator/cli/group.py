"""The list of commands. A command's module is imported when it is called, not when it is listed."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.exceptions import Exit

from orchestrator.cli.exit_codes import BROKEN_PIPE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """Where a command is, and its line in the list; a test keeps the line equal to the command's own help."""

    target: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Run a job": {
        "init": Entry("init:init", "Start from a template."),
        "check": Entry("check:check", "Say which clouds can be used, and why the others cannot."),
        "prices": Entry("prices:prices", "Rank what could be rented now by its total price."),
        "submit": Entry("submit:submit", "Run a job from its train.yaml."),
        "rehearse": Entry("rehearse:rehearse", "Run a job on simulated clouds on this computer."),
        "schedule": Entry("schedule:schedule", "Run a job again and again, by cron."),
        "bench": Entry("bench:bench", "Run benchmark suites and say what changed."),
        "wait": Entry("wait:wait", "Wait until runs are over."),
        "cancel": Entry("cancel:cancel", "Stop runs and release their machines."),
        "reap": Entry("reap:reap", "End machines that no run looks after."),
    },
    "See what happens": {
        "ps": Entry("ps:ps", "List runs, newest first."),
        "show": Entry("show:show", "Everything about one run."),
        "logs": Entry("logs:logs", "Print what the job wrote."),
        "metrics": Entry("metrics:metrics", "Print or plot what the job measured."),
        "artifacts": Entry("artifacts:artifacts", "List or copy the files that came back."),
        "cost": Entry("cost:cost", "What runs cost, by meter."),
        "budget": Entry("budget:budget", "Limit what a month may cost."),
    },
    "On the machine": {
        "ssh": Entry("ssh:ssh", "Open a shell on a run's machine."),
        "exec": Entry("exec:execute", "Run a command on a run's machine."),
    },
    "gpujob itself": {
        "controller": Entry("controller:controller", "Advance runs in the foreground."),
        "schema": Entry("schema:schema", "Print the JSON Schema of train.yaml."),
        "completion": Entry("completion:completion", "Print the code for completion in a shell."),
    },
}

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """The top level of the command line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        found: click.Command = getattr(import_module(f"orchestrator.cli.{module}"), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}.{_meant(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<10}", entry.help) for name, entry in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            _let_go_of_stdout()
            raise Exit(BROKEN_PIPE) from None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes of a run: 0 done, 1 failed, 3 artifacts incomplete, 10 nothing to rent, 11 credentials or "
    "funds, 12 budget, 13 possibly still billing. Every command's --help lists its own.",
)
@click.version_option(package_name="gpujob", prog_name="gpujob", message="%(prog)s %(version)s")
def gpujob() -> None:
    """Run a containerized PyTorch job on the cheapest GPU that fits, bring everything back, leave nothing running.

    Data goes to stdout, everything else to stderr; --json prints what docs/json.md describes.
    """


def _meant(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    return f" Did you mean {near[0]!r}?" if near else " `gpujob --help` lists them all."


def _let_go_of_stdout() -> None:
    """The reader of our output has gone: nothing may be flushed to it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
