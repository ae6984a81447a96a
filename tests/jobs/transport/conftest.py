"""One OpenSSH server per module, and a transport of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.transport.base import Transport
from jobs.transport.local import LocalTransport
from jobs.transport.ssh import SshTransport
from tests.support.sshd import Sshd, running_sshd

Connect = Callable[..., SshTransport]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server that a test may hang, cut and change."""
    with running_sshd(tmp_path) as server:
        yield server


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., SshTransport]]:
    """Make a transport to a server; `instance`, `host_keys`, `key_path`, `user` and `env` may be given."""
    made: list[SshTransport] = []

    def make(server: Sshd, **changes: object) -> SshTransport:
        options: dict[str, object] = {
            "user": server.user,
            "key_path": server.key_path,
            "known_hosts": tmp_path / "known_hosts.json",
            "instance": "i-1",
            **changes,
        }
        made.append(SshTransport(server.host, server.port, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest, connect: Connect) -> Transport:
    """A machine with MARK=here in the environment of its commands, reached in each way."""
    env = {"MARK": "it's here; $HOME"}
    if request.param == "local":
        return LocalTransport(env)
    return connect(request.getfixturevalue("sshd"), env=env)
