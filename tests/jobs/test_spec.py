"""The values of a spec: what each kind of quantity means, JSON and back, and that pydantic never speaks to a user."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from jobs import quantities
from jobs.fields import Section
from jobs.loader import json_schema
from jobs.problems import Figure, looks_secret, shown
from jobs.spec import (
    Build,
    CheckpointSpec,
    GpuChoice,
    Limits,
    MetricsSpec,
    Place,
    Resources,
    Retry,
    Spec,
    Vocabulary,
)

GB = 10**9
WRITE_SIZE = "write a size with its unit, such as 40GB, >=16GB or 512MiB"
UNITS = "s, m, h or d, such as 90s, 5m, 2h, 1d or 1h30m"


@pytest.mark.parametrize(
    ("read", "written", "value"),
    [
        (quantities.size, "40GB", 40 * GB),
        (quantities.size, ">=16GB", 16 * GB),
        (quantities.size, ">= 16 gb", 16 * GB),
        (quantities.size, "512MiB", 512 * 2**20),
        (quantities.size, "1.5TB", 1500 * GB),
        (quantities.size, "1TiB", 2**40),
        (quantities.size, 40 * GB, 40 * GB),
        (quantities.duration, "90s", timedelta(seconds=90)),
        (quantities.duration, "5m", timedelta(minutes=5)),
        (quantities.duration, "1h30m", timedelta(minutes=90)),
        (quantities.duration, "1d 2h", timedelta(hours=26)),
        (quantities.duration, "1.5h", timedelta(minutes=90)),
        (quantities.duration, 0.5, timedelta(seconds=0.5)),
        (quantities.price, Figure("0.80"), Decimal("0.80")),
        (quantities.price, "$0.80", Decimal("0.80")),
        (quantities.price, "5", Decimal(5)),
        (quantities.price, Figure("1e-1"), Decimal("0.1")),
        (quantities.cpus, ">=4", 4.0),
        (quantities.cpus, Figure("0.5"), 0.5),
        (quantities.share, Figure("0.98"), 0.98),
        (quantities.share, Figure("1"), 1.0),
    ],
)
def test_a_quantity_is_read_exactly(read: Callable[[object], object], written: object, value: object) -> None:
    assert read(written) == value


@pytest.mark.parametrize(
    ("read", "written", "message"),
    [
        (quantities.size, Figure("40"), '"40" has no unit; write 40GB (10**9 bytes) or 40GiB (2**30 bytes)'),
        (quantities.size, "40G", 'unknown unit "G"; write GB or GiB, such as 40GB'),
        (quantities.size, "4 parsecs", 'unknown unit "parsecs"; write KB, MB, GB, TB, KiB, MiB, GiB, TiB, such as 4GB'),
        (quantities.size, "-1GB", '"-1GB" is too little; write more than zero'),
        (quantities.size, "0GB", '"0GB" is too little; write more than zero'),
        (quantities.size, "0.1B", 'unknown unit "B"; write KB, MB, GB, TB, KiB, MiB, GiB, TiB, such as 0.1GB'),
        (quantities.size, "9999TB", '"9999TB" is too much; at most 1000TB'),
        (quantities.size, "<=4GB", '"<=4GB" cannot be asked for; only "at least" can, such as ">=16GB"'),
        (quantities.size, ">4GB", '">4GB" cannot be asked for; only "at least" can, such as ">=16GB"'),
        (quantities.size, "big", f'"big" is not a size; {WRITE_SIZE}'),
        (quantities.size, True, f"found a yes/no value; {WRITE_SIZE}"),
        (quantities.size, "9" * 500 + "GB", f"(too long to show) is not a size; {WRITE_SIZE}"),
        (quantities.duration, Figure("300"), '"300" has no unit; write 300s, 300m or 300h'),
        (quantities.duration, "5min", f'unknown unit "min"; write the duration in {UNITS}'),
        (quantities.duration, "-5m", '"-5m" is negative; write a duration of more than zero, such as 5m'),
        (quantities.duration, "0s", '"0s" is too little; write more than zero'),
        (quantities.duration, "1h-30m", f'"1h-30m" is not a duration; write it in {UNITS}'),
        (quantities.duration, "400d", '"400d" is too much; at most 365d'),
        (quantities.duration, "9" * 15 + "d", '"999999999999999d" is too much; at most 365d'),
        (quantities.price, "0,80", '"0,80" has a comma; write 0.80 with a point'),
        (quantities.price, Figure("0"), '"0" is too little; write more than zero'),
        (quantities.price, Figure("-3"), '"-3" is too little; write more than zero'),
        (quantities.price, Figure(".inf"), '".inf" is not a price; write US dollars as a number, such as 0.80'),
        (quantities.price, "NaN", '"NaN" is not a price; write US dollars as a number, such as 0.80'),
        (quantities.price, "1e99", '"1e99" is too much; at most 1000000'),
        (quantities.price, "1e999999999", '"1e999999999" is not a price; write US dollars as a number, such as 0.80'),
        (quantities.price, "free", '"free" is not a price; write US dollars as a number, such as 0.80'),
        (quantities.cpus, "many", '"many" is not a number of CPUs; write a number, such as 4 or ">=4"'),
        (quantities.cpus, Figure("0"), '"0" is too little; write more than zero'),
        (quantities.share, Figure("98"), '"98" is not a share; write a share above 0 and at most 1, such as 0.98'),
        (quantities.share, "98%", '"98%" is not a share; write a share above 0 and at most 1, such as 0.98'),
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_with_what_to_write(
    read: Callable[[object], object], written: object, message: str
) -> None:
    with pytest.raises(ValueError) as refused:
        read(written)
    assert str(refused.value) == message


def test_the_defaults_are_safe() -> None:
    spec = Spec(name="x", run="true")
    assert spec.limits == Limits(max_price_per_hour=None, max_cost=Decimal(10), max_duration=timedelta(hours=24))
    assert spec.resources == Resources(gpu=(), cpus=None, memory=None, disk=20 * GB)
    assert (spec.place.spot, spec.retry.attempts, spec.retry.on_failure) == ("never", 4, False)
    assert (spec.image, spec.build, spec.checkpoint, spec.workdir, spec.nodes) == (None, None, None, ".", 1)


def full_spec() -> Spec:
    return Spec.model_validate(
        {
            "name": "full",
            "project": "vision",
            "labels": {"team": "a"},
            "build": {"context": ".", "push": "registry/name"},
            "setup": "pip install x",
            "run": "python train.py",
            "resources": {"gpu": ["RTX4090:2", {"memory": ">=24GB"}], "cpus": ">=4", "memory": "16GB", "disk": "40GiB"},
            "place": {"providers": ["vast"], "regions": ["eu"], "spot": "only", "reliability": 0.98},
            "limits": {"max_price_per_hour": "0.80", "max_cost": "5.00", "max_duration": "1h30m"},
            "env": {"A": "1"},
            "secrets": ["B"],
            "metrics": {"patterns": {"loss": "loss=([0-9.]+)"}},
            "artifacts": ["outputs/**"],
            "checkpoint": {"path": "checkpoints", "every": "0.5s"},
            "retry": {"attempts": 2, "on_failure": True},
        }
    )


@pytest.mark.parametrize("spec", [Spec(name="x", run="true"), full_spec()])
def test_json_and_back_is_the_same_spec(spec: Spec) -> None:
    row = spec.to_json()
    stored = json.loads(json.dumps(row))
    assert stored == row
    assert Spec.from_json(stored) == spec
    assert Spec.from_json(stored).to_json() == row


def test_json_has_plain_units() -> None:
    row = full_spec().to_json()
    assert row["limits"] == {"max_price_per_hour": "0.8", "max_cost": "5", "max_duration": 5400}
    assert row["resources"]["gpu"] == [
        {"name": "RTX4090", "count": 2, "memory": None},
        {"name": None, "count": 1, "memory": 24 * GB},
    ]
    assert row["resources"]["disk"] == 40 * 2**30
    assert row["checkpoint"]["every"] == 0.5


def test_an_equal_price_gives_equal_json() -> None:
    assert Limits(max_cost=Decimal("5.00")).model_dump_json() == Limits(max_cost=Decimal("5")).model_dump_json()


def test_a_row_of_an_older_gpujob_gets_the_defaults() -> None:
    assert Spec.from_json({"name": "x", "run": "true"}) == Spec(name="x", run="true")


def test_a_row_of_a_newer_gpujob_is_read_without_what_is_unknown() -> None:
    row = full_spec().to_json()
    row |= {"queue": "night"}
    row["resources"]["gpu"][0]["interconnect"] = "nvlink"
    row["checkpoint"]["keep"] = 3
    assert Spec.from_json(row) == full_spec()


def test_a_spec_cannot_be_changed() -> None:
    spec: Any = full_spec()
    with pytest.raises(ValidationError):
        spec.run = "rm -rf /"


def test_a_secret_that_is_also_a_plain_variable_is_refused_from_python_too() -> None:
    with pytest.raises(ValidationError, match="keep it in `secrets` only"):
        Spec(name="x", run="true", env={"TOKEN": "v"}, secrets=("TOKEN",))


def test_an_error_of_pydantic_never_holds_what_was_written() -> None:
    with pytest.raises(ValidationError) as refused:
        Spec.model_validate({"name": "x", "run": "true", "env": {"TOKEN": ["s3cr3t-value"]}})
    assert "s3cr3t-value" not in str(refused.value)


SECTIONS: dict[str, type[Section]] = {
    "resources": Resources,
    "place": Place,
    "limits": Limits,
    "build": Build,
    "metrics": MetricsSpec,
    "checkpoint": CheckpointSpec,
    "retry": Retry,
}
PATHS = sorted(
    [(key,) for key in Spec.model_fields]
    + [(name, key) for name, part in SECTIONS.items() for key in part.model_fields]
)


WRONG: tuple[Any, ...] = (
    True,
    Figure("3"),
    Figure("-1"),
    Figure(".nan"),
    "",
    "no such thing \x07",
    "\0",
    "\ud800",
    [],
    [[]],
    [None],
    [True],
    [{}],
    {},
    {"no such key": 1},
    {"A": {}},
    {"A": None},
    {1: "x"},
    b"bytes",
    timedelta(days=1),
    object(),
)


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_only_kinds_of_error_that_have_words_get_out(path: tuple[str, ...]) -> None:
    vocabulary = Vocabulary(gpus=lambda _: None, gpu_names=("RTX4090",), providers=("local",))
    for wrong in WRONG:
        written: Any = wrong
        for key in reversed(path):
            written = {key: written}
        try:
            Spec.model_validate({"name": "x", "run": "true"} | written, context=vocabulary)
        except ValidationError as refused:
            kinds = {detail["type"] for detail in refused.errors()}
            assert kinds <= {"missing", "extra_forbidden", "value_error"}, (wrong, kinds)
            for detail in refused.errors():
                said = str(detail.get("ctx", {}).get("error", ""))
                assert "Input should" not in said
                assert all(char.isprintable() for char in said), (wrong, said)


def described(schema: dict[str, Any], path: tuple[str, ...], defs: dict[str, Any]) -> dict[str, Any]:
    for key in path:
        reference = schema.get("$ref") or next(
            (part["$ref"] for part in schema.get("anyOf", ()) if "$ref" in part), None
        )
        schema = defs[reference.rpartition("/")[2]] if reference else schema
        schema = schema["properties"][key]
    return defs[schema["$ref"].rpartition("/")[2]] if "description" not in schema else schema


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_the_schema_for_editors_describes_every_key(path: tuple[str, ...]) -> None:
    schema = json_schema()
    assert len(described(schema, path, schema["$defs"])["description"]) > 10


def test_the_schema_is_what_a_person_may_write() -> None:
    schema = json_schema(Vocabulary(gpus=lambda _: None, gpu_names=("RTX4090",), providers=("local", "ssh")))
    limits, place = (schema["$defs"][name]["properties"] for name in ("Limits", "Place"))
    assert schema["required"] == ["run"]
    assert schema["additionalProperties"] is False
    assert limits["max_duration"]["type"] == "string"
    assert "2h" in limits["max_duration"]["examples"]
    assert place["providers"]["items"]["enum"] == ["local", "ssh"]
    assert place["spot"]["enum"] == ["never", "allow", "only"]
    assert "default" not in schema["$defs"]["Retry"]["properties"]["attempts"]
    kinds = schema["$defs"]["Resources"]["properties"]["gpu"]["anyOf"]
    assert [kind.get("type", "mapping") for kind in kinds] == ["string", "mapping", "array"]


@pytest.mark.parametrize(
    "secret",
    [
        "hf_AbCdEfGhIjKlMn",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "sk-proj-abcdef012345",
        "AKIAIOSFODNN7EXAMPLE",
        "0123456789abcdef0123456789abcdef",
        "x9K2mQ7vTzB4nW8pLr3D",
        "TOKEN=abc",
        "https://user:pw@host/x",
    ],
)
def test_what_looks_like_a_secret_is_not_shown(secret: str) -> None:
    assert looks_secret(secret)
    assert secret not in shown(secret)


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "GITHUB_PAT_FOR_CI", "AWS_SECRET_ACCESS_KEY", "RTX4900", "pytorch/pytorch:2.9.0-cuda12.8-runtime"],
)
def test_ordinary_names_are_shown(name: str) -> None:
    assert shown(name) == f'"{name}"'


def test_a_gpu_in_python_needs_no_vocabulary() -> None:
    assert Resources(gpu=(GpuChoice(name="RTX4090", count=2),)).gpu[0].count == 2
