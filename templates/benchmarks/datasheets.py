"""What makers promise of their GPUs: the rows of datasheets.json, and a measured figure beside a promised one.

Knows no PyTorch and no measuring.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from reporting import Report

_TABLE = Path(__file__).with_name("datasheets.json")


@dataclass(frozen=True)
class Datasheet:
    """One GPU. Units are in the names, GB are 10^9 bytes; `tflops` are dense, by the numbers computed with."""

    name: str
    reported_as: tuple[str, ...]
    memory_gb: float
    memory_gb_per_second: float
    link_gb_per_second: float  # PCI Express, one direction
    tflops: dict[str, float]
    source: str
    recorded: str
    note: str = ""


def table() -> list[Datasheet]:
    rows = json.loads(_TABLE.read_text())["gpus"]
    return [Datasheet(**{**row, "reported_as": tuple(row["reported_as"])}) for row in rows]


def find(reported: str) -> Datasheet | None:
    """The GPU that PyTorch or nvidia-smi calls so; a name that is only similar is another GPU."""
    return next((sheet for sheet in table() if reported in sheet.reported_as), None)


@dataclass
class Findings:
    """Measured beside promised. `least`: the share of a promise below which a figure is suspicious."""

    report: Report
    least: float
    suspicions: list[str] = field(default_factory=list)

    def compare(self, name: str, reached: float, unit: str, promised: float | None) -> None:
        """Show a figure, and doubt it when it is far below what is promised; None: nothing is."""
        if not promised:
            self.report.shown(name, reached, unit)
            return
        share = reached / promised
        self.report.shown(name, reached, unit, f"{share:.0%} of {promised:g} by the data sheet")
        if share < self.least:
            self.doubt(f"{name} is {share:.0%} of what the data sheet promises, less than {self.least:.0%}")

    def doubt(self, what: str) -> None:
        self.suspicions.append(what)
