"""The keys of a benchmark suite's file that are no keys of train.yaml: what each means, and what it may say.

Knows one key at a time: neither the file, nor the jobs that are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from jobs import repeats
from jobs.fields import Dollars, Duration, Name, Section, Text, choice, counted, listed
from jobs.problems import found, shown

MOST_TIMES = 100
ALWAYS_MEASURED = (repeats.WALL_SECONDS, "usd_per_hour")
_TARGETS = "{gpu: {gpus: [RTX4090], providers: [vast]}}"
_TASKS = "{mnist: {run: python3 mnist.py}}"
_BETTER = {"type": "string", "enum": ["lower", "higher"], "examples": ["higher"]}
LEAST_FILE = f"tasks: {_TASKS}"


def _named(example: str) -> BeforeValidator:
    """A mapping with names as keys, and at least one of them."""

    def check(value: Any) -> Any:
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"{found(value) if value else 'is empty'}; write a name for each, such as {example}")
        return value

    return BeforeValidator(check)


def _of_its_own(metric: str) -> str:
    if metric in ALWAYS_MEASURED:
        raise ValueError("is measured of every task anyway; leave it out, or give what the job reports another name")
    return metric


class Measure(Section):
    """A metric that matters, and which way is better."""

    example: ClassVar[str] = "{better: higher, unit: samples/s}"

    better: Annotated[Literal["lower", "higher"], choice("lower", "higher"), WithJsonSchema(_BETTER)] = Field(
        description="lower for times and losses, higher for rates."
    )
    unit: Text = Field(default="", description="What one of it is, such as s or samples/s.")
    work: Text | None = Field(
        default=None, description="For a rate per second: what it counts, such as samples. Its price per unit is told."
    )

    @field_validator("work")
    @classmethod
    def _of_a_rate(cls, work: str | None, info: ValidationInfo) -> str | None:
        if work is not None and info.data.get("better") == "lower":
            raise ValueError(
                f"goes with a rate, of which higher is better; leave it out, or measure {shown(work)} per second "
                "with better: higher"
            )
        return work


class Caps(Section):
    """The most that the whole of it may take."""

    example: ClassVar[str] = "{cost: 10.00, time: 6h}"

    cost: Dollars | None = Field(default=None, description="In US dollars, all runs together.")
    time: Duration | None = Field(default=None, description="After this time nothing more is started.")


class Task(Section):
    """What is measured: any key of train.yaml besides."""

    example: ClassVar[str] = "{run: python3 mnist.py, measure: {loss: {better: lower}}}"

    measure: dict[Annotated[Text, AfterValidator(_of_its_own)], Measure] = Field(
        default={}, description="Metrics; the first one is the task's main one."
    )


class Target(Section):
    """On which machines: any key of train.yaml besides."""

    example: ClassVar[str] = "{gpus: [RTX4090], providers: [vast, runpod]}"

    gpus: Annotated[tuple[Text, ...], listed("[RTX4090:1, cpu]")] = Field(
        default=(), description="One job for each: NAME, NAME:COUNT or cpu. Default: what resources.gpu says."
    )
    providers: Annotated[tuple[Text, ...], listed("[vast, runpod]")] = Field(
        default=(), description="One job for each. Default: one, on the cheapest of all that place.providers allows."
    )


class Suite(Section):
    """The suite's own keys."""

    example: ClassVar[str] = LEAST_FILE

    name: Name = Field(description="The suite's name. Default: the name of the directory that this file is in.")
    tasks: Annotated[dict[Name, Task], _named(_TASKS), WithJsonSchema({"type": "object", "examples": [_TASKS]})] = (
        Field(description="What is measured.")
    )
    targets: Annotated[dict[Name, Target], _named(_TARGETS)] = Field(
        default={"local": Target(gpus=("cpu",), providers=("local",))},
        description="On which machines. Default: this computer's CPUs.",
    )
    warmup: Annotated[int, counted(most=MOST_TIMES, example=1, least=0)] = Field(
        default=1, description="Times that `run` is done on each machine and thrown away. Default: 1."
    )
    repeats: Annotated[int, counted(most=MOST_TIMES, example=3)] = Field(
        default=3, description="Times after these that are counted. Default: 3."
    )
    at_once: Annotated[int, counted(most=MOST_TIMES, example=4)] = Field(
        default=4, description="Rented machines at a time; your own computers do one job at a time. Default: 4."
    )
    caps: Caps = Field(default=Caps(), description="The most that all of it together may take.")
