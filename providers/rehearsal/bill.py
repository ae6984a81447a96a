"""The bill that a simulated cloud keeps: what ran, from when to when, at which rate, by the cloud's own rules.

Kept apart from the ledger's arithmetic on purpose: the two are held against each other. Knows no wire format.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from providers.base import Now


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one meter costs. `units_per_hour` of `unit` are used up per hour; time is rounded up to the granularity."""

    meter: str  # compute, disk, stopped_disk, address, traffic_in, traffic_out
    unit: str
    usd_per_unit: Decimal
    units_per_hour: Decimal = Decimal(1)
    granularity_seconds: int = 1
    minimum_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One meter of one machine over one interval. `end` is None while it runs; `usd` is what it comes to so far."""

    machine: str
    rate: Rate
    start: datetime
    end: datetime | None = None
    units: Decimal | None = None  # counted (bytes), not timed

    def quantity(self, now: datetime) -> Decimal:
        if self.units is not None:
            return self.units
        seconds = Decimal(str(max(0.0, ((self.end or now) - self.start).total_seconds())))
        step = self.rate.granularity_seconds
        billed = max(math.ceil(seconds / step) * step, self.rate.minimum_seconds)
        return Decimal(billed) * self.rate.units_per_hour / 3600

    def usd(self, now: datetime) -> Decimal:
        return self.quantity(now) * self.rate.usd_per_unit


class Bill:
    """Append-only but for the ends of lines. Safe between threads."""

    def __init__(self, clock: Now) -> None:
        self._clock = clock
        self._lines: list[Line] = []
        self._lock = threading.Lock()

    def open(self, machine: str, rate: Rate, at: datetime | None = None) -> None:
        """A meter begins to run, unless it runs already."""
        with self._lock:
            if self._running(machine, rate.meter) is None:
                self._lines.append(Line(machine=machine, rate=rate, start=at or self._clock()))

    def close(self, machine: str, *meters: str, at: datetime | None = None) -> None:
        """These meters of the machine end, or all of them when none is named."""
        with self._lock:
            for index, line in enumerate(self._lines):
                if line.machine == machine and line.end is None and (not meters or line.rate.meter in meters):
                    self._lines[index] = replace(line, end=max(line.start, at or self._clock()))

    def count(self, machine: str, rate: Rate, units: Decimal, start: datetime, end: datetime) -> None:
        """Something that is counted, such as GB of traffic."""
        with self._lock:
            self._lines.append(Line(machine=machine, rate=rate, start=start, end=end, units=units))

    def forgive(self, machine: str, *meters: str) -> None:
        """The cloud does not charge what these meters of the machine have counted (a spot machine's first hour)."""
        with self._lock:
            for index, line in enumerate(self._lines):
                if line.machine == machine and line.rate.meter in meters:
                    self._lines[index] = replace(line, units=Decimal(0), end=line.end or self._clock())

    def lines(self, machine: str | None = None) -> list[Line]:
        with self._lock:
            return [line for line in self._lines if machine in (None, line.machine)]

    def total(self, machine: str | None = None) -> Decimal:
        now = self._clock()
        return sum((line.usd(now) for line in self.lines(machine)), Decimal(0))

    def running(self) -> set[str]:
        """Machines that cost something at this moment."""
        return {line.machine for line in self.lines() if line.end is None}

    def _running(self, machine: str, meter: str) -> Line | None:
        mine = (line for line in self._lines if (line.machine, line.rate.meter) == (machine, meter))
        return next((line for line in mine if line.end is None), None)
