"""The options that say who is told: a web address, a command, a service of apprise's. The same wherever one may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., object])

NAMES = ("webhook", "apprise", "program")  # of the parameters

_webhook = click.option("--webhook", metavar="URL", help="POST a JSON notice there; ${NAME} in it is a secret's value.")
_apprise = click.option(
    "--apprise", metavar="URL", help="Write to a service by apprise: Slack, Matrix, mail, ...; ${NAME} as there."
)
_command = click.option(
    "--command", "program", metavar="'PROG ARG'", help="Run this with the notice as JSON on its stdin."
)


def told_options(command: Decorated) -> Decorated:
    """--webhook, --apprise and --command."""
    return _webhook(_apprise(_command(command)))


def told(given: Mapping[str, Any]) -> dict[str, Any]:
    """As a row has them. Raises UsageError for what cannot be called."""
    from orchestrator import notices

    return {
        "webhook": _checked("--webhook", notices.checked_webhook, given["webhook"]),
        "command": _checked("--command", notices.checked_command, given["program"]),
        "apprise": _checked("--apprise", notices.checked_apprise, given["apprise"]),
    }


def option(parameter: str) -> str:
    """As it is typed."""
    return "--command" if parameter == "program" else f"--{parameter}"


def _checked(name: str, check: Callable[[str], Any], value: str | None) -> Any:
    try:
        return None if value is None else check(value)
    except ValueError as error:
        raise click.UsageError(f"{name}: {error}") from None
