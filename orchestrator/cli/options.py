"""Options and arguments that several commands share, and how a shell completes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from orchestrator.cli.errors import Stop

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound=Callable[..., object])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as docs/json.md describes it.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def _complete_run(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from orchestrator.cli.session import RECENT, Session

    session = ctx.ensure_object(Session)
    try:
        runs = session.store.runs(limit=RECENT)
    except Exception:
        return []  # whatever is wrong with the store is no business of a shell's completion
    finally:
        session.close()
    states = {run.id: f"{run.name} {run.outcome or run.phase}" for run in runs}
    return [CompletionItem(id_, help=state) for id_, state in states.items() if id_.startswith(incomplete)] + [
        CompletionItem(name) for name in dict.fromkeys(run.name for run in runs) if name.startswith(incomplete)
    ]


def complete_provider(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from providers import names

    return [name for name in names() if name.startswith(incomplete)]


def complete_gpu(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from providers.gpus import names

    return [name for name in names() if name.lower().startswith(incomplete.lower())]


providers_option = click.option(
    "--provider",
    "providers",
    multiple=True,
    shell_complete=complete_provider,
    metavar="NAME",
    help="Only there; may be given several times.",
)
gpu_option = click.option(
    "--gpu", shell_complete=complete_gpu, metavar="NAME[:N]", help="Instead of resources.gpu; 'cpu' for none."
)
spot_option = click.option(
    "--spot/--no-spot", default=None, help="Whether machines that can be taken away may be used."
)


def timeout_option(seconds: int) -> Callable[[Decorated], Decorated]:
    """How long one cloud may take; `seconds` when it is not said."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long a cloud may take.",
    )


run_argument = click.argument("run", shell_complete=_complete_run)
runs_argument = click.argument("runs", metavar="RUN|SWEEP...", nargs=-1, required=True, shell_complete=_complete_run)
some_runs_argument = click.argument("runs", metavar="[RUN|SWEEP]...", nargs=-1, shell_complete=_complete_run)


def pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, as often as it was given."""
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{value!r}: write NAME=VALUE, for example EPOCHS=3")
    return {name: rest for name, _, rest in (value.partition("=") for value in values)}


def train_yaml(file: Path) -> Path:
    """The file that was named, or the one in the folder that was."""
    if file.is_dir():
        file = file / "train.yaml"
    if not file.exists():
        raise Stop(f"there is no {file}; `gpujob init` lists templates to start from")
    return file


env_option = click.option(
    "-e", "--env", multiple=True, metavar="NAME=VALUE", callback=pairs, help="A variable for the job."
)
