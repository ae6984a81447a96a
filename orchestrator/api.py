"""gpujob from Python: what it would cost, submit a job, look at a run, wait for it, take what came back.

The same store and files as the command line, read anew at every call; safe from several threads, since every call
opens a store of its own. Decides nothing about a run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import background, ledger, spending
from orchestrator.follow import Progress, follow, read_log
from orchestrator.home import Home
from orchestrator.reports import words
from orchestrator.results import Artifact, artifacts
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from orchestrator import records
    from orchestrator.placement import Ranked, Ranking
    from orchestrator.prices import Asked
    from orchestrator.records import ChargeRow

Duration = str | float | timedelta  # "90m", seconds, or a timedelta
Number = int | float | Decimal


class Prices(tuple["Ranked", ...]):
    """Offers, best first, each with `offer`, `total_usd`, `is_stale` and `is_simulated`; for a job also `estimate`.

    `unavailable` are the clouds that did not answer, and `passed_over` those at which nothing can be rented as things
    are set up, each with the reason.
    """

    unavailable: Mapping[str, str]
    passed_over: Mapping[str, str]

    def __new__(cls, ranking: Ranking) -> Prices:
        made = super().__new__(cls, ranking.offers)
        made.unavailable = {name: str(error) for name, error in ranking.unavailable.items()}
        made.passed_over = dict(ranking.passed_over)
        return made


class Run:
    """A submitted job. Attributes are read from the store when asked for."""

    def __init__(self, run_id: str, *, home: Home | None = None) -> None:
        self.id = run_id
        self._home = home or Home.find()

    @property
    def name(self) -> str:
        return self._row().name

    @property
    def phase(self) -> str:
        """Where it is: quote, provision, boot, probe, ship, start, watch, collect, teardown, settle, done."""
        return self._row().phase.value

    @property
    def outcome(self) -> str | None:
        """How it ended: succeeded, failed, cancelled, ...; None while it goes on."""
        outcome = self._row().outcome
        return outcome.value if outcome else None

    @property
    def status(self) -> str:
        """The outcome when it is over, else the phase."""
        return _status(self._row())

    @property
    def is_over(self) -> bool:
        return self._row().is_over

    @property
    def succeeded(self) -> bool:
        return self.outcome == "succeeded"

    @property
    def exit_code(self) -> int | None:
        """The job's own."""
        return self._row().exit_code

    @property
    def error(self) -> str | None:
        return self._row().error

    @property
    def folder(self) -> Path:
        """Everything of this run that is kept as files."""
        return self._home.run(self.id).root

    @property
    def report(self) -> Path:
        """The page that says it all; there when the run is over."""
        return self._home.run(self.id).report

    @property
    def possibly_billing(self) -> bool:
        """Whether a machine of this run may still exist at a cloud that cannot be asked."""
        return self._row().possibly_billing

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> Run:
        """Return when the run is over, or raise TimeoutError. A failed job does not raise: see `outcome`.

        Also returns when a machine possibly still bills because its cloud cannot be asked: see `possibly_billing`.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        told = ""
        with _open(self._home) as store:
            for update in follow(store, self._home.run(self.id), self.id, look_after=self._look_after):
                if not isinstance(update, Progress):
                    continue
                if progress and (state := _status(update.run)) != told:
                    told = state
                    print(f"{self.id}  {state:<10} {words.money(update.spent)}", file=sys.stderr)  # noqa: T201
                if ends is not None and time.monotonic() > ends and not update.run.is_over:
                    raise TimeoutError(f"run {self.id} is still in phase {update.run.phase.value} after {timeout:g} s")
        return self

    def cancel(self) -> bool:
        """Ask for its end; False when it is over already. `wait` sees it end."""
        with _open(self._home) as store:
            asked = store.request_cancel(self.id)
        if asked:
            self._look_after()
        return asked

    def logs(self) -> str:
        """What the job wrote so far, in all attempts; bytes that are no text are replaced."""
        chunks = read_log(self._home.run(self.id), self._row().attempt)
        return b"".join(output.chunk for output in chunks).decode("utf-8", "replace")

    def metrics(self) -> dict[str, list[tuple[float | None, float]]]:
        """Of each metric its (step, value) pairs in order."""
        from jobs import metrics

        series = metrics.series(self._home.run(self.id).metrics)
        return {name: [(point.step, point.value) for point in points] for name, points in series.items()}

    def artifacts(self) -> list[Artifact]:
        """The files that came back."""
        return artifacts(self._home.run(self.id))

    def charges(self) -> list[ChargeRow]:
        """The lines of the ledger by now."""
        with _open(self._home) as store:
            return spending.charges(store, store.run(self.id), store.attempts(self.id))

    def cost(self) -> Decimal:
        """US dollars so far; final when the run is over."""
        with _open(self._home) as store:
            spent = spending.spent(store, [store.run(self.id)], store.attempts_of([self.id]))[self.id]
        return Decimal(ledger.plain(spent))

    def __repr__(self) -> str:
        row = self._row()
        error = f": {row.error}" if row.error else ""
        return f"<Run {row.id} {row.name!r} {_status(row)} {words.money(self.cost())}{error}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and (other.id, other._home) == (self.id, self._home)

    def __hash__(self) -> int:
        return hash(self.id)

    def _repr_html_(self) -> str:
        row = self._row()
        facts = {
            "run": row.id,
            "name": row.name,
            "status": _status(row),
            "cost": f"{words.money(self.cost())}",
            **{name: f"{points[-1][1]:g}" for name, points in self.metrics().items()},
            **({"error": row.error} if row.error else {}),
            **({"report": str(self.report)} if self.report.exists() else {}),
        }
        lines = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table>{''.join(lines)}</table>"

    def _row(self) -> records.Run:
        with _open(self._home) as store:
            return store.run(self.id)

    def _look_after(self) -> None:
        background.ensure_running(self._home, os.environ)


def submit(  # noqa: PLR0913 - the options of `gpujob submit`
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    provider: str | Sequence[str] | None = None,
    gpu: str | None = None,
    spot: bool | None = None,
    image: str | None = None,
    max_cost: Decimal | float | str | None = None,
    max_duration: Duration | None = None,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    any_size: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> Run:
    """Submit a train.yaml, or its content as a dict whose paths count from the current directory.

    The keywords stand in for what the file says, as the options of `gpujob submit` do. Raises SpecError with every
    mistake at once, SecretMissing, or SubmissionError; then nothing was submitted.
    """
    from orchestrator import submission

    place = _home(home)
    changes = overrides(
        providers=[provider] if isinstance(provider, str) else provider,
        gpu=gpu,
        spot=spot,
        image=image,
        max_cost=max_cost,
        max_duration=max_duration,
        name=name,
        env=env,
    )
    wanted = source if isinstance(source, Mapping) else Path(source)
    prepared = submission.prepare(wanted, home=place, env=os.environ, overrides=changes)
    with _open(place) as store:
        row = submission.submit(prepared, store=store, home=place, env=os.environ, any_size=any_size)
    background.ensure_running(place, os.environ)
    return Run(row.id, home=place)


def runs(
    limit: int | None = 20, *, active: bool | None = None, home: str | os.PathLike[str] | None = None
) -> list[Run]:
    """Runs, newest first."""
    place = _home(home)
    with _open(place) as store:
        return [Run(row.id, home=place) for row in store.runs(limit=limit, active=active)]


def get(run: str, *, home: str | os.PathLike[str] | None = None) -> Run:
    """The run of this id, unique prefix of an id, or name (the newest). Raises RunNotFound, RunAmbiguous."""
    place = _home(home)
    with _open(place) as store:
        return Run(store.find(run).id, home=place)


def prices(  # noqa: PLR0913 - the options of `gpujob prices`
    gpu: str | Sequence[str] = (),
    *,
    for_: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    provider: str | Sequence[str] = (),
    region: str | Sequence[str] = (),
    spot: bool | None = None,
    env: Mapping[str, str] | None = None,
    hours: Number | None = None,
    disk_gb: Number | None = None,
    egress_gb: Number | None = None,
    ingress_gb: Number | None = None,
    sort: str = "total",
    timeout: float = 20,
    home: str | os.PathLike[str] | None = None,
) -> Prices:
    """What could be rented now, ranked as `gpujob prices` ranks it: by the total for these hours, disk and traffic.

    `gpu` is NAME or NAME:COUNT, or several of them; "cpu" for machines without one. 1 hour, 20 GB of disk and no
    traffic unless something else is said. All clouds are asked at once, and each may take `timeout` seconds; of one
    that does not answer there is what was last heard, as `is_stale`. `sort` is total, hour, gpu-hour, tflop,
    reliability or provider. Raises UnknownName for a GPU or a provider that there is not, and ValueError for another
    order or a negative amount.

    `for_` is a train.yaml, or its content as `submit` takes it: then the other arguments stand in for what it says, the
    total is what the job would cost, `estimate` of each offer is how long it would take and what that rests on,
    `is_best` whether no other offer beats it in both, and `sort` may be time. `hours` is what is assumed where nothing
    is known. Raises SpecError and SubmissionError, too.
    """
    from orchestrator.prices import ORDERS, Market

    if sort not in ORDERS:
        raise ValueError(f"there is no order {sort!r}; there are: {', '.join(ORDERS)}")
    if for_ is None and (env or sort == "time"):
        raise ValueError("env and sort='time' are about a job: say which with for_")
    amounts = {"hours": hours, "disk_gb": disk_gb, "egress_gb": egress_gb, "ingress_gb": ingress_gb}
    stated = {name: Decimal(str(amount)) for name, amount in amounts.items() if amount is not None}
    if not all(amount.is_finite() and amount >= 0 for amount in stated.values()):
        raise ValueError("hours and GB are numbers from 0 on")
    place = _home(home)
    whose = {"gpus": _several(gpu), "providers": _several(provider), "regions": _several(region), "spot": spot}
    asked = _about_work(whose, stated) if for_ is None else _about_a_job(for_, {**whose, "env": env, **stated}, place)
    return Prices(Market(asked, home=place, env=os.environ).rank(sort=sort, seconds=timeout))


def overrides(
    *,
    providers: Sequence[str] | None = None,
    gpu: str | None = None,
    spot: bool | None = None,
    max_duration: Duration | None = None,
    env: Mapping[str, str] | None = None,
    **plain: object,
) -> dict[str, object]:
    """What is to stand in for parts of a spec, by dotted key. None: as the file says."""
    changes: dict[str, object] = {_KEYS[name]: str(value) for name, value in plain.items() if value is not None}
    if max_duration is not None:
        changes["limits.max_duration"] = _duration(max_duration)
    if providers:
        changes["place.providers"] = list(providers)
    if gpu is not None:
        changes["resources.gpu"] = gpu
    if spot is not None:
        changes["place.spot"] = "allow" if spot else "never"
    changes.update({f"env.{name}": value for name, value in (env or {}).items()})
    return changes


_KEYS = {
    "name": "name",
    "project": "project",
    "image": "image",
    "max_cost": "limits.max_cost",
    "max_price": "limits.max_price_per_hour",
}


def _about_work(whose: Mapping[str, Any], stated: Mapping[str, Decimal]) -> Asked:
    from orchestrator.prices import Stated, Wanted, Work

    return Stated(Wanted(**whose), Work(**stated))


def _about_a_job(source: str | os.PathLike[str] | Mapping[str, Any], changes: Mapping[str, Any], home: Home) -> Asked:
    from orchestrator.job_prices import Changes, ask_for

    wanted = source if isinstance(source, Mapping) else Path(source)
    with _open(home) as store:
        return ask_for(wanted, Changes(**changes), store=store, home=home, env=os.environ)


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _duration(value: Duration) -> str:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return value if isinstance(value, str) else f"{Decimal(str(value)):f}s"


def _status(row: records.Run) -> str:
    return row.outcome.value if row.outcome and row.is_over else row.phase.value


def _home(chosen: str | os.PathLike[str] | None) -> Home:
    return Home.find() if chosen is None else Home(Path(chosen).expanduser().absolute())


@contextmanager
def _open(home: Home) -> Iterator[Store]:
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store.open(home.database_url())
    try:
        yield store
    finally:
        store.close()
