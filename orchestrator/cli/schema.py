"""gpujob schema: what may stand in a train.yaml, for editors."""

from __future__ import annotations

from jobs import loader
from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.output import data_json
from orchestrator.submission import vocabulary


@command("schema", examples=("gpujob schema > train.schema.json",), exits=(exit_codes.DONE, exit_codes.USAGE))
def schema() -> None:
    """Print the JSON Schema of train.yaml.

    With `# yaml-language-server: $schema=train.schema.json` as the first line of a train.yaml, editors complete and
    check it.
    """
    data_json(loader.json_schema(vocabulary()))
