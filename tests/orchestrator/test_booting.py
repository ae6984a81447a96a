"""A machine that was accepted: which way leads there, whose key it shows, and whether it is what was sold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.machine import AgentError
from jobs.spec import Spec
from jobs.transport.base import AccessRefused, TransportError
from orchestrator.home import RunFolder
from orchestrator.phases.fitness import shortcoming
from orchestrator.records import AttemptOutcome, Outcome, Phase
from providers.base import Access, Instance, LaunchRequest, Offer, SshAccess, Traits
from providers.errors import NoCapacity
from tests.fakes.fake_machine import FakeMachine
from tests.fakes.memory_provider import Boot, MemoryProvider, offer
from tests.orchestrator.bad_days import ENDLESS
from tests.orchestrator.living import Living

DIRECT = SshAccess(host="10.0.0.1", port=20544, user="root", directory="m")
PROXY = SshAccess(host="ssh4.example", port=12022, user="root", directory="m")


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, offers=[offer("one"), offer("two", usd_per_hour="0.40")])
    yield alive
    assert alive.cloud.alive() == (), "nothing is left running"
    alive.store.close()


def reached_by(living: Living, monkeypatch: pytest.MonkeyPatch, open_way: Access | None) -> list[Access]:
    """Give every machine two ways of which one is open. Returns the ways that are tried, as they are."""
    described, tried = MemoryProvider._described, list[Access]()

    def with_two_ways(cloud: MemoryProvider, machine: Any) -> Instance:
        return replace(described(cloud, machine), access=DIRECT, other_access=(PROXY,))

    def connect(name: str, access: Access, folder: RunFolder) -> Any:
        tried.append(access)
        machine: Any = living.machines.connect(name, access, folder)
        if access != open_way:
            machine = Closed()
        return machine

    monkeypatch.setattr(MemoryProvider, "_described", with_two_ways)
    living.controller.world.connect = connect
    return tried


class Closed:
    def install(self, **_: Any) -> None:
        raise TransportError("connection refused")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("open_way", [DIRECT, PROXY], ids=["direct", "proxy"])
def test_a_machine_is_reached_by_whichever_way_is_open(
    living: Living, monkeypatch: pytest.MonkeyPatch, open_way: Access
) -> None:
    tried = reached_by(living, monkeypatch, open_way)
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert tried[0] == DIRECT and tried[-1] == open_way
    assert living.outcomes() == ["succeeded"]


def test_while_nobody_answers_the_cloud_is_not_asked_for_every_try(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = reached_by(living, monkeypatch, None)
    living.submit()
    living.until(Phase.BOOT)
    before = living.cloud.calls["get"]
    living.seconds(3, step=0.2)
    assert len(tried) >= 5
    assert living.cloud.calls["get"] - before <= 1
    monkeypatch.undo()
    living.controller = living.new_controller()
    assert living.until_done().outcome is Outcome.SUCCEEDED


def test_each_machine_gets_a_host_key_of_its_own_which_goes_with_it(living: Living) -> None:
    requests, create = [], living.cloud.create

    def remembering(offer: Offer, request: LaunchRequest) -> Instance:
        requests.append(request)
        return create(offer, request)

    living.cloud.create = remembering  # type: ignore[method-assign]
    living.cloud.faults.creates.append(NoCapacity("none left"))  # a key was made for a machine that never was
    living.machines._script = replace(ENDLESS, seconds=5, reason="agent")
    living.submit(retry={"attempts": 2})
    living.until_done()
    _, first, second = requests
    assert "OPENSSH PRIVATE KEY" in first.host_key and first.host_key != second.host_key
    assert first.public_key == second.public_key, "the run has one key to log in with"
    assert first.host_key not in repr(first)
    keys = [path for path in living.home.root.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert keys == []


def test_the_deadline_that_a_machine_armed_at_launch_is_not_moved(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("one")], script=ENDLESS)
    living.submit(limits={"max_duration": "1h"})
    living.until(Phase.BOOT)
    armed = living.cloud.get("i-gpujob-r-1-1-1").deadline
    living.clock.advance(600)
    living.until(Phase.WATCH)
    seconds = living.machines["gpujob-r-1-1-1"].job["deadline_seconds"]
    assert armed is not None and abs(living.clock() + timedelta(seconds=seconds) - armed) < timedelta(seconds=5)
    living.store.request_cancel("r-1")
    living.until_done()


def test_a_key_that_is_refused_by_every_way_is_a_bad_host(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: FakeMachine, **_: Any) -> None:
        raise AccessRefused("another host key")

    monkeypatch.setattr(FakeMachine, "install", refused)
    living.submit(retry={"attempts": 1})
    assert living.until_done().outcome is Outcome.NO_CAPACITY
    assert living.attempts()[0].outcome is AttemptOutcome.BAD_HOST


@pytest.mark.parametrize(
    ("simulated", "name", "fits"),
    [
        (True, "SIMULATED NVIDIA GeForce RTX 4090", True),
        (False, "SIMULATED NVIDIA GeForce RTX 4090", False),
        (True, "SIMULATED NVIDIA GeForce RTX 3090", False),
        (True, "NVIDIA GeForce RTX 4090", True),
        (False, "NVIDIA GeForce RTX 4090", True),
    ],
)
def test_a_simulated_gpu_is_taken_in_a_rehearsal_only(simulated: bool, name: str, fits: bool) -> None:
    spec = Spec.model_validate({"name": "job", "run": "true", "resources": {"gpu": "RTX4090"}})
    facts = {"python": "3.11.7", "gpus": [{"name": name}]}
    traits = Traits(is_container=True, simulated=simulated)
    assert (shortcoming(spec, offer(gpu="RTX4090"), facts, traits, image=None) is None) is fits


def test_a_boot_that_takes_long_says_what_is_waited_for(living: Living) -> None:
    living.cloud.faults.boots.append(Boot(seconds=60))
    living.submit()
    living.seconds(10)
    assert not any("still booting" in text for text in living.words())
    living.until_done()
    assert [text for text in living.words() if "still booting" in text] == ["still booting: booting"]


def test_a_machine_without_python_is_left_for_another(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(FakeMachine):
        def install(self, *, timeout: float = 60) -> None:
            raise AgentError("cannot write the agent on the machine: sh: 1: python3: not found")

    connect = living.machines.connect

    def bare_first(name: str, access: Access, folder: RunFolder) -> Any:
        machine: Any = connect(name, access, folder)
        if name.endswith("-1-1"):
            machine.__class__ = Bare
        return machine

    living.controller.world.connect = bare_first
    living.submit()
    assert living.until_done(limit=300).outcome is Outcome.SUCCEEDED
    assert living.outcomes() == ["bad_host", "succeeded"]
    assert "python3" in (living.attempts()[0].error or "")
