"""Writes docs/cli.md from the commands' own help texts: `python docs/generate.py`; with --check it only compares."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.cli.group import SECTIONS, gpujob

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 100


def reference() -> str:
    """The whole page."""
    parts = ["# Commands", "", "Written by `docs/generate.py` from the commands' own help: do not edit.", ""]
    parts += [_block(gpujob, "gpujob", None)]
    top = click.Context(gpujob, info_name="gpujob")
    for title, entries in SECTIONS.items():
        parts += [f"## {title}", ""]
        for name in entries:
            command = gpujob.get_command(top, name)
            assert command is not None
            parts += [f"### gpujob {name}", "", _block(command, name, top)]
    return "\n".join(parts).rstrip() + "\n"


def _block(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = ["-h", "--help"]
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    return "\n".join(["```text", *lines, "```", ""])


def main() -> int:
    page = reference()
    if "--check" in sys.argv[1:]:
        return int(page != PAGE.read_text())
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
