"""gpujob check: which clouds can be used, why not the others, and an exit code that a script can go by."""

from __future__ import annotations

import pytest

import providers
from providers.base import Check, Provider, Settings, Traits
from tests.fakes.memory_provider import MemoryProvider, Outage
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene


class Known(MemoryProvider):
    def check(self) -> Check:
        return Check(notes=("account ada, $12.34 left", "3 kinds of GPU"))


def ready(settings: Settings) -> Provider:
    return Known(settings.now, name="ready", traits=Traits(is_container=True, simulated=True))


def silent(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="silent")
    cloud.faults.outages.append(Outage(0, 3600))
    return cloud


def keyless(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="keyless")
    cloud.faults.unusable = "no key:\n\x1b[31mset KEYLESS_API_KEY"
    return cloud


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_REGISTER", {name: f"{__name__}:{name}" for name in ("ready", "silent", "keyless")})


def test_each_cloud_with_what_was_found(gpujob: Command) -> None:
    said = gpujob("check")
    lines = [line.split("  ") for line in said.text.splitlines()]
    assert said.err == "" and [words[0] for words in lines[1:]] == ["ready (simulated)", "", "silent", "keyless"]
    assert "account ada, $12.34 left" in said.text and "silent does not answer" in said.text
    assert "no key: set KEYLESS_API_KEY" in said.text and "\x1b" not in said.text


def test_as_json(gpujob: Command) -> None:
    found = {row["provider"]: row for row in gpujob("check", "--json").json}
    assert found["ready"] == {
        "provider": "ready",
        "usable": True,
        "simulated": True,
        "problems": [],
        "notes": ["account ada, $12.34 left", "3 kinds of GPU"],
    }
    assert found["silent"]["problems"] == ["silent does not answer"] and not found["silent"]["usable"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ((), 0),
        (("ready",), 0),
        (("ready", "silent"), 11),
        (("keyless",), 11),
        (("raedy",), 2),
    ],
)
def test_the_code_says_whether_all_that_was_asked_for_can_be_used(
    gpujob: Command, asked: tuple[str, ...], code: int
) -> None:
    assert gpujob("check", *(word for name in asked for word in ("--provider", name))).code == code


def test_when_none_can_be_used_it_is_code_11(gpujob: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(providers._REGISTER, "ready")
    assert gpujob("check").code == 11


def test_it_makes_nothing(gpujob: Command, scene: Scene) -> None:
    before = sorted(scene.home.root.rglob("*"))
    gpujob("check")
    assert sorted(scene.home.root.rglob("*")) == before
