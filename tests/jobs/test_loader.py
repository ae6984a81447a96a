"""train.yaml to a Spec: what loads, and for everything else the exact lines that a person reads."""

# ruff: noqa: E501 (what a person reads is one line each, here too)

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from jobs.loader import load
from jobs.problems import SpecError
from jobs.spec import GpuChoice, Spec, Vocabulary
from providers import gpus

VOCABULARY = Vocabulary(
    gpus=gpus.canonical,
    gpu_names=gpus.names(),
    providers=("local", "ssh", "aws", "runpod", "vast"),
    ambiguous=gpus.ambiguous,
)
GB = 10**9

DESIGN = """\
name: mnist
image: pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime     # or build: {context: ., dockerfile: Dockerfile, push: registry/name}
workdir: .                        # shipped to the machine
setup: pip install -r requirements.txt
run: python train.py --epochs 3   # or nodes > 1: torchrun's variables are set
resources:
  gpu: RTX4090:1                  # NAME:COUNT, or a list in order of preference, or {memory: ">=24GB", count: 1}; cpu for none
  cpus: ">=4"
  memory: ">=16GB"
  disk: 40GB
place: {providers: [vast, runpod, aws], regions: [], spot: allow, reliability: 0.98}
limits: {max_price_per_hour: 0.80, max_cost: 5.00, max_duration: 2h}     # max_duration and max_cost have safe defaults
env: {EPOCHS: "3"}
secrets: [HF_TOKEN]               # names; values come from the environment, a 0600 file or keyring, never stored or in argv
metrics: {patterns: {loss: 'loss=([0-9.]+)'}}      # besides the JSON lines that a job appends to $GPUJOB_METRICS
artifacts: [outputs/**]
checkpoint: {path: checkpoints, every: 5m}
retry: {attempts: 4}              # on capacity, bad host and preemption; the job's own failure is final unless asked
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a name that a job can have, which is the current one."""
    directory = tmp_path / "digits"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def spec_of(text: str | bytes, **overrides: object) -> Spec:
    return loaded(text, overrides)


def loaded(text: str | bytes, overrides: Mapping[str, object]) -> Spec:
    path = Path("train.yaml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, vocabulary=VOCABULARY, overrides=overrides)


def problems(text: str | bytes, overrides: Mapping[str, object] | None = None) -> list[str]:
    with pytest.raises(SpecError) as refused:
        loaded(text, overrides or {})
    return str(refused.value).splitlines()


def test_the_example_of_the_design_loads_whole() -> None:
    spec = spec_of(DESIGN)
    assert spec.image == "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"
    assert spec.run == "python train.py --epochs 3"
    assert spec.resources.gpu == (GpuChoice(name="RTX4090", count=1),)
    assert (spec.resources.cpus, spec.resources.memory, spec.resources.disk) == (4.0, 16 * GB, 40 * GB)
    assert (spec.place.providers, spec.place.spot, spec.place.reliability) == (("vast", "runpod", "aws"), "allow", 0.98)
    assert (spec.limits.max_price_per_hour, spec.limits.max_cost) == (Decimal("0.80"), Decimal("5.00"))
    assert spec.limits.max_duration == timedelta(hours=2)
    assert (spec.env, spec.secrets) == ({"EPOCHS": "3"}, ("HF_TOKEN",))
    assert spec.metrics.patterns == {"loss": "loss=([0-9.]+)"}
    assert spec.artifacts == ("outputs/**",)
    assert spec.checkpoint is not None
    assert (spec.checkpoint.path, spec.checkpoint.every) == ("checkpoints", timedelta(minutes=5))
    assert Spec.from_json(spec.to_json()) == spec


def test_one_line_is_enough_and_the_directory_gives_the_name() -> None:
    assert spec_of("run: python train.py") == Spec(name="digits", run="python train.py")


@pytest.mark.parametrize(
    ("directory", "name"), [("my job (2)", "my-job-2"), (".hidden", "hidden"), ("日本", "job"), ("x" * 90, "x" * 60)]
)
def test_a_directory_that_cannot_be_a_name_gives_one_that_can(directory: str, name: str, project: Path) -> None:
    path = project / directory / "train.yaml"
    path.parent.mkdir()
    path.write_text("run: x")
    assert load(path, vocabulary=VOCABULARY).name == name


@pytest.mark.parametrize(
    ("gpu", "choices"),
    [
        ("RTX4090", [("RTX4090", 1, None)]),
        ("rtx 4090:2", [("RTX4090", 2, None)]),
        ("NVIDIA A100-SXM4-80GB:8", [("A100-80GB", 8, None)]),
        ("cpu", []),
        ("none", []),
        ("", []),
        ("[L4, 'T4:4']", [("L4", 1, None), ("T4", 4, None)]),
        ("{memory: '>=24GB', count: 1}", [(None, 1, 24 * GB)]),
        ("{name: a100 80gb, count: 2}", [("A100-80GB", 2, None)]),
        ("[{name: L4}, {memory: 16GiB}]", [("L4", 1, None), (None, 1, 16 * 2**30)]),
    ],
)
def test_a_gpu_can_be_written_in_every_way(gpu: str, choices: list[tuple[str | None, int, int | None]]) -> None:
    chosen = spec_of(f"run: x\nresources: {{gpu: {gpu}}}").resources.gpu
    assert [(choice.name, choice.count, choice.memory) for choice in chosen] == choices


@pytest.mark.parametrize(
    ("written", "value"),
    [("EPOCHS: 3", "3"), ("LR: 1e-3", "1e-3"), ("ZIP: 010", "010"), ("A: ''", ""), ("D: 2026-01-01", "2026-01-01"), ("A: 'no'", "no")],
)  # fmt: skip
def test_a_variable_gets_the_text_as_it_is_written(written: str, value: str) -> None:
    assert list(spec_of(f"run: x\nenv: {{{written}}}").env.values()) == [value]


@pytest.mark.parametrize("image", ["python:3.12", "localhost:5000/a/b:1", "ghcr.io/a/b@sha256:" + "0" * 64])
def test_an_image_is_taken_as_it_is(image: str) -> None:
    assert spec_of(f"run: x\nimage: {image}").image == image


@pytest.mark.parametrize("image", ["none", "None", "null", "~", ""])
def test_no_image_is_no_image(image: str) -> None:
    assert spec_of(f"run: x\nimage: {image}").image is None


def test_a_key_without_a_value_is_as_if_it_were_not_there() -> None:
    bare = "run: x\nresources:\nplace:\nlimits: {max_cost: }\nenv:\nsecrets:\ncheckpoint:\nretry:\nname:"
    assert spec_of(bare) == Spec(name="digits", run="x")


def test_anchors_and_merge_keys_work() -> None:
    spec = spec_of("run: x\nenv: &base {A: 1, B: 2}\nlabels: {<<: *base, B: 3}")
    assert spec.labels == {"A": "1", "B": "3"}


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert spec_of(b"\xef\xbb\xbfrun: x\r\nname: a\r\n").name == "a"


def test_json_is_yaml() -> None:
    assert spec_of(json.dumps({"run": "echo 😀 é", "env": {"A": 3}, "retry": {"on_failure": True}})).run == "echo 😀 é"


SINGLE = [
    # keys
    ("resorces: {}", "1:1: resorces: unknown key; did you mean `resources`?"),
    ("resources: {gpus: L4}", "1:13: resources.gpus: unknown key; did you mean `gpu`?"),
    ("max_cost: 3", "1:1: max_cost: unknown key here; did you mean `limits.max_cost`?"),
    ("retry: {zzz: 1}", "1:9: retry.zzz: unknown key; the keys here are attempts, on_failure, on_demand_last"),
    ("checkpoint: {every: 5m}", "1:13: checkpoint.path: is missing; write `path: checkpoints` or the like"),
    ("nodes: 2", "1:8: nodes: several nodes are not supported yet; write 1, or leave it out"),
    ("name: a\nname: b", "2:1: name: is written twice, first in line 1; keep one"),
    ("env: {A: x, A: y}", "1:13: env.A: is written twice, first in line 1; keep one"),
    # kinds
    ("name: 3", "1:7: name: found a number; put it in quotes if this is meant"),
    ("name: no", "1:7: name: found a yes/no value; put it in quotes if this is meant"),
    ("name: [a]", "1:7: name: found a list; write text, such as mnist-1"),
    ("env: [A=1]", '1:6: env: found a list; write a mapping, such as {EPOCHS: "3"}'),
    ("resources: L4", "1:12: resources: found text; write a mapping, such as {gpu: RTX4090:1, disk: 40GB}"),
    ("artifacts: outputs/**", "1:12: artifacts: found text; write a list, such as [outputs/**]"),
    ("limits: {max_cost: [1]}", "1:20: limits.max_cost: found a list; write US dollars as a number, such as 0.80"),
    ("retry: {attempts: x}", '1:19: retry.attempts: "x" is not a whole number; write a whole number, such as 4'),
    ("retry: {attempts: 0}", '1:19: retry.attempts: "0" is too little; write more than zero'),
    ("retry: {on_failure: maybe}", '1:21: retry.on_failure: "maybe"; write true or false'),
    # names
    ("name: a b", '1:7: name: "a b" cannot be a name; use letters, digits, dots, hyphens and underscores, begin with a letter or a digit, at most 60 characters'),
    ("place: {providers: [vats]}", '1:21: place.providers[0]: unknown provider "vats"; did you mean `vast`?'),
    ("place: {providers: [gcp]}", '1:21: place.providers[0]: unknown provider "gcp"; write `local`, `ssh`, `aws`, `runpod` or `vast`'),
    ("place: {spot: always}", '1:15: place.spot: "always" is not known; write `never`, `allow` or `only`'),
    ("place: {spot: yes}", "1:15: place.spot: found a yes/no value; write `never`, `allow` or `only`"),
    ("image: --privileged", '1:8: image: "--privileged" is not the name of an image; write one such as pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime, or none'),
    # GPUs
    ("resources: {gpu: RTX4900}", '1:18: resources.gpu: unknown GPU "RTX4900"; did you mean `RTX4090`, `RTX4080` or `RTX4070`?'),
    ("resources: {gpu: potato}", '1:18: resources.gpu: unknown GPU "potato"; write a name such as RTX4090, L4 or A100-80GB, or {memory: ">=24GB"} for any GPU'),
    ("resources: {gpu: H100}", '1:18: resources.gpu: "H100" can be several GPUs; write `H100-SXM`, `H100-PCIe` or `H100-NVL`, or a list of them'),
    ("resources: {gpu: [L4, T4:0]}", '1:23: resources.gpu[1]: "0" is too little; write more than zero'),
    ("resources: {gpu: 'L4:'}", '1:18: resources.gpu: "" is not a whole number; write a whole number, such as 1'),
    ("resources: {gpu: L4:65}", '1:18: resources.gpu: "65" is too much; at most 64'),
    ("resources: {gpu: [L4, cpu]}", "1:18: resources.gpu: `cpu` cannot be one of several; write gpu: cpu, or only GPUs"),
    ("resources: {gpu: 2}", '1:18: resources.gpu: found a number; write RTX4090:1, a list of such names, {memory: ">=24GB", count: 1}, or cpu'),
    ("resources: {gpu: {}}", '1:18: resources.gpu: is empty; write RTX4090:1, a list of such names, {memory: ">=24GB", count: 1}, or cpu'),
    ("resources: {gpu: {memroy: 24GB}}", "1:19: resources.gpu.memroy: unknown key; did you mean `memory`?"),
    ("resources: {gpu: [{count: 0}]}", '1:27: resources.gpu[0].count: "0" is too little; write more than zero'),
    # units
    ("resources: {disk: 40}", '1:19: resources.disk: "40" has no unit; write 40GB (10**9 bytes) or 40GiB (2**30 bytes)'),
    ("resources: {memory: 16Gi}", '1:21: resources.memory: unknown unit "Gi"; write GB or GiB, such as 16GB'),
    ("limits: {max_duration: 120}", '1:24: limits.max_duration: "120" has no unit; write 120s, 120m or 120h'),
    ("limits: {max_price_per_hour: 0}", '1:30: limits.max_price_per_hour: "0" is too little; write more than zero'),
    # paths
    ("workdir: nowhere", "1:10: workdir: there is no such directory; write one relative to this file, such as ."),
    ("artifacts: [/etc/passwd]", '1:13: artifacts[0]: "/etc/passwd" is absolute; write a path inside workdir, such as outputs/**'),
    ("artifacts: [a/../../b]", '1:13: artifacts[0]: "a/../../b" leads out of workdir; write a path inside it, such as outputs/**'),
    ("checkpoint: {path: ~/x}", '1:20: checkpoint.path: "~/x" is absolute; write a path inside workdir, such as checkpoints'),
    ("checkpoint: {path: ./}", "1:20: checkpoint.path: is workdir itself; write a directory of its own, such as checkpoints"),
    # variables and secrets
    ("env: {DEBUG: yes}", '1:14: env.DEBUG: found a yes/no value; write it in quotes, such as "true" or "yes"'),
    ("env: {A: }", '1:7: env.A: is empty; write "" for an empty value'),
    ("env: {A: {}}", "1:10: env.A: found a mapping; write text in quotes"),
    ("env: {1A: x}", "1:7: env.1A: is not a name that a variable can have; use letters, digits and _, and no digit first"),
    ("env: {GPUJOB_METRICS: x}", "1:7: env.GPUJOB_METRICS: names that begin with GPUJOB_ belong to gpujob; choose another"),
    ("env: {T: x}\nsecrets: [A, T]", '2:14: secrets[1]: "T" is in `env` as well; keep it in `secrets` only'),
    # metrics
    ("metrics: {patterns: {loss: 'loss=.*'}}", "1:28: metrics.patterns.loss: has no group; put parentheses around the number, such as 'loss=([0-9.]+)'"),
    ("metrics: {patterns: {loss: '(a)(b)'}}", "1:28: metrics.patterns.loss: has 2 groups; exactly one may catch the number, write (?:...) for the others"),
    ("metrics: {patterns: {loss: '(a'}}", "1:28: metrics.patterns.loss: is not a regular expression: missing ), unterminated subpattern at position 0; write one such as 'loss=([0-9.]+)'"),
    # others
    ("image: a\nbuild: {}", "2:8: build: `image` and `build` exclude each other; keep one"),
    ("setup: !!python/object:os.system ls", "1:8: setup: YAML tags (!...) are not used here; remove it"),
    ('setup: "a\\0"', "1:8: setup: holds a NUL or half of a character; remove it"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), SINGLE, ids=[text for text, _ in SINGLE])
def test_a_mistake_is_one_line_with_its_place_and_what_to_write(text: str, line: str) -> None:
    assert problems(f"{text}\nrun: x") == [f"train.yaml:{line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: x", "train.yaml:1:1: run: is missing; write `run: python train.py` or the like"),
        ("run:", "train.yaml:1:1: run: is empty; write `run: python train.py` or the like"),
        ("run: ' '", "train.yaml:1:6: run: is empty; write text, such as python train.py"),
        (
            "run: [python, train.py]",
            "train.yaml:1:6: run: found a list; write the command as one text, such as python train.py --epochs 3",
        ),
    ],
)
def test_the_command_must_be_there(text: str, line: str) -> None:
    assert problems(text) == [line]


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
nmae: x
resources:
  gpu: [RTX4900, T4:0]
  disk: 40
limits: {max_cost: 0, max_duration: 300}
env: {A: yes, B: 3}
env: {C: 1}
secrets: [A=b]
artifacts: [/x, ../y]
"""
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["train.yaml:1:1", "nmae"],
        ["train.yaml:1:1", "run"],
        ["train.yaml:3:9", "resources.gpu[0]"],
        ["train.yaml:3:18", "resources.gpu[1]"],
        ["train.yaml:4:9", "resources.disk"],
        ["train.yaml:5:20", "limits.max_cost"],
        ["train.yaml:5:37", "limits.max_duration"],
        ["train.yaml:7:1", "env"],
        ["train.yaml:8:11", "secrets[0]"],
        ["train.yaml:9:13", "artifacts[0]"],
        ["train.yaml:9:17", "artifacts[1]"],
    ]


def test_a_mistake_behind_an_alias_is_shown_where_it_is_written() -> None:
    text = "run: x\nenv: &base {A: yes}\nlabels: {<<: *base}"
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["train.yaml:2:16", "env.A"],
        ["train.yaml:2:16", "labels.A"],
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "train.yaml: is empty; write at least `run: python train.py`"),
        (b"# nothing\n---\n", "train.yaml: is empty; write at least `run: python train.py`"),
        (b"- run: x", "train.yaml:1:1: found a list instead of keys; begin with a key, such as `run: python train.py`"),
        (b"python train.py", "train.yaml:1:1: found plain text instead of keys; begin with a key, such as `run: python train.py`"),
        (b"run: x\nname: \xe9t\xe9", "train.yaml:2:7: is not UTF-8 text; save the file as UTF-8"),
        (b"run: x\nname: \x07", "train.yaml:2:7: holds a control character that YAML does not allow; remove it"),
        (b"run: x\n---\nrun: y", "train.yaml:2:1: holds more than one YAML document; keep one"),
        (b"run: [x\n", "train.yaml:2:1: not YAML: expected ',' or ']', but got the end of the file"),
        (b"run: 'x\nname: y\n", "train.yaml:3:1: not YAML: the quote that opens in line 1 is never closed"),
        (b"a:\n\tb: 1", "train.yaml:2:1: not YAML: a value cannot begin with \\t; indent with spaces, not with tabs"),
        (b"run: echo a: b", "train.yaml:1:12: not YAML: a key and its colon cannot stand here; check the indentation; put a text that holds a colon and a space in quotes"),
        (b"memory: >=16GB", 'train.yaml:1:10: not YAML: a value cannot begin like this; put a value that begins with > in quotes, such as ">=16GB"'),
        (b"r: {memory: >=16GB}", 'train.yaml:1:13: not YAML: a value cannot begin with >; put a value that begins with > in quotes, such as ">=16GB"'),
        (b'p: "loss=(\\d+)"', "train.yaml:1:12: not YAML: unknown escape \\d; inside double quotes a backslash begins an escape; use single quotes"),
        (b'p: "\\UFFFFFFFF"', "train.yaml:1:1: an escape in double quotes is no character; use single quotes"),
        (b" run: x\nname: y", "train.yaml:2:1: not YAML: this does not fit what comes before it; check the indentation and the quotes"),
        (b"run: *nope", 'train.yaml:1:6: the alias "*nope" has no anchor that is complete before it'),
        (b"a: &a [*a]", 'train.yaml:1:8: the alias "*a" has no anchor that is complete before it'),
        (b"? [a]\n: b", "train.yaml:1:3: a key must be text; found a list or a mapping"),
        (b"a: " + b"[" * 5000, "train.yaml:1:23: is nested more than 20 levels deep"),
        (b"a: [" + b"1," * 20000 + b"]", "train.yaml:1:19999: holds more than 10000 values"),
        (b"a: " + b"x" * 1_000_000, "train.yaml: is larger than 1 MB; a spec has a few dozen lines, keep data in other files"),
    ],
    ids=range(22),
)  # fmt: skip
def test_a_file_that_is_no_spec_says_so(text: bytes, line: str) -> None:
    assert problems(text) == [line]


@pytest.mark.parametrize("use", ["[%s]", "{<<: [%s]}"])
def test_aliases_that_multiply_are_refused_before_they_do(use: str) -> None:
    levels = [f"{name}: &{name} {use % ','.join(['*' + before] * 9)}" for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)]  # fmt: skip
    (line,) = problems("a: &a {x: 1, y: 2}\n" + "\n".join(levels))
    assert line.endswith("its aliases expand to more than 10000 values; write fewer")


def test_a_file_that_cannot_be_read_says_why(project: Path) -> None:
    (project / "folder").mkdir()
    for name, message in [
        ("nothing.yaml", "nothing.yaml: there is no such file"),
        ("folder", "folder: is a directory; give the file in it, such as train.yaml"),
        ("folder/x\0", "folder/x\0: cannot be read: the path is not usable"),
        ("x" * 300, "x" * 300 + ": cannot be read: File name too long"),
    ]:
        with pytest.raises(SpecError) as refused:
            load(Path(name), vocabulary=VOCABULARY)
        assert str(refused.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "secrets: [HF_TOKEN=s3cr3t-value]",
        "secrets: [{HF_TOKEN: s3cr3t-value}]",
        "secrets: {HF_TOKEN: s3cr3t-value}",
        "secrets: s3cr3t-value",
        "secrets: [hf_s3cr3t0value0000]",
        "env: {A: [s3cr3t-value]}",
        "env: {A: {B: s3cr3t-value}}",
        "env: s3cr3t-value",
        "env: {API_KEY=s3cr3t-value: x}",
        "API_KEY=s3cr3t-value: x",
        "name: TOKEN=s3cr3t-value",
        "image: https://me:s3cr3t-value@host/x",
        "resources: {gpu: 'PASSWORD=s3cr3t-value'}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str) -> None:
    lines = problems(f"{text}\nrun: x")
    assert lines
    assert "s3cr3t" not in "\n".join(lines)


def test_overrides_replace_what_the_file_says() -> None:
    overrides = {
        "resources.gpu": "rtx 4090:2",
        "place.providers": ["local"],
        "limits.max_cost": "7",
        "limits.max_duration": "90m",
        "place.spot": "only",
        "env.EPOCHS": "9",
        "env.LEVEL": 3,
        "labels.team.name": "vision",
        "name": "other",
        "image": "none",
    }
    spec = loaded(DESIGN, overrides)
    assert spec.resources.gpu == (GpuChoice(name="RTX4090", count=2),)
    assert (spec.place.providers, spec.place.spot, spec.place.reliability) == (("local",), "only", 0.98)
    assert (spec.limits.max_cost, spec.limits.max_duration) == (Decimal(7), timedelta(minutes=90))
    assert spec.limits.max_price_per_hour == Decimal("0.80")
    assert (spec.env, spec.labels) == ({"EPOCHS": "9", "LEVEL": "3"}, {"team.name": "vision"})
    assert (spec.name, spec.image) == ("other", None)


def test_an_override_makes_the_section_that_the_file_lacks() -> None:
    assert loaded("run: x\nplace:", {"place.providers": ["local"]}).place.providers == ("local",)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"resources.gpu": "RTX4900"}, 'resources.gpu: unknown GPU "RTX4900"; did you mean `RTX4090`, `RTX4080` or `RTX4070`?'),
        ({"place.providers": ["vats"]}, 'place.providers[0]: unknown provider "vats"; did you mean `vast`?'),
        ({"limits.max_cost": "-1"}, 'limits.max_cost: "-1" is too little; write more than zero'),
        ({"limits.max_duration": 300}, 'limits.max_duration: "300" has no unit; write 300s, 300m or 300h'),
        ({"limits.max_cots": "1"}, "limits.max_cots: unknown key; did you mean `max_cost`?"),
        ({"checkpoint.every": "1m"}, "checkpoint.path: is missing; write `path: checkpoints` or the like"),
        ({"env.1A": "x"}, "env.1A: is not a name that a variable can have; use letters, digits and _, and no digit first"),
        ({"workdir": "nowhere"}, "workdir: there is no such directory; write one relative to this file, such as ."),
    ],
)  # fmt: skip
def test_a_mistake_in_an_override_is_placed_on_the_command_line(overrides: dict[str, object], line: str) -> None:
    assert problems("run: x", overrides) == [f"command line: {line}"]


def test_a_mistake_that_is_overridden_is_not_reported() -> None:
    text = "run: x\nresources: {gpu: [RTX4900, {a: 1, a: 2}]}\nname: !tag b c\nworkdir: nowhere\nlimits: {max_cost: 0}"
    overrides = {"resources.gpu": "L4", "name": "a", "workdir": "."}
    assert problems(text, overrides) == ['train.yaml:5:20: limits.max_cost: "0" is too little; write more than zero']


def test_an_override_below_a_mistake_leaves_the_mistake() -> None:
    assert problems("run: x\nplace: vast", {"place.spot": "only"}) == [
        "train.yaml:2:8: place: found text; write a mapping, such as {providers: [local], spot: never}"
    ]


def test_workdir_is_relative_to_the_file(project: Path) -> None:
    (project / "jobs").mkdir()
    (project / "jobs" / "train.yaml").write_text("run: x\nworkdir: ../code")
    (project / "code").mkdir()
    assert load(Path("jobs/train.yaml"), vocabulary=VOCABULARY).workdir == "../code"


def test_workdir_may_be_below_the_home_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    (project / "code").mkdir()
    assert spec_of("run: x\nworkdir: ~/code").workdir == "~/code"
    assert problems("run: x\nworkdir: ~nobody-at-all/code")


@pytest.mark.process
def test_importing_the_spec_does_not_import_the_yaml_library() -> None:
    program = "import sys, jobs.spec, jobs.loader; sys.exit('ruamel.yaml' in sys.modules)"
    root = Path(gpus.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
