"""A whole rehearsal: several clouds in one process, how to reach them, what it refuses, and that it ends clean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.rehearsal.faults import Fault
from providers.rehearsal.machines.paper import PaperMachines
from providers.rehearsal.server import Rehearsal, RehearsalError, check, machines_of_kind, read_faults

pytestmark = pytest.mark.process

CLOUDS = ("runpod", "vast")


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-m", "providers.rehearsal", "--machines", "paper", "--clouds", "vast,runpod", *arguments]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, json.loads(line)
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_clouds_are_there_on_one_clock_and_gone_at_the_end() -> None:
    with Rehearsal(CLOUDS, machines=PaperMachines(), speed=2.0, latency_seconds=0.0) as rehearsal:
        assert sorted(rehearsal.clouds) == ["runpod", "vast"]
        urls = [cloud.url for cloud in rehearsal.clouds.values()]
        assert all(answers(f"{url}/_rehearsal/bill") for url in urls)
        assert {cloud.clock for cloud in rehearsal.clouds.values()} == {rehearsal.clock}
        assert rehearsal.clock.speed == 2.0
    assert not any(answers(url) for url in urls)


def test_no_cloud_sees_its_machines_go_at_the_end() -> None:
    class Closing(PaperMachines):
        urls: tuple[str, ...] = ()
        reached: tuple[str, ...] = ()

        def close(self) -> None:
            self.reached += tuple(url for url in self.urls if answers(f"{url}/_rehearsal/bill"))
            super().close()

    machines = Closing()
    with Rehearsal(CLOUDS, machines=machines) as rehearsal:
        machines.urls = tuple(cloud.url for cloud in rehearsal.clouds.values())
    assert len(machines.urls) == 2 and machines.reached == ()


def test_the_environment_leads_to_this_computer_with_throw_away_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    with Rehearsal(machines=PaperMachines()) as rehearsal:
        environment = rehearsal.environment()
    for name in ("VAST_URL", "RUNPOD_API_BASE_URL", "AWS_ENDPOINT_URL"):
        assert environment[name].startswith("http://127.0.0.1:")
    for name in ("VAST_API_KEY", "RUNPOD_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert environment[name].startswith("rehearsal")
    assert "127.0.0.1" in environment["NO_PROXY"], "a proxy would be asked for it otherwise"


@pytest.mark.parametrize(
    ("environment", "given", "words"),
    [
        ({"VAST_URL": "https://console.vast.ai"}, {}, "VAST_URL leads to https://console.vast.ai"),
        ({"VAST_URL": "http://192.168.0.1:80"}, {}, "not this computer"),
        ({"VAST_URL": "http://127.0.0.1:1", "VAST_API_KEY": "abc"}, {}, "VAST_API_KEY does not hold a throw-away key"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            {"AWS_ENDPOINT_URL_EC2": "https://ec2.us-east-1.amazonaws.com"},
            "AWS_ENDPOINT_URL_EC2 is set",
        ),
    ],
)
def test_what_could_cost_money_is_refused(environment: dict[str, str], given: dict[str, str], words: str) -> None:
    with pytest.raises(RehearsalError, match=words) as refused:
        check("vast", environment, given)
    assert "abc" not in str(refused.value)


def test_loopback_is_not_refused() -> None:
    for url in ("http://127.0.0.1:80", "http://localhost:1/x", "http://[::1]:9"):
        check("vast", {"VAST_URL": url, "VAST_API_KEY": "rehearsal-1"}, {})


def test_a_cloud_or_a_kind_of_machine_that_does_not_exist_is_named() -> None:
    with pytest.raises(RehearsalError, match="'azure'; there are aws, runpod, vast"):
        Rehearsal(["azure"], machines=PaperMachines())
    with pytest.raises(RehearsalError, match="'cardboard'; there are docker, process, paper"):
        machines_of_kind("cardboard")


def test_faults_come_from_a_file_for_all_clouds_or_for_each(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('[{"kind": "outage", "seconds": 5}]')
    assert read_faults(file, CLOUDS) == {name: [Fault(kind="outage", seconds=5)] for name in CLOUDS}
    file.write_text('{"vast": [{"kind": "no_funds"}]}')
    with Rehearsal(CLOUDS, machines=PaperMachines(), faults=read_faults(file, CLOUDS)) as rehearsal:
        assert rehearsal.clouds["vast"].faults.waiting() == [Fault(kind="no_funds")]
        assert rehearsal.clouds["runpod"].faults.waiting() == []


@pytest.mark.parametrize("text", ["{", "[3]", '[{"kind": "rain"}]', '{"vast": 3}', "7"])
def test_a_damaged_file_of_faults_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "faults.json"
    file.write_text(text)
    with pytest.raises(RehearsalError, match=r"faults\.json"):
        read_faults(file, CLOUDS)
    with pytest.raises(RehearsalError, match="No such file"):
        read_faults(tmp_path / "none.json", CLOUDS)


def test_faults_for_a_cloud_that_is_not_there_are_refused_and_nothing_stays() -> None:
    with pytest.raises(RehearsalError, match="'aws', which is not rehearsed"):
        Rehearsal(["vast"], machines=PaperMachines(), faults={"aws": [Fault(kind="error")]})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_the_clouds_are_and_ends_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    place = tmp_path / "where.json"
    with running("--port-file", str(place), "--speed", "60") as (process, said):
        assert json.loads(place.read_text()) == said
        assert said["machines"] == "paper" and said["pid"] == process.pid
        assert set(said["clouds"]) == {"vast", "runpod"}
        url = said["clouds"]["vast"]["url"]
        assert said["environment"]["VAST_URL"] == url and answers(f"{url}/_rehearsal/bill")
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not place.exists() and not answers(url)


def test_a_signal_ends_it_also_while_it_listens_for_the_one_who_started_it() -> None:
    with running("--until-stdin-closes") as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None and process.stderr.read() == ""


def test_the_command_ends_with_the_one_who_started_it() -> None:
    with running("--until-stdin-closes") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "providers.rehearsal", "--machines", "paper", "--clouds", "vast,azure"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "") and "azure" in done.stderr and "Traceback" not in done.stderr


def test_a_real_endpoint_in_the_environment_stops_the_command() -> None:
    argv = [sys.executable, "-m", "providers.rehearsal", "--machines", "paper", "--clouds", "aws"]
    env = {**os.environ, "AWS_ENDPOINT_URL_EC2": "https://ec2.eu-central-1.amazonaws.com"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=env)
    assert done.returncode == 2 and "AWS_ENDPOINT_URL_EC2" in done.stderr
