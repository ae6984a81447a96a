"""gpujob prices: every cloud at once, ranked by the whole price; one that fails is named, with what is known of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest

import providers
from orchestrator.cli import offer_list, prices
from orchestrator.clouds import UnknownName
from orchestrator.prices import ORDERS, Wanted, Work, rank
from orchestrator.store.rows import ResultRow
from providers.base import OfferQuery, Offers, Provider, Settings, Traits
from tests.fakes.memory_provider import MemoryProvider, Outage, offer
from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.cli.test_start import imported
from tests.orchestrator.scene import Scene

FIRST_COLUMNS = (
    *("provider", "region", "gpu", "gpu_count", "gpu_memory_gb", "vcpus", "memory_gb", "spot", "usd_per_hour"),
    *("usd_per_gpu_hour", "disk_usd_per_gb_month", "egress_usd_per_gb", "reliability", "total_usd", "fetched_at"),
    "offer_id",
)


def cheap(settings: Settings) -> Provider:
    """Cheap by the hour, dear by the gigabyte."""
    dear_traffic = {"provider": "cheap", "egress_usd_per_gb": Decimal("0.10"), "fetched_at": settings.now()}
    low = offer("low", usd_per_hour="0.20", gpu="RTX4090", reliability=0.95, **dear_traffic)
    cpu = offer("cpu", usd_per_hour="0.05", provider="cheap", fetched_at=settings.now())
    return MemoryProvider(settings.now, name="cheap", offers=[low, cpu])


def plain(settings: Settings) -> Provider:
    facts = {"provider": "plain", "fetched_at": settings.now()}
    return MemoryProvider(
        settings.now,
        name="plain",
        offers=[
            offer("flat", usd_per_hour="0.30", gpu="RTX4090", reliability=0.99, region="there", **facts),
            offer("four", usd_per_hour="0.60", gpu="RTX4090", gpu_count=4, spot=True, **facts),
            offer("new", usd_per_hour="0.40", gpu="RTX 9090 Ultra", **facts),
        ],
    )


def simulated(settings: Settings) -> Provider:
    made = offer("pod", usd_per_hour="0.25", gpu="L4", provider="simulated", fetched_at=settings.now())
    traits = Traits(is_container=True, simulated=True)
    return MemoryProvider(settings.now, name="simulated", offers=[made], traits=traits)


def silent(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="silent")
    cloud.faults.outages.append(Outage(0, 3600))
    return cloud


def keyless(settings: Settings) -> Provider:
    """Its prices are public."""
    cloud = MemoryProvider(settings.now, name="keyless", offers=[offer(gpu="L4", provider="keyless")])
    cloud.faults.unusable = "set KEYLESS_API_KEY"
    return cloud


def closed(settings: Settings) -> Provider:
    raise RuntimeError("cannot even be opened")


Clouds = Callable[..., None]


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Clouds:
    def register(*names: str, **others: Callable[[Settings], Provider]) -> None:
        places = {name: f"{__name__}:{name}" for name in (*names, *others)}
        monkeypatch.setattr(providers, "_REGISTER", places)
        for name, opener in others.items():
            monkeypatch.setitem(globals(), name, opener)

    register("cheap", "plain")
    return register


pytestmark = pytest.mark.usefixtures("clouds")


def listed(gpujob: Command, *options: object) -> list[str]:
    said = gpujob("prices", *options, "--json")
    return [row["offer_id"] for row in said.json]


def test_the_order_is_by_the_whole_price(gpujob: Command) -> None:
    said = gpujob("prices", "--gpu", "4090", "--no-spot", "--json")
    assert [(row["offer_id"], row["total_usd"]) for row in said.json] == [("low", "0.2"), ("flat", "0.3")]
    moved = gpujob("prices", "--gpu", "rtx 4090", "--no-spot", "--hours", 10, "--egress", 50, "--json").json
    assert [(row["offer_id"], row["total_usd"]) for row in moved] == [("flat", "3"), ("low", "7")]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("total", ["low", "flat", "four"]),
        ("hour", ["low", "flat", "four"]),
        ("gpu-hour", ["four", "low", "flat"]),
        ("tflop", ["four", "low", "flat"]),
        ("reliability", ["flat", "low", "four"]),
        ("provider", ["low", "flat", "four"]),
    ],
)
def test_what_comes_first_can_be_chosen(gpujob: Command, order: str, expected: list[str]) -> None:
    assert listed(gpujob, "--gpu", "RTX4090", "--sort", order) == expected


def test_the_orders_offered_are_those_that_there_are() -> None:
    assert prices.ORDERS == ORDERS


def test_what_is_not_known_comes_last(gpujob: Command) -> None:
    assert listed(gpujob, "--sort", "tflop")[-1] == "new"
    assert listed(gpujob, "--sort", "gpu-hour", "--gpu", "cpu", "--gpu", "4090")[-1] == "cpu"


def test_rows_say_per_gpu_and_per_tflop(gpujob: Command) -> None:
    rows = {row["offer_id"]: row for row in gpujob("prices", "--json").json}
    [without] = gpujob("prices", "--gpu", "cpu", "--json").json
    assert rows["four"]["usd_per_gpu_hour"] == "0.15"
    assert rows["four"]["usd_per_tflop_hour"] == "0.000907990".rstrip("0")  # 0.60 / (4 x 165.2)
    assert rows["new"]["usd_per_tflop_hour"] is None and without["usd_per_gpu_hour"] is None
    assert rows["new"]["gpu"] == "RTX 9090 Ultra", "an unknown name is shown as it came"


def test_json_and_csv_have_the_same_columns(gpujob: Command) -> None:
    rows = gpujob("prices", "--json").json
    assert tuple(rows[0])[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
    said = gpujob("prices", "--csv")
    table = list(csv.DictReader(io.StringIO(said.text)))
    assert list(table[0]) == list(rows[0]) and len(table) == len(rows)
    assert [row["total_usd"] for row in table] == [row["total_usd"] for row in rows]
    assert {row["spot"] for row in table} == {"true", "false"}
    assert "None" not in said.text and "None" not in gpujob("prices", "--gpu", "cpu", "--csv").text
    assert gpujob("prices", "--csv", "--json").code == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--gpu", "RTX4090:2"], ["four"]),
        (["--spot"], ["four"]),
        (["--no-spot", "--gpu", "4090"], ["low", "flat"]),
        (["--region", "there"], ["flat"]),
        (["--region", "there", "--region", "nowhere"], ["flat"]),
        (["--provider", "cheap"], ["low"]),
        (["--gpu", "CPU"], ["cpu"]),
        (["--gpu", "cpu", "--gpu", "rtx4090:4"], ["cpu", "four"]),
        (["--gpu", "4090:4", "--gpu", "rtx4090"], ["low", "flat", "four"]),
        (["--limit", 2], ["low", "flat"]),
        (["--limit", 0], ["low", "flat", "new", "four"]),
        (["--disk", 2000], []),
    ],
)
def test_only_what_was_asked_for(gpujob: Command, options: list[object], expected: list[str]) -> None:
    assert listed(gpujob, *options) == expected


def test_a_screen_shows_the_first_and_says_how_many_more(
    gpujob: Command, clouds: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(settings: Settings) -> Provider:
        offers = [offer(f"o{n}", gpu="L4", usd_per_hour=f"0.{n + 10}", fetched_at=settings.now()) for n in range(30)]
        zones = [replace(offers[0], offer_id=f"zone-{zone}", location=zone) for zone in "abc"]
        return MemoryProvider(settings.now, name="memory", offers=[*offers, *zones])

    clouds(many=many)
    assert len(gpujob("prices").text.splitlines()) == 34, "a pipe gets all of them"
    monkeypatch.setattr(offer_list, "layout", lambda: {"terminal": True, "width": 80})
    said = gpujob("prices")
    assert len(said.text.splitlines()) == 21 and said.err.startswith("10 more: ")
    assert "1x L4 (4 offers)" in said.text.splitlines()[1]
    assert "13 more" not in gpujob("prices", "--limit", 0).err
    assert gpujob("prices", "--limit", 1).err.startswith("29 more: ")
    assert len(gpujob("prices", "--json").json) == 33


def test_one_that_does_not_answer_is_one_line_of_talk(gpujob: Command, clouds: Clouds) -> None:
    clouds("cheap", "plain", "silent", "closed")
    said = gpujob("prices")
    assert said.code == 0 and len(said.text.splitlines()) == 5
    assert sorted(said.err.splitlines()) == [
        "closed: internal error: RuntimeError: cannot even be opened",
        "silent: silent does not answer",
    ]


def test_one_that_cannot_be_rented_from_tells_its_prices(gpujob: Command, clouds: Clouds) -> None:
    clouds("keyless")
    said = gpujob("prices", "--json")
    assert said.json[0]["offer_id"] == "small"
    assert said.err == "keyless: prices only, nothing can be rented there: set KEYLESS_API_KEY\n"


def test_the_last_known_prices_stand_in_for_a_cloud_that_is_silent(gpujob: Command, clouds: Clouds) -> None:
    heard_at = datetime.now(UTC) - timedelta(hours=3)

    def fickle(settings: Settings) -> Provider:
        facts: dict[str, Any] = {"provider": "fickle", "fetched_at": heard_at}
        cloud = MemoryProvider(settings.now, name="fickle", offers=[offer("x", gpu="L4", gpu_count=2, **facts)])
        if down:
            cloud.faults.outages.append(Outage(0, 3600))
        return cloud

    down = False
    clouds("cheap", fickle=fickle)
    [row] = gpujob("prices", "--gpu", "L4", "--json").json
    assert not row["stale"]
    down = True
    said = gpujob("prices", "--gpu", "L4", "--hours", 2, "--json")
    [row] = said.json
    assert (row["offer_id"], row["stale"], row["total_usd"]) == ("x", True, "0.72")
    assert 3 * 3600 <= row["age_seconds"] < 3 * 3600 + 600
    assert said.err == "fickle: fickle does not answer; what was last heard of it is listed\n"
    assert "last heard 3h ago" in gpujob("prices", "--gpu", "L4").text
    assert listed(gpujob, "--gpu", "L4", "--gpu", "L4:2") == ["x"], "each once"
    assert gpujob("prices", "--gpu", "H200", "--json").json == [], "the question is asked of the known prices, too"


def test_prices_that_the_user_wrote_are_not_remembered(gpujob: Command, clouds: Clouds, scene: Scene) -> None:
    def mine(settings: Settings) -> Provider:
        return MemoryProvider(settings.now, name="mine", traits=Traits(is_container=False, owned=True))

    clouds(mine=mine)
    assert gpujob("prices").code == 0
    assert not (scene.home.root / "cache").exists()


def test_ones_own_computer_is_listed_with_its_gpus_and_without(gpujob: Command, clouds: Clouds) -> None:
    class Own(MemoryProvider):
        def offers(self, query: OfferQuery) -> Offers:
            gpu = "L4" if query.gpu_count else None
            return Offers([offer(f"host-{gpu}", gpu=gpu, provider="own")])

    clouds(own=lambda settings: Own(settings.now, name="own", traits=Traits(is_container=False, owned=True)))
    assert listed(gpujob) == ["host-L4", "host-None"]
    assert listed(gpujob, "--gpu", "L4") == ["host-L4"]
    assert listed(gpujob, "--gpu", "cpu") == ["host-None"]


@pytest.mark.process
def test_one_that_hangs_is_not_waited_for(gpujob: Command, clouds: Clouds, release: Event) -> None:
    class Hung(MemoryProvider):
        def offers(self, query: OfferQuery) -> Offers:
            release.wait()
            return Offers()

    clouds("cheap", hung=lambda settings: Hung(settings.now, name="hung"))
    said = gpujob("prices", "--timeout", 1, "--json")
    assert [row["offer_id"] for row in said.json] == ["low"]
    assert said.err == "hung: no answer within 1 s\n"


@pytest.fixture
def release() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def test_a_simulated_cloud_is_called_so_everywhere(gpujob: Command, clouds: Clouds) -> None:
    clouds("simulated")
    [row] = gpujob("prices", "--json").json
    assert row["simulated"] and row["source"].startswith("simulated")
    assert "simulated" in gpujob("prices", "--provider", "simulated").text.splitlines()[1]
    [line] = csv.DictReader(io.StringIO(gpujob("prices", "--provider", "simulated", "--csv").text))
    assert line["simulated"] == "true"


def test_nothing_that_fits_is_code_10(gpujob: Command) -> None:
    said = gpujob("prices", "--gpu", "RTX4090:8")
    assert said.code == 10 and said.out == b"" and "Nothing fits" in said.err
    assert gpujob("prices", "--gpu", "RTX4090:8", "--json").json == []
    assert gpujob("prices", "--gpu", "RTX4090:8", "--csv").text.strip() == ""


@pytest.mark.parametrize(
    ("gpu", "names", "words"),
    [
        ("RTX4009", (), "did you mean RTX4090"),
        ("H100", (), "can be several GPUs: write H100-SXM, H100-PCIe or H100-NVL"),
        ("RTX4090:none", (), "NAME:COUNT"),
        ("RTX4090:0", (), "NAME:COUNT"),
        (None, ("chaep",), "cheap"),
    ],
)
def test_an_unknown_name_says_what_there_is(scene: Scene, gpu: str | None, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        rank(Wanted(gpus=(gpu,) if gpu else (), providers=names), Work(), home=scene.home, env={})


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "1e300", "x"])
def test_an_amount_that_is_none_is_refused(gpujob: Command, hours: str) -> None:
    said = gpujob("prices", "--hours", hours)
    assert said.code == 2 and "--hours" in said.err


def test_what_was_divided_has_an_end(gpujob: Command, clouds: Clouds) -> None:
    def thirds(settings: Settings) -> Provider:
        facts: dict[str, Any] = {"disk_usd_per_gb_month": Decimal("0.1"), "gpu": "L4", "gpu_count": 3}
        return MemoryProvider(settings.now, name="thirds", offers=[offer("x", usd_per_hour="0.34", **facts)])

    clouds(thirds=thirds)
    [row] = gpujob("prices", "--json").json
    assert (row["total_usd"], row["usd_per_gpu_hour"]) == ("0.342777777778", "0.113333333333")


@pytest.mark.process
@pytest.mark.parametrize("form", ["--json", "--csv", "--limit=5"])
def test_no_more_is_imported_than_a_list_of_prices_needs(scene: Scene, form: str) -> None:
    loaded = imported("prices", "--provider", "local", form, GPUJOB_HOME=str(scene.home.root))
    assert loaded & {"sqlalchemy", "pydantic", "rich", "ruamel", "paramiko", "boto3", "requests", "runpod"} == set()


def test_a_list_of_prices_opens_no_store(gpujob: Command, scene: Scene) -> None:
    assert gpujob("prices").code == 0
    assert not (scene.home.root / "store.db").exists()


def test_what_a_unit_of_work_costs_by_ones_own_benchmarks(scene: Scene, gpujob: Command) -> None:
    store = scene.store()
    run = scene.run()
    rate: dict[str, Any] = {"suite": "s", "task": "gpt", "target": "gpu", "provider": "vast", "sweep_id": "b-1"}
    rate |= {"machine": "", "gpu_count": 1, "is_simulated": False, "unit": "tokens/s", "better": "higher"}
    rate |= {"work": "tokens", "is_main": True, "repeats": [1.0], "usd_per_hour": Decimal(1), "at": scene.now}
    store.benchmarks.add_results(
        [ResultRow(run_id=run.id, metric="tokens", gpu="RTX4090", value=1000.0, testbed={}, **rate)]
    )
    store.close()
    said = gpujob("prices", "--per", "tokens", "--sort", "work", "--json")
    priced = [(offer["gpu"], offer["usd_per_work"]) for offer in said.json]
    assert said.code == 0 and priced[0][0] == "RTX4090" and float(priced[0][1]) > 0
    assert all(usd is None for gpu, usd in priced if gpu != "RTX4090")
    assert "PER UNIT" in gpujob("prices", "--per", "tokens").text
    assert "PER UNIT" not in gpujob("prices").text
    refused = gpujob("prices", "--per", "epochs")
    assert refused.code == 2 and "there is tokens" in refused.err
