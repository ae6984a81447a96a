"""What a benchmark says: lines for a person on stdout, and JSON lines for gpujob in $GPUJOB_METRICS.

A figure is written down the moment it is known. Of a figure that is reported twice, the last one counts.
"""

from __future__ import annotations

import json
import math
from pathlib import Path


class Report:
    """`speaks`: whether this process is the one of several that reports."""

    def __init__(self, metrics: str | None, *, speaks: bool = True) -> None:
        self._metrics = Path(metrics) if metrics else None
        self._speaks = speaks

    def say(self, line: str) -> None:
        if self._speaks:
            print(line, flush=True)

    def measured(self, name: str, value: float, unit: str, note: str = "") -> None:
        """A figure that a clock or a count gave."""
        self.shown(name, value, unit, note)
        self.recorded(name, value)

    def derived(self, name: str, value: float, unit: str, how: str) -> None:
        """A figure that nobody measured: it follows from measured ones."""
        self.measured(name, value, unit, f"derived, not measured: {how}")

    def shown(self, name: str, value: float, unit: str, note: str = "") -> None:
        """For the person alone."""
        self.say(f"{name:<36} {_figure(value):>12} {unit}" + (f"  ({note})" if note else ""))

    def recorded(self, name: str, value: float) -> None:
        """For gpujob alone."""
        self._write({name: value})

    def progress(self, step: int, **values: float) -> None:
        """A point of a curve. Nothing is printed."""
        self._write({"step": step, **values})

    def _write(self, row: dict[str, float]) -> None:
        if self._metrics and self._speaks and all(map(math.isfinite, row.values())):
            with self._metrics.open("a") as lines:
                lines.write(json.dumps(row) + "\n")


def _figure(value: float) -> str:
    """Four digits that count, never in powers of ten."""
    if not math.isfinite(value) or value == 0:
        return str(value)
    places = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"
