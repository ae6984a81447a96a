"""gpujob submit --dry-run: where the job would go, why not elsewhere, and the worst in dollars; nothing is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import providers
from providers.base import Provider, Settings
from tests.fakes.memory_provider import MemoryProvider, Outage, offer
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene


def cheap(settings: Settings) -> Provider:
    return MemoryProvider(
        settings.now,
        name="cheap",
        offers=[offer("low", usd_per_hour="0.20", gpu="RTX4090", provider="cheap", egress_usd_per_gb=Decimal("0.1"))],
    )


def plain(settings: Settings) -> Provider:
    flat = [offer("flat", usd_per_hour="0.30", gpu="RTX4090", provider="plain", ingress_usd_per_gb=Decimal(100))]
    return MemoryProvider(settings.now, name="plain", offers=flat)


def small(settings: Settings) -> Provider:
    return MemoryProvider(settings.now, name="small", offers=[offer("t4", gpu="T4", provider="small")])


def silent(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="silent")
    cloud.faults.outages.append(Outage(0, 3600))
    return cloud


def keyless(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="keyless")
    cloud.faults.unusable = "set KEYLESS_API_KEY"
    return cloud


Clouds = Callable[..., None]


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> Clouds:
    def register(*names: str) -> None:
        monkeypatch.setattr(providers, "_REGISTER", {name: f"{__name__}:{name}" for name in names})

    register("cheap", "plain", "small", "silent", "keyless")
    return register


@pytest.fixture(autouse=True)
def job(scene: Scene, tmp_path: Path) -> Path:
    spec = {
        "name": "x",
        "run": "true",
        "image": "none",
        "resources": {"gpu": "RTX4090"},
        "limits": {"max_duration": "1h"},
        "retry": {"attempts": 1},
    }
    path = tmp_path / "train.yaml"
    path.write_text(json.dumps(spec))
    return path


def test_it_says_where_and_the_worst_and_creates_nothing(scene: Scene, gpujob: Command) -> None:
    plan = gpujob("submit", "--dry-run", "--json").json
    assert [(row["offer_id"], row["why_not"]) for row in plan["offers"]] == [("low", None), ("flat", None)]
    assert Decimal("0.30") <= Decimal(plan["worst_case_usd"]) <= Decimal("0.90")
    assert plan["unavailable"] == {"silent": "silent does not answer"}
    assert plan["passed_over"] == {
        "keyless": "set KEYLESS_API_KEY",
        "small": "no offer fits; here has T4, RTX4090 wanted",
    }
    assert scene.store().runs() == [] and scene.controllers_wanted == 0


def test_a_person_reads_the_same(gpujob: Command) -> None:
    shown = gpujob("submit", "--dry-run")
    assert shown.code == 0 and shown.text.index("low") < shown.text.index("flat")
    assert "silent: silent does not answer" in shown.err
    assert "keyless is passed over: set KEYLESS_API_KEY" in shown.err
    assert "small is passed over: no offer fits; here has T4, RTX4090 wanted" in shown.err
    assert "At the very worst $0." in shown.err and "Nothing was created" in shown.err


def test_the_budget_is_the_worst_that_can_happen(gpujob: Command) -> None:
    assert gpujob("submit", "--dry-run", "--json", "--max-cost", "0.10").json["worst_case_usd"] == "0.1"


def test_what_has_to_be_shipped_is_counted(gpujob: Command, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(10_000_000))
    totals = {row["offer_id"]: row["total_usd"] for row in gpujob("submit", "--dry-run", "--json").json["offers"]}
    assert totals["low"] == "0.2" and Decimal("1.30") <= Decimal(totals["flat"]) < Decimal("1.31")


def test_an_offer_that_failed_lately_is_shown_with_the_reason(scene: Scene, gpujob: Command) -> None:
    store = scene.store()
    store.remember("cheap", "low", "no capacity: none left", 10**9)
    store.close()
    said = gpujob("submit", "--dry-run")
    assert "no capacity: none left" in said.text
    assert [row["why_not"] for row in gpujob("submit", "--dry-run", "--json").json["offers"]] == [
        "no capacity: none left",
        None,
    ]


def test_nothing_to_rent_is_code_10(gpujob: Command) -> None:
    said = gpujob("submit", "--dry-run", "--gpu", "RTX4090:8")
    assert said.code == 10 and said.out == b"" and "Nothing can be rented" in said.err
    assert "cheap is passed over: no offer fits; here has 1 GPU, 8 wanted" in said.err


def test_a_cloud_that_was_named_and_is_not_set_up_is_code_11(gpujob: Command) -> None:
    said = gpujob("submit", "--dry-run", "--provider", "keyless")
    assert said.code == 11 and "keyless: set KEYLESS_API_KEY" in said.err
    assert gpujob("submit", "--dry-run", "--provider", "keyless", "--provider", "cheap").code == 0


def test_of_a_long_list_the_first_are_shown(gpujob: Command, clouds: Clouds) -> None:
    clouds("many")
    said = gpujob("submit", "--dry-run")
    assert len(said.text.splitlines()) == 11 and "15 more; --json lists them all." in said.err
    assert len(gpujob("submit", "--dry-run", "--json").json["offers"]) == 25


def many(settings: Settings) -> Provider:
    offers = [offer(f"o{number}", gpu="RTX4090", provider="many") for number in range(25)]
    return MemoryProvider(settings.now, name="many", offers=offers)
