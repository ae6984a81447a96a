"""train.yaml as values: what to run, what it needs, where it may run and what it may cost.

Owns every key of a spec, its type and its default. Must not know YAML, files, clouds or the store: the names of GPUs
and providers come in as a Vocabulary, the validation context. Without one, names are taken as canonical already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from jobs.fields import (
    Artifacts,
    CheckpointPath,
    Command,
    Cpus,
    Directory,
    Dollars,
    Duration,
    Env,
    Flag,
    Image,
    Labels,
    Name,
    Patterns,
    Regions,
    Secret,
    Secrets,
    Section,
    Share,
    Size,
    Text,
    choice,
    counted,
    listed,
    text,
    unknown,
)
from jobs.problems import Figure, either, found, shown

_GPU_EXAMPLE = 'RTX4090:1, a list of such names, {memory: ">=24GB", count: 1}, or cpu'
_MOST_GPUS = 64


def _one_meaning(_text: str) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Vocabulary:
    """The names that exist.

    `gpus` takes any spelling to the canonical name, or to None; `ambiguous` names the GPUs that an incomplete spelling
    such as H100 may mean.
    """

    gpus: Callable[[str], str | None]
    gpu_names: tuple[str, ...]
    providers: tuple[str, ...]
    ambiguous: Callable[[str], tuple[str, ...]] = _one_meaning


def _gpu_name(value: Any, info: ValidationInfo) -> str | None:
    if value is None:
        return None
    name = text(value, example="RTX4090")
    if info.context is None:
        return name
    if canonical := info.context.gpus(name):
        return str(canonical)
    if several := info.context.ambiguous(name):
        raise ValueError(f"{shown(name)} can be several GPUs; write {either(several)}, or a list of them")
    problem = unknown("GPU", name, info.context.gpu_names)
    if "did you mean" in str(problem):
        raise problem
    raise ValueError(f'{problem}; write a name such as RTX4090, L4 or A100-80GB, or {{memory: ">=24GB"}} for any GPU')


def _provider(value: Any, info: ValidationInfo) -> str:
    name = text(value, example="local")
    if info.context is not None and name not in info.context.providers:
        raise unknown("provider", name, info.context.providers)
    return name


def _choices(value: Any) -> Any:
    """`cpu`, one GPU or a list of them, as a list of GPUs."""
    if isinstance(value, (list, tuple)):
        if any(_is_cpu(item) for item in value):
            raise ValueError("`cpu` cannot be one of several; write gpu: cpu, or only GPUs")
        return value
    if _is_cpu(value):
        return ()
    return (value,)


def _is_cpu(value: Any) -> bool:
    return isinstance(value, str) and value.strip().casefold() in ("cpu", "none")


def _nodes(value: Any) -> int:
    if isinstance(value, str) and value.strip() == "1":
        return 1
    if value == 1 and not isinstance(value, bool):
        return 1
    raise ValueError("several nodes are not supported yet; write 1, or leave it out")


class GpuChoice(Section):
    """One kind of GPU that will do, and how many of it."""

    example: ClassVar[str] = _GPU_EXAMPLE

    name: Annotated[str | None, BeforeValidator(_gpu_name), WithJsonSchema({"type": "string"})] = Field(
        default=None, description="The GPU, such as RTX4090 or A100-80GB. Without it, any GPU."
    )
    count: Annotated[
        int,
        counted(most=_MOST_GPUS, example=1),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MOST_GPUS}),
    ] = Field(default=1, description="How many, on one machine. Default: 1.")
    memory: Size | None = Field(default=None, description='The least memory of each GPU, such as ">=24GB".')

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        if isinstance(value, str) and not isinstance(value, Figure):
            name, colon, count = value.rpartition(":")
            return {"name": name, "count": count} if colon else {"name": value}
        if isinstance(value, Mapping) and not value:
            raise ValueError(f"is empty; write {_GPU_EXAMPLE}")
        if not isinstance(value, (Mapping, GpuChoice)):
            raise ValueError(f"{found(value)}; write {_GPU_EXAMPLE}")
        return value


_GpuText = Annotated[str, WithJsonSchema({"type": "string", "examples": ["RTX4090:1", "A100-80GB:8", "cpu"]})]


class Resources(Section):
    """What the machine must have."""

    example: ClassVar[str] = "{gpu: RTX4090:1, disk: 40GB}"

    gpu: Annotated[
        tuple[GpuChoice, ...],
        BeforeValidator(_choices, json_schema_input_type=_GpuText | GpuChoice | list[_GpuText | GpuChoice]),
    ] = Field(
        default=(),
        description='NAME:COUNT, a list in order of preference, {memory: ">=24GB", count: 1}, or cpu (default).',
    )
    cpus: Cpus | None = Field(default=None, description='The least number of CPUs, such as ">=4".')
    memory: Size | None = Field(default=None, description='The least main memory, such as ">=16GB".')
    disk: Size = Field(default=20 * 10**9, description="The least disk, such as 40GB. Default: 20GB.")


class Place(Section):
    """Where the job may run."""

    example: ClassVar[str] = "{providers: [local], spot: never}"

    providers: Annotated[
        tuple[Annotated[str, BeforeValidator(_provider), WithJsonSchema({"type": "string"})], ...],
        listed("[local]"),
    ] = Field(
        default=(),
        description="The providers that may be used; the cheapest that fits is. Default: all that are set up.",
    )
    regions: Regions = Field(default=(), description="The regions that may be used. Default: all.")
    spot: Annotated[Literal["never", "allow", "only"], choice("never", "allow", "only")] = Field(
        default="never", description="Machines that the cloud may take away: never (default), allow or only."
    )
    reliability: Share | None = Field(
        default=None, description="The least reliability of a host where its cloud states one."
    )


class Limits(Section):
    """What the job may cost and how long it may take. It is stopped before it costs more."""

    example: ClassVar[str] = "{max_cost: 5.00, max_duration: 2h}"

    max_price_per_hour: Dollars | None = Field(default=None, description="The highest rate in US dollars per hour.")
    max_cost: Dollars = Field(
        default=Decimal("10.00"), description="The most that a run may cost in US dollars. Default: 10.00."
    )
    max_duration: Duration = Field(
        default=timedelta(hours=24), description="The longest that the job may run. Default: 24h."
    )


class Build(Section):
    """An image that is built from a Dockerfile, instead of `image`."""

    example: ClassVar[str] = "{context: ., dockerfile: Dockerfile, push: registry/name}"

    context: Directory = Field(default=".", description="The build's directory, relative to this file. Default: .")
    dockerfile: Text = Field(
        default="Dockerfile", description="The Dockerfile, relative to the context. Default: Dockerfile."
    )
    push: Text | None = Field(default=None, description="Where the image is pushed, such as registry/name.")


class Registry(Section):
    """Who may pull the image, and push what is built, where that needs a login."""

    example: ClassVar[str] = "{server: ghcr.io, username: alice, password: GHCR_TOKEN}"

    server: Text = Field(default="docker.io", description="The registry's host name. Default: docker.io.")
    username: Text = Field(description="The user's name there.")
    password: Secret = Field(
        description="The name of the secret that holds the password or token; the job does not see it."
    )


class MetricsSpec(Section):
    """What is read from the job's output, besides the JSON lines that it appends to $GPUJOB_METRICS."""

    example: ClassVar[str] = "{patterns: {loss: 'loss=([0-9.]+)'}}"

    patterns: Patterns = Field(
        default={},
        description="For each metric a regular expression; its one group catches the number in a line of output.",
    )


class CheckpointSpec(Section):
    """Where the job writes checkpoints, so that another attempt can go on from the newest."""

    example: ClassVar[str] = "{path: checkpoints, every: 5m}"

    path: CheckpointPath = Field(description="A directory inside workdir.")
    every: Duration = Field(
        default=timedelta(minutes=5), description="How often checkpoints are brought back. Default: 5m."
    )


class Retry(Section):
    """When a job is tried again: on lack of capacity, bad hosts and preemption; on its own failure only if asked."""

    example: ClassVar[str] = "{attempts: 4}"

    attempts: Annotated[
        int,
        counted(most=100, example=4),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100}),
    ] = Field(default=4, description="How many attempts a run has at most. Default: 4.")
    on_failure: Flag = Field(
        default=False, description="Whether a failure of the job itself is tried again. Default: false."
    )
    on_demand_last: Flag = Field(
        default=False, description="Whether the last attempt takes no machine that can be taken away. Default: false."
    )


class Spec(Section):
    """A job, as train.yaml describes it."""

    example: ClassVar[str] = "run: python train.py"

    name: Name = Field(description="The job's name. Default: the name of the directory that this file is in.")
    project: Name = Field(default="default", description="What the costs are booked on. Default: default.")
    labels: Labels = Field(default={}, description="Anything that runs are to be found or summed up by.")
    image: Image = Field(
        default=None, description="The container image; none runs the job as a plain process where that is possible."
    )
    build: Build | None = Field(default=None, description="Build the image from a Dockerfile instead.")
    registry: Registry | None = Field(default=None, description="The login of a private registry.")
    workdir: Directory = Field(
        default=".", description="The directory that is shipped, relative to this file. Default: ."
    )
    setup: Command | None = Field(
        default=None, description="A command that runs once before `run`, such as pip install."
    )
    run: Command = Field(description="The command that is the job.")
    nodes: Annotated[int, BeforeValidator(_nodes), WithJsonSchema({"const": 1})] = Field(
        default=1, description="How many machines. Only 1 is supported yet."
    )
    resources: Resources = Field(default=Resources(), description="What the machine must have.")
    place: Place = Field(default=Place(), description="Where the job may run.")
    limits: Limits = Field(default=Limits(), description="What the job may cost and how long it may take.")
    env: Env = Field(default={}, description="Variables for the job. Not for secrets.")
    secrets: Secrets = Field(
        default=(), description="Names of variables whose values come from the environment, a file or a keyring."
    )
    metrics: MetricsSpec = Field(default=MetricsSpec(), description="What is read from the job's output.")
    artifacts: Artifacts = Field(default=(), description="Patterns of files inside workdir that are brought back.")
    checkpoint: CheckpointSpec | None = Field(
        default=None, description="Where the job writes checkpoints, and how often."
    )
    retry: Retry = Field(default=Retry(), description="When the job is tried again.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for _, message in conflicts({key: getattr(self, key) for key in ("image", "build", "env", "secrets")}):
            raise ValueError(message)
        return self

    @property
    def all_secrets(self) -> tuple[str, ...]:
        """The names of all values that are looked up: the job's secrets, and the registry's password."""
        passwords = (self.registry.password,) if self.registry else ()
        return tuple(dict.fromkeys((*self.secrets, *passwords)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: money as strings, durations as seconds, sizes as bytes. The same spec gives the same JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Spec:
        """What `to_json` gave, in any version of gpujob: missing keys have their defaults, unknown ones are ignored."""
        return cls.model_validate(row, extra="ignore")


def conflicts(spec: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Keys that exclude each other, with the path of one of them. Takes values before validation as well."""
    image, build, env, secrets = (spec.get(key) for key in ("image", "build", "env", "secrets"))
    if build is not None and image is not None and str(image).casefold() != "none":
        yield ("build",), "`image` and `build` exclude each other; keep one"
    if isinstance(env, Mapping) and isinstance(secrets, (list, tuple)):
        for index, name in enumerate(secrets):
            if isinstance(name, str) and name in env:
                yield ("secrets", index), f"{shown(name)} is in `env` as well; keep it in `secrets` only"
