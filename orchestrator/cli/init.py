"""gpujob init: start from one of the templates that come with gpujob."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.output import data, say


def templates() -> dict[str, Path]:
    """Every template's name and folder."""
    return {folder.name: folder for folder in sorted(_root().iterdir()) if (folder / "train.yaml").is_file()}


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in templates() if name.startswith(incomplete)]


@command(
    "init",
    examples=("gpujob init", "gpujob init mnist", "gpujob init mnist my-job && gpujob submit my-job/train.yaml"),
    exits=(exit_codes.DONE, exit_codes.USAGE),
)
@click.argument("template", required=False, shell_complete=_complete)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
def init(template: str | None, directory: Path | None) -> None:
    """Start from a template.

    Copies TEMPLATE to DIRECTORY (default: a folder of the template's name); a file that is there is never overwritten.
    Without TEMPLATE, lists the templates.
    """
    known = templates()
    if template is None:
        for name, folder in known.items():
            data(f"{name:<16} {_about(folder)}".rstrip())
        return
    if template not in known:
        raise Stop(f"there is no template {template!r}; there are: {', '.join(known)}")
    target = directory or Path(template)
    _copy(known[template], target)
    say(f"Now: gpujob submit {target / 'train.yaml'}")
    if (target / "smoke.yaml").exists():
        say(f"or all of them: gpujob bench run {target / 'smoke.yaml'}")


def _root() -> Path:
    return Path(str(files("orchestrator"))).parent / "templates"


def _about(folder: Path) -> str:
    """The comment on the first line of the template's train.yaml."""
    first = (folder / "train.yaml").read_text().partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _copy(source: Path, target: Path) -> None:
    wanted = list(_files(source))
    taken = [path for path in wanted if (target / path).exists()]
    if taken:
        raise Stop(f"{target / taken[0]} exists already; name another directory")
    for path in wanted:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)
        data(str(target / path))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder)
