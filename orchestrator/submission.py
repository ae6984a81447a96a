"""From a train.yaml to a row that a controller will advance: validate, price, pack, write down.

Owns the order in which this happens: the files of a run are complete before its row exists. Asks nobody and prints
nothing; what a person has to agree to is said by `Prepared.objection`. Advances no run.
"""

from __future__ import annotations

import getpass
import json
import re
import secrets as randomness
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import providers
from jobs import bundle as bundles
from jobs import loader
from jobs.bundle import Bundle
from jobs.problems import SpecError
from jobs.spec import Spec, Vocabulary
from orchestrator import secrets
from orchestrator.home import Home, RunFolder
from orchestrator.records import Event, Json, Phase, Run
from orchestrator.reports import words
from orchestrator.store.errors import RunNotFound
from orchestrator.store.store import Store
from providers import gpus
from providers.base import GB

if TYPE_CHECKING:
    from jobs.images import Login
    from orchestrator.placement import Ranking

BIG_BUNDLE = 10**9  # bytes: more than this is shipped only when somebody says that it is meant
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that is misread


class SubmissionError(Exception):
    """The job cannot be submitted as it is; the message says what to do."""


@dataclass(frozen=True)
class Prepared:
    """A job that could be submitted: valid, its secrets at hand, its files counted."""

    spec: Spec
    text: bytes  # train.yaml as written
    bundle: Bundle
    context: Path | None = None  # what `build` is built from

    @property
    def objection(self) -> str | None:
        """Why a person should agree first."""
        if self.bundle.bytes <= BIG_BUNDLE:
            return None
        largest = "".join(f"\n  {words.size(count):>9}  {name}" for name, count in self.bundle.largest(5))
        return (
            f"workdir has {words.size(self.bundle.bytes)} in {words.plural(len(self.bundle.files), 'file')}, and all "
            f"of it would be shipped. The largest:{largest}\n"
            "Name what is not needed in .gpujobignore, or set a smaller workdir"
        )


@dataclass(frozen=True)
class Entry:
    """A run that is to be written down: its job, what fills its folder and says so in its notes, and other notes."""

    spec: Spec
    files: Callable[[RunFolder], Json]
    notes: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Where the job would run now, best first, and what it can cost at the very worst."""

    spec: Spec
    ranking: Ranking
    worst_case_usd: Decimal


def vocabulary() -> Vocabulary:
    """The words that a spec may use."""
    return Vocabulary(
        gpus=gpus.canonical, gpu_names=gpus.names(), providers=providers.names(), ambiguous=gpus.ambiguous
    )


def prepare(
    source: Path | Mapping[str, Any],
    *,
    home: Home,
    env: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    for_later: bool = False,
) -> Prepared:
    """Read and check all that can be checked here. Raises SpecError, SubmissionError, SecretMissing.

    For a job that is run later, by another process, its secrets need not be at hand now.
    """
    spec, text, folder = _load(source, overrides or {})
    return prepare_spec(spec, text, folder, home=home, env=env, for_later=for_later)


def prepare_spec(
    spec: Spec, text: bytes, folder: Path, *, home: Home, env: Mapping[str, str], for_later: bool = False
) -> Prepared:
    """The same for a spec that was read already; its paths count from `folder`."""
    if not for_later and (missing := secrets.check(spec.all_secrets, home, env)):
        raise secrets.SecretMissing(missing, home)
    workdir = (folder / Path(spec.workdir).expanduser()).resolve()
    if not workdir.is_dir():
        raise SubmissionError(f"workdir {spec.workdir!r} is no directory: {workdir}")
    return Prepared(spec, text, bundles.scan(workdir, leave_out=[home.root]), _context(spec, folder))


def submit(
    prepared: Prepared,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    any_size: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Run:
    """Write the run down, due now; nobody is told. Returns the run as stored.

    An image that is to be built is built first, and pushed; `say` hears what Docker says.
    """

    def files(folder: RunFolder) -> Json:
        return pack(prepared, folder, home=home, env=env, any_size=any_size, say=say)

    return enter(prepared.spec, files, store=store, home=home, env=env)


def pack(
    prepared: Prepared,
    folder: RunFolder,
    *,
    home: Home,
    env: Mapping[str, str],
    any_size: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Json:
    """Put the files of a run into its folder, which is there. Returns what the run's notes say about them."""
    if not any_size and prepared.objection is not None:
        raise SubmissionError(f"{prepared.objection}; --yes (in Python any_size=True) ships it as it is")
    image = _built(prepared, home, env, say)
    folder.spec.write_bytes(prepared.text)
    return {
        "bundle_digest": bundles.write(prepared.bundle, folder.bundle),
        **image,
        "bundle_bytes": prepared.bundle.bytes,
        "bundle_files": len(prepared.bundle.files),
    }


def enter(
    spec: Spec,
    files: Callable[[RunFolder], Json],
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    notes: Json | None = None,
    add: Callable[[Run, Sequence[Event]], None] | None = None,
) -> Run:
    """Write a run down whose folder `files` fills, due now; it answers with the run's notes, to which `notes` come.

    `add` writes the row; by default the store does. When anything goes wrong nothing of the run stays.
    """

    def add_one(runs: Sequence[tuple[Run, Sequence[Event]]]) -> None:
        (add or store.add_run)(*runs[0])

    return enter_all([Entry(spec, files, notes or {})], store=store, home=home, env=env, add=add_one)[0]


def enter_all(
    entries: Sequence[Entry],
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    add: Callable[[Sequence[tuple[Run, Sequence[Event]]]], None],
) -> list[Run]:
    """Several runs that belong together: all of them are written down, by one call of `add`, or none."""
    taken: list[str] = []
    try:
        runs = []
        for entry in entries:
            taken.append(new_run_id(store, home))
            made = entry.files(home.run(taken[-1]))
            secrets.hand_over(taken[-1], entry.spec.all_secrets, home, env)
            runs.append(_row(taken[-1], entry.spec, {**made, **entry.notes}, store.now(), env))
        add([(run, [_submitted(run)]) for run in runs])
        return runs
    except BaseException:
        for run_id in taken:
            secrets.forget(run_id, env)
            shutil.rmtree(home.run(run_id).root, ignore_errors=True)
        raise


def plan(spec: Spec, *, store: Store, home: Home, env: Mapping[str, str], ships_bytes: int = 0) -> Plan:
    """Ask every provider that the spec allows what it offers now. Rents nothing, writes nothing but what they ask for.

    A cloud at which nothing fits is passed over with what its nearest offers lack.
    """
    from orchestrator import clouds, past_runs, placement
    from orchestrator.price_history import PriceHistory

    opened, closed = clouds.open_all(clouds.named(spec.place.providers), home=home, env=env)
    shipped = Decimal(ships_bytes) / GB
    note = PriceHistory(home).note
    expected = past_runs.estimates(store, spec, speeds=past_runs.measured_speeds(store))
    ranking = placement.quote(
        spec, opened, remembered=store.remembered(), expected=expected, ingress_gb=shipped, note=note
    )
    answered = {item.offer.provider for item in ranking.offers} | {*ranking.unavailable, *ranking.passed_over}
    without = placement.what_is_lacking(spec, [provider for provider in opened if provider.name not in answered])
    nothing = {name: "; ".join(("no offer fits", *lacks)) for name, lacks in without.items()}
    unavailable = {**closed, **ranking.unavailable}
    ranking = replace(ranking, unavailable=unavailable, passed_over={**ranking.passed_over, **nothing})
    return Plan(spec, ranking, _worst_case(spec, ranking))


def owner(env: Mapping[str, str]) -> str:
    """Who the machines belong to, as every cloud can write it."""
    chosen = env.get("GPUJOB_OWNER") or f"{_user()}-{socket.gethostname().partition('.')[0]}"
    return re.sub(r"[^a-z0-9]+", "-", chosen.lower()).strip("-")[:48] or "somebody"


def new_run_id(store: Store, home: Home) -> str:
    """An id that neither the store nor a folder has; its folder is made, for the owner only."""
    runs = home.run("").root
    runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        run_id = "r-" + "".join(randomness.choice(_ALPHABET) for _ in range(6))
        try:
            store.run(run_id)
        except RunNotFound:
            try:
                home.run(run_id).root.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return run_id


def _load(source: Path | Mapping[str, Any], overrides: Mapping[str, object]) -> tuple[Spec, bytes, Path]:
    """The spec, its text, and the folder from which its paths count."""
    if isinstance(source, Path):
        try:
            spec = loader.load(source, vocabulary=vocabulary(), overrides=overrides)
        except SpecError:
            _refuse_suite(source)
            raise
        return spec, source.read_bytes(), source.absolute().parent
    return _load_content(source, overrides)


def _refuse_suite(file: Path) -> None:
    """A suite's keys are none of a job: one line says what it is, instead of one for each key."""
    from jobs import suite

    if suite.is_suite(file):
        raise SubmissionError(f"{file} is a suite, not a job: `gpujob bench run {file}` takes it") from None


def _load_content(content: Mapping[str, Any], overrides: Mapping[str, object]) -> tuple[Spec, bytes, Path]:
    """A spec that is written in Python: its paths count from the current directory, which also names it."""
    here = Path.cwd()
    absolute = {**content, "workdir": str(here / str(content.get("workdir", ".")))}
    with tempfile.TemporaryDirectory(prefix="gpujob-") as temporary:
        written = Path(temporary) / (here.name or "job") / "train.yaml"
        written.parent.mkdir()
        written.write_text(json.dumps(absolute, indent=2, default=str))  # JSON is YAML
        try:
            spec = loader.load(written, vocabulary=vocabulary(), overrides=overrides)
        except SpecError as error:
            raise SpecError(replace(problem, file="job", line=0, column=0) for problem in error.problems) from None
        return spec, written.read_bytes(), here


def _context(spec: Spec, folder: Path) -> Path | None:
    """The directory that an image is built from; it and the Dockerfile must be there."""
    if spec.build is None:
        return None
    context = (folder / Path(spec.build.context).expanduser()).resolve()
    if not (context / spec.build.dockerfile).is_file():
        raise SubmissionError(f"build: there is no {context / spec.build.dockerfile}")
    return context


def _built(prepared: Prepared, home: Home, env: Mapping[str, str], say: Callable[[str], None]) -> dict[str, str]:
    """The run's notes about the image that was built for it."""
    build, context = prepared.spec.build, prepared.context
    if build is None or context is None:
        return {}
    from jobs import images

    try:
        image = images.build(context, build.dockerfile, build.push or f"gpujob/{prepared.spec.name}", env=env, say=say)
        if build.push is not None:
            images.push(image, _login(prepared.spec, home, env), env=env, say=say)
    except images.ImageError as error:
        raise SubmissionError(f"build: {error}") from None
    return {"image": image}


def _login(spec: Spec, home: Home, env: Mapping[str, str]) -> Login | None:
    from jobs.images import Login

    if spec.registry is None:
        return None
    password = secrets.resolve("", [spec.registry.password], home, env)[spec.registry.password]
    return Login(spec.registry.server, spec.registry.username, password)


def _row(run_id: str, spec: Spec, notes: Json, now: datetime, env: Mapping[str, str]) -> Run:
    return Run(
        id=run_id,
        name=spec.name,
        owner=owner(env),
        project=spec.project,
        spec=spec.to_json(),
        created_at=now,
        phase=Phase.QUOTE,
        phase_since=now,
        due_at=now,
        notes=notes,
    )


def _submitted(run: Run) -> Event:
    shipped = f"{words.plural(run.notes['bundle_files'], 'file')}, {words.size(run.notes['bundle_bytes'])}"
    by = f" by schedule {run.notes['schedule']['name']}" if "schedule" in run.notes else ""
    text = f"submitted{by} with {shipped}"
    return Event(run_id=run.id, attempt=0, at=run.created_at, phase=Phase.QUOTE, kind="phase", text=text, details={})


def _worst_case(spec: Spec, ranking: Ranking) -> Decimal:
    """When every attempt lasts to its deadline, on the dearest offer that may be chosen."""
    from orchestrator import ledger, placement

    disk = Decimal(spec.resources.disk) / GB
    worst = [placement.at_worst(item.offer, spec.limits.max_price_per_hour) for item in ranking.eligible]
    hourly = [placement.total_usd(offer, hours=Decimal(1), disk_gb=disk) for offer in worst]
    return ledger.worst_case(spec.limits, usd_per_hour=max(hourly, default=Decimal(0)), attempts=spec.retry.attempts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in many containers
        return "somebody"
