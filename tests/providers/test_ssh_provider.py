"""SshProvider over computers that answer in-process: which one is asked, and what its answers mean. No socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from providers import host
from providers.base import LaunchRequest, OfferQuery, Settings, SshAccess
from providers.errors import (
    Ambiguous,
    AuthFailed,
    BadHost,
    NoCapacity,
    NotFound,
    ProviderError,
    Rejected,
    Throttled,
    Unreachable,
)
from providers.ssh.inventory import Host
from providers.ssh.provider import SshProvider
from tests.fakes.clock import FakeClock

INVENTORY = """
[[host]]
name = "tower"
host = "10.0.0.1"
user = "ada"
gpus = ["RTX4090:2", "T4:1"]

[[host]]
name = "box"
host = "10.0.0.2"
user = "ada"
"""


@dataclass
class Computer:
    """Answers as host.py does; `fails` is raised instead, `says` is answered instead."""

    host: Host
    root: Path
    host_keys: tuple[str, ...] = ("ssh-ed25519 AAAA",)
    key_path: object = "/keys/tower"
    fails: ProviderError | None = None
    loses_answers: bool = False
    says: dict[str, Any] | None = None
    asked: list[str] = field(default_factory=list)

    def ask(
        self, command: str, request: dict[str, Any], *, seconds: float, lost: type[ProviderError] = Unreachable
    ) -> dict[str, Any]:
        self.asked.append(command)
        if self.fails is not None:
            raise self.fails
        if self.says is not None:
            return self.says
        commands: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
            "create": host.create,
            "get": host.get,
            "list": host.list_machines,
        }
        try:
            answer = commands[command](self.root, request)
        except host.Refused as error:
            answer = {"error": {"kind": error.kind, "message": str(error)}}
        if self.loses_answers:
            raise lost("lost", provider="ssh")
        return answer

    def close(self) -> None:
        return


@dataclass
class Site:
    provider: SshProvider
    computers: dict[str, Computer]
    home: Path

    def request(self, name: str) -> LaunchRequest:
        deadline = datetime(2026, 11, 22, tzinfo=UTC)
        return LaunchRequest(name=name, owner="alice", run_id="r-1", attempt=1, deadline=deadline, disk_gb=1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "hosts.toml").write_text(INVENTORY)
    names = ("tower", "box")
    computers = {name: Computer(Host(name=name, host="", user=""), tmp_path / name) for name in names}

    def connect(declared: Host) -> Computer:
        computers[declared.name].host = declared
        return computers[declared.name]

    provider = SshProvider(Settings(home=tmp_path, env={}, now=FakeClock()), connect=connect)
    provider._client("tower", gone=Rejected), provider._client("box", gone=Rejected)
    return Site(provider, computers, tmp_path)


def test_a_machine_is_reached_as_its_computer_is(site: Site) -> None:
    [offer] = site.provider.offers(OfferQuery(gpus=("RTX4090",), gpu_count=1))
    made = site.provider.create(offer, site.request("m-1"))
    assert made.id == "tower/m-1"
    assert made.access == SshAccess(
        host="10.0.0.1",
        port=22,
        user="ada",
        directory=f"{site.home}/tower/m-1",
        key_path="/keys/tower",
        host_keys=("ssh-ed25519 AAAA",),
        env={"GPUJOB_MACHINE": "m-1", "CUDA_VISIBLE_DEVICES": "0"},
    )


def test_gpus_are_counted_per_kind_as_nvidia_smi_lists_them(site: Site) -> None:
    [pair] = site.provider.offers(OfferQuery(gpus=("RTX4090",), gpu_count=2))
    [t4] = site.provider.offers(OfferQuery(gpus=("T4",), gpu_count=1))
    made = [site.provider.create(pair, site.request("m-1")), site.provider.create(t4, site.request("m-2"))]
    seen = [access.env.get("CUDA_VISIBLE_DEVICES") for m in made if isinstance(access := m.access, SshAccess)]
    assert seen == ["0,1", "2"]
    with pytest.raises(NoCapacity, match="tower: 0 of its GPUs are free, 1 wanted"):
        site.provider.create(t4, site.request("m-3"))


def test_a_lost_answer_to_create_is_ambiguous_and_the_machine_is_found(site: Site) -> None:
    offer = site.provider.offers(OfferQuery())[0]
    site.computers["tower"].loses_answers = True
    with pytest.raises(Ambiguous):
        site.provider.create(offer, site.request("m-1"))
    with pytest.raises(Unreachable):
        site.provider.get("tower/m-1")
    site.computers["tower"].loses_answers = False
    assert [machine.id for machine in site.provider.list("alice")] == ["tower/m-1"]


def test_a_list_that_lacks_a_computer_is_no_list(site: Site) -> None:
    site.computers["box"].fails = Unreachable("box cannot be reached", provider="ssh")
    with pytest.raises(Unreachable, match="box cannot be reached"):
        site.provider.list("alice")
    site.computers["tower"].fails = AuthFailed("tower lets nobody in", provider="ssh")
    with pytest.raises(AuthFailed, match="tower lets nobody in; box cannot be reached"):
        site.provider.list("alice")


def test_a_computer_that_left_the_inventory_is_unknown_but_not_gone(site: Site) -> None:
    offer = site.provider.offers(OfferQuery(regions=("box",)))[0]
    site.provider.create(offer, site.request("m-1"))
    (site.home / "hosts.toml").unlink()
    with pytest.raises(Unreachable, match=r"box is not in .*hosts\.toml"):
        site.provider.get("box/m-1")
    with pytest.raises(Rejected, match=r"box is not in .*hosts\.toml"):
        site.provider.create(offer, site.request("m-2"))


def test_an_id_of_another_form_is_nobodys(site: Site) -> None:
    with pytest.raises(NotFound):
        site.provider.get("m-1")


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ({"error": {"kind": "no_capacity", "message": "full"}}, NoCapacity),
        ({"error": {"kind": "over", "message": "was ended"}}, Rejected),
        ({"error": {"kind": "bad_request", "message": "name"}}, Rejected),
        ({"error": {"kind": "busy", "message": "locked"}}, Throttled),
        ({"error": {"kind": "failed", "message": "No space left on device"}}, BadHost),
        ({"error": {"kind": "a word of tomorrow", "message": ""}}, BadHost),
        ({}, BadHost),
        ({"machine": {"name": "m-1"}}, BadHost),
        ({"machine": "m-1"}, BadHost),
    ],
)
def test_what_a_computers_answer_means(site: Site, says: dict[str, Any], error: type[ProviderError]) -> None:
    site.computers["tower"].says = says
    with pytest.raises(error) as caught:
        site.provider.create(site.provider.offers(OfferQuery())[0], site.request("m-1"))
    assert type(caught.value) is error
    assert caught.value.provider == "ssh"
