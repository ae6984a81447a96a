"""From a train.yaml and overrides of the command line to a Spec, or to every mistake in them at once.

Owns reading the file, merging overrides into it, and putting each mistake at the line and column where it is written.
Must not know what a key means (spec.py), nor YAML (document.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from jobs import document
from jobs.document import KEY, Document, DocumentError, Mark
from jobs.problems import COMMAND_LINE, Figure, Problem, SpecError, looks_secret, suggestion
from jobs.spec import Spec, Vocabulary, conflicts

M = TypeVar("M", bound=BaseModel)

LEAST_FILE = "run: python train.py"

_MOST_BYTES = 1_000_000
_COMMAND_LINE_MARK: Mark = (0, 0)
_WITH_FREE_KEYS = (("env",), ("labels",), ("metrics", "patterns"))


def load(path: Path, *, vocabulary: Vocabulary, overrides: Mapping[str, object] | None = None) -> Spec:
    """Read and check a spec. `overrides` has dotted keys and replaces what the file says. Raises SpecError."""
    written = read(path)
    override(written, overrides or {})
    if written.value.get("name") is None:
        written.value["name"] = name_of(path)
    return checked(path, written, vocabulary)


def read(path: Path, *, least: str = LEAST_FILE) -> Document:
    """A file's keys and their places; `least` is what at least has to be in it. Raises SpecError."""
    written = _parse(path)
    if written.value is None:
        raise refused(path, f"is empty; write at least `{least}`")
    if not isinstance(written.value, dict):
        line, column = written.marks[()]
        found = "a list" if isinstance(written.value, list) else "plain text"
        message = f"found {found} instead of keys; begin with a key, such as `{least}`"
        raise SpecError([Problem(str(path), line, column, "", message)])
    return written


def checked(path: Path, written: Document, vocabulary: Vocabulary) -> Spec:
    """The spec that is written there. Raises SpecError with all that is wrong."""
    others = (*conflicts(written.value), *_missing_workdir(path, written.value))
    return validated(path, written, Spec, vocabulary, others)


def validated(
    path: Path,
    written: Document,
    model: type[M],
    vocabulary: Vocabulary,
    others: Iterable[tuple[document.Path, str]] = (),
) -> M:
    """The model with what is written. Raises SpecError with all mistakes; `others` are those that no model finds."""
    problems = {_problem(path, written, mark, where, message) for where, mark, message in written.mistakes}
    problems |= {mistake(path, written, where, message) for where, message in others}
    made = None
    try:
        made = model.model_validate(written.value, context=vocabulary)
    except ValidationError as error:
        # What has no place concerns several keys: `conflicts` has it, with a place.
        problems |= {_translated(path, dict(detail), written, model) for detail in error.errors() if detail["loc"]}
    if problems or made is None:
        raise SpecError(sorted(problems))
    return made


def override(written: Document, overrides: Mapping[str, object]) -> None:
    """Replace what is written by what the command line says, under dotted keys."""
    for dotted, value in overrides.items():
        *parents, last = _parts(dotted)
        section = written.value
        path: document.Path = ()
        for key in parents:
            path = (*path, key)
            if section.get(key) is None:
                section[key] = {}
                written.marks[path], written.sources[path] = _COMMAND_LINE_MARK, path
            section = section[key]
            if not isinstance(section, dict):
                break  # the file's own mistake, which is reported as that
        else:
            section[last] = _as_written(value)
            _mark_override(written, (*path, last), section[last])


def mistake(path: Path, written: Document, where: document.Path, message: str) -> Problem:
    """What is wrong with the value at `where`, or with the key itself when that ends with KEY."""
    return _problem(path, written, _nearest(where, written)[1], where, message)


def refused(path: Path, message: str) -> SpecError:
    """A mistake of the file as a whole."""
    return SpecError([Problem(str(path), 0, 0, "", message)])


def name_of(path: Path) -> str:
    """What a file without a name describes is called as its directory is."""
    directory = path.resolve().parent.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", directory).strip("._-")[:60] or "job"


def json_schema(vocabulary: Vocabulary | None = None) -> dict[str, Any]:
    """A JSON Schema of what a person may write, for editors. With a vocabulary, providers are offered by name."""
    schema: dict[str, Any] = _without_defaults(Spec.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "gpujob train.yaml"
    schema["required"] = ["run"]  # `name` has the directory's name as its default
    if vocabulary:
        schema["$defs"]["Place"]["properties"]["providers"]["items"]["enum"] = list(vocabulary.providers)
        schema["$defs"]["GpuChoice"]["properties"]["name"]["examples"] = list(vocabulary.gpu_names)
    return schema


def _parse(path: Path) -> Document:
    try:
        raw = _content(path)
        return document.parse(raw)
    except DocumentError as error:
        raise SpecError([Problem(str(path), *error.mark, "", str(error))]) from None
    except FileNotFoundError:
        raise refused(path, "there is no such file") from None
    except IsADirectoryError:
        raise refused(path, "is a directory; give the file in it, such as train.yaml") from None
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or 'the path is not usable'}") from None
    except ValueError:
        raise refused(path, "cannot be read: the path is not usable") from None


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise refused(path, "is larger than 1 MB; a spec has a few dozen lines, keep data in other files")
    return raw


def _parts(dotted: str) -> tuple[str, ...]:
    """The path of a dotted key. Names of variables, labels and metrics may hold dots themselves."""
    parts = tuple(dotted.split("."))
    for prefix in _WITH_FREE_KEYS:
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
            return (*prefix, ".".join(parts[len(prefix) :]))
    return parts


def _as_written(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_written(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_written(inner) for inner in value]
    if value is None or isinstance(value, (bool, str, timedelta)):
        return value
    return Figure(value)


def _mark_override(written: Document, path: document.Path, value: Any) -> None:
    """The value at `path` and all in it now comes from the command line; what the file had there is forgotten."""
    for inner in [known for known in written.marks if known[: len(path)] == path]:
        del written.marks[inner]
    written.mistakes = [known for known in written.mistakes if known[0][: len(path)] != path]
    written.marks[path] = written.marks[(*path, KEY)] = _COMMAND_LINE_MARK
    written.sources[path] = path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        _mark_override(written, (*path, key), inner)


def _missing_workdir(path: Path, spec: Mapping[str, Any]) -> Iterator[tuple[document.Path, str]]:
    workdir = spec.get("workdir")
    if not isinstance(workdir, str) or isinstance(workdir, Figure) or not workdir.strip():
        return
    try:
        exists = (path.parent / Path(workdir).expanduser()).is_dir()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: ~ of nobody
        exists = False
    if not exists:
        yield ("workdir",), "there is no such directory; write one relative to this file, such as ."


def _translated(path: Path, detail: dict[str, Any], written: Document, root: type[BaseModel]) -> Problem:
    """One of pydantic's errors in our words. Only these three kinds get out of the models."""
    where = _written_path(detail["loc"], written)
    nearest, mark = _nearest(where, written)
    if detail["type"] == "extra_forbidden":
        return mistake(path, written, (*where, KEY), _unknown_key(where, root))
    if detail["type"] == "missing":
        return _problem(path, written, mark, where, _missing(where, root, is_written=nearest == where))
    if detail["type"] == "value_error":
        return _problem(path, written, mark, nearest, str(detail["ctx"]["error"]))
    return _problem(path, written, mark, nearest, "cannot be used; compare it with the example in the documentation")


def _written_path(loc: document.Path, written: Document) -> document.Path:
    """Without the index that one GPU gets where a list of them may stand."""
    where: document.Path = ()
    for part in loc:
        if part != 0 or (*where, 0) in written.marks:
            where = (*where, part)
    return where


def _nearest(where: document.Path, written: Document) -> tuple[document.Path, Mark]:
    """The innermost thing around `where` that is written somewhere, and its place."""
    while where not in written.marks:
        where = where[:-1]
    return where, written.marks[where]


def _missing(where: document.Path, root: type[BaseModel], *, is_written: bool) -> str:
    model = _model(where[:-1], root)
    field = model.model_fields[str(where[-1])] if model else None
    schemas = [getattr(piece, "json_schema", None) or {} for piece in field.metadata] if field else []
    example = next((schema["examples"][0] for schema in schemas if schema.get("examples")), "...")
    return f"{'is empty' if is_written else 'is missing'}; write `{where[-1]}: {example}` or the like"


def _unknown_key(where: document.Path, root: type[BaseModel]) -> str:
    model = _model(where[:-1], root)
    return unknown_key(str(where[-1]), tuple(model.model_fields) if model else (), root)


def unknown_key(key: str, siblings: Sequence[str], *roots: type[BaseModel]) -> str:
    """What to write instead: one of the keys that may stand there, or the same one where the models have it."""
    if near := suggestion(key, siblings):
        return f"unknown key{near}"
    dotted_keys = [dotted for root in roots for dotted in _dotted_keys(root)]
    elsewhere = [dotted for dotted in dotted_keys if dotted.rpartition(".")[2] == key.casefold()]
    if elsewhere:
        at_the_top = "" if "." in elsewhere[0] else " at the top of the file"
        return f"unknown key here; did you mean `{elsewhere[0]}`{at_the_top}?"
    return f"unknown key; the keys here are {', '.join(siblings)}"


def _model(where: document.Path, root: type[BaseModel]) -> type[BaseModel] | None:
    """The model of what stands at `where`; names that a person chooses lead to no other."""
    model: type[BaseModel] | None = root
    is_free = False
    for part in where:
        if is_free or not isinstance(part, str):
            is_free = False
            continue
        field = model.model_fields.get(part) if model else None
        model = _inner_model(field.annotation) if field else None
        is_free = field is not None and get_origin(field.annotation) is dict
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _inner_model(inner))), None)


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield prefix + key
        if inner := _inner_model(field.annotation):
            named = "NAME." if get_origin(field.annotation) is dict else ""
            yield from _dotted_keys(inner, f"{prefix}{key}.{named}")


def _problem(path: Path, written: Document, mark: Mark, where: document.Path, message: str) -> Problem:
    file = COMMAND_LINE if mark == _COMMAND_LINE_MARK else str(path)
    return Problem(file, *mark, _dotted(written.source(where)), message)


def _dotted(where: document.Path) -> str:
    words = ""
    for part in where:
        if isinstance(part, int):
            words += f"[{part}]"
        elif part != KEY:
            words += ("." if words else "") + _key_shown(part)
    return words


def _key_shown(key: str) -> str:
    if len(key) > 60 or looks_secret(key):
        return "(not shown)"
    return "".join(char if char.isprintable() else "?" for char in key)


def _without_defaults(schema: Any) -> Any:
    """Defaults are in the descriptions, as a person would write them; titles only repeat the keys."""
    if isinstance(schema, list):
        return [_without_defaults(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    noise = {"default", "title"} if not isinstance(schema.get("title"), dict) else set()
    return {key: _without_defaults(inner) for key, inner in schema.items() if key not in noise}


__all__ = ["Problem", "SpecError", "json_schema", "load"]
