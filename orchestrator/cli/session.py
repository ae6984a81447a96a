"""What a command works with: GPUJOB_HOME, the environment, and the store once it is needed.

Finds runs by what a person typed. Renders nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from orchestrator.cli.errors import Stop
from orchestrator.home import Home

if TYPE_CHECKING:
    from orchestrator.follow import Update
    from orchestrator.records import Run
    from orchestrator.store.store import Store

P = ParamSpec("P")
R = TypeVar("R")

START_SECONDS = 3.0  # in which a controller that was started holds its lock
RECENT = 200  # runs among which near names are looked for


def _ensure_running(home: Home, env: Mapping[str, str]) -> None:
    from orchestrator.background import ensure_running

    ensure_running(home, env)


class Session:
    """One command's view of the user's gpujob."""

    def __init__(
        self,
        home: Home | None = None,
        env: Mapping[str, str] | None = None,
        *,
        ensure_running: Callable[[Home, Mapping[str, str]], object] = _ensure_running,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.env = dict(os.environ if env is None else env)
        self.home = home or Home.find(self.env)
        self._ensure_running = ensure_running
        self.sleep = sleep
        self._started_at = float("-inf")
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        if self._store is None:
            from orchestrator.store.store import Store

            self.home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store = Store.open(self.home.database_url(self.env))
        return self._store

    def find(self, text: str) -> Run:
        """The run of this id, unique prefix of an id, or name (the newest). Says what comes near when there is none."""
        from orchestrator.store.errors import RunAmbiguous, RunNotFound

        try:
            return self.store.find(text)
        except RunNotFound:
            raise Stop(f"there is no run {text!r}.{self._near(text)}") from None
        except RunAmbiguous as error:
            raise Stop(f"{error}: write more of the id") from None

    def find_all(self, texts: Iterable[str]) -> list[Run]:
        """Each run that is meant, once. A sweep means all its runs, a suite that is no run's name its newest sweep."""
        found = {run.id: run for text in texts for run in self._of_sweep(self._sweep(text)) or [self.find(text)]}
        return list(found.values())

    def _sweep(self, text: str) -> str:
        """Its id; that of a suite's newest one where no run has the suite's name."""
        from orchestrator.store.errors import RunAmbiguous, RunNotFound

        newest = self.store.benchmarks.sweeps(suite=text, limit=1)
        if not newest:
            return text
        try:
            self.store.find(text)
        except RunNotFound:
            return newest[0].id
        except RunAmbiguous:
            pass
        return text

    def _of_sweep(self, sweep_id: str) -> list[Run]:
        ids = [cell.run_id for cell in self.store.benchmarks.cells(sweep_id)]
        runs = {run.id: run for run in self.store.some_runs(ids)}
        return [runs[run_id] for run_id in ids]

    def follow(self, run_id: str, *, attempt: int | None = None) -> Iterator[Update]:
        """Updates until the run is over; somebody advances it all the while."""
        from orchestrator.follow import follow

        folder = self.home.run(run_id)
        return follow(self.store, folder, run_id, attempt=attempt, look_after=self.ensure_controller, sleep=self.sleep)

    def ensure_controller(self) -> None:
        """See to it that somebody advances the runs. One that was just started is given the time to come up."""
        now = time.monotonic()
        if now - self._started_at > START_SECONDS:
            self._started_at = now
            self._ensure_running(self.home, self.env)

    def is_served(self) -> bool:
        """Whether a controller is at work on this store."""
        from orchestrator.background import is_running

        return is_running(self.home) or bool(self.store.controllers())

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _near(self, text: str) -> str:
        from difflib import get_close_matches

        if self._of_sweep(sweep_id := self._sweep(text)):
            return f" That is a benchmark suite's: gpujob bench show {sweep_id}"
        known = [word for run in self.store.runs(limit=RECENT) for word in (run.id, run.name)]
        if not known:
            return " No run has been submitted yet: gpujob submit train.yaml"
        near = get_close_matches(text, dict.fromkeys(known), n=3, cutoff=0.5)
        return f" Did you mean {' or '.join(near)}?" if near else " `gpujob ps` lists them."


def pass_session(function: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Give the command the session as its first argument; it is closed at the end."""

    @click.pass_context
    @wraps(function)
    def wrapped(ctx: click.Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        session = ctx.ensure_object(Session)
        ctx.call_on_close(session.close)
        return function(session, *args, **kwargs)

    return wrapped
