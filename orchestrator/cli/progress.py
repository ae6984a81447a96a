"""How a run that is followed looks on stderr: one live line on a terminal, plain lines elsewhere.

Knows what was told about a run, nothing of the store. Never writes to stdout.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from orchestrator import ledger, outlook
from orchestrator.cli.output import say
from orchestrator.follow import Progress
from orchestrator.records import Event, Phase
from orchestrator.reports import words

if TYPE_CHECKING:
    from rich.live import Live
    from rich.spinner import Spinner

REPEAT_SECONDS = 60.0  # a plain line says again where it stands after so long
_TOLD = ("offer", "retry", "warning", "error", "cancel", "budget")  # kinds of events that a person wants to see


class Teller(Protocol):
    """Tells a person on stderr what happens."""

    def progress(self, progress: Progress) -> None: ...

    def happened(self, event: Event) -> None: ...

    def make_room(self) -> None:
        """The job's output comes next, on the same screen."""
        ...

    def close(self) -> None: ...


def teller(*, shares_screen: bool) -> Teller:
    """For stderr as it is. `shares_screen`: the job's output goes to the same terminal."""
    return LiveTeller(shares_screen=shares_screen) if sys.stderr.isatty() else PlainTeller()


class Silent:
    """Says nothing."""

    def progress(self, progress: Progress) -> None:
        del progress

    def happened(self, event: Event) -> None:
        del event

    def make_room(self) -> None: ...

    def close(self) -> None: ...


class PlainTeller:
    """A line for each phase and for what a person should know, with the seconds since the submission."""

    def __init__(self) -> None:
        self._latest: Progress | None = None
        self._said_at: datetime | None = None

    def progress(self, progress: Progress) -> None:
        self._latest = progress
        if progress.run.is_over:
            return
        if self._said_at is None:
            self._said_at = progress.now
        if (progress.now - self._said_at).total_seconds() >= REPEAT_SECONDS:
            self._line(
                progress.now, f"{progress.run.phase.value:<10} {_account(progress)}  {words.duration(progress.seconds)}"
            )

    def happened(self, event: Event) -> None:
        if event.kind == "phase" and event.phase is not Phase.DONE and "outcome" not in event.details:
            account = _account(self._latest) if self._latest and self._latest.attempt else ""
            self._line(event.at, f"{event.phase.value:<10} {account}".rstrip())
        elif event.kind in _TOLD:
            self._line(event.at, f"{event.kind:<10} {words.one_line(event.text)}")

    def make_room(self) -> None: ...

    def close(self) -> None: ...

    def _line(self, at: datetime, text: str) -> None:
        since = (at - self._latest.run.created_at).total_seconds() if self._latest else 0.0
        self._said_at = at
        say(f"{max(since, 0.0):7.1f} s  {text}")


class LiveTeller:
    """One line that says where the run is; above it stays what a person should know."""

    def __init__(self, *, shares_screen: bool) -> None:
        self._shares_screen = shares_screen
        self._live: Live | None = None
        self._job_has_the_screen = False
        self._phase: Phase | None = None

    def progress(self, progress: Progress) -> None:
        if self._job_has_the_screen and progress.run.phase in (Phase.START, Phase.WATCH):
            return
        self._job_has_the_screen = False
        if progress.run.is_over:
            self.close()
            return
        phase = progress.run.phase
        line = _spinner(f"{phase.value}  {_account(progress)}  {words.duration(progress.seconds)}")
        self._line().update(line, refresh=phase is not self._phase)
        self._phase = phase

    def happened(self, event: Event) -> None:
        if event.kind not in _TOLD:
            return
        text = f"{event.kind}: {words.one_line(event.text)}"
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            say(text)

    def make_room(self) -> None:
        if self._shares_screen:
            self.close()
            self._job_has_the_screen = True

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self) -> Live:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=8)
            self._live.start()
        return self._live


def _spinner(text: str) -> Spinner:
    from rich.spinner import Spinner
    from rich.text import Text

    return Spinner("dots", Text(text, overflow="ellipsis", no_wrap=True))


def _account(progress: Progress) -> str:
    """Where, at which rate, how much so far, and how much is expected when it is done."""
    if progress.attempt is None:
        return ""
    offer = progress.attempt.offer
    where = f"{words.provider(progress.attempt)} {words.hardware(offer)}"
    so_far = f"{where}  {words.rate(ledger.usd_per_hour(progress.attempt))}  {words.money(progress.spent)} so far"
    seen = outlook.of(progress.attempt, progress.spent, progress.now)
    return f"{so_far}, {words.outlook(seen, progress.now)}" if seen else so_far
