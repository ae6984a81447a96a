"""The names of GPUs: one canonical spelling each, with memory and dense bf16 speed, read from gpus.toml.

A spelling belongs to exactly one GPU or to none: nothing is ever mapped to a similar one.
Knows no cloud's API and no price.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

_VENDOR = re.compile(r"(?:nvidia|geforce|tesla|quadro|amd|instinct)+")
_LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as its maker describes it. `bf16_tflops` is dense; None where there is no bf16 hardware or no figure."""

    name: str
    memory_gb: float
    bf16_tflops: float | None
    aliases: tuple[str, ...]
    source: str
    recorded: date


def names() -> tuple[str, ...]:
    """Every canonical name, in the order of gpus.toml."""
    return tuple(_table().gpus)


def canonical(text: str) -> str | None:
    """The canonical name of any spelling: case, spaces, hyphens, underscores and the maker's words do not matter."""
    return _table().spellings.get(_folded(text))


def is_same(one: str, other: str) -> bool:
    """Whether two spellings name one GPU, known or not: clouds and nvidia-smi write the maker's words differently."""
    return (canonical(one) or _folded(one)) == (canonical(other) or _folded(other))


def ambiguous(text: str) -> tuple[str, ...]:
    """The canonical names that a spelling may mean when it leaves out what tells them apart, such as `H100`."""
    return _table().ambiguous.get(_folded(text), ())


def specification(name: str) -> Gpu:
    """What is known of a GPU by its canonical name. Raises KeyError."""
    return _table().gpus[name]


@dataclass(frozen=True)
class _Table:
    gpus: dict[str, Gpu]
    spellings: dict[str, str]
    ambiguous: dict[str, tuple[str, ...]]


@cache
def _table() -> _Table:
    rows = tomllib.loads(Path(__file__).with_name("gpus.toml").read_text(encoding="utf-8"))
    gpus = {row["name"]: _gpu(row) for row in rows["gpu"]}
    spellings: dict[str, str] = {}
    for gpu in gpus.values():
        for spelling in (gpu.name, *gpu.aliases):
            if spellings.setdefault(_folded(spelling), gpu.name) != gpu.name:
                raise ValueError(f"gpus.toml: {spelling} belongs to {gpu.name} and {spellings[_folded(spelling)]}")
    several = {_folded(text): tuple(meant) for text, meant in rows["ambiguous"].items()}
    return _Table(gpus, spellings, several)


def _gpu(row: dict[str, Any]) -> Gpu:
    return Gpu(
        name=row["name"],
        memory_gb=row["memory_gb"],
        bf16_tflops=row.get("bf16_tflops"),
        aliases=tuple(row.get("aliases", ())),
        source=row["source"],
        recorded=row["recorded"],
    )


def _folded(text: str) -> str:
    if len(text) > _LONGEST:
        return text  # no GPU is called so
    folded = re.sub(r"[\s_-]+", "", text).casefold()
    match = _VENDOR.match(folded)
    return folded[match.end() :] if match else folded
