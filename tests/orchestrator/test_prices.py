"""Prices of every provider at once, by what the stated work costs in total."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.prices import UnknownName, Work, rank
from tests.orchestrator.scene import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("gpu", "providers", "words"),
    [
        ("RTX4009", (), "RTX4090"),
        ("H100", (), "H100"),
        ("RTX4090:none", (), "NAME:COUNT"),
        (None, ("asw",), "local"),
    ],
)
def test_an_unknown_name_says_what_comes_near(
    scene: Scene, gpu: str | None, providers: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UnknownName, match=words):
        rank(gpu, providers, Work(), store=scene.store(), home=scene.home, env={})
