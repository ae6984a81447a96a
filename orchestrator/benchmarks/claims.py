"""Figures that other people report of the same tasks: read from a file, shown beside our own, never mixed in.

Nothing is computed with them but the ratio that their authors state by giving both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from jobs import loader
from jobs.fields import Duration, Name, Section, Text, listed
from orchestrator.submission import vocabulary


class Side(Section):
    """One machine and its time."""

    example: ClassVar[str] = "{machine: 8 cores, time: 40s}"

    machine: Text = Field(description="What it was, in words.")
    time: Duration = Field(description="How long the task took there.")


class Claim(Section):
    """What somebody reports of a task on two machines."""

    example: ClassVar[str] = "{source: an article, task: mnist, first: {machine: 8 cores, time: 40s}, second: {...}}"

    source: Text = Field(description="Who says so, and where.")
    task: Name
    first: Side
    second: Side

    @property
    def speed_up(self) -> float:
        return self.first.time / self.second.time


class _File(Section):
    example: ClassVar[str] = f"claims: [{Claim.example}]"

    claims: Annotated[tuple[Claim, ...], listed(f"[{Claim.example}]")]


def load(path: Path) -> tuple[Claim, ...]:
    """Raises SpecError."""
    written = loader.read(path, least=_File.example)
    return loader.validated(path, written, _File, vocabulary()).claims
