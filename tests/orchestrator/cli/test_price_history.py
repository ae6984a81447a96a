"""gpujob prices --history: what was noted, drawn with what was paid; asks no cloud."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

import providers
from orchestrator.price_history import PriceHistory
from providers.base import OfferQuery, Provider, Settings, Traits
from tests.fakes.memory_provider import MemoryProvider, offer
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.scene import Scene

NOW = datetime.now(UTC)
Heard = Callable[..., None]


def vast(settings: Settings) -> Provider:
    found = offer("pod", gpu="RTX4090", usd_per_hour="0.34", provider="vast", region="US")
    return MemoryProvider(settings.now, name="vast", offers=[found], traits=Traits(is_container=True))


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_REGISTER", {"vast": f"{__name__}:vast", "runpod": f"{__name__}:vast"})


@pytest.fixture
def heard(scene: Scene) -> Heard:
    def note(hours_ago: float, usd: str, provider: str = "vast", *, simulated: bool = False, **facts: object) -> None:
        at = NOW - timedelta(hours=hours_ago)
        cloud = MemoryProvider(lambda: at, name=provider, traits=Traits(is_container=True, simulated=simulated))
        found = offer("x", gpu="RTX4090", usd_per_hour=usd, **{"region": "US", **facts})
        PriceHistory(scene.home, now=lambda: at).note(cloud, [OfferQuery(gpu_count=1)], [found])

    return note


def test_a_list_of_prices_is_noted(gpujob: Command) -> None:
    assert gpujob("prices", "--provider", "vast").code == 0
    [one] = gpujob("prices", "--history", "4090", "--json").json["series"]
    assert (one["provider"], one["now_usd_per_hour"], one["least_usd_per_hour"]) == ("vast", "0.34", "0.34")
    assert [point["usd_per_hour"] for point in one["points"]] == ["0.34"]


def test_a_dry_run_is_noted(gpujob: Command, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(
        "run: 'true'\nname: x\nresources: {gpu: RTX4090}\nplace: {providers: [vast]}\n"
    )
    assert gpujob("submit", "--dry-run").code == 0
    assert len(gpujob("prices", "--history", "RTX4090", "--json").json["series"]) == 1


def test_curves_with_their_figures(gpujob: Command, heard: Heard) -> None:
    for hours_ago, usd in ((50, "0.30"), (49, "0.30"), (25, "0.20"), (1, "0.34")):
        heard(hours_ago, usd)
    heard(30, "0.15", spot=True)
    heard(30, "0.69", "runpod")
    said = gpujob("prices", "--history", "RTX4090")
    assert said.code == 0 and said.text.startswith("1x RTX4090: the lowest price by the hour (UTC)")
    assert "$0.15/h" in said.text and "$0.69/h" in said.text
    table = {line.split("  ")[0]: line.split() for line in said.text.splitlines() if "ago" in line}
    assert list(table) == ["runpod", "vast spot", "vast"]
    assert table["vast"][1:5] == ["$0.34/h", "$0.20/h", "$0.30/h", "$0.34/h"]
    assert table["vast spot"][2:4] == ["-", "$0.15/h"], "not heard lately"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--provider", "runpod"], [("runpod", False)]),
        (["--spot"], [("vast", True)]),
        (["--no-spot"], [("runpod", False), ("vast", False)]),
        (["--region", "DE"], [("runpod", False)]),
        (["--days", "1"], [("vast", False)]),
    ],
)
def test_only_what_was_asked_for(gpujob: Command, heard: Heard, options: list[str], expected: list[object]) -> None:
    heard(2, "0.30")
    heard(30, "0.15", spot=True)
    heard(30, "0.69", "runpod", region="DE")
    found = gpujob("prices", "--history", "RTX4090", *options, "--json").json["series"]
    assert [(one["provider"], one["spot"]) for one in found] == expected


def test_what_runs_paid_is_marked(gpujob: Command, heard: Heard, scene: Scene) -> None:
    heard(2, "0.30")
    run = scene.active()
    rented(scene, run.id, NOW - timedelta(hours=1))
    said = gpujob("prices", "--history", "RTX4090", "--json").json
    assert [(one["run_id"], one["usd_per_hour"], one["simulated"]) for one in said["paid"]] == [(run.id, "0.36", False)]
    shown = gpujob("prices", "--history", "RTX4090").text
    assert "paid by your runs" in shown and "1 run, median $0.36/h" in shown
    rows = list(csv.DictReader(io.StringIO(gpujob("prices", "--history", "RTX4090", "--csv").text)))
    assert [(row["kind"], row["usd_per_hour"], row["run_id"]) for row in rows] == [
        ("heard", "0.3", ""),
        ("paid", "0.36", run.id),
    ]
    assert gpujob("prices", "--history", "RTX4090", "--spot", "--json").json["paid"] == []


def rented(scene: Scene, run_id: str, at: datetime) -> None:
    """Write when its machine began to cost."""
    store = scene.store()
    store.nudge(run_id)
    [lease] = store.claim("scene", limit=1, lease_seconds=60)
    [attempt] = store.attempts(run_id)
    attempt.billing_from = at
    store.save(lease, lease.run, attempts=[attempt], due_in=3600)
    store.close()


def test_simulated_prices_have_a_picture_of_their_own(gpujob: Command, heard: Heard) -> None:
    heard(2, "0.30")
    heard(2, "0.01", simulated=True)
    said = gpujob("prices", "--history", "RTX4090").text
    axes = [line.split()[0] for line in said.splitlines() if line.lstrip().startswith("$")]
    assert axes == ["$0.30/h", "$0.01/h"] and "vast (simulated)" in said
    assert len(gpujob("prices", "--history", "RTX4090", "--json").json["series"]) == 2


def test_a_page_with_pictures(gpujob: Command, heard: Heard, tmp_path: Path) -> None:
    for hours_ago in range(60, 0, -1):
        heard(hours_ago, f"0.{30 + hours_ago % 7}")
    heard(5, "0.15", "runpod", spot=True)
    said = gpujob("prices", "--history", "RTX4090", "--html", tmp_path / "page.html")
    assert said.code == 0 and said.err == f"written to {tmp_path / 'page.html'}\n"
    page = (tmp_path / "page.html").read_text()
    assert (
        page.count("<svg") == 2
        and "src=" not in page
        and "<script" not in page
        and "http" not in page.split("</style>")[1]
    )
    for picture in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + picture.split("</svg>")[0] + "</svg>")
    assert "runpod spot" in page and "least $0.30/h" in page


def test_nothing_heard_says_how_prices_get_there(gpujob: Command, heard: Heard, scene: Scene) -> None:
    said = gpujob("prices", "--history", "RTX4090")
    assert said.code == 0 and said.out == b"" and "gpujob prices" in said.err
    assert not (scene.home.root / "store.db").exists(), "no store is made to find nothing in it"
    heard(2, "4.00", gpu_count=8)
    assert "--history RTX4090:8" in gpujob("prices", "--history", "RTX4090").err
    assert len(gpujob("prices", "--history", "RTX4090:8", "--json").json["series"]) == 1
    assert gpujob("prices", "--history", "RTX4090", "--csv").text.strip() == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--history", "RTX4009"], "did you mean RTX4090"),
        (["--history", "RTX4090", "--gpu", "L4"], "--gpu"),
        (["--history", "RTX4090", "--watch", "--under", "1"], "--watch"),
        (["--history", "RTX4090", "--provider", "vats"], "no provider"),
        (["--html", "x.html"], "--history"),
        (["--days", "3"], "--history"),
        (["--history", "RTX4090", "--days", "0"], "--days"),
    ],
)
def test_what_does_not_go_together_is_refused(gpujob: Command, options: list[str], words: str) -> None:
    said = gpujob("prices", *options)
    assert said.code == 2 and words in said.err
