"""gpujob prices and submit --dry-run: every provider at once, ranked by the whole price, one that fails left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import providers
from orchestrator.prices import UnknownName, Work, rank
from providers.base import Provider, Settings
from providers.errors import Unreachable
from tests.fakes.memory_provider import MemoryProvider, Outage, offer
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene


def cheap(settings: Settings) -> Provider:
    """Cheap by the hour, dear by the gigabyte."""
    low = offer("low", usd_per_hour="0.20", gpu="RTX4090", provider="cheap", egress_usd_per_gb=Decimal("0.10"))
    return MemoryProvider(settings.now, name="cheap", offers=[low, offer("cpu", usd_per_hour="0.05", provider="cheap")])


def plain(settings: Settings) -> Provider:
    return MemoryProvider(
        settings.now, name="plain", offers=[offer("flat", usd_per_hour="0.30", gpu="RTX4090", provider="plain")]
    )


def silent(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="silent")
    cloud.faults.outages.append(Outage(0, 3600))
    return cloud


def closed(settings: Settings) -> Provider:
    raise Unreachable("cannot even be opened", provider="closed")


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Callable[[Settings], Provider]] = {
        "cheap": cheap,
        "plain": plain,
        "silent": silent,
        "closed": closed,
    }
    monkeypatch.setattr(providers, "_REGISTER", {name: f"{__name__}:{name}" for name in made})


def test_the_order_is_by_the_whole_price(gpujob: Command) -> None:
    said = gpujob("prices", "--gpu", "4090", "--json")
    assert [(row["offer_id"], row["total_usd"]) for row in said.json] == [("low", "0.2"), ("flat", "0.3")]
    moved = gpujob("prices", "--gpu", "rtx 4090", "--hours", 10, "--egress", 50, "--json").json
    assert [(row["offer_id"], row["total_usd"]) for row in moved] == [("flat", "3"), ("low", "7")]


def test_one_that_does_not_answer_is_one_line_of_talk(gpujob: Command) -> None:
    said = gpujob("prices")
    assert said.code == 0 and len(said.text.splitlines()) == 4
    lines = said.err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("closed: ") and lines[1].startswith("silent: ")


def test_one_provider_only(gpujob: Command) -> None:
    said = gpujob("prices", "--provider", "plain", "--json")
    assert [row["provider"] for row in said.json] == ["plain"] and said.err == ""


def test_nothing_that_fits_is_code_10(gpujob: Command) -> None:
    said = gpujob("prices", "--gpu", "RTX4090:8")
    assert said.code == 10 and said.out == b"" and "Nothing fits" in said.err
    assert gpujob("prices", "--gpu", "RTX4090:8", "--json").json == []


@pytest.mark.parametrize(
    ("gpu", "names", "words"),
    [
        ("RTX4009", (), "RTX4090"),
        ("H100", (), "H100"),
        ("RTX4090:none", (), "NAME:COUNT"),
        ("RTX4090:0", (), "NAME:COUNT"),
        (None, ("chaep",), "cheap"),
    ],
)
def test_an_unknown_name_says_what_there_is(scene: Scene, gpu: str | None, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        rank(gpu, names, Work(), store=scene.store(), home=scene.home, env={})


def test_dry_run_says_where_and_the_worst_and_creates_nothing(scene: Scene, gpujob: Command, tmp_path: Path) -> None:
    spec = {
        "name": "x",
        "run": "true",
        "image": "none",
        "resources": {"gpu": "RTX4090"},
        "limits": {"max_duration": "1h"},
    }
    (tmp_path / "train.yaml").write_text(json.dumps({**spec, "retry": {"attempts": 1}}))
    said = gpujob("submit", "--dry-run", "--json")
    plan = said.json
    assert [(row["offer_id"], row["why_not"]) for row in plan["offers"]] == [("low", None), ("flat", None)]
    assert Decimal("0.30") <= Decimal(plan["worst_case_usd"]) <= Decimal("0.90") and set(plan["unavailable"]) == {
        "silent",
        "closed",
    }
    shown = gpujob("submit", "--dry-run")
    assert shown.code == 0 and "At the very worst $0." in shown.err and "low" in shown.text
    capped = gpujob("submit", "--dry-run", "--json", "--max-cost", "0.10").json
    assert capped["worst_case_usd"] == "0.1"
    assert gpujob("submit", "--dry-run", "--gpu", "RTX4090:8").code == 10
    assert scene.store().runs() == [] and scene.controllers_wanted == 0
