"""HostClient against a real OpenSSH server, and the table of translate()."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.ssh_exception import IncompatiblePeer

from providers.base import LaunchRequest, OfferQuery, Settings
from providers.errors import Ambiguous, AuthFailed, BadHost, NotFound, ProviderError, Throttled, Unreachable
from providers.ssh import client, inventory
from providers.ssh.client import HostKeyChanged, KeyUnusable, LoginRefused, NoSense, translate
from providers.ssh.inventory import Host
from providers.ssh.provider import SshProvider
from providers.ssh.seen import SeenKeys
from tests.providers.inventories import entry
from tests.support.sshd import Sshd, running_sshd
from tests.support.waiting import eventually

TOWER = Host(name="tower", host="10.0.0.1", user="ada")
PINNED = Host(name="tower", host="10.0.0.1", user="ada", host_keys=("ssh-ed25519 AAAA",))


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Unreachable, "cannot be reached: Connection refused"),
        (TimeoutError("timed out"), Unreachable, "cannot be reached: timed out"),
        (OSError(113, "No route to host"), Unreachable, "No route to host"),
        (EOFError(), Unreachable, "EOFError"),
        (paramiko.SSHException("Error reading SSH protocol banner"), Unreachable, "banner"),
        (LoginRefused("no"), AuthFailed, "~/.ssh/authorized_keys"),
        (paramiko.AuthenticationException("no"), AuthFailed, "does not let our key in"),
        (paramiko.BadAuthenticationType("no", ["password"]), AuthFailed, "does not let our key in"),
        (KeyUnusable("there is no key /k"), AuthFailed, "there is no key /k"),
        (HostKeyChanged("ssh-ed25519 BBBB"), AuthFailed, "remove tower from hosts_seen.json"),
        (NoSense(127, "sh: python3: not found"), BadHost, "there is no python3"),
        (NoSense(1, "Traceback"), BadHost, "exit code 1: Traceback"),
        (IncompatiblePeer("no acceptable ciphers"), BadHost, "no encryption in common"),
        (paramiko.ChannelException(1, "Administratively prohibited"), Throttled, "opens no more sessions"),
    ],
)
def test_translate(error: Exception, becomes: type[ProviderError], says: str) -> None:
    translated = translate(error, TOWER)
    assert type(translated) is becomes
    assert says in str(translated) and "tower (ada@10.0.0.1:22)" in str(translated)
    assert translated.provider == "ssh"


def test_a_pinned_key_is_changed_where_it_was_pinned() -> None:
    assert "change host_key in hosts.toml" in str(translate(HostKeyChanged("ssh-ed25519 BBBB"), PINNED))


@dataclass
class Site:
    server: Sshd
    home: Path

    def provider(self, **keys: object) -> SshProvider:
        """The server as the user declares it."""
        text = entry(self.server, directory=self.home / "machines", **keys)  # type: ignore[arg-type]
        (self.home / "hosts.toml").write_text(text)
        return SshProvider(Settings(home=self.home, env={"HOME": str(self.home)}, now=lambda: datetime.now(UTC)))

    def create(self, provider: SshProvider, name: str = "m-1") -> None:
        deadline = datetime.now(UTC) + timedelta(hours=1)
        request = LaunchRequest(name=name, owner="alice", run_id="r-1", attempt=1, deadline=deadline, disk_gb=1)
        provider.create(provider.offers(OfferQuery())[0], request)

    def program(self, body: str) -> Path:
        """A stand-in for python3 on the computer."""
        path = self.home / "python"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    home.mkdir()
    with running_sshd(tmp_path) as server:
        yield Site(server, home)


@pytest.mark.process
@pytest.mark.sshd
class TestOnAServer:
    def test_the_first_key_is_trusted_and_another_refused(self, site: Site) -> None:
        provider = site.provider()
        assert provider.list("alice") == []
        assert json.loads((site.home / "hosts_seen.json").read_text()) == {"tower": [site.server.host_key]}
        site.server.new_host_key()
        with pytest.raises(AuthFailed, match=r"another host key.*remove tower from hosts_seen\.json"):
            provider.list("alice")
        (site.home / "hosts_seen.json").unlink()
        assert provider.list("alice") == []

    def test_a_pinned_key_is_the_only_one_trusted(self, site: Site) -> None:
        assert site.provider(host_key=site.server.host_key).list("alice") == []
        stranger = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpT2Xl0nFCDJqIWqRUXf9S7kYl0wUCZ3Bh6jrcXzJPG"
        with pytest.raises(AuthFailed, match=r"change host_key in hosts\.toml"):
            site.provider(host_key=stranger).list("alice")
        assert not (site.home / "hosts_seen.json").exists()

    def test_a_damaged_list_of_seen_keys_trusts_nobody(self, site: Site) -> None:
        (site.home / "hosts_seen.json").write_text("{")
        with pytest.raises(AuthFailed, match=r"hosts_seen\.json is not a list of host keys"):
            site.provider().list("alice")

    def test_a_key_that_is_not_let_in(self, site: Site) -> None:
        key = site.home / "stranger"
        paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
        with pytest.raises(AuthFailed, match="does not let our key in"):
            site.provider(key=key).list("alice")

    @pytest.mark.parametrize(
        ("content", "says"), [(None, "there is no key"), ("no key", "is not a private key that can be used")]
    )
    def test_a_key_that_cannot_be_used(self, site: Site, content: str | None, says: str) -> None:
        key = site.home / "key"
        if content is not None:
            key.write_text(content)
        with pytest.raises(AuthFailed, match=says):
            site.provider(key=key).list("alice")

    def test_a_key_with_a_passphrase(self, site: Site) -> None:
        key = site.home / "key"
        paramiko.RSAKey.generate(2048).write_private_key_file(str(key), password="secret words")
        with pytest.raises(AuthFailed, match="needs a passphrase: load it into ssh-agent") as caught:
            site.provider(key=key).list("alice")
        assert "secret words" not in str(caught.value)

    def test_without_a_key_the_users_default_one_is_used_and_named(self, site: Site) -> None:
        (site.home / ".ssh").mkdir()
        (site.home / ".ssh/id_ed25519").write_bytes(site.server.key_path.read_bytes())
        provider = site.provider()
        without = (site.home / "hosts.toml").read_text().splitlines()
        (site.home / "hosts.toml").write_text("\n".join(line for line in without if not line.startswith("key")))
        site.create(provider)
        access: Any = provider.get("tower/m-1").access
        assert access.key_path == str(site.home / ".ssh/id_ed25519")
        assert access.host_keys == (site.server.host_key,)

    def test_a_computer_without_python(self, site: Site) -> None:
        with pytest.raises(BadHost, match="there is no /nowhere/python3: install Python"):
            site.create(site.provider(python="/nowhere/python3"))

    def test_one_that_ends_before_it_has_read_the_question(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        at_once = paramiko.Channel.sendall

        def too_late(channel: paramiko.Channel, data: bytes) -> None:
            eventually(lambda: channel.closed)
            at_once(channel, data)

        monkeypatch.setattr(paramiko.Channel, "sendall", too_late)
        with pytest.raises(BadHost, match="there is no /nowhere/python3: install Python"):
            site.create(site.provider(python="/nowhere/python3"))

    def test_a_python_that_is_too_old_or_broken(self, site: Site) -> None:
        program = site.program("echo 'SyntaxError: invalid syntax' >&2; exit 1")
        with pytest.raises(BadHost, match="ended with exit code 1: SyntaxError"):
            site.create(site.provider(python=program))

    def test_what_the_login_shell_prints_is_no_answer(self, site: Site) -> None:
        provider = site.provider(python=site.program('echo "Welcome!"; echo noise >&2; exec python3 "$@"'))
        site.create(provider)
        assert [machine.name for machine in provider.list("alice")] == ["m-1"]

    def test_a_flood_on_stderr_blocks_nothing(self, site: Site) -> None:
        flood = 'python3 -c "import sys; sys.stderr.write(\\"x\\" * 5000000)" < /dev/null; exec python3 "$@"'
        assert site.provider(python=site.program(flood)).list("alice") == []

    def test_a_connection_that_breaks_in_the_middle_of_create_is_ambiguous(self, site: Site) -> None:
        provider = site.provider(python=site.program(f"touch {site.home}/begun; sleep 30"))
        cutting = threading.Thread(target=cut_after, args=(site.server, site.home / "begun"))
        cutting.start()
        with pytest.raises(Ambiguous) as caught:
            site.create(provider)
        cutting.join()
        assert caught.value.provider == "ssh"

    def test_a_connection_that_broke_since_is_made_again(self, site: Site) -> None:
        provider = site.provider()
        site.create(provider)
        site.server.cut()
        assert provider.get("tower/m-1").name == "m-1"

    def test_a_computer_that_is_off(self, site: Site) -> None:
        provider = site.provider()
        site.create(provider)
        site.server.stop()
        for call in (lambda: provider.get("tower/m-1"), lambda: provider.list("alice")):
            with pytest.raises(Unreachable, match=r"tower .* cannot be reached: Connection refused"):
                call()
        site.server.start()
        assert provider.get("tower/m-1").name == "m-1"

    def test_a_computer_that_hangs_is_given_up_in_time(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "CONNECT_SECONDS", 0.5)
        monkeypatch.setattr(client, "_CHANNEL_SECONDS", 0.5)
        provider = site.provider()
        site.create(provider)
        site.server.hang()
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"no login within 0\.5 s"):
            provider.get("tower/m-1")
        assert time.monotonic() - started < 10
        site.server.resume()
        assert provider.get("tower/m-1").name == "m-1"

    def test_an_answer_that_never_comes_is_given_up_in_time(self, site: Site) -> None:
        site.provider(python=site.program("sleep 60"))
        [host] = inventory.read(site.home, {})
        tower = client.HostClient(host, SeenKeys(site.home / "hosts_seen.json"), {})
        with pytest.raises(Unreachable, match=r"did not answer to list: no answer within 0\.5 s"):
            tower.ask("list", {}, seconds=0.5)

    def test_many_questions_share_one_connection(self, site: Site) -> None:
        provider = site.provider()
        provider.list("alice")
        threads = [threading.Thread(target=site.create, args=(provider, f"m-{number}")) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {machine.name for machine in provider.list("alice")} == {f"m-{number}" for number in range(6)}
        assert len(accepted(site.server)) == 1

    def test_terminate_ends_what_runs_there(self, site: Site) -> None:
        provider = site.provider()
        site.create(provider, f"m-{os.getpid()}")
        name = f"tower/m-{os.getpid()}"
        provider.terminate(name)
        with pytest.raises(NotFound):
            provider.get(name)


def cut_after(server: Sshd, path: Path) -> None:
    """Break every connection once the file is there."""
    give_up = time.monotonic() + 20
    while not path.exists() and time.monotonic() < give_up:
        time.sleep(0.02)
    server.cut()


def accepted(server: Sshd) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if "Accepted publickey" in line]
