"""A benchmark suite: tasks x machines, each pair a job, and the metrics that matter of it.

Its own keys are in suite_keys.py; all others mean what they mean in train.yaml, for the whole suite, a task or a
target. Every mistake is found before anything is run, at its line. Knows no run, store or cloud.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import document, loader, quantities, repeats
from jobs.document import KEY, Document
from jobs.fields import Section
from jobs.problems import Problem, SpecError, suggestion
from jobs.spec import Spec, Vocabulary
from jobs.suite_keys import LEAST_FILE, Caps, Measure, Suite, Target, Task

Machine = tuple[str, str, str]  # target, GPU, provider; "" where a target leaves it open

MOST_CELLS = 500
_CENT = Decimal("0.01")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One job of a suite: a task on a machine. `provider` is "" where any will do."""

    task: str
    target: str
    gpu: str
    provider: str
    spec: Spec
    measure: Mapping[str, Measure]

    @property
    def text(self) -> bytes:
        """As a train.yaml that says the same; JSON is YAML."""
        return json.dumps(self.spec.to_json(), indent=2).encode()


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A suite and all its jobs, in the order in which they are to be run."""

    suite: Suite
    cells: tuple[Cell, ...]


def is_suite(path: Path, *, least: str = loader.LEAST_FILE) -> bool:
    """Whether a file describes a suite, and not one job; with `tasks` misspelled too, where it cannot be a job.

    Raises SpecError for what cannot be read; of an empty file it says that it needs at `least` this.
    """
    keys = loader.read(path, least=least).value
    return "tasks" in keys or ("run" not in keys and any(_meant(key) for key in keys))


def load(path: Path, *, vocabulary: Vocabulary, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Read and check a suite and every job in it; `overrides` are for each of them. Raises SpecError."""
    written = loader.read(path, least=LEAST_FILE)
    _spell(written)
    if written.value.get("name") is None:
        written.value["name"] = loader.name_of(path)
    suite, own_problems = _own_keys(path, written, vocabulary)
    problems = {*own_problems, *_unknown_keys(path, written)}
    cells: list[Cell] = []
    for one in _cells(path, written, suite, vocabulary, overrides or {}) if suite else ():
        if isinstance(one, Cell):
            cells.append(one)
        else:
            problems.add(one)
    if problems or suite is None:
        raise SpecError(sorted(problems))
    return Loaded(suite=suite, cells=tuple(cells))


def _cells(
    path: Path, written: Document, suite: Suite, vocabulary: Vocabulary, overrides: Mapping[str, object]
) -> Iterator[Cell | Problem]:
    """All jobs, and what is wrong with any."""
    places = [(task, *machine) for machine in _machines(suite) for task in suite.tasks]
    if len(places) > MOST_CELLS:
        yield from loader.refused(
            path, f"makes {len(places)} jobs, more than {MOST_CELLS}; name fewer tasks or machines"
        ).problems
        return
    for task, target, gpu, provider in places:
        job = _job(written, suite, task, (target, gpu, provider))
        loader.override(job, overrides)
        yield from _share_out(path, written, job, suite.caps.cost, jobs=len(places))
        try:
            spec = _repeated(loader.checked(path, job, vocabulary), suite)
        except SpecError as error:
            yield from error.problems
            continue
        measure = suite.tasks[task].measure
        yield Cell(task=task, target=target, gpu=gpu, provider=provider, spec=spec, measure=measure)


def _spell(written: Document) -> None:
    """Put what stands under a misspelled `tasks` or `targets` where it belongs: it is checked in the same go."""
    for key in _foreign(written.value, Suite):
        section = _meant(key)
        if section is None or section in written.value:
            continue
        written.value[section] = written.value[key]
        inside = {path: mark for path, mark in written.marks.items() if path[:1] == (key,)}
        written.marks |= {(section, *path[1:]): mark for path, mark in inside.items()}


def _foreign(part: Any, model: type[Section]) -> list[str]:
    """The keys that are neither the suite's nor train.yaml's there; one without a value counts as not written."""
    known = model.model_fields.keys() | Spec.model_fields
    return [key for key in part if key not in known and part[key] is not None] if isinstance(part, dict) else []


def _meant(key: str) -> str | None:
    """The section of a suite that this key is, or is a misspelling of."""
    return next((section for section in _INNER if f"`{section}`" in suggestion(key, _INNER)), None)


def _machines(suite: Suite) -> Iterator[Machine]:
    for name, target in suite.targets.items():
        for gpu in target.gpus or ("",):
            for provider in target.providers or ("",):
                yield name, gpu, provider


_INNER: Mapping[str, type[Section]] = {"tasks": Task, "targets": Target}


def _own_keys(path: Path, written: Document, vocabulary: Vocabulary) -> tuple[Suite | None, Sequence[Problem]]:
    """The suite; or what is wrong with it, and what of it is enough to make its jobs, which are checked as well."""
    own = {key: value for key, value in written.value.items() if key in Suite.model_fields}
    for section, model in _INNER.items():
        if isinstance(parts := own.get(section), dict):
            own[section] = {name: _of_model(part, model) for name, part in parts.items()}
    try:
        return loader.validated(path, Document(own, written.marks, written.mistakes), Suite, vocabulary), ()
    except SpecError as error:
        with suppress(ValidationError):
            return Suite.model_validate(_sound(own)), error.problems
        return None, error.problems


def _of_model(part: Any, model: type[Section]) -> Any:
    return {key: part[key] for key in part if key in model.model_fields} if isinstance(part, dict) else part


def _sound(own: Mapping[str, Any]) -> dict[str, Any]:
    """The names, those machines that are named as they should be, and what all may cost."""
    tasks, targets = (
        {name: part for name, part in _mapped(own, key).items() if isinstance(part, dict)} for key in _INNER
    )
    named = {
        name: {axis: part[axis] for axis in Target.model_fields if _are_texts(part.get(axis))}
        for name, part in targets.items()
    }
    sound: dict[str, Any] = {"name": "suite", "tasks": {name: {} for name in tasks}}
    if named:
        sound["targets"] = named
    if len(tasks) < len(_mapped(own, "tasks")) or named != _mapped(own, "targets"):
        return sound  # how many runs share what caps allow is not known
    with suppress(ValidationError):
        sound["caps"] = Caps.model_validate(own.get("caps") or {})
    return sound


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is str for item in value)


def _unknown_keys(path: Path, written: Document) -> Iterator[Problem]:
    """Of the suite itself, its tasks and its targets; what is deeper in a key is checked with that."""
    parts: list[tuple[document.Path, Any, type[Section]]] = [((), written.value, Suite)]
    for section, model in _INNER.items():
        parts += [((section, name), part, model) for name, part in _mapped(written.value, section).items()]
    for where, part, model in parts:
        siblings = list(dict.fromkeys((*model.model_fields, *Spec.model_fields)))
        for key in _foreign(part, model):
            message = loader.unknown_key(key, siblings, Suite, Spec)
            yield loader.mistake(path, written, (*where, key, KEY), message)


def _job(written: Document, suite: Suite, task: str, machine: Machine) -> Document:
    """One job's part of the file: what is said for all, then for its task, then for its target, then by the axes."""
    target, gpu, provider = machine
    job = Document({}, {(): written.marks[("tasks", task)]}, sources={(): ("tasks", task)})
    for where, model in (((), Suite), (("tasks", task), Task), (("targets", target), Target)):
        _lay_all(job, written, where, model)
    ours: dict[str, object] = {"name": f"{suite.name}.{task}"[:60].rstrip(".")}
    labels = {"suite": suite.name, "task": task, "target": target}
    ours |= {f"labels.{name}": value for name, value in labels.items() if name not in _mapped(job.value, "labels")}
    loader.override(job, ours)
    said = suite.targets[target]
    if gpu:
        _set(job, written, ("resources", "gpu"), gpu, ("targets", target, "gpus", said.gpus.index(gpu)))
    if provider:
        source = ("targets", target, "providers", said.providers.index(provider))
        _set(job, written, ("place", "providers"), [provider], source)
    return job


def _share_out(path: Path, written: Document, job: Document, cap: Decimal | None, *, jobs: int) -> Iterator[Problem]:
    """Give the job its share of what all may cost, unless it has a limit of its own; what cannot fit is a problem."""
    if cap is None:
        return
    own = _mapped(job.value, "limits").get("max_cost")
    if own is None:
        least = jobs * _CENT
        share = (max(cap, least) / jobs).quantize(_CENT, rounding=ROUND_DOWN)
        loader.override(job, {"limits.max_cost": share})
        if cap < least:
            message = (
                f"${cap:f} is less than a cent for each of {jobs} runs; write at least {least}, or name fewer runs"
            )
            yield loader.mistake(path, written, ("caps", "cost"), message)
        return
    with suppress(ValueError):  # what is no price is found with the job
        if (most := quantities.price(own)) > cap:
            together = f"is more than the ${cap:f} that all runs together may cost"
            message = f"${most:f} {together}; write at most {cap:f}, or a higher caps.cost"
            yield loader.mistake(path, job, ("limits", "max_cost"), message)


def _lay_all(job: Document, written: Document, where: document.Path, model: type[Section]) -> None:
    part: Any = written.value
    for key in where:
        part = part.get(key, {}) if isinstance(part, dict) else {}
    for key in part if isinstance(part, dict) else ():
        if key in Spec.model_fields and key not in model.model_fields:
            _lay(job, (key,), part[key], written, (*where, key))


def _lay(job: Document, at: document.Path, value: Any, written: Document, source: document.Path) -> None:
    """Put what is written at `source` over what the job has: key by key where both are mappings, else in its place."""
    here = job.value
    for key in at[:-1]:
        here = here[key]
    if isinstance(value, dict) and isinstance(here.get(at[-1]), dict):
        for key, inner in value.items():
            _lay(job, (*at, key), inner, written, (*source, key))
        return
    here[at[-1]] = copy.deepcopy(value)
    job.marks = {path: mark for path, mark in job.marks.items() if path[: len(at)] != at}
    job.sources = {path: known for path, known in job.sources.items() if path[: len(at)] != at} | {at: source}
    size = len(source)
    job.marks |= {(*at, *path[size:]): mark for path, mark in written.marks.items() if path[:size] == source}


def _set(job: Document, written: Document, at: document.Path, value: Any, source: document.Path) -> None:
    """What an axis of the suite says; a mistake in it is one of the axis."""
    loader.override(job, {".".join(map(str, at)): value})
    mark = written.marks.get(source, written.marks[()])
    inside = [path for path in job.marks if path[: len(at)] == at]
    job.marks |= dict.fromkeys(inside, mark)
    job.sources |= dict.fromkeys(inside, source)


def _mapped(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = value.get(key)
    return part if isinstance(part, dict) else {}


def _repeated(spec: Spec, suite: Suite) -> Spec:
    patterns = {**spec.metrics.patterns, repeats.MARK: repeats.PATTERN}
    return spec.model_copy(
        update={
            "run": repeats.wrapped(spec.run, warmup=suite.warmup, repeats=suite.repeats),
            "metrics": spec.metrics.model_copy(update={"patterns": patterns}),
        }
    )
