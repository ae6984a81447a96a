"""gpujob prices --watch: looks again and again, says what appears, runs a command, ends as it is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import providers
from orchestrator.cli import main
from orchestrator.cli.session import Session
from providers.base import Provider, Settings, Traits
from tests.fakes.memory_provider import MemoryProvider, Outage, offer
from tests.orchestrator.cli.conftest import Command, Said
from tests.orchestrator.scene import Scene

CLOUDS: list[MemoryProvider] = []


def vast(settings: Settings) -> Provider:
    cloud = MemoryProvider(settings.now, name="vast", traits=Traits(is_container=True))
    cloud.rentable = [pod("0.40")]
    CLOUDS.append(cloud)
    return cloud


def pod(usd: str, name: str = "pod", **facts: Any) -> Any:
    return offer(name, gpu="RTX4090", usd_per_hour=usd, provider="vast", region="US", **facts)


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    CLOUDS.clear()
    monkeypatch.setattr(providers, "_REGISTER", {"vast": f"{__name__}:vast"})


Watch = Callable[..., Said]


@pytest.fixture
def watch(scene: Scene, capfdbinary: pytest.CaptureFixture[bytes]) -> Watch:
    """A watch whose pauses take no time: after each of them the cloud is as the next of `then` makes it."""

    def call(*options: str, then: list[Callable[[MemoryProvider], None]] | None = None) -> Said:
        coming = iter(then or [])
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            change = next(coming, None)
            if change is None:
                raise KeyboardInterrupt
            change(CLOUDS[0])

        session = Session(scene.home, {"PATH": "/usr/bin:/bin"}, ensure_running=scene.want_controller, sleep=sleep)
        code = main(["prices", "--watch", "--under", "0.30", *options], session=session)
        out, err = capfdbinary.readouterr()
        assert set(slept) <= {300.0, 30.0}
        return Said(code, out, err.decode())

    return call


def now_offers(*offers: Any) -> Callable[[MemoryProvider], None]:
    return lambda cloud: setattr(cloud, "rentable", list(offers))


def test_once_ends_with_the_first_that_appears(watch: Watch) -> None:
    said = watch("--gpu", "RTX4090", "--once", then=[now_offers(pod("0.31")), now_offers(pod("0.29", spot=True))])
    assert said.code == 0
    [line] = said.text.splitlines()
    assert line.endswith("UTC  vast US: 1x RTX4090 at $0.29/h spot")
    assert said.err == "Nothing is under $0.30/h now. Asking every 5m 00s.\n"
    assert len(CLOUDS) == 1, "clouds are opened once"


def test_it_goes_on_until_it_is_interrupted(watch: Watch) -> None:
    said = watch("--every", "30s", then=[now_offers(pod("0.29")), now_offers(pod("0.29")), now_offers(pod("0.20"))])
    assert said.code == 130
    assert [line.split(" at ")[1] for line in said.text.splitlines()] == ["$0.29/h", "$0.20/h"]


def test_json_lines(watch: Watch) -> None:
    said = watch("--json", "--once", then=[now_offers(pod("0.20", "a"), pod("0.10", "b"))])
    lines = [json.loads(line) for line in said.text.splitlines()]
    assert [(line["offer_id"], line["usd_per_hour"], line["under_usd_per_hour"]) for line in lines] == [
        ("b", "0.1", "0.3"),
        ("a", "0.2", "0.3"),
    ]
    assert lines[0]["at"].endswith("Z")


def test_a_person_gets_a_few_lines(watch: Watch) -> None:
    said = watch("--once", then=[now_offers(*(pod("0.20", f"p{number}") for number in range(9)))])
    assert len(said.text.splitlines()) == 6 and said.text.splitlines()[-1].endswith("and 4 more")


def test_a_simulated_cloud_is_called_so(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def simulated(cloud: MemoryProvider) -> None:
        cloud.rentable = [pod("0.20")]

    made = vast
    monkeypatch.setitem(globals(), "vast", lambda settings: _simulated(made(settings)))
    assert "vast (simulated) US" in watch("--once", then=[simulated]).text


def _simulated(cloud: Any) -> Any:
    cloud.traits = Traits(is_container=True, simulated=True)
    return cloud


def test_a_cloud_that_is_silent_is_named_once(watch: Watch) -> None:
    def silent(cloud: MemoryProvider) -> None:
        cloud.faults.outages.append(Outage(0, 3600))

    def back(cloud: MemoryProvider) -> None:
        cloud.faults.outages.clear()

    said = watch(then=[silent, silent, silent, back, silent])
    assert said.err.count("vast does not answer\n") == 2 and said.code == 130


@pytest.mark.process
def test_a_command_gets_what_appeared(watch: Watch, tmp_path: Path) -> None:
    program = tmp_path / "told.py"
    program.write_text(f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read())")
    said = watch("--once", "--command", f"{sys.executable} {program}", then=[now_offers(pod("0.20"))])
    got = json.loads((tmp_path / "got").read_text())
    assert said.code == 0 and got["text"] == "gpujob: vast US: 1x RTX4090 at $0.20/h"
    assert [one["offer_id"] for one in got["offers"]] == ["pod"]


@pytest.mark.process
@pytest.mark.parametrize(("command", "words"), [("false", "exit code 1"), ("/no/such/program", "No such file")])
def test_a_command_that_fails_ends_no_watch(watch: Watch, command: str, words: str) -> None:
    said = watch("--command", command, then=[now_offers(pod("0.20")), now_offers(pod("0.10"))])
    assert said.code == 130 and len(said.text.splitlines()) == 2 and words in said.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--watch"], "--under"),
        (["--under", "0.30"], "--watch"),
        (["--once"], "--watch"),
        (["--watch", "--under", "cheap"], "--under"),
        (["--watch", "--under", "0.30", "--every", "5s"], "30s"),
        (["--watch", "--under", "0.30", "--every", "5"], "5m"),
        (["--watch", "--under", "0.30", "--every", "2d"], "1d"),
        (["--watch", "--under", "0.30", "--csv"], "--csv"),
        (["--watch", "--under", "0.30", "--command", "  "], "--command"),
        (["--watch", "--under", "0.30", "--gpu", "RTX4009"], "did you mean"),
    ],
)
def test_what_does_not_go_together_is_refused(gpujob: Command, options: list[str], words: str) -> None:
    said = gpujob("prices", *options)
    assert said.code == 2 and words in said.err
