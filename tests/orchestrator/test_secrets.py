"""What a log may not show is hidden also when the place where it was kept is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import secrets
from orchestrator.records import Phase
from tests.fakes.fake_machine import Script
from tests.orchestrator.bad_days import TWO
from tests.orchestrator.living import Living


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=TWO)
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def secret_job(living: Living, values: dict[str, str]) -> None:
    log = [(at, b"token=abcdefgh pass=ijklmnop\n") for at in range(60)]
    living.machines._script = Script(seconds=60, log=log)
    living.controller.world.env = values
    living.submit(secrets=["TOKEN", "PASS"])


def test_a_secret_whose_place_is_gone_is_still_hidden(living: Living) -> None:
    """As the folder in memory that goes when its user logs out."""
    env = {"TOKEN": "abcdefgh", "PASS": "ijklmnop"}
    secret_job(living, env)
    living.until(Phase.WATCH)
    env.clear()
    living.until_done()
    assert set(living.home.run("r-1").attempt(1).log.read_bytes().splitlines()) == {b"token=******** pass=********"}


def test_a_secret_is_hidden_also_when_another_is_gone(living: Living) -> None:
    env = {"TOKEN": "abcdefgh", "PASS": "ijklmnop"}
    secret_job(living, env)
    living.until(Phase.WATCH)
    living.controller = living.new_controller()
    living.controller.world.env = {"TOKEN": "abcdefgh"}
    living.until_done()
    assert b"abcdefgh" not in living.home.run("r-1").attempt(1).log.read_bytes()
    [warning] = [text for text in living.words() if "PASS" in text]
    assert "abcdefgh" not in warning and "ijklmnop" not in warning


def test_an_empty_secret_is_refused_before_anything_is_rented(living: Living) -> None:
    assert secrets.check(["TOKEN"], living.home, {"TOKEN": ""}) == ("TOKEN",)
